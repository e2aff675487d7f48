"""The ledger of a sweep and the result tables made from it (version 1).

Ledger: each trial has a folder `trials/<trial_id>/` with `trial.json` (written when the trial is proposed) and `result.json` (written
when it ends, by atomic rename). The ledger is the truth; the tables are rebuilt from it.

Trials table: one row per (trial, seed), the columns of `_TRIAL_TYPES` and `param.<dotted path>`, `cost.<name>`, `metric.<name>`. Text that
is absent is "", a number that is absent is missing. The context of the val metrics is in `extractor`, `split`, `num_samples` and
`real_statistics`; that of the test metrics in the same columns with `test_` before the name. `biased`: whether the Frechet distance is of
too few samples (`num_samples`, or real ones) for its features, so that it is too large; missing where there is none. A row of the role
`replicate` is the trial `replicate_of` by another seed; where there are any, students have `front.seeds` (how many), `front.probability` (to be on
the front) and, of each objective that is no cost, `mean.<name>` and `se.<name>`.
Evaluations table: one row per number measured during training, see `_EVALUATION_TYPES`.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill.config import renamed
from raydistill.errors import RunError, StoreError
from raydistill.records import pareto
from raydistill.records.files import write_atomic
from raydistill.records.trials import _ENDING, SCHEMA_VERSION, read_trials

FRONT_ROLES = ("search", "uniform", "no_teacher")
"""Roles that compete for the front: not the teacher, and a second seed of the same trial only by the mean."""

NamedDirection = tuple[str, pareto.Direction]
"""A name such as "val/miou" or "cost/macs", and which way is better."""

_CONTEXT = ("extractor", "resize", "split", "num_samples", "real_statistics")
_DIGESTS = ("teacher", "data", "evaluator")
_TRIAL_TYPES = {
    **dict.fromkeys(
        ("sweep_id", "trial_id", "trial_key", "role", "label", "status", "reason", "macs_convention"), "str"
    ),
    **dict.fromkeys(("hardware", "git_revision", "extractor", "resize", "split", "real_statistics"), "str"),
    **dict.fromkeys(
        (
            "test_extractor",
            "test_resize",
            "test_split",
            "test_real_statistics",
            *(f"digest.{name}" for name in _DIGESTS),
        ),
        "str",
    ),
    **dict.fromkeys(
        ("schema_version", "seed", "nimg", "budget_nimg", "num_samples", "test_num_samples"), "Int64"
    ),
    **dict.fromkeys(("biased", "test_biased"), "boolean"),
    **{"wall_sec": "float64", "gpu_sec": "float64"},
    **{"front.member": "bool", "front.rank": "Int64", "front.hv_contribution": "float64"},
    **{"replicate_of": "str", "recheck_of": "str"},
    **{"front.seeds": "Int64", "front.probability": "float64"},
}
_ADDED = ("replicate_of", "recheck_of", "front.seeds", "front.probability")
"""Columns that tables of version 1 may lack."""
_EVALUATION_TYPES = {
    **{"schema_version": "Int64", "sweep_id": "str", "trial_id": "str", "seed": "Int64"},
    **{"nimg": "Int64", "wall_sec": "float64", "metric": "str", "value": "float64"},
}


# ---- the ledger -----------------------------------------------------------------------------------------------------


# ---- the tables -----------------------------------------------------------------------------------------------------


def trial_table(trials: Path | list[dict[str, Any]], *, sweep_id: str) -> pd.DataFrame:
    """The trials table of a sweep folder, or of what `read_trials` returned. The front columns are empty: see `with_front`."""
    trials = read_trials(trials) if isinstance(trials, Path) else trials
    table = pd.DataFrame([_row(trial, sweep_id) for trial in trials])
    return _typed_trials(table.assign(**_empty_front(table.index)))


def evaluation_table(trials: Path | list[dict[str, Any]], *, sweep_id: str) -> pd.DataFrame:
    """The evaluations table: what each trial measured on the way, one number a row."""
    trials = read_trials(trials) if isinstance(trials, Path) else trials
    rows = [
        (
            SCHEMA_VERSION,
            sweep_id,
            trial["trial_id"],
            trial["seed"],
            point["nimg"],
            point["wall_sec"],
            metric,
            value,
        )
        for trial in trials
        for point in (trial["result"] or {}).get("evaluations", [])
        for metric, value in point.items()
        if metric not in ("nimg", "wall_sec")
    ]
    return _typed(pd.DataFrame(rows, columns=list(_EVALUATION_TYPES)), _EVALUATION_TYPES)


def column(name: str) -> str:
    """The table's column of a number: "val/miou" -> "metric.val/miou", "cost/macs" -> "cost.macs", "time/wall_sec" -> "wall_sec"."""
    kind, _, rest = name.partition("/")
    return {"cost": f"cost.{rest}", "time": rest}.get(kind, f"metric.{name}")


def _row(trial: dict[str, Any], sweep_id: str) -> dict[str, Any]:
    result = trial["result"] or {"status": "RUNNING"}
    context, test_context = result.get("context") or {}, result.get("test_context") or {}
    return {
        "sweep_id": sweep_id,
        "schema_version": trial["schema_version"],
        **{name: trial[name] for name in ("trial_id", "trial_key", "role", "label", "seed")},
        **{name: trial.get(name) for name in ("replicate_of", "recheck_of")},
        **{name: result.get(name) for name in _ENDING},
        **({"peak_memory_gb": result["peak_memory_gb"]} if result.get("peak_memory_gb") else {}),
        **{f"digest.{name}": trial["digests"].get(name) for name in _DIGESTS},
        **{name: context.get(name) for name in _CONTEXT},
        **{f"test_{name}": test_context.get(name) for name in _CONTEXT},
        **{"biased": context.get("biased"), "test_biased": test_context.get("biased")},
        "macs_convention": trial["costs"].get("macs_convention"),
        **{f"cost.{name}": value for name, value in trial["costs"].items() if name != "macs_convention"},
        **{f"param.{path}": value for path, value in trial["params"].items()},
        **{
            f"metric.{name}": value
            for name, value in (result.get("metrics", {}) | (result.get("test") or {})).items()
        },
    }


def _param_type(values: pd.Series) -> pd.Series:
    """Numbers stay; truth values become "boolean"; a column with anything else becomes text, JSON where it was none."""
    kinds = {type(value) for value in values.dropna().tolist()}
    if kinds == {bool}:
        return values.astype("boolean")
    if kinds <= {int, float}:
        return pd.to_numeric(values)
    return values.map(
        lambda value: value if isinstance(value, str) else json.dumps(value), na_action="ignore"
    ).astype("str")


def _typed(table: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    """`table` with the listed columns first, in their types and with "" for absent text; params in the type of `_param_type`."""
    text = {name: "" for name, kind in types.items() if kind == "str"}
    table = table.reindex(columns=list(dict.fromkeys([*types, *table.columns])))
    table = table.astype(dict.fromkeys(text, "object")).fillna(text).astype(types)
    return table.assign(
        **{name: _param_type(table[name]) for name in map(str, table) if name.startswith("param.")}
    )


def _typed_trials(table: pd.DataFrame) -> pd.DataFrame:
    return _typed(table, _TRIAL_TYPES).astype(
        {name: "float64" for name in map(str, table) if name.startswith("metric.")}
    )


# ---- the front ------------------------------------------------------------------------------------------------------


def competitors(table: pd.DataFrame) -> pd.Series:
    """True for each row that competes for the front: COMPLETE, and of a role in FRONT_ROLES."""
    return (table["status"] == "COMPLETE") & table["role"].isin(FRONT_ROLES)


def with_front(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], reference: Sequence[float]
) -> pd.DataFrame:
    """A copy of the trials table with the `front.` columns over its competitors, a replicated one by the mean over its seeds.

    `reference`: one number per objective, in their order. Other rows are no member and have neither rank nor contribution.

    Raises:
        RunError: a competitor lacks an objective, or two were measured under different conditions (see `objective_points`).
    """
    rows, directions = competitors(table), [direction for _, direction in objectives]
    points = objective_points(averaged(table), objectives)
    table = table.assign(**_empty_front(table.index))
    table.loc[rows, "front.member"] = pareto.members(points, directions)
    table.loc[rows, "front.rank"] = pareto.ranks(points, directions)
    table.loc[rows, "front.hv_contribution"] = pareto.contributions(points, directions, reference)
    return _with_certainty(table, objectives, points) if (table["role"] == "replicate").any() else table


def averaged(table: pd.DataFrame) -> pd.DataFrame:
    """The trials table without its replicates; the metrics of a trial that has any are means over its seeds."""
    metrics = [name for name in map(str, table) if name.startswith("metric.")]
    out = table[table["role"] != "replicate"].copy()
    for original in table["replicate_of"][_replicates(table)].unique():
        place = out.index[out["trial_id"] == original]
        out.loc[place, metrics] = table.loc[_seeds(table, original), metrics].mean().to_numpy()
    return out


def _with_certainty(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], means: NDArray[np.float64]
) -> pd.DataFrame:
    """Seeds, probability of membership, means and standard errors of the competitors. `means`: (number of competitors, objectives)."""
    rows = competitors(table)
    seeds = [_seeds(table, trial_id) for trial_id in table["trial_id"][rows]]
    columns = [column(name) for name, _ in objectives]
    errors = pareto.standard_errors([table.loc[each, columns].to_numpy(dtype=np.float64) for each in seeds])
    table.loc[rows, "front.seeds"] = [int(each.sum()) for each in seeds]
    if np.isfinite(errors).all():
        table.loc[rows, "front.probability"] = pareto.membership(
            means, errors, [direction for _, direction in objectives]
        )
    for index, (name, _) in enumerate(objectives):
        if not name.startswith("cost/"):
            table.loc[rows, f"mean.{name}"], table.loc[rows, f"se.{name}"] = means[:, index], errors[:, index]
    return table


def _replicates(table: pd.DataFrame) -> pd.Series:
    return (table["role"] == "replicate") & (table["status"] == "COMPLETE")


def _seeds(table: pd.DataFrame, trial_id: str) -> pd.Series:
    """True for a trial's own row and its finished replicates."""
    return (table["trial_id"] == trial_id) | (_replicates(table) & (table["replicate_of"] == trial_id))


def objective_points(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> NDArray[np.float64]:
    """The competitors' objectives, float64 (number of competitors, number of objectives), for the functions of `frontier`.

    Raises:
        RunError: a competitor lacks an objective; or the competitors differ in evaluator, split, sample count or digest of the real
            statistics of a metric, or in the convention of a cost, so their numbers cannot be compared.
    """
    rows = table[competitors(table)]
    points = np.empty((len(rows), len(objectives)))
    for index, (name, _) in enumerate(objectives if len(rows) else ()):
        _require_one_context(rows, name)
        values = rows.get(column(name), pd.Series(np.nan, rows.index)).astype("float64")
        if values.isna().any():
            lacking = ", ".join(rows["trial_id"][values.isna()])
            raise RunError(
                f"no {name} in the COMPLETE trials {lacking}: evaluate them again or choose another objective"
            )
        points[:, index] = values
    return points


def _require_one_context(rows: pd.DataFrame, name: str) -> None:
    conditions = [
        *(f"test_{key}" if name.startswith("test/") else key for key in _CONTEXT),
        "digest.evaluator",
    ]
    for key in {"cost": ["macs_convention"], "time": []}.get(name.partition("/")[0], conditions):
        found = rows[key].astype("str").unique()
        if len(found) > 1:
            raise RunError(
                f"mixed digests: {name} was measured with {key} {' and '.join(sorted(found))}; such numbers have no common front"
            )


def _empty_front(index: pd.Index) -> dict[str, pd.Series]:
    empty = {"front.member": False, "front.rank": pd.NA, "front.hv_contribution": np.nan}
    empty |= {"front.seeds": pd.NA, "front.probability": np.nan}
    return {
        name: pd.Series([value] * len(index), index=index, dtype=_TRIAL_TYPES[name])
        for name, value in empty.items()
    }


# ---- files ----------------------------------------------------------------------------------------------------------


def write_tables(sweep_dir: Path, trials_table: pd.DataFrame, evaluations_table: pd.DataFrame) -> None:
    """`trials` and `evaluations`, each as .parquet and .csv, by atomic rename. Raises StoreError when one cannot be written."""
    for name, table in (("trials", trials_table), ("evaluations", evaluations_table)):
        write_atomic(sweep_dir / f"{name}.parquet", table.to_parquet)
        write_atomic(sweep_dir / f"{name}.csv", partial(table.to_csv, index=False))


def read_table(path: Path) -> pd.DataFrame:
    """A trials or evaluations table, from .parquet or .csv; both give the same table.

    Raises:
        StoreError: the file is absent or damaged, lacks a required column, or was written by another schema version.
    """
    return _checked(_read_file(path), path)


def read_any_table(path: Path) -> pd.DataFrame:
    """A result table, or another one as it is, from .parquet, .csv or .json (a list of rows, or columns). Raises StoreError as above."""
    table = _read_file(path)
    return _checked(table, path) if "schema_version" in table and path.suffix != ".json" else table


def _by_present_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table as the version before wrote it, by the names of this one."""
    if "again" in table:
        is_recheck = table["role"] == "recheck"
        table = table.assign(
            recheck_of=table["again"].where(is_recheck), replicate_of=table["again"].mask(is_recheck)
        )
        table = table.drop(columns="again")
    table = table.rename(columns=renamed.metric_now)
    for name in ("extractor", "test_extractor"):
        if name in table:
            table[name] = table[name].map(renamed.kind_now)
    return table.assign(metric=table["metric"].map(renamed.metric_now)) if "metric" in table else table


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    types = _EVALUATION_TYPES if "metric" in table else _TRIAL_TYPES
    missing = [name for name in types if name not in table and name not in _ADDED]
    if missing:
        raise StoreError(
            f"{path}: not a result table of raydistill: the columns {', '.join(missing)} are missing"
        )
    versions = set(table["schema_version"]) - {SCHEMA_VERSION}
    if versions:
        raise StoreError(
            f"{path}: schema version {versions.pop()}, but this raydistill reads version {SCHEMA_VERSION}"
        )
    return _typed(table, _EVALUATION_TYPES) if "metric" in table else _typed_trials(table)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".json":
            table = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        else:
            table = _read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        return _by_present_names(table)
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: damaged or unreadable: {error}") from error


def _read_csv(path: Path) -> pd.DataFrame:
    """Text that looks like a number ("0007", a digest of digits) or like a missing value ("None") stays text."""
    text = {name: kind for name, kind in (_TRIAL_TYPES | _EVALUATION_TYPES).items() if kind == "str"}
    text |= dict.fromkeys(renamed.COLUMNS, "str")
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
