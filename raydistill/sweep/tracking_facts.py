"""What the runs of a sweep show beside its trials and tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raydistill.config.base import Frozen


class SplitFacts(Frozen):
    """A split of the data, which MLflow shows as a data set of the runs that use it."""

    split: str
    name: str
    """What MLflow shows as the data set's name."""
    digest: str
    """Of the whole data set."""
    count: int
    """Number of targets."""
    size: tuple[int, int]
    """Height and width of the targets, in pixels."""
    rule: str
    """The sentence that says how the splits came about."""


class EvaluatorFacts(Frozen):
    """The network that scores, which has a run of its own."""

    digest: str
    curves: tuple[tuple[int, dict[str, float]], ...]
    """(images seen, numbers) of each evaluation of its training."""
    last: dict[str, float]
    """Its scores on the real pictures of val: the ceiling."""
    wall_sec: float


class SweepFacts(NamedTuple):
    """What the parent run shows of a sweep."""

    name: str
    """What MLflow shows as the run's name."""
    sweep_id: str
    tags: Mapping[str, str]
    """What a resume may change. Those that begin with `mlflow.` go to the runs of trials, too."""
    params: Mapping[str, Any]
    """What it was started with. What a resume changes gets a tag: MLflow refuses another value."""
    objectives: Sequence[tuple[str, str]] = ()
    """(name, "min" or "max") of each."""
    splits: Sequence[SplitFacts] = ()
    evaluator: EvaluatorFacts | None = None
    """None: not known yet."""
    description: str = ""
    """Markdown; empty: none."""
