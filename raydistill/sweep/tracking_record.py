"""`tracking.json` in a sweep's folder: what MLflow shows of the sweep beside its trials and tables."""

import json
import urllib.parse
from pathlib import Path

from raydistill.config.base import Frozen
from raydistill.config.paths import validated
from raydistill.errors import ConfigError, StoreError
from raydistill.records import store
from raydistill.records.files import write_json_atomic
from raydistill.sweep.tracking_facts import EvaluatorFacts, SplitFacts, SweepFacts

FILE = "tracking.json"


class TrackingRecord(Frozen):
    """How `raydistill track` sends a sweep as the sweep itself did."""

    uri: str | None
    """Tracking URI without user name and password; None: an sqlite file in the results folder."""
    experiment: str
    tags: dict[str, str]
    params: dict[str, str | int | float | bool]
    metrics: dict[str, float] = {}
    """The sweep's own numbers; empty: it has not ended."""
    artifacts: tuple[str, ...] = ()
    """Names of the files in the sweep's folder that the parent run has."""
    objectives: tuple[tuple[str, str], ...] = ()
    """(name, "min" or "max") of each; empty: an earlier version ran the sweep."""
    splits: tuple[SplitFacts, ...] = ()
    evaluator: EvaluatorFacts | None = None
    """None: not known yet."""
    description: str = ""
    """Markdown; empty: none yet."""


def write(folder: Path, record: TrackingRecord) -> None:
    """Writes the record of the sweep in `folder`. Raises StoreError where the disk refuses."""
    write_json_atomic(folder / FILE, record.model_dump(mode="json"))


def read(folder: Path) -> TrackingRecord:
    """The record of the sweep in `folder`; of one without a record what its `sweep.json` tells.

    Raises:
        StoreError: a file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        written = store.read_sweep(folder)
        params = {name: written[name] for name in ("seed", "sampler", "early_stopping") if name in written}
        tags = {"raydistill.definition": str(written.get("definition", ""))}
        return TrackingRecord(uri=None, experiment="raydistill", tags=tags, params=params)
    try:
        return validated(TrackingRecord, json.loads(path.read_text()), where=str(path))
    except (OSError, ValueError, ConfigError) as error:
        raise StoreError(f"{path}: damaged: {error}; remove it, and give --mlflow and --experiment") from None


def facts(folder: Path, record: TrackingRecord) -> SweepFacts:
    """What the parent run shows from the start of the sweep in `folder`."""
    sweep_id = store.read_sweep(folder)["sweep_id"]
    return SweepFacts(
        folder.name,
        sweep_id,
        record.tags,
        record.params,
        record.objectives,
        record.splits,
        record.evaluator,
        record.description,
    )


def without_user(uri: str) -> str:
    """The address without user name and password."""
    parts = urllib.parse.urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri
