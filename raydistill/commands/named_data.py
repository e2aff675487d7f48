"""What --data names: data as raydistill prepares them, the pictures that it draws, or a folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raydistill.config.base import Frozen, Stored
from raydistill.config.data import Data, DataSet
from raydistill.config.paths import validated, with_values
from raydistill.data.prepared import INFO, info_of


class _DataConfig(Frozen):
    data: Data


def prepared_data(data: str) -> Stored | None:
    """Data as raydistill prepares them; None: the folder has others."""
    path = Path(data)
    if not (path / INFO).is_file():
        return None
    return Stored(path=str(path.absolute()), digest=info_of(path).digest)


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
