"""`raydistill frontier`: prints a sweep's trials again, and what was measured of them later."""

import pandas as pd

from raydistill.config.command_options import FrontierOptions
from raydistill.records import measured
from raydistill.records.schema import MEASURED
from raydistill.sweep.sweep_result import load_sweep
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
    if not (later := _measured_later(sweep.trials)).empty:
        terminal.rows("measured later", later, keys=["trial", "what"], texts=["how"])
    return 0


def _measured_later(trials: pd.DataFrame) -> pd.DataFrame:
    """A row for each number that was measured of a trial after the sweep. `trials`: the trials table."""
    rows = []
    for _, trial in trials.iterrows():
        for name in measured.names_in(trials):
            column = f"{MEASURED}{name}"
            if when := trial[f"{column}.when"]:
                low, high = trial.get(f"{column}.low"), trial.get(f"{column}.high")
                rows.append(
                    {
                        "trial": trial["trial_id"],
                        "what": name,
                        "value": trial[column],
                        "95 %": "" if pd.isna(low) else f"{low:.6g} to {high:.6g}",
                        "when": when,
                        "how": trial[f"{column}.how"],
                    }
                )
    return pd.DataFrame(rows)
