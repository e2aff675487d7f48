"""The pages of what a sweep writes: metrics, tables and files; and the page of errors."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import raydistill
from raydistill import errors
from raydistill.commands.reference.markdown import (
    REWRITE,
    attribute_docstrings,
    paragraphs,
    table,
    type_of,
    wrapped,
)
from raydistill.commands.reference.meanings import COLUMNS, EVALUATION_COLUMNS, FILES, METRICS
from raydistill.config.space import COSTS, QUALITIES
from raydistill.records.base import Record
from raydistill.records.measured import MeasuredLater, Measurement
from raydistill.records.schema import EVALUATION_TYPES, OPTIONAL, TRIAL_TYPES
from raydistill.records.trials import Evaluation, Network, Trial, TrialResult

_METRIC = re.compile(r"(?:train|energy|val|test|final|cost|time|front)/[a-z][a-z0-9_]*")
OF_FILES = {
    *("val/fid", "val/kid", "val/kd_NAME", "val/fd_NAME", "val/precision_NAME", "val/recall_NAME"),
    *("val/miou_NAME", "val/lpips", "val/fid_FILE", "val/fd_NAME_FILE"),
}
"""What networks from files measure, where a sweep is given any; NAME is that of the network."""
_STREAMS = {"train/images"}
"""Names in the code that look like a metric and are none: a random stream."""


def metrics_in_the_code() -> set[str]:
    """Every name of a number that stands whole in the code of the package."""
    names = set()
    for path in Path(raydistill.__file__).parent.rglob("*.py"):
        if path.parent.name == "reference":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and _METRIC.fullmatch(node.value)
            ):
                names.add(node.value)
    return names - _STREAMS


def metrics_page() -> str:
    """Every number that a training, a score or a table has, by name.

    Raises:
        ValueError: the code has a name that `METRICS` does not explain.
    """
    unknown = metrics_in_the_code() | set(QUALITIES) | set(COSTS)
    if lacking := sorted(name for name in unknown if _base(name) not in METRICS):
        raise ValueError(f"{', '.join(lacking)}: say in METRICS of {COLUMNS_FILE} what it means")
    parts = ["# Metrics"]
    parts.append(
        wrapped(
            "Every number has a name `kind/name`. `val/` and `test/` say on which split it was measured: "
            "`val/` "
            "at every report and at the end of a training, `test/` once, after the search, for members of "
            "the "
            "front and for baselines. In `trials.csv` the column of `val/miou` is `metric.val/miou`, that of "
            "`cost/macs` is `cost.macs`, and that of `time/wall_sec` is `wall_sec`. In MLflow the last "
            "`val/` "
            f"numbers are also `final/` numbers. `{REWRITE}` writes this page again."
        )
    )
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name, (better, unit, meaning) in METRICS.items():
        is_objective = name in COSTS or name in QUALITIES or name in OF_FILES
        row = (f"`{name}`", better, unit, "yes" if is_objective else "", meaning)
        groups.setdefault(name.partition("/")[0], []).append(row)
    titles = {
        "val": "Scores, on val and on test",
        "cost": "Costs, known before training",
        "train": "Losses, means over the minibatches since the last report",
        "energy": "The energy-based term",
        "time": "Time",
        "front": "The front, in MLflow",
    }
    for kind, rows in groups.items():
        columns = ("name", "better", "unit", "may be an objective", "what it is")
        parts += [f"## {titles[kind]}", table(columns, rows)]
    return "\n\n".join(parts) + "\n"


COLUMNS_FILE = "raydistill/commands/reference/meanings.py"


def _base(name: str) -> str:
    """The name that stands in METRICS for it: scores are listed once, as those of val."""
    kind, _, rest = name.partition("/")
    return f"val/{rest}" if kind in ("test", "final") else name


_NAMED_COLUMNS = [
    (
        "`param.<config path>`",
        "What the trial has of the search space; empty where a parameter is not active.",
    ),
    ("`cost.<name>`", "A cost, such as `cost.macs`; see [metrics](metrics.md)."),
    ("`metric.<name>`", "A score of the last evaluation or on test, such as `metric.val/miou`."),
    ("`mean.<name>`, `se.<name>`", "With replicates: mean over the seeds and its standard error."),
    (
        "`measured.<name>`",
        "What was measured of the trial later, such as `measured.test/kd_squeezenet` or "
        "`measured.latency_ms_p50/cpu_1_threads_batch_16`: the newest number of that name.",
    ),
    ("`measured.<name>.low`, `.high`", "Its 95 % interval, where it has one."),
    (
        "`measured.<name>.conditions`, `.when`, `.how`",
        "What it may be compared with, as JSON; the time in UTC; the command.",
    ),
    (
        "`peak_memory_gb`",
        "Most memory of a worker, GiB, without pages of mapped files; missing where it was not measured.",
    ),
]
"""Columns whose names are not known beforehand."""


def tables_page() -> str:
    """Every column of the result tables, and every file of a results folder.

    Raises:
        ValueError: a column has no meaning in `COLUMNS` or `EVALUATION_COLUMNS`, or one there is no column.
    """
    for known, types in ((COLUMNS, TRIAL_TYPES), (EVALUATION_COLUMNS, EVALUATION_TYPES)):
        if differ := set(known) ^ set(types):
            raise ValueError(
                f"{', '.join(sorted(differ))}: bring {COLUMNS_FILE} and records/schema.py together"
            )
    parts = ["# Tables and files"]
    parts.append(
        wrapped(
            "The ledger, the folders `trials/<id>/`, is the truth; the tables are made from it and can be "
            "made "
            "again at any time. `.csv` and `.parquet` hold the same table. Absent text is empty, an absent "
            f"number is missing. `{REWRITE}` writes this page again."
        )
    )
    parts += [
        "## The results folder",
        table(("path", "content"), [(f"`{path}`", text) for path, text in FILES.items()]),
    ]
    parts += ["## `trials.csv`: a row for each trial", *_columns(TRIAL_TYPES, COLUMNS)]
    parts += [
        wrapped("Beside these there are columns by name:"),
        table(("column", "what it is"), _NAMED_COLUMNS),
    ]
    parts += ["## `evaluations.csv`: a row for each number of a learning curve"]
    parts += _columns(EVALUATION_TYPES, EVALUATION_COLUMNS)
    parts += ["## `trials/<id>/trial.json`", *_record(Trial), "## `trials/<id>/result.json`"]
    parts += [
        *_record(TrialResult),
        "### An evaluation in it",
        *_record(Evaluation),
        "### Its network",
        *_record(Network),
        "## `trials/<id>/measured.json`",
        *_record(MeasuredLater),
        "### A measurement in it",
        *_record(Measurement),
    ]
    return "\n\n".join(parts) + "\n"


def _columns(types: dict[str, str], meanings: dict[str, str]) -> Iterator[str]:
    rows = [
        (f"`{name}`", kind, meanings[name] + (" Not in every table." if name in OPTIONAL else ""))
        for name, kind in types.items()
    ]
    yield table(("column", "type", "what it is"), rows)


def _record(record: type[Record]) -> Iterator[str]:
    yield from paragraphs(record.__doc__ or "")
    texts = attribute_docstrings(record)
    rows = [
        (f"`{name}`", type_of(info.annotation, info.metadata) or "text", texts.get(name, ""))
        for name, info in record.model_fields.items()
    ]
    yield table(("key", "type", "what it is"), rows)


def errors_page() -> str:
    """The tree of errors, with the exit code of each."""
    parts = ["# Errors and exit codes"]
    parts.append(
        wrapped(
            "Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted. Every message says what was "
            "given, "
            "what is allowed, where, and what to do. In Python the same errors are raised: all are below "
            f"`raydistill.errors.RaydistillError`. `{REWRITE}` writes this page again."
        )
    )
    assert errors.__doc__ is not None
    parts.append("```text\n" + errors.__doc__.split("\n\n", 1)[1].strip() + "\n```")
    rows = []
    for name, each in vars(errors).items():
        if inspect.isclass(each) and each.__module__ == errors.__name__:
            code = str(each.exit_code) if issubclass(each, errors.RaydistillError) else "none: a warning"
            rows.append(
                (f"`{name}`", f"`{each.__bases__[0].__name__}`", code, " ".join((each.__doc__ or "").split()))
            )
    parts.append(table(("class", "below", "exit code", "what it is"), rows))
    return "\n\n".join(parts) + "\n"
