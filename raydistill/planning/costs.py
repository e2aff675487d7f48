"""Costs of thousands of networks: those that differ in widths alone are counted together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill.config.architectures import Generator
from raydistill.config.paths import with_unchecked_values

_WIDTH = "widths."
Counts = Callable[[Generator], dict[str, Any]]
"""A generator -> its costs by name. Where widths are arrays (n,), so are the costs."""


def counts_of_each(
    generator: Generator, changes: Sequence[Mapping[str, Any]], counts: Counts
) -> dict[str, NDArray[np.float64]]:
    """The costs of a generator with each of some changes, by name, (n,).

    An array for each width goes through the family's table of layers, once for all changes whose other values
    are equal. A family that asks how large a width is, which one of a plug-in may, is counted one by one.

    Args:
        changes: path below the generator -> value, valid together.
    """
    alike: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, change in enumerate(changes):
        key = tuple((path, "" if _is_width(path, value) else repr(value)) for path, value in change.items())
        alike.setdefault(key, []).append(index)
    table: dict[str, NDArray[np.float64]] = {}
    for indices in alike.values():
        found = _counts_together(generator, [changes[index] for index in indices], counts)
        for name, numbers in found.items():
            table.setdefault(name, np.zeros(len(changes)))[indices] = numbers
    return table


def _is_width(path: str, value: Any) -> bool:
    return path.startswith(_WIDTH) and type(value) is int


def _counts_together(
    generator: Generator, changes: Sequence[Mapping[str, Any]], counts: Counts
) -> dict[str, Any]:
    """Costs (n,), or one number for all, of changes that differ in widths alone."""
    together = {
        path: np.array([change[path] for change in changes]) if _is_width(path, value) else value
        for path, value in changes[0].items()
    }
    try:
        return counts(with_unchecked_values(generator, together))
    except (TypeError, ValueError):  # an array of several has no truth value, and no array has a hash
        alone = [counts(with_unchecked_values(generator, change)) for change in changes]
        return {name: np.array([each[name] for each in alone]) for name in alone[0]}
