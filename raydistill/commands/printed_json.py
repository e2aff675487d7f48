"""What commands print as JSON: strict JSON, with null for a number that there is not."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row each: column -> value; NaN, absent and infinite numbers become null."""
    read: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return read


def print_json(content: Mapping[str, Any]) -> None:
    """Prints one JSON object on stdout. Raises ValueError for NaN: tables go through `rows`."""
    print(json.dumps(content, indent=1, allow_nan=False))
