"""The result tables of a sweep, made from its ledger. `records/schema.py` describes their columns.

The ledger (`records/trials.py`) is the truth: the tables can be made again from it at any time. Which trials
are on the Pareto front is computed here too, by `with_front`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raydistill.config import renamed
from raydistill.errors import RunError, StoreError
from raydistill.reading import MOST_TEXT_BYTES, parse_json, read_text, regular, require_claim
from raydistill.records import pareto
from raydistill.records.files import write_atomic
from raydistill.records.schema import (
    CONTEXT,
    DIGESTS,
    EVALUATION_TYPES,
    MEASURED,
    OPTIONAL,
    TRIAL_TYPES,
    typed_evaluations,
    typed_trials,
)
from raydistill.records.trials import SCHEMA_VERSION, Trial, read_trials

FRONT_ROLES = ("search", "uniform", "no_teacher")
"""Roles that compete for the front. Other seeds of a trial do so through its mean, the teacher does not."""
_OF_TRIAL = ("trial_id", "trial_key", "role", "label", "seed", "replicate_of", "recheck_of")
"""Columns that are fields of a trial."""
_OF_RESULT = (
    *("reason", "nimg", "budget_nimg", "wall_sec", "scoring_sec", "gpu_sec"),
    *("hardware", "git_revision"),
)
"""Columns that are fields of its result."""
_CELL_BYTES = 256
"""Memory that a cell of a table may take."""

NamedDirection = tuple[str, pareto.Direction]
"""A name such as "val/miou" or "cost/macs", and which way is better."""


# ---- from the ledger ---------------------------------------------------------------------------------------


def trial_table(trials: Path | list[Trial], *, sweep_id: str) -> pd.DataFrame:
    """The trials table of a sweep's folder, or of what `read_trials` returned.

    Its front columns are empty: `with_front` fills them.
    """
    trials = read_trials(trials) if isinstance(trials, Path) else trials
    table = pd.DataFrame([_row(trial, sweep_id) for trial in trials])
    return typed_trials(table.assign(**_empty_front(table.index)))


def evaluation_table(trials: Path | list[Trial], *, sweep_id: str) -> pd.DataFrame:
    """The evaluations table: what each trial measured during its training, one number a row."""
    rows = []
    for trial in read_trials(trials) if isinstance(trials, Path) else trials:
        ids = (SCHEMA_VERSION, sweep_id, trial.trial_id, trial.seed)
        for point in [] if trial.result is None else trial.result.evaluations:
            rows += [(*ids, point.nimg, point.wall_sec, *number) for number in point.numbers.items()]
    return typed_evaluations(pd.DataFrame(rows, columns=list(EVALUATION_TYPES)))


def column(name: str) -> str:
    """The table's column of a number.

    "val/miou" -> "metric.val/miou", "cost/macs" -> "cost.macs", "time/wall_sec" -> "wall_sec",
    "memory/peak_memory_gb" -> "peak_memory_gb", "param/student.seed" -> "param.student.seed", and of what was
    measured later "measured/test/miou" -> "measured.test/miou".
    """
    kind, _, rest = name.partition("/")
    others = {"cost": f"cost.{rest}", "time": rest, "memory": rest, "measured": f"{MEASURED}{rest}"}
    others["param"] = f"param.{rest}"
    return others.get(kind, f"metric.{name}")


def _row(trial: Trial, sweep_id: str) -> dict[str, Any]:
    result = trial.result
    context = {} if result is None else result.context
    test_context = {} if result is None else result.test_context or {}
    metrics = {} if result is None else result.metrics | (result.test or {})
    return {
        "sweep_id": sweep_id,
        "schema_version": trial.schema_version,
        **{name: getattr(trial, name) for name in _OF_TRIAL},
        "status": "RUNNING" if result is None else result.status,
        **{name: getattr(result, name, None) for name in _OF_RESULT},
        **({"peak_memory_gb": peak} if (peak := result and result.peak_memory_gb) else {}),
        **{f"digest.{name}": trial.digests.get(name) for name in DIGESTS},
        **{name: context.get(name) for name in CONTEXT},
        **{f"test_{name}": test_context.get(name) for name in CONTEXT},
        **{"biased": context.get("biased"), "test_biased": test_context.get("biased")},
        "macs_convention": trial.costs.get("macs_convention"),
        **{f"cost.{name}": value for name, value in trial.costs.items() if name != "macs_convention"},
        **{f"param.{path}": value for path, value in trial.params.items()},
        **{f"metric.{name}": value for name, value in metrics.items()},
    }


# ---- the front ---------------------------------------------------------------------------------------------


def competitors(table: pd.DataFrame) -> pd.Series:
    """True for each row that competes for the front: COMPLETE, and of a role in FRONT_ROLES."""
    return (table["status"] == "COMPLETE") & table["role"].isin(FRONT_ROLES)


def with_front(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], reference: Sequence[float]
) -> pd.DataFrame:
    """A copy of the trials table with the `front.` columns, which are computed over its competitors.

    A trial with replicates competes by the mean over its seeds. Rows that do not compete are no member and
    have neither rank nor contribution.

    Args:
        reference: reference point of the hypervolume, one number per objective in their order.

    Raises:
        RunError: a competitor lacks an objective, or two were measured under different conditions (see
            `objective_points`).
    """
    rows, directions = competitors(table), [direction for _, direction in objectives]
    points = objective_points(mean_over_seeds(table), objectives)
    table = table.assign(**_empty_front(table.index))
    table.loc[rows, "front.member"] = pareto.members(points, directions)
    table.loc[rows, "front.rank"] = pareto.ranks(points, directions)
    table.loc[rows, "front.hv_contribution"] = pareto.contributions(points, directions, reference)
    return _with_certainty(table, objectives, points) if (table["role"] == "replicate").any() else table


def mean_over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The trials table without replicates; the metrics of a trial that has any are means over its seeds."""
    metrics = [name for name in map(str, table) if name.startswith("metric.")]
    out = table[table["role"] != "replicate"].copy()
    for original in table["replicate_of"][_replicates(table)].unique():
        row = out.index[out["trial_id"] == original]
        out.loc[row, metrics] = table.loc[_seeds(table, original), metrics].mean().to_numpy()
    return out


def objective_points(table: pd.DataFrame, objectives: Sequence[NamedDirection]) -> NDArray[np.float64]:
    """The competitors' objectives, float64 (competitors, objectives), as `records/pareto.py` takes them.

    Raises:
        RunError: a competitor lacks an objective, or their numbers cannot be compared: the competitors differ
            in evaluator, split, number of samples or digest of the real statistics of a metric, or in the
            convention of a cost.
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


def _with_certainty(
    table: pd.DataFrame, objectives: Sequence[NamedDirection], means: NDArray[np.float64]
) -> pd.DataFrame:
    """Adds the competitors' number of seeds, probability of membership, means and standard errors.

    Args:
        means: (competitors, objectives), over the seeds.
    """
    rows = competitors(table)
    seeds = [_seeds(table, trial_id) for trial_id in table["trial_id"][rows]]
    columns = [column(name) for name, _ in objectives]
    samples = [table.loc[is_seed, columns].to_numpy(dtype=np.float64) for is_seed in seeds]
    errors = pareto.standard_errors(samples)
    table.loc[rows, "front.seeds"] = [int(is_seed.sum()) for is_seed in seeds]
    if np.isfinite(errors).all():
        directions = [direction for _, direction in objectives]
        table.loc[rows, "front.probability"] = pareto.membership(means, errors, directions)
    for index, (name, _) in enumerate(objectives):
        if not name.startswith("cost/"):
            table.loc[rows, f"mean.{name}"] = means[:, index]
            table.loc[rows, f"se.{name}"] = errors[:, index]
    return table


def _replicates(table: pd.DataFrame) -> pd.Series:
    return (table["role"] == "replicate") & (table["status"] == "COMPLETE")


def _seeds(table: pd.DataFrame, trial_id: str) -> pd.Series:
    """True for a trial's own row and those of its replicates that are COMPLETE."""
    return (table["trial_id"] == trial_id) | (_replicates(table) & (table["replicate_of"] == trial_id))


def _require_one_context(rows: pd.DataFrame, name: str) -> None:
    prefix = "test_" if name.startswith("test/") else ""
    of_metrics = [*(f"{prefix}{key}" for key in CONTEXT), "digest.evaluator"]
    others = {"cost": ["macs_convention"], "measured": [f"{column(name)}.conditions"]}
    others |= {"time": [], "memory": [], "param": []}
    conditions = others.get(name.partition("/")[0], of_metrics)
    for key in conditions:
        values = rows[key].astype("str").unique()
        if len(values) > 1:
            raise RunError(
                f"mixed digests: {name} was measured with {key} {' and '.join(sorted(values))}; "
                "such numbers have no common front"
            )


def _empty_front(index: pd.Index) -> dict[str, pd.Series]:
    empty = {"front.member": False, "front.rank": pd.NA, "front.hv_contribution": np.nan}
    empty |= {"front.seeds": pd.NA, "front.probability": np.nan}
    return {
        name: pd.Series([value] * len(index), index=index, dtype=TRIAL_TYPES[name])
        for name, value in empty.items()
    }


# ---- files -------------------------------------------------------------------------------------------------


def write_tables(sweep_dir: Path, trials_table: pd.DataFrame, evaluations_table: pd.DataFrame) -> None:
    """Write `trials` and `evaluations`, each as .parquet and .csv, by atomic rename.

    Raises:
        StoreError: a file cannot be written.
    """
    for name, table in (("trials", trials_table), ("evaluations", evaluations_table)):
        write_atomic(sweep_dir / f"{name}.parquet", table.to_parquet)
        write_atomic(sweep_dir / f"{name}.csv", partial(table.to_csv, index=False))


def read_table(path: Path) -> pd.DataFrame:
    """A trials or evaluations table, from .parquet or .csv; both give the same table.

    Raises:
        StoreError: the file is absent or damaged, lacks a required column, or has another schema version.
    """
    return _checked(_read_file(path), path)


def read_any_table(path: Path) -> pd.DataFrame:
    """A result table, or another table as it is, from .parquet, .csv or .json (a list of rows, or columns).

    Raises:
        StoreError: as for `read_table`, where the table has a schema version and is no .json.
    """
    table = _read_file(path)
    return _checked(table, path) if "schema_version" in table and path.suffix != ".json" else table


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    is_evaluations = "metric" in table
    types = EVALUATION_TYPES if is_evaluations else TRIAL_TYPES
    missing = [name for name in types if name not in table and name not in OPTIONAL]
    if missing:
        raise StoreError(
            f"{path}: not a result table of raydistill: the columns {', '.join(missing)} are missing"
        )
    versions = set(table["schema_version"]) - {SCHEMA_VERSION}
    if versions:
        raise StoreError(
            f"{path}: schema version {versions.pop()}, but this raydistill reads version {SCHEMA_VERSION}"
        )
    return typed_evaluations(table) if is_evaluations else typed_trials(table)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".json":
            table = pd.DataFrame(parse_json(read_text(path)))
        elif path.suffix == ".csv":
            table = _read_csv(regular(path, MOST_TEXT_BYTES))
        else:
            table = _read_parquet(regular(path))
        return _by_present_names(table)
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{path}: damaged or unreadable: {error}") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    """A table from .parquet, where equal values take next to no bytes. Raises OSError: it claims too much."""
    import pyarrow.parquet

    facts = pyarrow.parquet.read_metadata(path)
    require_claim(facts.num_rows * facts.num_columns * _CELL_BYTES, f"a table of {facts.num_rows:,} rows")
    return pd.read_parquet(path)


def _read_csv(path: Path) -> pd.DataFrame:
    """Text that looks like a number ("0007", a digest) or like a missing value ("None") stays text."""
    text = {name: kind for name, kind in (TRIAL_TYPES | EVALUATION_TYPES).items() if kind == "str"}
    text |= dict.fromkeys(renamed.COLUMNS, "str")
    # by default pandas before 3.1 reads numbers but for their last digits
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""], float_precision="round_trip")


def _parameter_now(column: str) -> str:
    path = column.removeprefix("param.")
    return column if path == column else f"param.{renamed.in_full(path)}"


def _by_present_names(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the version before, by the names of this one."""
    if "again" in table:
        original, is_recheck = table["again"], table["role"] == "recheck"
        table = table.assign(recheck_of=original.where(is_recheck), replicate_of=original.mask(is_recheck))
        table = table.drop(columns="again")
    table = table.rename(columns=renamed.metric_now).rename(columns=_parameter_now)
    for name in ("extractor", "test_extractor"):
        if name in table:
            table[name] = table[name].map(renamed.kind_now)
    return table.assign(metric=table["metric"].map(renamed.metric_now)) if "metric" in table else table
