"""What scores the generators of a sweep beside its evaluator: networks from files that the user names."""

from typing import Literal

from pydantic import Field

from raydistill.config.base import Frozen, Location, Stored
from raydistill.config.bounds import NumPictures

Role = Literal["extractor", "segmenter", "lpips", "statistics"]
"""What a file is for: a network for distances of features, for classes of pixels, or for the perceptual
distance of pairs; or the statistics of an extractor's features of real pictures that are not here."""
RealSplit = Literal["own", "train+test"]
"""Which real pictures generated ones are compared with.

own: those of the split. train+test: those of train beside them: generated val against real train and val,
generated test against real train and test, as published for CycleGAN.
"""


class ScorerFile(Frozen):
    """A file that scores, and gives no loss: a network, or statistics beside an extractor."""

    role: Role
    kind: str
    """How its file is read: a key of the dictionary of its role, such as "inception" or "drn105"; of
    statistics the name of the extractor."""
    name: str
    """As it stands in names of metrics: `kd_<name>` of an extractor, `miou_<name>` of a segmenter; of
    statistics the metric's name itself, such as "fid_cifar10"."""
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
    real: RealSplit = Field("own", exclude_if=lambda value: value == "own")
    at_reports: bool = False
    """Whether the files score at every report, and not only at the end of a training."""
    statistics: Location
    """Folder of the features of real pictures that trainings share."""
