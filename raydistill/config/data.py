"""Configs of data sets."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    PositiveInt,
)

from raydistill.config.base import Frozen, Location
from raydistill.config.variants import Variants


class Degradation(Frozen):
    """How inputs are made of the pictures, which are then the targets: image enhancement. The default makes none."""

    scale: Literal[1, 2, 4] = 1
    """The mean of so many by so many pixels becomes one: super-resolution."""
    noise_std: Annotated[float, Field(ge=0, le=255)] = 0.0
    """Of normal noise, in steps of 8-bit values, added after that: denoising."""

    @property
    def is_on(self) -> bool:
        return self != Degradation()


class DataSet(Frozen):
    """What every data set has: the size of its pictures, to which it is decoded."""

    kind: str
    height: PositiveInt
    width: PositiveInt
    load_height: PositiveInt | None = None
    """Training pictures are decoded at load_height x load_width, and a part of height x width is shown, another one in each pass; the
    published experiments have 286 for 256. None, and None for both: they are shown whole."""
    load_width: PositiveInt | None = None
    degrade: Degradation = Degradation()
    """Not for aligned and unpaired pictures, which have inputs of their own."""


class ShapesData(DataSet):
    """The embedded data set: label maps and pictures that raydistill draws itself."""

    kind: Literal["shapes"] = "shapes"
    height: PositiveInt = 32
    width: PositiveInt = 32
    num_train: PositiveInt = 4096
    num_val: Annotated[int, Field(ge=2)] = 192
    num_test: Annotated[int, Field(ge=2)] = 192
    seed: int = 0


FolderLayout = Literal[
    "auto", "labelled", "cityscapes", "aligned", "unpaired", "nvlabs", "idx", "npz", "classes", "pictures"
]


class FolderData(DataSet):
    """A folder or file in one of the layouts of `data/detect.py`."""

    kind: Literal["folder"] = "folder"
    root: Location = ""
    layout: FolderLayout = "auto"
    """auto: what is found; loose pictures are A|B where the first is twice as wide as high."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Aligned and unpaired pictures only: which half or domain is the input. A is the left half."""


DATA_VARIANTS = Variants("kind", ShapesData, FolderData)


Data = Annotated[DataSet, DATA_VARIANTS]
