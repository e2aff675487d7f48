"""What trials of a sweep record of the teachers that train beside students, see `training.recording`."""

from collections.abc import Iterable
from typing import NamedTuple

from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.training import recording


class Records(NamedTuple):
    """The records that trials of a sweep may leave of the teachers that train beside students."""

    names: tuple[str, ...]
    """What the name of each begins with; students with the same teachers share one. None: no base trains
    teachers that are recorded."""
    total: int
    """Bytes of all."""
    largest: int
    """Bytes of the largest."""
    limit_gb: float
    """GiB that all may take together: --teacher-cache-gb, or `student.execution.record_teachers_gb`."""

    @property
    def are_made(self) -> bool:
        """Whether there are any, and they fit."""
        return 0 < self.total <= self.limit_gb * 2**30

    @property
    def num_bytes(self) -> int:
        """Bytes that they take on disk."""
        return self.total if self.are_made else 0


def records_of(
    trainings: Iterable[DistillTraining], data_digest: str, info: DataInfo, workers: int, limit_gb: float
) -> Records:
    """The records that these students may leave.

    Args:
        workers: of each training.
        limit_gb: see `Records`.
    """
    known: dict[str, int] = {}
    for training in trainings:
        if recording.kind_of(training) is not None:
            name = recording.name_of(training, data_digest)
            if name not in known:
                known[name] = recording.num_bytes(training, info, workers)
    return Records(tuple(known), sum(known.values()), max(known.values(), default=0), limit_gb)
