"""The options that name networks from files as scorers of trainings: the same for all commands that train."""

from typing import Annotated, Protocol

from pydantic import Field

from raydistill.config.base import UserPath
from raydistill.config.bounds import NumPictures
from raydistill.config.options import Cli
from raydistill.config.scoring import RealSplit

SCORERS = "What scores beside the evaluator"

Extractors = Annotated[
    tuple[UserPath, ...],
    Field(
        description="Network for Frechet and kernel distances, precision and recall, and its weights: "
        "inception, vgg16, squeezenet, torchscript, or a kind of a plug-in. Repeatable. torchscript=FILE "
        "RUNS the code in the file; the first three run nothing."
    ),
    Cli("KIND=FILE", SCORERS, name="--extractor"),
]
Segmenters = Annotated[
    tuple[UserPath, ...],
    Field(
        description="Network for mIoU at the size of the data's pictures, and its weights: drn105, "
        "torchscript, or a kind of a plug-in. Repeatable. torchscript=FILE RUNS the code in the file; "
        "drn105 runs nothing."
    ),
    Cli("KIND=FILE", SCORERS, name="--segmenter"),
]
LpipsFile = Annotated[
    UserPath | None,
    Field(
        description="Perceptual distance of pairs, LPIPS 0.1 on VGG16: the saved state of "
        "lpips.LPIPS(net='vgg')."
    ),
    Cli("FILE", SCORERS, name="--lpips"),
]
RealStatistics = Annotated[
    tuple[UserPath, ...],
    Field(
        description="Statistics of other real pictures by the extractor of that name: an npz file with mu "
        "and sigma, as published for FID. One more Frechet distance, named after the file. Repeatable."
    ),
    Cli("NAME=FILE", SCORERS),
]
RealPictures = Annotated[
    RealSplit,
    Field(
        description="Real pictures for distances: those of the split (own), or those of train beside them "
        "(train+test: val is compared with train and val), as published for CycleGAN."
    ),
    Cli("WHICH", SCORERS),
]
NumScored = Annotated[
    NumPictures | None,
    Field(
        description="Score only so many pictures of a split, drawn from a fixed seed, by every network. "
        "Default: all."
    ),
    Cli("N", SCORERS),
]
ScoreEvery = Annotated[
    bool,
    Field(
        description="Let these networks score at every report. Default: at the end of a training, and at "
        "every report where --early-stopping reads what they measure."
    ),
    Cli(panel=SCORERS),
]


class ScorerOptions(Protocol):
    """Options of a command that takes such networks."""

    @property
    def extractors(self) -> tuple[str, ...]:
        """KIND=FILE of each."""

    @property
    def segmenters(self) -> tuple[str, ...]:
        """KIND=FILE of each."""

    @property
    def lpips(self) -> str | None:
        """A file; None: no LPIPS."""

    @property
    def real_statistics(self) -> tuple[str, ...]:
        """NAME=FILE of each."""

    @property
    def real_split(self) -> RealSplit:
        """Which real pictures."""

    @property
    def num_scored(self) -> int | None:
        """How many pictures; None: all."""

    @property
    def score_every(self) -> bool:
        """Whether they score at every report."""
