"""What scores the generators of a sweep beside its evaluator: networks from files that the user names."""

from typing import Literal

from pydantic import Field

from raydistill.config.base import Frozen, Location, Stored
from raydistill.config.bounds import NumPictures

Role = Literal["extractor", "segmenter", "lpips"]
"""What a network is for: distances of features, classes of pixels, or the perceptual distance of pairs."""


class ScorerFile(Frozen):
    """A network that scores, and gives no loss."""

    role: Role
    kind: str
    """How its file is read: a key of the dictionary of its role, such as "inception" or "drn105"."""
    name: str
    """As it stands in names of metrics: `kd_<name>` of an extractor, `miou_<name>` of a segmenter."""
    file: Stored
    """Its copy in the store, and the SHA-256 of its content."""
    plugin: str | None = Field(None, exclude_if=lambda value: value is None)
    """Digest of the plug-in that has its kind; None: raydistill itself has it."""


class Scoring(Frozen):
    """Everything beside the evaluator that decides about the scores of a training."""

    files: tuple[ScorerFile, ...] = ()
    """Each measures something of its own."""
    num: NumPictures | None = None
    """How many pictures are scored, the evaluator's scores included: drawn from a fixed seed, the same for
    every generator. None: all."""
    at_reports: bool = False
    """Whether the files score at every report, and not only at the end of a training."""
    statistics: Location
    """Folder of the features of real pictures that trainings share."""
