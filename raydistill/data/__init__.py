"""Data sets of pictures, with an input, a label map or a class each or none: found and checked, decoded once, then memory-mapped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raydistill.config import DataSet, FolderData, ShapesData, Stored
from raydistill.data.folders import folder_source
from raydistill.data.prepare import (
    Batch,
    Classes,
    DataInfo,
    Source,
    Split,
    batch,
    load_split,
    pairing_of,
    pictures,
    read_info,
    render_inputs,
    shapes_source,
    store,
    to_float,
    to_uint8,
)
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


DATA: dict[str, DataKind] = {"shapes": DataKind(ShapesData, shapes_source), "folder": DataKind(FolderData, folder_source)}
"""By the `kind` of a data config."""


def prepare(config: DataSet, cache_dir: Path, *, to_train: bool = False) -> Stored:
    """The data of `config` below `cache_dir`: decoded now, or taken from there if nothing changed since the last time.

    `to_train`: only data that there is a recipe for, which is pairs; others are refused before anything is decoded.

    Raises:
        DataError: the data cannot be used. StoreError: `cache_dir` cannot be written.
    """
    source = DATA[config.kind].find(config)
    if to_train and pairing_of(source.layout) != "pairs":
        raise DataError(
            f"{getattr(config, 'root', '')}: this data is {source.layout}, and the recipes train on pairs of an input and a picture: "
            "give A|B pictures, or images + labels. Trainings on other data are not built yet."
        )
    return store(source, config, cache_dir)
