"""The frontier as one HTML file that opens without a network: template `page.html`, behaviour `page.js`, numbers embedded as JSON.

The page computes nothing about fronts: membership for every pair of axes is embedded, from `raydistill.records.pareto`.
"""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from analysis.plots import MARKS, axis_title, groups, pair_members
from raydistill.records import pareto
from raydistill.records.files import write_atomic
from raydistill.records.pareto import Direction
from raydistill.records.tables import NamedDirection, column, competitors, objective_points

_LOWER_IS_BETTER = re.compile(r"^(cost|time)/|/(fid|kid|fd_.*|kd_.*)$")
_HIGHER_IS_BETTER = re.compile(r"/(miou|psnr|ssim)$")
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
        table: the trials table, as from `results.with_front`.
        evaluations: the evaluations table.
        path: the HTML file to write.
        title: heading of the page.
        objectives: the first two are shown first, a cost on the x axis.
        reference: one number per objective.
        facts: more lines for the facts block; one with the key of a computed line replaces it. With "evaluator features" (their number),
            sample counts that do not exceed it are marked as biased.
        ceiling: mIoU of the evaluator on real pictures; None: no line.
        samples: PNG of each trial_id that has one; None: no pictures.

    Raises:
        RunError: the numbers of two trials were measured under different conditions.
        StoreError: the page cannot be written.
        FileNotFoundError: a picture in `samples` does not exist.
    """
    axes = _axes(table, objectives)
    payload = {
        "axes": axes,
        "start": [axis_order(objectives)[index][0] for index in (0, 1)],
        "rows": _rows(table, objectives, [axis["name"] for axis in axes]),
        "fronts": _fronts(table, axes),
        "marks": {name: asdict(mark) for name, mark in MARKS.items()},
        "ceiling": ceiling,
        "curves": _curves(table, evaluations),
        "samples": {
            trial: "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
            for trial, file in (samples or {}).items()
        },
        "facts": _facts(table, objectives, reference, facts, ceiling),
    }
    text = _filled(
        {
            "title": html.escape(title),
            "plotly": get_plotlyjs(),
            "data": _script_json(payload),
            "script": _asset("page.js"),
        }
    )
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def axis_order(objectives: Sequence[NamedDirection]) -> list[NamedDirection]:
    """The objectives with costs first: cost belongs on the x axis."""
    return sorted(objectives, key=lambda objective: not objective[0].startswith("cost/"))


def better(name: str, objectives: Sequence[NamedDirection]) -> Direction | None:
    """Which way is better for a number such as "test/miou"; None where neither is (a loss weight, an energy)."""
    if name in dict(objectives):
        return dict(objectives)[name]
    if _LOWER_IS_BETTER.search(name):
        return "min"
    return "max" if _HIGHER_IS_BETTER.search(name) else None


def _axes(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> list[dict[str, Any]]:
    """Every number that a COMPLETE trial has: costs, metrics, wall time."""
    names = [f"cost/{name.removeprefix('cost.')}" for name in map(str, table) if name.startswith("cost.")]
    names += [name.removeprefix("metric.") for name in map(str, table) if name.startswith("metric.")]
    done = table[groups(table) != ""]
    out = []
    for name in [*names, "time/wall_sec"]:
        values = done[column(name)]
        if pd.api.types.is_numeric_dtype(values) and values.notna().any():
            direction = better(name, objectives)
            log = bool(values.min() > 0 and values.max() > 10 * values.min())
            out.append({"name": name, "title": axis_title(name, direction), "better": direction, "log": log})
    return out


def _fronts(table: pd.DataFrame, axes: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Row numbers of the members for each ordered pair of different axes on which a side is better, under "x|y"."""
    sided = {axis["name"]: axis["better"] for axis in axes if axis["better"]}
    pairs = [(x, y) for x in sided for y in sided if x != y]
    return {
        f"{x}|{y}": pair_members(table, (x, y), (sided[x], sided[y])).nonzero()[0].tolist() for x, y in pairs
    }


def _rows(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], names: Sequence[str]
) -> list[dict[str, Any]]:
    """One entry per row of the table, with null for what it lacks."""
    plain = ["trial_id", "label", "role", "seed", "status", "reason", "nimg", "budget_nimg"]
    front = {"member": "front.member", "rank": "front.rank", "contribution": "front.hv_contribution"}
    front |= {"seeds": "front.seeds", "probability": "front.probability"}
    params = [name for name in map(str, table) if name.startswith(_PARAM)]
    dominators = _dominators(table, objectives)
    out = []
    for number, (group, (_, row)) in enumerate(zip(groups(table), table.iterrows(), strict=True)):
        out.append(
            {
                **{name: _value(row[name]) for name in plain},
                **{key: _value(row[name]) for key, name in front.items()},
                "group": group,
                "dominator": dominators.get(number, ""),
                "values": {name: _value(row[column(name)]) for name in names},
                "params": {
                    name.removeprefix(_PARAM): _value(row[name]) for name in params if not pd.isna(row[name])
                },
            }
        )
    return out


def _dominators(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> dict[int, str]:
    """trial_id of a member that dominates the row, by row number, for dominated competitors."""
    rows = competitors(table).to_numpy().nonzero()[0]
    found = pareto.dominators(objective_points(table, objectives), [direction for _, direction in objectives])
    return {
        int(row): table["trial_id"].iloc[rows[by]] for row, by in zip(rows, found, strict=True) if by >= 0
    }


def _curves(table: pd.DataFrame, evaluations: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Per metric the curves over images of the trials in `table`, each with the number of its row."""
    numbers = {key: number for number, key in enumerate(zip(table["trial_id"], table["seed"], strict=True))}
    out: dict[str, list[dict[str, Any]]] = {}
    for (metric, trial, seed), part in evaluations.sort_values("nimg").groupby(
        ["metric", "trial_id", "seed"]
    ):
        if (trial, seed) in numbers:
            out.setdefault(str(metric), []).append(
                {"row": numbers[trial, seed], "x": part["nimg"].tolist(), "y": part["value"].tolist()}
            )
    return out


def _facts(
    table: pd.DataFrame,
    objectives: Sequence[NamedDirection],
    reference: Sequence[float],
    given: Mapping[str, str],
    ceiling: float | None,
) -> dict[str, str]:
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
    for key, name in (
        ("teacher", "digest.teacher"),
        ("data", "digest.data"),
        ("evaluator", "digest.evaluator"),
    ):
        facts[key] = _distinct(table[name])
    facts |= {
        "real statistics": _distinct(table["real_statistics"]),
        "code": _distinct(table["git_revision"]),
    }
    return {key: value for key, value in {**facts, **given}.items() if value}


def _sample_counts(counts: pd.Series, feature_width: str | None) -> str:
    few = feature_width is not None and (counts <= int(feature_width)).any()
    remark = f" (biased: FD needs more samples than the {feature_width} features)" if few else ""
    return _distinct(counts.dropna()) + remark


def _distinct(values: pd.Series) -> str:
    return ", ".join(str(value) for value in values.unique() if value != "")


def _value(value: Any) -> Any:
    """As JSON has it: null for a missing number."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _script_json(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _filled(parts: Mapping[str, str]) -> str:
    """The template with each {{name}} replaced, in one pass: what is filled in is not looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], _asset("page.html"))
