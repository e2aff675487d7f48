"""`raydistill ablate`: trains configurations of a sweep with and without one change, and says what it gives.

The trainings are in SWEEP/retrained/, the pairs in SWEEP/ablations.json and the tables beside it.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raydistill.commands import retrain_front, retrain_jobs
from raydistill.commands.ablate_pairs import Asked, asked_for
from raydistill.commands.printed_json import print_json, rows
from raydistill.config.analysis_options import AblateOptions
from raydistill.errors import StoreError
from raydistill.records import ablated, mirror, sweep_state
from raydistill.records.trials import Trial
from raydistill.sweep import page
from raydistill.sweep.tracker import Tracker
from raydistill.terminal import Terminal


def run(options: AblateOptions) -> int:
    """Trains what is missing, and prints the paired differences with a verdict.

    Returns:
        the exit code: 0, 1 where a training failed, 130 where it was interrupted.

    Raises:
        InputError: see `ablate_pairs.asked_for`, and a training that does not fit on the nodes.
    """
    sweep = mirror.sweep_of(options.sweep)
    retrain_jobs.pull(sweep)
    sweep_state.require_ended(sweep)
    if sweep_state.state_of(sweep) == "running":
        raise StoreError(f"{sweep}: is running now; wait for its end: raydistill watch {sweep}")
    if not (sweep / page.FILE).exists():
        raise StoreError(
            f"{sweep}: no {page.FILE}, so its objectives are not known; run the sweep by this version"
        )
    asked = asked_for(sweep, options)
    with contextlib.redirect_stdout(sys.stderr) if options.as_json else contextlib.nullcontext():
        code = _train(sweep, options, asked)
    pairs = _own(ablated.read_table(sweep), asked)
    verdicts = ablated.verdict_table(pairs)
    if options.as_json:
        print_json({"sweep": str(sweep), "pairs": rows(pairs), "verdicts": rows(verdicts)})
    elif code != 130:
        _print(sweep, pairs, verdicts)
    return code


def _train(sweep: Path, options: AblateOptions, asked: Asked) -> int:
    terminal = Terminal()
    for reason in asked.left_out:
        terminal.say(f"left out: {reason}")
    ids = {each for pair in asked.pairs for each in (pair.unchanged, pair.changed)}
    there, change = len(ids) - len(asked.trainings), " ".join(options.set)
    terminal.say(
        f"{change}: pairs: {len(asked.pairs)}; trainings: {len(ids)}, of which the sweep has {there}"
    )
    ablated.add(sweep, asked.pairs)

    def report(done: Sequence[Trial], tracker: Tracker) -> None:
        retrain_front.recorded(sweep, tracker)

    return retrain_front.train_all(options, sweep, asked.trainings, terminal, report)


def _own(table: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """The rows of these pairs; those of other ablations stay in the sweep's table."""
    if table.empty:
        return table
    ids = {(each.unchanged, each.changed) for each in asked.pairs}
    both = zip(table["unchanged_id"], table["changed_id"], strict=True)
    is_own = [pair in ids for pair in both]
    equal = table["equal"] == asked.pairs[0].equal
    return table[pd.Series(is_own, index=table.index) & equal & (table["change"] == asked.pairs[0].change)]


def _print(sweep: Path, pairs: pd.DataFrame, verdicts: pd.DataFrame) -> None:
    terminal = Terminal()
    if pairs.empty:
        terminal.say("no pair has both trainings: nothing to compare")
        return
    names = ["trial_id", "seed", "metric", "unchanged", "changed", "difference"]
    names += ["unchanged_nimg", "changed_nimg", "unchanged_sec", "changed_sec"]
    terminal.rows(str(pairs["change"].iloc[0]), pairs[names], keys=["trial_id", "seed", "metric"])
    for sentence in verdicts["sentence"]:
        terminal.entry("* ", sentence)
    terminal.say(f"tables: {sweep / ablated.NAME}.csv and {sweep / 'retrained'}.csv; in page and MLflow, too")
