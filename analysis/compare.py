"""Compares sweeps: fronts, hypervolumes and what is best within a budget, side against side, seed by seed.

Statistics are those of `raydistill.records.paired`, numbers about fronts those of `records.pareto`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.sides import Member, Side, common_reference, front_of, member_of, require_comparable, sides_of
from raydistill import SweepResult, load_sweep
from raydistill.errors import ConfigError
from raydistill.records import pareto
from raydistill.records.paired import NOT_TOLD_APART, PairedDifference, interval, needed_in_words, paired
from raydistill.records.pareto import Direction
from raydistill.records.tables import NamedDirection

HYPERVOLUME = "hypervolume"
_SHARES = (0.25, 0.5, 0.75)
"""Quantiles of the members' costs that are compared at where no budget is given."""
_UNITS = {"cost/macs": (1e6, "M MACs"), "cost/params": (1e3, "k parameters")}
"""Cost -> how a budget is printed."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sweeps side by side. The first side is the one that the others are compared with."""

    sides: tuple[Side, ...]
    objectives: tuple[NamedDirection, ...]
    """(name, "min" or "max"), the same for all sweeps."""
    reference: tuple[float, ...]
    """Reference point of every hypervolume here: of each objective the worst among those of the sweeps."""
    axes: tuple[NamedDirection, NamedDirection]
    """What is drawn: a cost, where there is one, and a quality."""
    budgets: tuple[float, ...]
    """Of the first axis; empty where that is no cost."""
    sweeps: pd.DataFrame
    """A row each: side, sweep, seed, students, members of the front, hypervolume, best quality within each
    budget; NaN where no student is within it."""
    summary: pd.DataFrame
    """A row for each side: seeds, mean hypervolume with its 95 % interval over the seeds (NaN of one seed),
    and mean best quality within each budget."""
    differences: pd.DataFrame
    """A row for each further side and each thing compared: side, than, what, pairs, difference, low, high,
    p, verdict, and the sentence that says it."""

    @property
    def sentences(self) -> list[str]:
        """What differs from the first side, and what is not told apart from it."""
        return list(self.differences["sentence"])

    def __repr__(self) -> str:
        return "\n".join(self.sentences) or f"Comparison of one side: {self.sides[0].label}"


def compare(
    sweeps: Sequence[SweepResult | str | Path],
    *,
    labels: Sequence[str] = (),
    budgets: Sequence[float] = (),
) -> Comparison:
    """Compares sweeps that have ended.

    Sweeps that differ in their seed alone form one side. Sides are compared seed by seed: a pair is two
    sweeps of the same seed.

    Args:
        sweeps: what `load_sweep` gave, or the folders.
        labels: a name for each side, in the order of their first sweeps; empty: they are named by what
            differs between them.
        budgets: of the first cost among the objectives, in its unit (3e6: 3 M MACs); empty: three that
            spread over the members of all fronts.

    Raises:
        ConfigError: no sweep is given; two differ in data, evaluator, scorers, counts, objectives or
            convention of MACs, and the message says which; a budget or label cannot be used.
        StoreError: one has not ended, has no student, or a file of it is missing or damaged.
    """
    if not sweeps:
        raise ConfigError("which sweeps? Give their folders: STORE/sweeps/NAME STORE/sweeps/NAME")
    loaded = [each if isinstance(each, SweepResult) else load_sweep(each) for each in sweeps]
    members = [member_of(each) for each in loaded]
    require_comparable(members)
    sides, objectives = sides_of(members, labels), tuple(loaded[0].objectives)
    reference = common_reference(members, [direction for _, direction in objectives])
    ordered = sorted(objectives, key=lambda each: not each[0].startswith("cost/"))
    axes = (ordered[0], next((each for each in ordered if not each[0].startswith("cost/")), ordered[1]))
    if axes[0] == axes[1]:
        axes = (ordered[0], ordered[1])
    given = _budgets(members, objectives, axes, budgets)
    table = _sweep_table(sides, objectives, reference, axes, given)
    summary, differences = _summary(table), _differences(sides, table, axes, given)
    return Comparison(sides, objectives, tuple(reference), axes, tuple(given), table, summary, differences)


def columns_of(objectives: Sequence[NamedDirection], axes: Sequence[NamedDirection]) -> list[int]:
    """Columns of the axes among the objectives."""
    return [list(objectives).index(axis) for axis in axes]


def attained(
    side: Side, objectives: Sequence[NamedDirection], axes: Sequence[NamedDirection], share: float
) -> NDArray[np.float64]:
    """Corners of what at least `share` of a side's fronts attain on two axes, see `pareto.attainment`."""
    directions = [direction for _, direction in axes]
    columns = columns_of(objectives, axes)
    fronts = [front_of(member, columns, directions) for member in side.members]
    return pareto.attainment(fronts, directions, share)


def amount(cost: str, value: float) -> str:
    """A budget in words: "3 M MACs"."""
    unit, words = _UNITS.get(cost, (1.0, cost))
    return f"{value / unit:.3g} {words}"


def _within(axes: Sequence[NamedDirection], budget: float) -> str:
    """Name of the column with the best quality within a budget."""
    return f"{axes[1][0]} within {amount(axes[0][0], budget)}"


def _budgets(
    members: Sequence[Member],
    objectives: Sequence[NamedDirection],
    axes: Sequence[NamedDirection],
    given: Sequence[float],
) -> list[float]:
    """The budgets to compare at, ascending. Raises ConfigError where one cannot be used."""
    cost, direction = axes[0]
    if not cost.startswith("cost/") or axes[1][0].startswith("cost/"):
        if given:
            names = ", ".join(name for name, _ in objectives)
            raise ConfigError(f"--at: needs a cost and a quality among the objectives, which are {names}")
        return []
    for each in given:
        if not math.isfinite(each) or each <= 0:
            raise ConfigError(f"--at {each:g}: give a {cost} above 0, such as 3e6 for 3 M MACs")
    if given:
        return sorted(set(map(float, given)))
    directions: list[Direction] = [direction, axes[1][1]]
    columns = columns_of(objectives, axes)
    costs = np.concatenate([front_of(each, columns, directions)[:, 0] for each in members])
    found = [float(f"{value:.2g}") for value in np.quantile(costs, _SHARES)]
    return sorted(set(found))


def _sweep_table(
    sides: Sequence[Side],
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    axes: Sequence[NamedDirection],
    budgets: Sequence[float],
) -> pd.DataFrame:
    directions = [direction for _, direction in objectives]
    drawn, columns = [direction for _, direction in axes], columns_of(objectives, axes)
    rows = []
    for side in sides:
        for member in side.members:
            points = member.points[:, columns]
            best = {_within(axes, each): pareto.best_within(points, drawn, each) for each in budgets}
            front = int(pareto.members(member.points, directions).sum())
            known = {"side": side.label, "sweep": member.sweep.name, "seed": member.seed}
            volume = pareto.hypervolume(member.points, directions, reference)
            rows.append(known | {"students": len(member.points), "front": front, HYPERVOLUME: volume} | best)
    return pd.DataFrame(rows)


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for label, part in table.groupby("side", sort=False):
        volume = interval(part[HYPERVOLUME].to_numpy(dtype=float))
        row = {"side": label, "seeds": len(part), HYPERVOLUME: volume.mean}
        best = {name: part[name].mean() for name in map(str, table) if " within " in name}
        rows.append(row | {"low": volume.low, "high": volume.high} | best)
    return pd.DataFrame(rows)


def _differences(
    sides: Sequence[Side],
    table: pd.DataFrame,
    axes: Sequence[NamedDirection],
    budgets: Sequence[float],
) -> pd.DataFrame:
    columns = ["side", "than", "what", "pairs", "difference", "low", "high", "p", "verdict", "sentence"]
    compared: list[tuple[str, Direction]] = [(HYPERVOLUME, "max")]
    compared += [(_within(axes, each), axes[1][1]) for each in budgets]
    rows = []
    first = table[table["side"] == sides[0].label].set_index("seed")
    for side in sides[1:]:
        own = table[table["side"] == side.label].set_index("seed")
        seeds = sorted(set(own.index) & set(first.index))
        for what, direction in compared:
            values = (own.loc[seeds, what] - first.loc[seeds, what]).dropna().to_numpy(dtype=float)
            said = paired(values, direction)
            names = {"side": side.label, "than": sides[0].label, "what": what}
            numbers = (said.pairs, *said.gain, said.p, said.verdict)
            missing = {label: int(part[what].isna().sum()) for label, part in
                       ((side.label, own), (sides[0].label, first))}  # fmt: skip
            rows.append((*names.values(), *numbers, _sentence(names, said, missing)))
    return pd.DataFrame(rows, columns=columns)


def _sentence(names: dict[str, str], said: PairedDifference, missing: dict[str, int]) -> str:
    """What a paired difference says, in a sentence."""
    metric, _, budget = names["what"].partition(" within ")
    where = f" within {budget}" if budget else ""
    gain = said.gain
    spread = "" if math.isnan(gain.low) else f" ({gain.low:+.4g} to {gain.high:+.4g})"
    numbers = "" if not said.pairs else f"{metric} {gain.mean:+.4g}{spread}, p = {said.p:.3g}, "
    none = [
        f"{name} has no student there in {number} of its seeds" for name, number in missing.items() if number
    ]
    if said.verdict == NOT_TOLD_APART:
        what = f" by {metric}" if not budget else ""
        text = f"{names['side']} and {names['than']} are not told apart{what}{where}: "
        return "; ".join([text + numbers + needed_in_words(said), *none])
    verb = "beats" if said.verdict == "better" else "is beaten by"
    text = f"{names['side']} {verb} {names['than']}{where}: {numbers}{said.pairs} pairs of seeds"
    return "; ".join([text, *none])
