"""What the page of a sweep shows of each trial: axes, numbers, intervals, fronts, curves, as JSON has it."""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, TypedDict

import pandas as pd

from analysis.plots import axis_title, groups
from raydistill.errors import RunError
from raydistill.records import pareto
from raydistill.records.measured import names_in
from raydistill.records.pareto import Direction
from raydistill.records.schema import MEASURED
from raydistill.records.tables import NamedDirection, column, competitors, objective_points

_COST = re.compile(r"^(cost|time|memory|measured/(latency_ms|peak_mib)\w*)/")
_DISTANCE = re.compile(r"/(fid|kid|lpips|fd_.*|kd_.*)$")
_HIGHER_IS_BETTER = re.compile(r"/(miou(_\w+)?|(precision|recall)_\w+|psnr|ssim)$")
_PARAM = "param."
_DIGITS = 7
"""Significant digits of a number on the page; the tables beside it have all."""
_NORMAL_95 = 1.96
"""Standard errors from the mean to either end of its 95 % interval."""


class Axis(TypedDict):
    """One number, or searched parameter, that an axis, a colour or a column of the page may show."""

    name: str
    title: str
    better: Direction | None
    cost: bool
    """Whether it is one: a size, a time or a memory, and no score."""
    log: bool
    """Whether its scale is logarithmic at first."""
    texts: bool
    """Whether its values are texts: a parameter's choices."""
    mixed: bool
    """Whether trials were measured under different conditions: then it has no front."""


class Intervals(TypedDict):
    """The 95 % intervals of one axis, a number for each row; null where a row has none."""

    what: str
    """What they are over, in words."""
    low: list[object]
    high: list[object]


def better(name: str, objectives: Sequence[NamedDirection]) -> Direction | None:
    """Which way is better for a number such as "test/miou"; None where neither is, as for an energy."""
    if name in dict(objectives):
        return dict(objectives)[name]
    if name.startswith("param/"):
        return None
    if _COST.search(name) or _DISTANCE.search(name):
        return "min"
    return "max" if _HIGHER_IS_BETTER.search(name) else None


def axes_of(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> list[Axis]:
    """Every number that a COMPLETE trial has: costs, metrics, time, memory, what was measured later; and
    what was searched.

    What was measured later under different conditions is no axis.
    """
    columns = [str(name) for name in table]
    names = [f"cost/{name.removeprefix('cost.')}" for name in columns if name.startswith("cost.")]
    names += [name.removeprefix("metric.") for name in columns if name.startswith("metric.")]
    done = table[groups(table) != ""]
    names += [f"measured/{name}" for name in names_in(table) if _has_one_condition(done, name)]
    names += ["time/wall_sec", *(["memory/peak_memory_gb"] if "peak_memory_gb" in table else [])]
    axes = [_axis(done, name, objectives) for name in names]
    params = [f"param/{name.removeprefix(_PARAM)}" for name in columns if name.startswith(_PARAM)]
    axes += [_axis(done, name, objectives) for name in params if done[column(name)].nunique() > 1]
    return [axis for axis in axes if axis is not None]


def _axis(done: pd.DataFrame, name: str, objectives: Sequence[NamedDirection]) -> Axis | None:
    """None: no COMPLETE trial has it."""
    values = done[column(name)].dropna()
    if values.empty:
        return None
    texts = not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
    if texts and not name.startswith("param/"):
        return None
    direction = better(name, objectives)
    return {
        "name": name,
        "title": axis_title(name, direction),
        "better": direction,
        "cost": _COST.search(name) is not None,
        "log": bool(not texts and values.min() > 0 and values.max() > 10 * values.min()),
        "texts": texts,
        "mixed": direction is not None and not _is_comparable(done, name, direction),
    }


def _is_comparable(done: pd.DataFrame, name: str, direction: Direction) -> bool:
    """Whether the competitors that have a number were measured under the same conditions."""
    try:
        objective_points(done[done[column(name)].notna()], [(name, direction)])
    except RunError:
        return False
    return True


def _has_one_condition(rows: pd.DataFrame, name: str) -> bool:
    """Whether all rows that have what was measured later under a name have it under the same conditions."""
    measured = rows[rows[f"{MEASURED}{name}"].notna()]
    return bool(len(measured) and measured[f"{MEASURED}{name}.conditions"].nunique() == 1)


def fronts(table: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, list[int]]:
    """Row numbers of the front's members, under "x|y" for each pair of axes that have a better side and one
    kind of conditions; x stands before y in `axes`.

    Over the competitors that have both numbers.
    """
    rows = competitors(table).to_numpy().nonzero()[0]
    sided = [axis for axis in axes if axis["better"] and not axis["mixed"]]
    values = {
        axis["name"]: table[column(axis["name"])].iloc[rows].to_numpy(float, na_value=math.nan)
        for axis in sided
    }
    frame, out = pd.DataFrame(values), {}
    for x, y in itertools.combinations(sided, 2):
        both = frame[[x["name"], y["name"]]].dropna()
        directions = [side for side in (x["better"], y["better"]) if side]
        members = pareto.members(both.to_numpy(), directions)
        out[f"{x['name']}|{y['name']}"] = rows[both.index[members]].tolist()
    return out


def values_of(table: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, list[object]]:
    """Axis -> its value for each row of the table."""
    return {axis["name"]: cells(table[column(axis["name"])]) for axis in axes}


def intervals(table: pd.DataFrame, axes: Sequence[Axis]) -> dict[str, Intervals]:
    """Axis -> its 95 % intervals, where they are recorded: over seeds, else over pictures."""
    out: dict[str, Intervals] = {}
    for axis in axes:
        name = axis["name"]
        if (error := f"se.{name}") in table and table[error].notna().any():
            half = _NORMAL_95 * table[error].astype(float)
            seeds = (table["front.seeds"] > 1).sum()
            low, high = table[column(name)] - half, table[column(name)] + half
            what = f"over seeds: mean ± {_NORMAL_95} standard errors, pooled over {seeds} repeated trials"
        elif name.startswith("measured/") and f"{column(name)}.low" in table:
            low, high = table[f"{column(name)}.low"], table[f"{column(name)}.high"]
            what = "over pictures, by bootstrap: another seed may move a trial further"
        else:
            continue
        out[name] = {"what": what, "low": cells(low), "high": cells(high)}
    return out


def rows_of(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> list[dict[str, Any]]:
    """One entry per row of the table: what a trial is, and its place on the front of the objectives."""
    plain = ["trial_id", "label", "role", "seed", "status", "reason", "nimg", "budget_nimg"]
    front = {"member": "front.member", "rank": "front.rank", "contribution": "front.hv_contribution"}
    front |= {"seeds": "front.seeds", "probability": "front.probability"}
    names = {**dict.fromkeys(plain), **front}
    lists = {key: cells(table[name or key]) for key, name in names.items()}
    lists |= {"group": list(groups(table)), "competes": cells(competitors(table))}
    rows = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    dominators = _dominators(table, objectives)
    for number, row in enumerate(rows):
        row |= {"dominator": dominators.get(number, ""), "measured": _measured(table.iloc[number])}
    return rows


def _measured(row: pd.Series) -> list[dict[str, Any]]:
    """What was measured of a trial after the sweep: name, value, interval, conditions, when and how."""
    parts = ("low", "high", "conditions", "when", "how")
    out = []
    for name in names_in(row.index):
        field = f"{MEASURED}{name}"
        if row[f"{field}.when"]:
            found = {part: cell(row.get(f"{field}.{part}")) for part in parts}
            out.append({"name": name, "value": cell(row[field]), **found})
    return out


def _dominators(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> dict[int, str]:
    """Row number of each dominated competitor -> trial_id of a member of the front that dominates it."""
    rows = competitors(table).to_numpy().nonzero()[0]
    directions = [direction for _, direction in objectives]
    indices = pareto.dominators(objective_points(table, objectives), directions)
    ids = table["trial_id"]
    return {int(row): ids.iloc[rows[index]] for row, index in zip(rows, indices, strict=True) if index >= 0}


def curves(table: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, Any]:
    """The learning curves of the trials in `table`.

    Returns:
        "grids": the lists of images seen that occur, and "metrics": metric -> its curves, each with the
        number of the trial's row, that of its grid, and the values `y`.
    """
    numbers = {key: number for number, key in enumerate(zip(table["trial_id"], table["seed"], strict=True))}
    keys = ["metric", "trial_id", "seed"]
    ordered = evaluations.sort_values([*keys, "nimg"])
    is_first = (ordered[keys] != ordered[keys].shift()).any(axis=1).to_numpy()
    starts = [*is_first.nonzero()[0].tolist(), len(ordered)]
    images, values = ordered["nimg"].tolist(), cells(ordered["value"])
    columns = [ordered[key].tolist() for key in keys]
    grids: dict[tuple[int, ...], int] = {}
    metrics: dict[str, list[dict[str, Any]]] = {}
    for start, end in itertools.pairwise(starts):
        metric, trial, seed = (each[start] for each in columns)
        if (trial, seed) in numbers:
            grid = grids.setdefault(tuple(images[start:end]), len(grids))
            curve = {"row": numbers[trial, seed], "grid": grid, "y": values[start:end]}
            metrics.setdefault(str(metric), []).append(curve)
    return {"grids": [list(grid) for grid in grids], "metrics": metrics}


def cells(values: pd.Series) -> list[object]:
    """A column as JSON has it."""
    return [cell(value) for value in values.tolist()]


def cell(value: Any) -> object:
    """A cell of a table as JSON has it: null for a number that is missing or not finite."""
    if isinstance(value, str | bool):
        return value
    if value is None or pd.isna(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return _rounded(value) if math.isfinite(value) else None
    return value


def _rounded(value: float) -> float | int:
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
