"""`raydistill frontier`: prints a sweep's trials again."""

from raydistill.config.command_options import FrontierOptions
from raydistill.records.sweep_result import load_sweep
from raydistill.terminal import Terminal


def run(options: FrontierOptions) -> int:
    """Prints the members of the Pareto front and the other trials; returns the exit code, 0.

    Raises:
        StoreError: there is no finished sweep.
    """
    sweep, terminal = load_sweep(options.sweep), Terminal()
    others = sweep.trials[~sweep.trials["front.member"]]
    terminal.table(f"Pareto front of {sweep.name}", sweep.front)
    terminal.table("all other trials", others.sort_values("cost.macs"))
    return 0
