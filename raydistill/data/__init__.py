"""Data sets of pictures, with an input, a label map or a class each or none: found and checked, decoded once, then memory-mapped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill.config import FolderData, ShapesData, Stored
from raydistill.data.folders import folder_source
from raydistill.data.prepare import (
    Batch,
    DataInfo,
    Source,
    Split,
    batch,
    load_split,
    pictures,
    read_info,
    render_inputs,
    shapes_source,
    store,
    to_float,
    to_uint8,
)

__all__ = [
    "DATA",
    "Batch",
    "DataInfo",
    "Source",
    "Split",
    "batch",
    "load_split",
    "pictures",
    "prepare",
    "read_info",
    "render_inputs",
    "to_float",
    "to_uint8",
]

DATA: dict[str, Callable[[Any], Source]] = {"shapes": shapes_source, "folder": folder_source}
"""`kind` of a data config -> what finds that data set."""


def prepare(config: ShapesData | FolderData, cache_dir: Path) -> Stored:
    """The data of `config` below `cache_dir`: decoded now, or taken from there if nothing changed since the last time.

    Raises:
        DataError: the data cannot be used. StoreError: `cache_dir` cannot be written.
    """
    return store(DATA[config.kind](config), config, cache_dir)
