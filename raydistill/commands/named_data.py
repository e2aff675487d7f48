"""What --data names: data as raydistill prepares them, the pictures that it draws, or a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raydistill.config.base import Frozen
from raydistill.config.data import Data, DataSet
from raydistill.config.paths import validated, with_values
from raydistill.data.prepared import INFO


class _DataConfig(Frozen):
    data: Data


def is_prepared(data: str) -> bool:
    """Whether a folder has data as raydistill prepares them."""
    return (Path(data) / INFO).is_file()


def data_config(data: str, values: Mapping[str, Any], size: Callable[[], tuple[int, int]]) -> DataSet:
    """The config of "shapes", or of a folder or file.

    Args:
        data: what was typed.
        values: config paths of --set -> value.
        size: (height, width) that a folder is decoded at; not called for "shapes".

    Raises:
        ConfigError: a value cannot be.
    """
    if data == "shapes":
        source: dict[str, Any] = {"kind": "shapes"}
    else:
        height, width = size()
        source = {"kind": "folder", "root": str(Path(data).absolute()), "height": height, "width": width}
    config = with_values(validated(_DataConfig, {"data": source}, where="--data"), values, where="--set")
    return config.data
