"""The columns of the result tables (version 1) and their types.

Trials table: one row per (trial, seed). It has the columns of `TRIAL_TYPES`, and `param.<dotted path>`,
`cost.<name>` and `metric.<name>` for each parameter, cost and metric. Absent text is "", an absent number is
missing.

- `extractor`, `split`, `num_samples` and `real_statistics` are the context of the metrics on val: what
  measured them on what. The same columns with `test_` before the name are that of the metrics on test.
- `biased` says whether the Frechet distance is too large, because it is of too few samples (`num_samples`, or
  real ones) for its number of features. It is missing where there is no such distance.
- A row of the role `replicate` is the trial `replicate_of` trained with another seed. Where there are any,
  students have `front.seeds` (number of trainings), `front.probability` (to be on the front) and, for each
  objective that is no cost, `mean.<name>` and `se.<name>` (standard error of the mean).
- A row of the role `recheck` is the trial `recheck_of` trained by several workers.
- What was measured of a trial after its sweep is in `measured.<name>`, with the ends of its 95 % interval,
  its conditions, when and how it was measured in `measured.<name>.low`, `.high`, `.conditions`, `.when`,
  `.how`.

Evaluations table: one row per number that was measured during a training, with the columns of
`EVALUATION_TYPES`.
"""

import json

import pandas as pd

CONTEXT = ("extractor", "resize", "split", "num_samples", "real_statistics")
"""What was measured by what: metrics compare only where these are equal."""
DIGESTS = ("teacher", "data", "evaluator")
"""What the digests of a trial identify."""
_TEXT = (
    *("sweep_id", "trial_id", "trial_key", "role", "label", "status", "reason", "macs_convention"),
    *("hardware", "git_revision", "extractor", "resize", "split", "real_statistics"),
    *("test_extractor", "test_resize", "test_split", "test_real_statistics"),
    *(f"digest.{name}" for name in DIGESTS),
)
_INTEGERS = ("schema_version", "seed", "nimg", "budget_nimg", "num_samples", "test_num_samples")
TRIAL_TYPES = {
    **dict.fromkeys(_TEXT, "str"),
    **dict.fromkeys(_INTEGERS, "Int64"),
    **{"biased": "boolean", "test_biased": "boolean"},
    **{"wall_sec": "float64", "scoring_sec": "float64", "gpu_sec": "float64"},
    **{"front.member": "bool", "front.rank": "Int64", "front.hv_contribution": "float64"},
    **{"replicate_of": "str", "recheck_of": "str"},
    **{"front.seeds": "Int64", "front.probability": "float64"},
}
"""Column of the trials table -> type, in the order of the columns."""
OPTIONAL = ("replicate_of", "recheck_of", "scoring_sec", "front.seeds", "front.probability")
"""Columns of `TRIAL_TYPES` that tables of version 1 may lack."""
MEASURED = "measured."
"""What the columns of what was measured later begin with."""
MEASURED_TEXTS = (".conditions", ".when", ".how")
"""What those of them end with that hold text."""
EVALUATION_TYPES = {
    **{"schema_version": "Int64", "sweep_id": "str", "trial_id": "str", "seed": "Int64"},
    **{"nimg": "Int64", "wall_sec": "float64", "metric": "str", "value": "float64"},
}
"""Column of the evaluations table -> type, in the order of the columns."""


def typed_trials(table: pd.DataFrame) -> pd.DataFrame:
    """A trials table with its columns in their order and types. Columns that are absent are added, empty."""
    numbers = [name for name in map(str, table) if name.startswith(("metric.", MEASURED))]
    texts = [name for name in numbers if name.startswith(MEASURED) and name.endswith(MEASURED_TEXTS)]
    table = _typed(table, TRIAL_TYPES)
    filled = table.astype(dict.fromkeys(texts, "object")).fillna(dict.fromkeys(texts, "")) if texts else table
    return filled.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(texts, "str"))


def typed_evaluations(table: pd.DataFrame) -> pd.DataFrame:
    """An evaluations table with its columns in their order and types."""
    return _typed(table, EVALUATION_TYPES)


def _typed(table: pd.DataFrame, types: dict[str, str]) -> pd.DataFrame:
    """`table` with the columns of `types` first, in their types and with "" for absent text."""
    text = {name: "" for name, kind in types.items() if kind == "str"}
    table = table.reindex(columns=list(dict.fromkeys([*types, *table.columns])))
    table = table.astype(dict.fromkeys(text, "object")).fillna(text).astype(types)
    params = [name for name in map(str, table) if name.startswith("param.")]
    return table.assign(**{name: _typed_param(table[name]) for name in params})


def _typed_param(values: pd.Series) -> pd.Series:
    """A parameter's column: numbers stay, truth values become "boolean", the rest becomes text or JSON."""
    types = {type(value) for value in values.dropna().tolist()}
    if types == {bool}:
        return values.astype("boolean")
    if types <= {int, float}:
        return pd.to_numeric(values)
    text = values.map(
        lambda value: value if isinstance(value, str) else json.dumps(value), na_action="ignore"
    )
    return text.astype("str")
