"""Data sets of pictures, with an input, a label map or a class each or none: found and checked, decoded once, then memory-mapped."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raydistill.config.base import Stored
from raydistill.config.data import DataSet, FolderData, ShapesData
from raydistill.data.decode import folder_source
from raydistill.data.prepared import (
    Batch,
    DataInfo,
    Split,
    batch,
    load_size_of,
    load_split,
    pictures,
    read_info,
    render_inputs,
    store,
    to_float,
    to_uint8,
)
from raydistill.data.source import Classes, Pairing, Source, SplitName, pairing_of, shapes_source
from raydistill.errors import DataError

__all__ = [
    "DATA",
    "Batch",
    "Classes",
    "DataInfo",
    "DataKind",
    "Source",
    "Split",
    "batch",
    "load_split",
    "pairing_of",
    "pictures",
    "prepare",
    "read_info",
    "render_inputs",
    "to_float",
    "to_uint8",
]


class DataKind(NamedTuple):
    config: type[DataSet]
    find: Callable[[Any], Source]
    """Finds and checks the data set of a config; decodes nothing. Raises DataError."""


DATA: dict[str, DataKind] = {
    "shapes": DataKind(ShapesData, shapes_source),
    "folder": DataKind(FolderData, folder_source),
}
"""By the `kind` of a data config."""


_TRAINS_ON: dict[str, tuple[Pairing, str]] = {
    "pix2pix": ("pairs", "pairs of an input and a picture: give A|B pictures, or images + labels"),
    "enhance": (
        "pairs",
        "pairs of an input and a picture: give A|B pictures, or any pictures with data.degrade",
    ),
    "cyclegan": ("unpaired", "two folders of pictures, trainA and trainB"),
}
"""Recipe of a teacher -> what it needs, in words. Others need pictures alone, which all data have."""


def prepare(config: DataSet, cache_dir: Path, *, recipe: str | None = None) -> Stored:
    """The data of `config` below `cache_dir`: decoded now, or taken from there if nothing changed since the last time.

    `recipe`: of the teacher that is to train on them; data that it cannot use are refused before anything is decoded.

    Raises:
        DataError: the data cannot be used. StoreError: `cache_dir` cannot be written.
    """
    source = DATA[config.kind].find(config)
    if recipe in _TRAINS_ON:
        pairing, words = _TRAINS_ON[recipe]
        if pairing_of(source.layout, config.degrade) != pairing:
            raise DataError(
                f"{getattr(config, 'root', '')}: this data is {source.layout}, and the recipe {recipe} trains on {words}. "
                "For unpaired pictures there is --space cyclegan, for pictures alone --space sagan, stylegan2 and enhance."
            )
    return store(_at_load_size(source, config), config, cache_dir)


def _at_load_size(source: Source, config: DataSet) -> Source:
    """The source with its training pictures decoded at the size of which parts are shown."""
    if (load := load_size_of(config)) is None:
        return source
    values = {"height": load[0], "width": load[1], "load_height": None, "load_width": None}
    larger = DATA[config.kind].find(config.model_copy(update=values))

    def of(split: SplitName) -> Source:
        return larger if split == "train" else source

    def read_inputs(split: SplitName) -> Iterable[np.ndarray]:
        reader = of(split).read_inputs
        assert reader is not None
        return reader(split)

    return replace(
        source,
        read=lambda split: of(split).read(split),
        read_inputs=None if source.read_inputs is None else read_inputs,
    )
