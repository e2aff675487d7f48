"""Sweeps as sides of a comparison: which compare at all, which differ in their seed alone, their names."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill import SweepResult
from raydistill.errors import ConfigError, RunError, StoreError
from raydistill.records import pareto, store, sweep_state, tables
from raydistill.records.pareto import Direction
from raydistill.records.schema import CONTEXT
from raydistill.records.tables import NamedDirection

_NOT_A_SETTING = ("name", "sweep_id", "created", "seed", "definition", "copies", "store_version")
"""What a sweep.json says that two sweeps which differ in their seed alone differ in, or may."""
_MOST_NAMED = 2
"""A side is named by so many settings at most."""


@dataclass(frozen=True, eq=False)
class Member:
    """One sweep of a side."""

    sweep: SweepResult
    seed: int
    points: NDArray[np.float64]
    """Objectives of the students that compete, (students, objectives); qualities are means over seeds."""
    settings: dict[str, str]
    """What was set, but for the seed: dotted name -> value as JSON."""


@dataclass(frozen=True, eq=False)
class Side:
    """Sweeps that differ in their seed alone."""

    label: str
    members: tuple[Member, ...]
    """By their seeds, which all differ."""

    @property
    def seeds(self) -> list[int]:
        """The seeds of the sweeps."""
        return [member.seed for member in self.members]


def member_of(sweep: SweepResult) -> Member:
    """A sweep with its students' objectives.

    Raises:
        StoreError: it runs, a file of it is missing or damaged, no student competes, or a student lacks an
            objective or was measured under other conditions than the rest.
    """
    if sweep_state.state_of(sweep.path) == "running":
        raise StoreError(f"{sweep.path}: is running now; wait for its end: raydistill watch {sweep.path}")
    try:
        points = tables.objective_points(tables.mean_over_seeds(sweep.trials), sweep.objectives)
    except RunError as error:
        raise StoreError(f"{sweep.path}: {error}") from None
    if not len(points):
        raise StoreError(f"{sweep.path}: no student of it was trained to its end: nothing to compare")
    if not np.isfinite(points).all():
        raise StoreError(f"{sweep.path}: an objective of a student is infinite: evaluate it again")
    facts = store.read_sweep(sweep.path)
    given = {name: value for name, value in facts.items() if name not in _NOT_A_SETTING}
    given["trials"] = int((sweep.trials["role"] == "search").sum())
    flat = pd.json_normalize(given).iloc[0].to_dict() | {
        f"plugins.{name}": each["digest"] for name, each in facts.get("plugins", {}).items()
    }
    named = {str(name): value for name, value in flat.items() if ".files." not in str(name)}
    settings = {name: json.dumps(value, sort_keys=True, default=str) for name, value in named.items()}
    return Member(sweep, int(facts.get("seed", 0)), points, settings)


def require_comparable(members: Sequence[Member]) -> None:
    """Raises ConfigError where numbers of two sweeps, or of one, do not compare; it says which and why."""
    first = members[0]
    for other in members[1:]:
        names, others = (_in_words(each.sweep.objectives) for each in (first, other))
        if names != others:
            raise _refused(first, other, "objectives", names, others)
    of_qualities = [*CONTEXT, "digest.data", "digest.evaluator"]
    for key in [*of_qualities, "macs_convention"]:
        values = [_values(each.sweep, key) for each in members]
        for member, found in zip(members, values, strict=True):
            if len(found) > 1:
                raise ConfigError(
                    f"{member.sweep.path}: cannot be compared: its students differ in {key}: "
                    f"{' and '.join(sorted(found))}; evaluate them by one"
                )
            if found != values[0]:
                raise _refused(first, member, _WORDS.get(key, key), *map(_joined, (values[0], found)))


_WORDS = {
    "extractor": "scorers (extractor)",
    "resize": "scorers (resize)",
    "num_samples": "counts of scored pictures (num_samples)",
    "digest.data": "data",
    "digest.evaluator": "evaluator",
    "macs_convention": "convention of MACs",
}
"""Column that has to be equal -> what it is called."""


def _refused(first: Member, other: Member, what: str, one: str, two: str) -> ConfigError:
    names = [each.sweep.path for each in (first, other)]
    return ConfigError(
        f"{names[0]} and {names[1]} cannot be compared: they differ in {what}: {one} and {two}; "
        "compare sweeps of the same data, scorers and objectives"
    )


def _in_words(objectives: Sequence[NamedDirection]) -> str:
    return ", ".join(f"{name} {direction}" for name, direction in objectives)


def _joined(values: set[str]) -> str:
    return ", ".join(sorted(values))


def _values(sweep: SweepResult, key: str) -> set[str]:
    rows = sweep.trials[tables.competitors(sweep.trials)]
    return set(rows[key].astype("str").unique())


def sides_of(members: Sequence[Member], labels: Sequence[str] = ()) -> tuple[Side, ...]:
    """The sides that sweeps form, in the order of their first sweeps.

    Args:
        labels: a name for each side; empty: they are named by what differs.

    Raises:
        ConfigError: a seed comes twice on a side, or the labels are not as many as the sides, or not all
            different.
    """
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(json.dumps(member.settings, sort_keys=True), []).append(member)
    grouped = [sorted(group, key=lambda each: each.seed) for group in groups.values()]
    for group in grouped:
        for one, two in itertools.pairwise(group):
            if one.seed == two.seed:
                raise ConfigError(
                    f"{one.sweep.path} and {two.sweep.path}: the same settings and seed {one.seed}: "
                    "the second repeats the first; leave one out"
                )
    names = list(labels) or _names(grouped)
    if len(names) != len(grouped):
        there = "; ".join(", ".join(each.sweep.name for each in group) for group in grouped)
        raise ConfigError(f"--label: given {len(names)}, there are {len(grouped)} sides: {there}")
    if len(set(names)) < len(names):
        raise ConfigError(f"--label: the same name twice: {', '.join(names)}; give each side another")
    return tuple(Side(name, tuple(group)) for name, group in zip(names, grouped, strict=True))


def _names(groups: Sequence[Sequence[Member]]) -> list[str]:
    """A name for each side, by what differs between them; where too much does, by the names of the sweeps."""
    settings = [group[0].settings for group in groups]
    keys = sorted({name for each in settings for name in each})
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    if len(groups) > 1 and len(differing) <= _MOST_NAMED:
        names = [", ".join(_setting(key, each.get(key)) for key in differing) for each in settings]
    else:
        names = [_common_name(group) for group in groups]
    return [f"{name} ({names[:place].count(name) + 1})" if names.count(name) > 1 else name
            for place, name in enumerate(names)]  # fmt: skip


def _setting(key: str, value: str | None) -> str:
    """A setting in words: "sampler tpe", "student.base.kind gan", "without space.lengths"."""
    name = key.removeprefix("experiment.")
    if value is None:
        return f"without {name}"
    shown: Any = json.loads(value)
    text = shown if isinstance(shown, str) else value
    return f"{text} {name}" if name == "trials" else f"{name} {text if len(text) < 40 else text[:36] + '...'}"


def _common_name(group: Sequence[Member]) -> str:
    """What the names of a side's sweeps begin with."""
    names = [each.sweep.name for each in group]
    same = [len(set(letters)) == 1 for letters in zip(*names)]
    common = "".join(letter for letter, _ in itertools.takewhile(lambda pair: pair[1], zip(names[0], same)))
    return (common.rstrip("-_.0123456789") if len(names) > 1 else "") or names[0]


def common_reference(members: Sequence[Member], directions: Sequence[Direction]) -> list[float]:
    """One reference point for all: of each objective the worst among those of the sweeps."""
    points = [each.sweep.reference for each in members]
    return [
        float((max if direction == "min" else min)(values))
        for direction, values in zip(directions, zip(*points, strict=True), strict=True)
    ]


def front_of(member: Member, columns: Sequence[int], directions: Sequence[Direction]) -> NDArray[np.float64]:
    """The front of a sweep in some of the objectives, (members, len(columns)), by the first of them."""
    points = member.points[:, list(columns)]
    front = points[pareto.members(points, directions)]
    return front[np.argsort(front[:, 0], kind="stable")]
