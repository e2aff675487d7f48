"""The samples of a split, decoded in their order by several threads, from any of them on.

Pillow lets go of Python's lock while it decodes and resizes, so threads decode side by side.
"""

import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from raydistill.data.picture_files import GREY, Change, is_grey
from raydistill.data.sample import Sample
from raydistill.errors import DataError

MOST_THREADS = 8
"""Threads that decode, where there are as many cores: more of them wait for Python's lock."""
_LARGE_PIXELS = 2**22
"""Pictures of more pixels are decoded one at a time: each takes 12 bytes a pixel (`MOST_PIXELS`), so that all
threads together hold 1.5 GiB for the largest one and 48 MiB each for the others."""
_ALONE = threading.Lock()
_READ_AHEAD = 4
"""Decoded samples that wait for the one before them, for each thread."""


class Decoded(NamedTuple):
    """A sample that was decoded."""

    arrays: tuple[np.ndarray, ...]
    mode: str
    """Pillow's mode of the picture in its file."""
    changes: Counter[Change]
    """What was changed in it."""


class Rows:
    """What the samples of a split are decoded to, in their order. Iterating decodes.

    A set is all grey or all in colour, as its first picture is; DataError where one is not.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        decode: Callable[[Sample], Decoded],
        changes: Counter[Change] | None = None,
        *,
        alone: bool = False,
        first: int = 0,
    ):
        """
        Args:
            samples: all samples of the split.
            decode: sample -> what it holds; called by several threads, and raises DataError.
            changes: what is changed in pictures is added to these.
            alone: yield the first array of each, not the tuple.
            first: the sample to begin with.
        """
        self._samples, self._decode, self._first, self._alone = samples, decode, first, alone
        self._changes: Counter[Change] = Counter() if changes is None else changes
        self.counted: Counter[Change] = Counter()
        """What was changed in the samples up to the one that came last."""

    def after(self, number: int, counted: Mapping[Change, int]) -> "Rows":
        """The same samples without the first `number`, in which `counted` was changed."""
        rows = Rows(self._samples, self._decode, self._changes, alone=self._alone, first=number)
        rows.counted.update(counted)
        self._changes.update(counted)
        return rows

    def __iter__(self) -> Iterator[Any]:
        grey = is_grey(self._samples[0].picture.open().image) if self._first else None
        for sample, decoded in self._in_order():
            grey = decoded.mode in GREY if grey is None else grey
            require_alike(decoded.mode, grey, sample.picture.where)
            self._changes.update(decoded.changes)
            self.counted.update(decoded.changes)
            yield decoded.arrays[0] if self._alone else decoded.arrays

    def _in_order(self) -> Iterator[tuple[Sample, Decoded]]:
        threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
        left = iter(self._samples[self._first :])
        waiting: deque[tuple[Sample, Future[Decoded]]] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
            try:
                while True:
                    while len(waiting) < _READ_AHEAD * threads and (sample := next(left, None)) is not None:
                        waiting.append((sample, pool.submit(self._decode_one, sample)))
                    if not waiting:
                        return
                    sample, future = waiting.popleft()
                    yield sample, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _decode_one(self, sample: Sample) -> Decoded:
        size = sample.picture.size()
        is_large = size is not None and size[0] * size[1] > _LARGE_PIXELS
        with _ALONE if is_large else contextlib.nullcontext():
            return self._decode(sample)


def require_alike(mode: str, grey: bool, where: str) -> None:
    """Raises DataError where a picture of this Pillow mode is in a set that is grey, or is in colour."""
    if (mode in GREY) != grey:
        kind, others = ("in colour", "grey") if grey else ("grey", "in colour")
        raise DataError(
            f"{where}: this picture is {kind} (mode {mode}), and the ones before it are "
            f"{others}. Allowed: one of the two in a set. Convert it."
        )
