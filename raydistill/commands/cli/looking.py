"""Commands that look at sweeps: list, watch, compare, ablate, plot. Each returns its exit code."""

from raydistill.config.analysis_options import (
    AblateOptions,
    CompareOptions,
    ListOptions,
    PlotOptions,
    WatchOptions,
)


def list_sweeps(options: ListOptions) -> int:
    """List the sweeps of a store: state, trials, best student, hypervolume, age, space.

    Folders that are broken or half copied are named, a line each.
    """
    from raydistill.commands.list_sweeps import run

    return run(options)


def watch(options: WatchOptions) -> int:
    """Show what a sweep does now, until it ends: running trials, front, time left, GPU-hours, warnings.

    Without a terminal it prints lines. Exit code 1 where the sweep has failed or was interrupted.
    """
    from raydistill.commands.watch import run

    return run(options)


def compare(options: CompareOptions) -> int:
    """Compare sweeps that have ended: fronts, hypervolumes, and what is best within a budget.

    Sweeps that differ in their seed alone form one side. "Beats" is said from six pairs of seeds on, by an
    exact paired test; else how many pairs would do.
    """
    from raydistill.commands.compare import run

    return run(options)


def ablate(options: AblateOptions) -> int:
    """Train configurations of a sweep with and without one change, and say what the change gives.

    Both trainings of a pair have the same seed, and the same images or training time. After an interrupt the
    same command goes on. What the sweep has trained already is not trained again.
    """
    from raydistill.commands.ablate import run

    return run(options)


def plot(options: PlotOptions) -> int:
    """Draw sweeps for print: fronts with bands, attainment, learning curves, ablations, as pdf or svg."""
    from raydistill.commands.plot import run

    return run(options)
