"""The page of a sweep in MLflow's UI: its runs with the front first, and charts.

MLflow keeps a view that somebody shares as a tag of the experiment, and opens it by a key in the address.
Neither the tag nor what it holds is documented; what is known of both stands in this file alone, as MLflow
3.17 has it, and `tests/test_tracking_view.py` looks at the page in a browser. A UI that does not know the
view shows the experiment's runs as it always does. `plain_link` needs nothing undocumented.
"""

import base64
import json
import urllib.parse
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from raydistill.records import tables

ORDER = "front/order"
"""Metric of each run: its place in the list that has the front first, from 1."""
_TAG = "mlflow.sharedViewState."
_COMPRESSED = "deflate;"
"""Begins the value of a tag that is deflated and base64-encoded."""
PICTURES = "samples"
"""What MLflow calls the pictures that a trial draws at each report."""
_SCATTERS, _PARALLEL, _SAMPLES = "Quality, cost and learning", "Searched parameters and objectives", "Samples"
_CHARTS_IN_A_ROW = {_SCATTERS: 2, _PARALLEL: 1, _SAMPLES: 1}
_FOLDED = (
    *("cost", "energy", "final", "front", "measured", "test", "time", "train", "val"),
    *("Model metrics", "System metrics"),
)
"""Sections that MLflow fills itself, with a chart for each metric whose name begins so."""
_ALWAYS = ("cost/params", "test/miou", "front/member", ORDER, "time/wall_sec")
"""Metrics that are columns beside the objectives."""


def shown(name: str) -> str:
    """The metric in MLflow that holds the last value of an objective: "val/miou" -> "final/miou"."""
    return name.replace("val/", "final/", 1) if name.startswith("val/") else name


def with_order(table: pd.DataFrame, objectives: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The trials table with `front.order`: the rows' places, from 1, in a list that has the front first.

    Members of the front come first, then what they dominate, by rank; within a rank the best by the first
    objective. What does not compete comes after that: the teacher, then the others.

    Args:
        table: the trials table with the front's columns.
        objectives: (name, "min" or "max") of each; none: within a rank the table's order is kept.
    """
    ranks = pd.to_numeric(table["front.rank"]).to_numpy(float)
    kinds = table["role"].map({"teacher": 0, "retrain": 2}).fillna(1)
    keys = pd.DataFrame({"rank": ranks, "kind": kinds.to_numpy()})
    if objectives and (column := tables.column(objectives[0][0])) in table:
        values = pd.to_numeric(table[column]).to_numpy(float)
        keys["first"] = -values if objectives[0][1] == "max" else values
    order = keys.sort_values([*map(str, keys)], kind="stable", na_position="last").index
    places = pd.Series(range(1, len(table) + 1), index=order).sort_index()
    return table.assign(**{"front.order": places.to_numpy()})


def searched(table: pd.DataFrame) -> list[str]:
    """The parameters that a parallel plot can show: every searched trial has them, and they differ."""
    rows = table[table["role"] == "search"]
    names = [str(name) for name in rows if str(name).startswith("param.")]
    differ = [name for name in names if rows[name].notna().all() and rows[name].nunique() > 1]
    return [name.removeprefix("param.") for name in differ]


def tag(
    sweep_id: str,
    parent_id: str,
    objectives: Sequence[tuple[str, str]],
    parameters: Sequence[str],
    pictures_at: int,
) -> tuple[str, str]:
    """Name and value of the experiment's tag that holds the view of a sweep.

    Args:
        sweep_id: of the sweep.
        parent_id: its run.
        objectives: (name, "min" or "max") of each.
        parameters: what a parallel plot shows beside the objectives.
        pictures_at: the images seen after which pictures are shown; 0: there are none.
    """
    state = json.dumps(_state(sweep_id, parent_id, objectives, parameters, pictures_at))
    return _TAG + _key(sweep_id), _COMPRESSED + base64.b64encode(zlib.compress(state.encode(), 9)).decode()


def link(server: str, experiment_id: str, sweep_id: str) -> str:
    """Address of the view of a sweep in the UI at `server`."""
    page = f"{server}/#/experiments/{experiment_id}/runs"
    return f"{page}?viewStateShareKey={_key(sweep_id)}&compareRunsMode=CHART"


def plain_link(server: str, experiment_id: str, parent_id: str) -> str:
    """Address of the run table of a sweep, the front first, in the UI at `server`."""
    query = {"searchFilter": _filter(parent_id), "orderByKey": f"metrics.`{ORDER}`", "orderByAsc": "true"}
    return f"{server}/#/experiments/{experiment_id}/runs?{urllib.parse.urlencode(query)}"


def _key(sweep_id: str) -> str:
    return f"raydistill-{sweep_id}"


def _filter(parent_id: str) -> str:
    """Which runs are shown: the sweep's trials. The evaluator has no place among students."""
    return f"tags.`mlflow.parentRunId` = '{parent_id}' AND tags.`raydistill.role` != 'evaluator'"


def _state(
    sweep_id: str,
    parent_id: str,
    objectives: Sequence[tuple[str, str]],
    parameters: Sequence[str],
    pictures_at: int,
) -> dict[str, Any]:
    """What the page shows, in MLflow's own words."""
    names = [name for name, _ in objectives]
    last = [shown(name) for name in names]
    curves = [_line(name) for name in names if name.startswith("val/")]
    charts: dict[str, list[Mapping[str, Any]]] = {
        _SCATTERS: [*(_scatter(last[0], other) for other in last[1:]), *curves],
        _PARALLEL: [{"type": "PARALLEL", "selectedParams": list(parameters), "selectedMetrics": last}],
    }
    if pictures_at:
        charts[_SAMPLES] = [
            {"type": "IMAGE", "imageKeys": [PICTURES], "step": pictures_at, "showRunParams": False}
        ]
    ids = {name: str(uuid.uuid5(uuid.NAMESPACE_OID, sweep_id + name)) for name in [*charts, *_FOLDED]}
    columns = [*dict.fromkeys([*last, *_ALWAYS])]
    return {
        "searchFilter": _filter(parent_id),
        "orderByKey": f"metrics.`{ORDER}`",
        "orderByAsc": True,
        "selectedColumns": [
            *(f"metrics.`{name}`" for name in columns),
            *("params.`widths`", "params.`student.terms.mi.weight`", "tags.`raydistill.role`"),
        ],
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
        "compareRunSections": [
            {"uuid": ids[name], "name": name, "display": name in charts, "isReordered": False}
            | ({"columns": _CHARTS_IN_A_ROW[name], "cardHeight": 430} if name in charts else {})
            for name in ids
        ],
        "compareRunCharts": [
            {"uuid": f"{ids[name]}-{index}", "metricSectionId": ids[name], "runsCountToCompare": 100}
            | {"deleted": False, "isGenerated": False}
            | dict(chart)
            for name, section in charts.items()
            for index, chart in enumerate(section)
        ],
    }


def _scatter(first: str, second: str) -> Mapping[str, Any]:
    """The first objective upwards, another to the right."""
    x, y = ({"key": name, "dataAccessKey": name, "type": "METRIC"} for name in (second, first))
    return {"type": "SCATTER", "displayName": f"{first} against {second}", "xaxis": x, "yaxis": y}


def _line(name: str) -> Mapping[str, Any]:
    """A metric over the images seen."""
    return {
        "type": "LINE",
        "displayName": f"{name} over images seen",
        "metricKey": name,
        "selectedMetricKeys": [name],
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "selectedXAxisMetricKey": "",
    }
