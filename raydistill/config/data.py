"""Configs of data sets."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import LOCATION, Frozen, UserPath
from raydistill.config.bounds import NumPictures, Side, WholeNumber
from raydistill.config.variants import Variants
from raydistill.reading import MOST_BYTES


class Degradation(Frozen):
    """How a worse picture is made from each picture: it becomes the input, and the picture itself the target.

    This is for image enhancement. The default changes nothing.
    """

    scale: Literal[1, 2, 4] = 1
    """Each block of scale x scale pixels is replaced by its mean, one pixel: super-resolution."""
    noise_std: Annotated[float, Field(ge=0, le=255)] = 0.0
    """Standard deviation of normal noise that is added after that, in steps of 8-bit values: denoising."""

    @property
    def is_on(self) -> bool:
        """Whether pictures are degraded at all."""
        return self != Degradation()


LabelInputs = Literal["one_hot", "colors"]
CARVED_SHARE = 0.15
"""Size of a val or test that is carved out of train, unless a config says otherwise."""
Carved = (
    Annotated[int, Field(ge=2, le=10**8, strict=True)] | Annotated[float, Field(gt=0, lt=0.5, strict=True)]
)
"""A number of pictures, or a share of those in the files' train."""


class DataSet(Frozen):
    """What the configs of all data sets have: the size in pixels to which pictures are decoded."""

    kind: str
    height: Side
    width: Side
    load_height: Side | None = None
    """Training pictures are decoded at load_height x load_width, and a crop of height x width is shown,
    another one in each pass; the published experiments load at 286 for crops of 256. None for both: whole
    pictures are shown."""
    load_width: Side | None = None
    degrade: Degradation = Degradation()
    """Not for aligned and unpaired pictures, which come with inputs."""
    label_inputs: Annotated[LabelInputs, Field(exclude_if=lambda form: form == "one_hot")] = "one_hot"
    """How label maps become the inputs of generators. one_hot: a channel for each class. colors: pictures of
    three channels in the colours of the classes, as published networks of Cityscapes take them; scores use
    the class ids in both cases."""


class ShapesData(DataSet):
    """The embedded data set: label maps and pictures that raydistill draws itself."""

    kind: Literal["shapes"] = "shapes"
    height: Side = 32
    width: Side = 32
    num_train: NumPictures = 4096
    num_val: Annotated[int, Field(ge=2, le=10**8)] = 192
    num_test: Annotated[int, Field(ge=2, le=10**8)] = 192
    seed: WholeNumber = 0

    @model_validator(mode="after")
    def _fits_in_memory(self) -> Self:
        num = max(self.num_train, self.num_val, self.num_test)
        if (drawn := 4 * num * self.height * self.width) > MOST_BYTES:
            raise ValueError(
                f"{num:,} pictures of {self.height}x{self.width} are drawn in memory, in {drawn:,} bytes, at "
                f"most {MOST_BYTES:,}; give smaller num_train, num_val, num_test, height or width"
            )
        return self


FolderLayout = Literal[
    "auto",
    "labelled",
    "cityscapes",
    "aligned",
    "unpaired",
    "nvlabs",
    "lmdb",
    "idx",
    "npz",
    "classes",
    "pictures",
]
"""How a data set's folder is laid out. `data/detect.py` describes the layouts."""


class FolderData(DataSet):
    """A folder or file in one of the layouts that `data/detect.py` describes."""

    kind: Literal["folder"] = "folder"
    root: Annotated[UserPath, LOCATION] = ""
    layout: FolderLayout = "auto"
    """auto: the layout is detected; loose pictures are taken for A|B pairs where all that are looked at are
    twice as wide as high, and the recipe has inputs."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """For aligned and unpaired pictures only: which half or domain is the input. A is the left half."""
    split: Annotated[Carved, Field(exclude_if=lambda size: size == CARVED_SHARE)] = CARVED_SHARE
    """Size of val, or of test, where the files have none and it is carved out of train: a number of pictures,
    or a share of the files' train, each of them."""
    center_crop: Annotated[Side | None, Field(exclude_if=lambda side: side is None)] = None
    """The square of so many pixels a side in the middle of each picture is taken, before it is resized: 178
    for the aligned pictures of CelebA. Of A|B pictures that of each half. None: whole pictures."""


DATA_VARIANTS = Variants("kind", ShapesData, FolderData)
"""Every class of data set; a plug-in adds to it."""
Data = Annotated[DataSet, DATA_VARIANTS]
