"""Pairs of trainings that differ in one change: SWEEP/ablations.json, and tables of what the change gives.

Both trainings of a pair have the same seed. They are trials of the sweep, or in its folder `retrained`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.errors import ConfigError, StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import measured, remote
from raydistill.records.files import write_atomic, write_json_atomic
from raydistill.records.paired import NOT_TOLD_APART, PairedDifference, needed_in_words, paired
from raydistill.records.retrained import read_retrained
from raydistill.records.tables import NamedDirection
from raydistill.records.trials import Trial

NAME = "ablations"
"""Name of the file and of the tables."""
ALL = "all"
"""In place of a trial's id: over all trials, of each seed their mean difference."""


class Pair(Frozen):
    """Two trainings of one configuration, which differ in the change."""

    change: str
    """As it was given: "student.terms.mi.weight=0"; several values are joined by a space."""
    equal: Literal["images", "time"]
    """What both have alike."""
    trial_id: str
    """The trial of the sweep whose configuration it is."""
    seed: int
    unchanged: str
    """Id of the training without the change: a trial's, or a folder in `retrained`."""
    changed: str
    """Id of the training with it."""
    qualities: tuple[tuple[str, Literal["min", "max"]], ...]
    """What is compared: the sweep's objectives that are no cost."""


class _File(Frozen):
    pairs: tuple[Pair, ...]


def read(sweep: Path) -> list[Pair]:
    """The pairs of a sweep, in the order in which they were asked for; empty: there are none.

    Raises:
        StoreError: the file is damaged.
    """
    path = sweep / f"{NAME}.json"
    remote.pull(path)
    if not path.exists():
        return []
    try:
        return list(validated(_File, parse_json(read_text(path)), where=str(path)).pairs)
    except (OSError, ValueError, ConfigError) as error:
        raise StoreError(
            f"{path}: damaged: {error}; remove it, and the same ablate command makes it again"
        ) from None


def add(sweep: Path, pairs: Sequence[Pair]) -> None:
    """Writes pairs beside those that are known; one that is known already is not written twice.

    Raises:
        StoreError: the file is damaged, or the disk refuses.
    """
    with measured.locked(sweep):
        merged = tuple(dict.fromkeys([*read(sweep), *pairs]))
        write_json_atomic(sweep / f"{NAME}.json", _File(pairs=merged).model_dump(mode="json"))
        remote.push(sweep / f"{NAME}.json")


def pair_table(pairs: Sequence[Pair], trials: Mapping[str, Trial]) -> pd.DataFrame:
    """A row for each pair and quality of which both trainings are COMPLETE.

    Its columns: change, equal, trial_id, seed, metric, direction, the ids, numbers, images and seconds of
    both trainings, and the difference, changed minus unchanged.

    Args:
        trials: by their ids, with results.
    """
    rows = []
    for pair in pairs:
        both = {name: trials.get(getattr(pair, name)) for name in ("unchanged", "changed")}
        results = {
            name: trial.result for name, trial in both.items() if trial is not None and trial.is_complete
        }
        one, two = results.get("unchanged"), results.get("changed")
        if one is None or two is None:
            continue
        numbers = [each.metrics | (each.test or {}) for each in (one, two)]
        named = [*pair.qualities, *((name.replace("val/", "test/", 1), way) for name, way in pair.qualities)]
        for metric, direction in named:
            if all(metric in each for each in numbers):
                values = {"unchanged": numbers[0][metric], "changed": numbers[1][metric]}
                row = pair.model_dump(include={"change", "equal", "trial_id", "seed"})
                row |= {"metric": metric, "direction": direction}
                row |= {"unchanged_id": pair.unchanged, "changed_id": pair.changed} | values
                row |= {"difference": values["changed"] - values["unchanged"]}
                row |= {"unchanged_nimg": one.nimg, "changed_nimg": two.nimg}
                rows.append(row | {"unchanged_sec": one.wall_sec, "changed_sec": two.wall_sec})
    return pd.DataFrame(rows)


def verdict_table(table: pd.DataFrame) -> pd.DataFrame:
    """What each change gives, by trial and over all: pairs, difference with its 95 % interval, p, verdict and
    a sentence. `table`: as `pair_table` returns it; of several trials the unit is the seed."""
    columns = ["change", "equal", "metric", "trial_id", "pairs", "difference", "low", "high", "p", "verdict"]
    rows = []
    for (change, equal, metric), part in (
        table.groupby(["change", "equal", "metric"], sort=False) if len(table) else ()
    ):
        direction = str(part["direction"].iloc[0])
        groups = {trial_id: own.set_index("seed")["difference"] for trial_id, own in part.groupby("trial_id")}
        if len(groups) > 1:
            groups[ALL] = part.groupby("seed")["difference"].mean()
        for trial_id, differences in groups.items():
            said = paired(differences.to_numpy(dtype=float), direction)
            named = (str(change), str(equal), str(metric), str(trial_id))
            sentence = _sentence(*named, said)
            rows.append((*named, said.pairs, *said.gain, said.p, said.verdict, sentence))
    return pd.DataFrame(rows, columns=[*columns, "sentence"])


def _sentence(change: str, equal: str, metric: str, trial_id: str, said: PairedDifference) -> str:
    gain = said.gain
    spread = "" if np.isnan(gain.low) else f" ({gain.low:+.4g} to {gain.high:+.4g})"
    whose = "over all trials" if trial_id == ALL else f"trial {trial_id}"
    begin = f"{change}, {whose}, equal {equal}: {metric} {gain.mean:+.4g}{spread}, p = {said.p:.3g}: "
    if said.verdict == NOT_TOLD_APART:
        return f"{begin}{NOT_TOLD_APART}: {needed_in_words(said)}"
    return f"{begin}{said.verdict} with the change, {said.pairs} pairs of seeds"


def write_table(sweep: Path, originals: Sequence[Trial]) -> pd.DataFrame:
    """Writes ablations.parquet and ablations.csv into a sweep's folder, where it has pairs.

    Args:
        originals: the trials of the sweep.

    Returns:
        the table, see `pair_table`.

    Raises:
        StoreError: a file is damaged or the disk refuses.
    """
    pairs = read(sweep)
    table = pair_table(pairs, {each.trial_id: each for each in (*originals, *read_retrained(sweep))})
    if pairs:
        for ending, write in (("parquet", table.to_parquet), ("csv", table.to_csv)):
            write_atomic(sweep / f"{NAME}.{ending}", partial(write, index=False))
            remote.push(sweep / f"{NAME}.{ending}")
    return table


def read_table(sweep: Path) -> pd.DataFrame:
    """The table of a sweep's pairs, see `pair_table`; empty where it has none. Raises StoreError: damaged."""
    path = sweep / f"{NAME}.parquet"
    remote.pull(path)
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: damaged or unreadable: {error}; the ablate command makes it again"
        ) from error


def facts(sweep: Path) -> dict[str, str]:
    """What a sweep's page says of changes: the change -> what it gives on val. Raises StoreError: damaged."""
    said: dict[str, list[str]] = {}
    for row in verdict_table(read_table(sweep)).to_dict("records"):
        if row["metric"].startswith("val/"):
            key = f"change {row['change']}, equal {row['equal']}"
            said.setdefault(key, []).append(row["sentence"].partition(", ")[2])
    return {key: "; ".join(sentences) for key, sentences in said.items()}


def qualities_of(objectives: Sequence[NamedDirection]) -> tuple[NamedDirection, ...]:
    """The objectives that are no cost."""
    return tuple(each for each in objectives if not each[0].startswith("cost/"))
