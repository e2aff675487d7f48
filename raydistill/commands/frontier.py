"""`raydistill frontier`: prints a sweep's trials, and what was measured of them later.

Of a sweep that has not ended it draws the page, too.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from raydistill.config.analysis_options import FrontierOptions
from raydistill.errors import StoreError, say_notice
from raydistill.records import measured, outcome, tables
from raydistill.records.schema import MEASURED
from raydistill.sweep import page, unfinished
from raydistill.sweep.sweep_result import load_sweep
from raydistill.terminal import Terminal


def run(options: FrontierOptions) -> int:
    """Prints the members of the Pareto front and the other trials; returns the exit code, 0.

    Raises:
        StoreError: there is no sweep, or a file of it is damaged.
        RunError: the numbers of two trials were measured under different conditions.
    """
    folder = options.sweep.absolute()
    is_url = ":/" in str(options.sweep)
    if not is_url and unfinished.is_unfinished(folder):
        so_far = unfinished.read(folder)
        sweep = _Sweep(folder, so_far.trials, "", so_far.state)
        record: page.PageRecord | None = so_far.record
        _draw(folder, so_far)
    else:
        whole = load_sweep(options.sweep)
        sweep = _Sweep(whole.path, whole.trials, whole.ended_by, "ended")
        record = page.read(sweep.folder) if (sweep.folder / page.FILE).exists() else None
    says = outcome.sentence(tables.mean_over_seeds(sweep.trials), record.objectives) if record else ""
    if options.as_json:
        print(json.dumps(_as_json(sweep, says), indent=1))
    else:
        _print(sweep, says)
    return 0


class _Sweep(NamedTuple):
    """What is said of a sweep, ended or not."""

    folder: Path
    trials: pd.DataFrame
    ended_by: str
    state: page.State

    @property
    def front(self) -> pd.DataFrame:
        """Members of the front, the cheapest first."""
        return self.trials[self.trials["front.member"]].sort_values("cost.macs")


def _draw(folder: Path, so_far: unfinished.Unfinished) -> None:
    """Draws the page of a sweep that has not ended; of a folder that cannot be written, it says so."""
    try:
        unfinished.draw(folder, so_far)
    except StoreError as error:
        say_notice(f"the page was not drawn: {error}")


def _as_json(sweep: _Sweep, says: str) -> dict[str, Any]:
    """The sweep in few keys; trials have the names of the tables' columns, null for what they lack."""
    rows = json.loads(sweep.trials.to_json(orient="records", double_precision=15))
    html = sweep.folder / "frontier.html"
    return {
        "sweep": sweep.folder.name,
        "state": sweep.state,
        "ended_by": sweep.ended_by,
        "outcome": says,
        "page": str(html) if html.exists() else None,
        "front": [str(trial) for trial in sweep.front["trial_id"]],
        "trials": rows,
    }


def _print(sweep: _Sweep, says: str) -> None:
    terminal = Terminal()
    others = sweep.trials[~sweep.trials["front.member"]]
    terminal.table(f"Pareto front of {sweep.folder.name}", sweep.front)
    terminal.table("all other trials", others.sort_values("cost.macs"))
    if not (later := _measured_later(sweep.trials)).empty:
        terminal.rows("measured later", later, keys=["trial", "what"], texts=["how"])
    if says:
        terminal.say(says)
    if sweep.state != "ended":
        now = "it is trained now" if sweep.state == "running" else "nothing trains it here"
        terminal.say(f"partial: the sweep has not ended, {now}")
    if (html := sweep.folder / "frontier.html").exists():
        terminal.say(f"page: {html}")


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
