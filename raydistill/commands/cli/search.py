"""Commands that train or track sweeps: sweep, plan, batch, retrain, config, frontier, track, promote.

Each returns its exit code.
"""

from raydistill.config.analysis_options import FrontierOptions, PromoteOptions, TrackOptions
from raydistill.config.command_options import BatchOptions, ConfigOptions, RetrainOptions
from raydistill.config.sweep_options import PlanOptions, SweepCommandOptions


def sweep(options: SweepCommandOptions) -> int:
    """Train evaluator and teacher, search students, print and store their Pareto front.

    Every option has a default. Without any, the sweep draws its own pictures, and needs no GPU.
    """
    from raydistill.commands.sweep import run

    try:
        return run(options)
    except KeyboardInterrupt:
        return 130


def plan(options: PlanOptions) -> int:
    """Say what a sweep of the same options will take: trials, costs, time, memory, trials at a time, disk.

    Everything is checked as for the sweep, data are prepared in the store, a few steps are timed. Nothing is
    trained.
    """
    return sweep(options)


def batch(options: BatchOptions) -> int:
    """Run several sweeps as one job: spaces x methods x seeds, in an order, within a budget.

    Exit code 1 where not all of them finished; the same command with --resume goes on.
    """
    from raydistill.commands.batch import run

    try:
        return run(options)
    except KeyboardInterrupt:
        return 130


def retrain(options: RetrainOptions) -> int:
    """Train a student of a sweep again, on more images, in this process.

    The result is in SWEEP/retrained/; the sweep stays as it is. After an interrupt the same command goes on.
    """
    from raydistill.commands.retrain import run

    return run(options)


def config(options: ConfigOptions) -> int:
    """Print every config path of a search space with its value, and what is searched.

    Saved in a file, it can be changed and given to sweep, plan and config by --config.
    """
    from raydistill.commands.config import run

    return run(options)


def frontier(options: FrontierOptions) -> int:
    """Print a sweep's trials: the members of its Pareto front, then the others, the cheapest first.

    Of a sweep that has not ended, it prints what there is so far, and draws the page again.

    On a terminal, a table that is too wide is split into several, one below the other.
    """
    from raydistill.commands.frontier import run

    return run(options)


def track(options: TrackOptions) -> int:
    """Send to MLflow what it lacks of a sweep, from the files in the sweep's folder.

    Nothing is sent twice. A server's user name and password are taken from MLFLOW_TRACKING_USERNAME and
    MLFLOW_TRACKING_PASSWORD, too.
    """
    from raydistill.commands.track import run

    return run(options)


def promote(options: PromoteOptions) -> int:
    """Register the model of one trial in MLflow, with an alias that others load it by.

    The version that had the alias before stays, and can be promoted again.
    """
    from raydistill.commands.promote import run

    return run(options)
