"""`raydistill frontier`: prints a sweep's trials again."""

from raydistill.config.command_options import FrontierOptions
from raydistill.errors import StoreError
from raydistill.records.tables import read_table
from raydistill.terminal import Terminal


def run(options: FrontierOptions) -> int:
    """Prints the members of the Pareto front and the other trials; returns the exit code, 0.

    Raises:
        StoreError: there is no finished sweep.
    """
    path = options.sweep / "trials.parquet"
    if not path.exists():
        raise StoreError(
            f"{options.sweep}: no finished sweep here (no trials.parquet); an interrupted one goes on with "
            "--resume"
        )
    table, terminal = read_table(path), Terminal()
    members, others = table[table["front.member"]], table[~table["front.member"]]
    terminal.table(f"Pareto front of {options.sweep.name}", members.sort_values("cost.macs"))
    terminal.table("all other trials", others.sort_values("cost.macs"))
    return 0
