"""Data sets of pictures, alone or each with an input, a label map or a class.

A data set is detected and checked first. It is then decoded once into a copy on disk, which trainings
memory-map.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raydistill.config.base import Stored
from raydistill.config.data import DataSet, FolderData, ShapesData
from raydistill.data.batches import Batch, batch, pictures, render_inputs, to_float, to_uint8
from raydistill.data.classes import Classes
from raydistill.data.folder import folder_source
from raydistill.data.mapped import Split, load_split
from raydistill.data.prepared import DataInfo, describe, load_size_of, read_info
from raydistill.data.source import Pairing, Source, SplitName, pairing_of, shapes_source
from raydistill.data.storing import store
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
    "described",
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
    """A kind of data set, as a plug-in may register one."""

    config: type[DataSet]
    """The class of its configs."""
    find: Callable[[Any], Source]
    """Config -> the data set, found and checked, but not decoded.

    Raises DataError where it cannot be used.
    """


DATA: dict[str, DataKind] = {
    "shapes": DataKind(ShapesData, shapes_source),
    "folder": DataKind(FolderData, folder_source),
}
"""`kind` of a data config -> the kind of data set."""


_PAIRINGS: dict[Pairing, str] = {
    "pairs": "pairs of an input and a picture: give A|B pictures, images + labels, or pictures with "
    "data.degrade",
    "unpaired": "two folders of pictures, trainA and trainB",
    "pictures": "pictures without inputs",
}
"""Pairing -> what data of it are, in words."""


_WHOLE = "Pictures are twice as wide as high, as A|B are: taken whole, as there are inputs without them."


def prepare(
    config: DataSet,
    cache_dir: Path,
    *,
    pairing: Pairing | None = None,
    recipe: str = "",
    whole_pictures: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Stored:
    """The decoded data of `config`, in a folder of `cache_dir`. What is there already is not decoded again.

    Args:
        config: which data, and the size of their pictures.
        cache_dir: where decoded data are kept.
        pairing: what the recipe that is to train on them needs; other data are refused before anything is
            decoded. None: any data are accepted.
        recipe: what the message calls that recipe.
        whole_pictures: whether the recipe has inputs of its own, noise: pictures that look like A|B are not
            taken for that, unless the config says so.
        say: is given a line about how far the decoding is, every ten seconds.

    Raises:
        DataError: the data cannot be used.
        StoreError: `cache_dir` cannot be written.
    """
    source = DATA[config.kind].find(config)
    is_detected = isinstance(config, FolderData) and config.layout == "auto" and source.layout == "aligned"
    if is_detected and (whole_pictures or pairing == "pictures" or config.degrade.is_on):
        config = config.model_copy(update={"layout": "pictures"})
        source = DATA[config.kind].find(config)
        source = replace(source, remarks=(*source.remarks, _WHOLE))
    if pairing is not None and pairing_of(source.layout, config.degrade) != pairing:
        raise DataError(
            f"{getattr(config, 'root', '')}: this data is {source.layout}, and the recipe {recipe} "
            f"trains on {_PAIRINGS[pairing]}. For unpaired pictures there is --space cyclegan, for pictures "
            "alone --space sagan, stylegan2 and enhance."
        )
    return store(_with_load_size(source, config), config, cache_dir, say)


def described(config: DataSet) -> DataInfo:
    """What the data of `config` are: they are found and checked, and not decoded.

    Raises:
        DataError: the data cannot be used.
    """
    return describe(DATA[config.kind].find(config), config)


def _with_load_size(source: Source, config: DataSet) -> Source:
    """The source, with training pictures decoded at the load size, if there is one; crops of it are shown."""
    if (load_size := load_size_of(config)) is None:
        return source
    height, width = load_size
    values = {"height": height, "width": width, "load_height": None, "load_width": None}
    larger = DATA[config.kind].find(config.model_copy(update=values))

    def read(split: SplitName) -> Iterable[tuple[np.ndarray, ...]]:
        return (larger if split == "train" else source).read(split)

    def read_inputs(split: SplitName) -> Iterable[np.ndarray]:
        reader = (larger if split == "train" else source).read_inputs
        assert reader is not None
        return reader(split)

    return replace(
        source,
        read=read,
        read_inputs=None if source.read_inputs is None else read_inputs,
        changes=lambda: (*larger.changes(), *(f"{text} (val, test)" for text in source.changes())),
    )
