"""What the page says of a whole sweep beside its trials: importance, attainment, progress of the front."""

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from analysis.page_data import cells
from raydistill.records import pareto
from raydistill.records.tables import NamedDirection, column, competitors, objective_points

_LEAST_TRIALS = 10
"""So many trials are needed before a parameter's importance is said."""
_PERCENTILES = (25, 50, 75)


class Importance(TypedDict):
    """How much each parameter matters to one objective, as shares of 1."""

    objective: str
    shares: dict[str, float]
    trials: int
    left_out: list[str]
    """Parameters that only some trials have."""


def importance(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> list[Importance]:
    """PED-ANOVA of Optuna over the searched trials that are COMPLETE, for each objective that is no cost.

    A cost is known without training. Empty where there are too few trials, or nothing that differs.
    """
    rows = table[(table["role"] == "search") & (table["status"] == "COMPLETE")]
    names = [str(name) for name in rows if str(name).startswith("param.") and rows[name].nunique() > 1]
    of_all = [name for name in names if rows[name].notna().all()]
    if len(rows) < _LEAST_TRIALS or not of_all:
        return []
    left_out = [name.removeprefix("param.") for name in names if name not in of_all]
    return [
        {
            "objective": name,
            "shares": _shares(rows, of_all, column(name), direction),
            "trials": len(rows),
            "left_out": left_out,
        }
        for name, direction in objectives
        if not name.startswith("cost/")
    ]


def _shares(rows: pd.DataFrame, names: Sequence[str], target: str, direction: str) -> dict[str, float]:
    import optuna  # a second to import, and small sweeps need none

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if direction == "max" else "minimize")
    distributions = {name: _distribution(rows[name], optuna.distributions) for name in names}
    columns = {name: rows[name].tolist() for name in names}
    for index, value in enumerate(rows[target].astype(float)):
        params = {name: values[index] for name, values in columns.items()}
        trial = optuna.trial.create_trial(value=value, params=params, distributions=distributions)
        study.add_trial(trial)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name.removeprefix("param."): float(f"{share:.4g}") for name, share in found.items()}


def _distribution(values: pd.Series, distributions: Any) -> Any:
    """The range or choices that a parameter took."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return distributions.CategoricalDistribution(sorted(values.unique().tolist()))
    low, high = values.min(), values.max()
    log = bool(low > 0 and high > 10 * low)
    if pd.api.types.is_integer_dtype(values):
        return distributions.IntDistribution(int(low), int(high), log=log)
    return distributions.FloatDistribution(float(low), float(high), log=log)


def attainment(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> dict[str, Any] | None:
    """Median and quartiles of what the front reaches, where two objectives and seeds say how sure they are.

    None: there are no replicates, or not two objectives.
    """
    rows = table[competitors(table)]
    errors = pd.DataFrame(
        {name: rows.get(f"se.{name}", pd.Series(0.0, rows.index)) for name, _ in objectives}
    )
    has_errors = any(f"se.{name}" in rows for name, _ in objectives)
    if len(objectives) != 2 or not has_errors or errors.isna().any(axis=None) or rows.empty:
        return None
    directions = [direction for _, direction in objectives]
    points = objective_points(table, objectives)
    surfaces = pareto.uncertain_attainment(
        points, errors.to_numpy(float), directions, [each / 100 for each in _PERCENTILES]
    )
    return {
        "axes": [name for name, _ in objectives],
        "surfaces": [
            {"percentile": percentile, "points": [cells(pd.Series(point)) for point in surface]}
            for percentile, surface in zip(_PERCENTILES, surfaces, strict=True)
        ],
    }


def progress(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], reference: Sequence[float]
) -> dict[str, list[object]]:
    """The hypervolume after each student, in the order of their numbers: students, hours and volume.

    Hours are those that trials held GPUs, or trained where none was held; failed and stopped ones count.
    """
    students = table[table["role"].isin(("search", "uniform", "no_teacher")) & (table["status"] != "RUNNING")]
    directions = [direction for _, direction in objectives]
    seconds = "gpu_sec" if students["gpu_sec"].fillna(0).sum() > 0 else "wall_sec"
    hours = students[seconds].fillna(0).cumsum() / 3600
    points = objective_points(table, objectives)
    is_point = competitors(students).to_numpy()
    volumes, front, taken = [], points[:0], 0
    for competes in is_point:
        if competes:
            front = np.concatenate([front, points[taken : taken + 1]])
            front, taken = front[pareto.members(front, directions)], taken + 1
        volumes.append(pareto.hypervolume(front, directions, reference))
    return {
        "trial": list(students["trial_id"]),
        "hours": cells(hours),
        "volume": cells(pd.Series(volumes, dtype=float)),
        "of": ["GPU-hours" if seconds == "gpu_sec" else "trial hours (no GPU was held)"],
    }
