"""The trials and their Pareto front as one HTML file that opens without a network.

The template is `page.html`, its behaviour `page.js`; the numbers are embedded as JSON. The page computes
nothing about fronts: for every pair of axes the members are embedded, from `raydistill.records.pareto`.
"""

import base64
import html
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
from plotly.offline import get_plotlyjs

from analysis.plots import MARKS, axis_title, groups, pair_members
from raydistill.records import pareto
from raydistill.records.files import write_atomic
from raydistill.records.measured import names_in
from raydistill.records.pareto import Direction
from raydistill.records.schema import MEASURED
from raydistill.records.tables import NamedDirection, column, competitors, objective_points

_LOWER_IS_BETTER = re.compile(
    r"^(cost|time|measured/(latency_ms|peak_mib)\w*)/|/(fid|kid|lpips|fd_.*|kd_.*)$"
)
_HIGHER_IS_BETTER = re.compile(r"/(miou(_\w+)?|(precision|recall)_\w+|psnr|ssim)$")
_PARAM = "param."


def write_page(
    table: pd.DataFrame,
    evaluations: pd.DataFrame,
    path: Path,
    *,
    title: str,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    facts: Mapping[str, str],
    ceiling: float | None = None,
    samples: Mapping[str, Path] | None = None,
) -> None:
    """Write the page of one sweep.

    Args:
        table: the trials table, as `records.tables.with_front` returns it.
        evaluations: the evaluations table.
        path: the HTML file to write.
        title: heading of the page.
        objectives: the first two are shown first, a cost on the x axis.
        reference: reference point of the hypervolume, one number per objective.
        facts: further lines of the facts block; one with the key of a computed line replaces it. Where there
            is "evaluator features" (their number), sample counts that do not exceed it are marked as biased.
        ceiling: mIoU of the evaluator on real pictures; None: no line.
        samples: trial_id -> PNG file, for the trials that have one; None: no pictures.

    Raises:
        RunError: the numbers of two trials were measured under different conditions.
        StoreError: the page cannot be written.
        FileNotFoundError: a picture in `samples` does not exist.
    """
    axes = _axes(table, objectives)
    data = {
        "axes": axes,
        "start": [name for name, _ in axis_order(objectives)[:2]],
        "rows": _rows(table, objectives, [axis["name"] for axis in axes]),
        "fronts": _fronts(table, axes),
        "marks": {name: asdict(mark) for name, mark in MARKS.items()},
        "ceiling": ceiling,
        "curves": _curves(table, evaluations),
        "samples": {trial: _data_url(file) for trial, file in (samples or {}).items()},
        "facts": _facts(table, objectives, reference, facts, ceiling),
    }
    parts = {"title": html.escape(title), "data": _script_json(data)}
    text = _filled(parts | {"plotly": get_plotlyjs(), "script": _asset("page.js")})
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def axis_order(objectives: Sequence[NamedDirection]) -> list[NamedDirection]:
    """The objectives with costs first, because a cost belongs on the x axis."""
    return sorted(objectives, key=lambda objective: not objective[0].startswith("cost/"))


def better(name: str, objectives: Sequence[NamedDirection]) -> Direction | None:
    """Which way is better for a number such as "test/miou"; None where neither is, as for an energy."""
    if name in dict(objectives):
        return dict(objectives)[name]
    if _LOWER_IS_BETTER.search(name):
        return "min"
    return "max" if _HIGHER_IS_BETTER.search(name) else None


class _Axis(TypedDict):
    """One number that an axis of the page may show."""

    name: str
    title: str
    better: Direction | None
    log: bool
    """Whether its scale is logarithmic at first."""


def _axes(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> list[_Axis]:
    """Every number that a COMPLETE trial has: costs, metrics, wall time.

    What was measured later is an axis where all competitors have it, under the same conditions.
    """
    columns = [str(name) for name in table]
    names = [f"cost/{name.removeprefix('cost.')}" for name in columns if name.startswith("cost.")]
    names += [name.removeprefix("metric.") for name in columns if name.startswith("metric.")]
    done = table[groups(table) != ""]
    names += [f"measured/{name}" for name in names_in(table) if _is_of_all(table[competitors(table)], name)]
    out: list[_Axis] = []
    for name in [*names, "time/wall_sec"]:
        values = done[column(name)]
        if pd.api.types.is_numeric_dtype(values) and values.notna().any():
            direction = better(name, objectives)
            log = bool(values.min() > 0 and values.max() > 10 * values.min())
            out.append({"name": name, "title": axis_title(name, direction), "better": direction, "log": log})
    return out


def _is_of_all(rows: pd.DataFrame, name: str) -> bool:
    """Whether all rows have what was measured later under a name, and under the same conditions."""
    conditions = rows[f"{MEASURED}{name}.conditions"]
    return bool(len(rows) and rows[f"{MEASURED}{name}"].notna().all() and conditions.nunique() == 1)


def _fronts(table: pd.DataFrame, axes: Sequence[_Axis]) -> dict[str, list[int]]:
    """Row numbers of the front's members, under "x|y" for each ordered pair of axes that have a better
    side."""
    directions = {axis["name"]: axis["better"] for axis in axes if axis["better"]}
    members = {  # the same for (x, y) and (y, x)
        frozenset((x, y)): pair_members(table, (x, y), (directions[x], directions[y])).nonzero()[0].tolist()
        for x, y in itertools.combinations(directions, 2)
    }
    return {f"{x}|{y}": members[frozenset((x, y))] for x, y in itertools.permutations(directions, 2)}


def _rows(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], names: Sequence[str]
) -> list[dict[str, Any]]:
    """One entry per row of the table, with null for what it lacks. `names`: the numbers of the axes."""
    plain = ["trial_id", "label", "role", "seed", "status", "reason", "nimg", "budget_nimg"]
    front = {"member": "front.member", "rank": "front.rank", "contribution": "front.hv_contribution"}
    front |= {"seeds": "front.seeds", "probability": "front.probability"}
    params = [name for name in map(str, table) if name.startswith(_PARAM)]
    dominators = _dominators(table, objectives)
    out = []
    for number, (group, (_, row)) in enumerate(zip(groups(table), table.iterrows(), strict=True)):
        present = [name for name in params if not pd.isna(row[name])]
        out.append(
            {
                **{name: _value(row[name]) for name in plain},
                **{key: _value(row[name]) for key, name in front.items()},
                "group": group,
                "dominator": dominators.get(number, ""),
                "values": {name: _value(row[column(name)]) for name in names},
                "params": {name.removeprefix(_PARAM): _value(row[name]) for name in present},
                "measured": _measured(row),
            }
        )
    return out


def _measured(row: pd.Series) -> list[dict[str, Any]]:
    """What was measured of a trial after the sweep: name, value, interval, conditions, when and how."""
    parts = ("low", "high", "conditions", "when", "how")
    out = []
    for name in names_in(row.index):
        column = f"{MEASURED}{name}"
        if row[f"{column}.when"]:
            cells = {part: _value(row.get(f"{column}.{part}")) for part in parts}
            out.append({"name": name, "value": _value(row[column]), **cells})
    return out


def _dominators(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> dict[int, str]:
    """Row number of each dominated competitor -> trial_id of a member of the front that dominates it."""
    rows = competitors(table).to_numpy().nonzero()[0]
    directions = [direction for _, direction in objectives]
    indices = pareto.dominators(objective_points(table, objectives), directions)
    ids = table["trial_id"]
    return {int(row): ids.iloc[rows[index]] for row, index in zip(rows, indices, strict=True) if index >= 0}


def _curves(table: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Metric -> its curves over images, one for each trial in `table`, with the number of the trial's row."""
    numbers = {key: number for number, key in enumerate(zip(table["trial_id"], table["seed"], strict=True))}
    out: dict[str, list[dict[str, Any]]] = {}
    by_curve = evaluations.sort_values("nimg").groupby(["metric", "trial_id", "seed"])
    for (metric, trial, seed), part in by_curve:
        if (trial, seed) in numbers:
            curve = {"row": numbers[trial, seed], "x": part["nimg"].tolist(), "y": part["value"].tolist()}
            out.setdefault(str(metric), []).append(curve)
    return out


def _facts(
    table: pd.DataFrame,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    given: Mapping[str, str],
    ceiling: float | None,
) -> dict[str, str]:
    """The lines of the facts block: key -> text. `given` replaces or adds some; empty ones are left out."""
    points, directions = objective_points(table, objectives), [direction for _, direction in objectives]
    volume = pareto.hypervolume(points, directions, reference)
    facts = {
        "sweep": _distinct(table["sweep_id"]),
        "objectives": ", ".join(f"{name} {direction}" for name, direction in objectives),
        "reference point": ", ".join(f"{value:g}" for value in reference),
        "hypervolume": f"{volume:.6g}",
    }
    if volume > 0:
        facts["knee"] = table["trial_id"][competitors(table)].iloc[pareto.knee(points, directions, reference)]
    if ceiling is not None:
        facts["evaluator ceiling"] = f"{ceiling:.4g} mIoU"
    facts["MACs convention"] = _distinct(table["macs_convention"])
    for split, name in (("val", "num_samples"), ("test", "test_num_samples")):
        if table[name].notna().any():
            facts[f"{split} samples"] = _sample_counts(table[name], given.get("evaluator features"))
    for key in ("teacher", "data", "evaluator"):
        facts[key] = _distinct(table[f"digest.{key}"])
    facts["real statistics"] = _distinct(table["real_statistics"])
    facts["scoring"] = _scoring_share(table)
    facts["code"] = _distinct(table["git_revision"])
    return {key: value for key, value in {**facts, **given}.items() if value}


def _scoring_share(table: pd.DataFrame) -> str:
    """How much of the trials' time their scores took, where that is known; empty where it is not."""
    known = table[table["scoring_sec"].notna() & (table["wall_sec"] > 0)]
    if known.empty:
        return ""
    total, scoring = known["wall_sec"].sum(), known["scoring_sec"].sum()
    trials = f"{len(known)} trial{'s' if len(known) > 1 else ''}"
    return f"{scoring / total:.1%} of the {total:.0f} s of {trials}"


def _sample_counts(counts: pd.Series, feature_width: str | None) -> str:
    """The numbers of samples, with a remark where a Frechet distance of so few is biased."""
    few = feature_width is not None and (counts <= int(feature_width)).any()
    remark = f" (biased: FD needs more samples than the {feature_width} features)" if few else ""
    return _distinct(counts.dropna()) + remark


def _distinct(values: pd.Series) -> str:
    return ", ".join(str(value) for value in values.unique() if value != "")


def _data_url(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def _value(value: Any) -> object:
    """A cell of a table as JSON has it: null for a missing number."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _script_json(data: object) -> str:
    """JSON that cannot end the script element in which it stands."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _filled(parts: Mapping[str, str]) -> str:
    """The template with each {{name}} replaced, in one pass: a name within what is filled in is left as it
    is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], _asset("page.html"))
