"""What teachers that train beside a student give to it, recorded once and read by later trainings.

A student cannot influence such teachers, so all students with the same teachers, data, seed and batches see
the same pictures. The first training that trains them to the end without interruption leaves a record in the
trained teacher's folder, `record-<config>-<machine>/`: `<rank>.npy` for each worker, float32, a row of
`training.rows` for each minibatch, and `meta.json` with the SHA-256 of each. The two digests are of all that
decides about the bits. A training that reads builds no teachers, and its student gets the same bits.

It is decided once, where a training begins, whether it reads; checkpoints show it by the networks that they
have, and a resume goes on in the same way. Where the record is gone by then, it starts from its beginning,
with the same result.
"""

import contextlib
import errno
import json
import os
import platform
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from raydistill import distributed
from raydistill.config.base import digest
from raydistill.config.experiment import JOB_VERSION, Job
from raydistill.config.training import DistillTraining, Training
from raydistill.data import DataInfo
from raydistill.data.outputs import LIMIT_GB
from raydistill.data.prepared import open_array
from raydistill.distributed import Workers
from raydistill.errors import StoreError
from raydistill.reading import file_hash, parse_json, read_text
from raydistill.records import owners, remote
from raydistill.records.files import to_disk
from raydistill.training import bases, checkpoint, rows
from raydistill.training.bases import RecordKind
from raydistill.training.steps import Networks, Recorded, Setup, Step
from raydistill.training.terms import Numbers

_META, _TYPE = "meta.json", "<f4"
_MOST_WAITING = 4
"""Rows that wait to be written, at most; then the training waits for the disk."""
_SAME_BITS = ("sharding", "fsdp_min_params", "activation_checkpointing", "compile")
"""Options of `execution` that may round otherwise."""


def kind_of(training: Training) -> RecordKind | None:
    """How the teachers of a training are recorded; None: it has none that are."""
    return bases.BASES[training.base.kind].record if isinstance(training, DistillTraining) else None


def can_read(training: DistillTraining) -> bool:
    """Whether a student can do without its teachers' networks: all that terms ask them is recorded."""
    return not unforeseen(training)


def unforeseen(training: DistillTraining) -> list[str]:
    """Names of the terms that may ask the teacher for pictures that no record has."""
    active = training.active_terms.items()
    return sorted(name for name, term in active if term.asks_teacher and not term.asks_once)


def left(networks: Networks, training: Training, recorded: Tensor | None) -> Networks:
    """The networks that a training has: where rows are read, those without the teachers."""
    record = None if recorded is None else kind_of(training)
    gone = () if record is None else record.networks
    return {name: network for name, network in networks.items() if name not in gone}


def layout_of(training: DistillTraining, info: DataInfo, workers: Workers) -> rows.Layout:
    """What a row of a worker has. The base records its teachers."""
    record = kind_of(training)
    assert record is not None, training.base.kind
    number = training.batch_size // workers.number
    own = record.layout(training.base, info, number)
    return bases.with_asked(own, training.asking_terms, info, number)


def num_bytes(training: DistillTraining, info: DataInfo, num_workers: int = 1) -> int:
    """Size of a record on disk in bytes, over all workers."""
    row = rows.width(layout_of(training, info, Workers(0, num_workers)))
    return 4 * num_workers * num_rows(training) * row


def num_rows(training: Training) -> int:
    """Minibatches of a training."""
    return -(-training.budget_nimg // training.batch_size)


def facts(training: DistillTraining, data_digest: str) -> dict[str, Any]:
    """All of a config that decides about a record: students with the same share one on the same machines."""
    record = kind_of(training)
    assert record is not None, training.base.kind
    names = ("seed", "batch_size", "budget_nimg", "flip", "precision")
    found: dict[str, Any] = {name: getattr(training, name) for name in names}
    found |= {name: getattr(training.execution, name) for name in _SAME_BITS}
    found |= {"base": record.decides(training.base), "asking": training.asking_terms}
    return found | {"data": data_digest, "version": JOB_VERSION}


def name_of(training: DistillTraining, data_digest: str) -> str:
    """What the names of a student's records begin with, whatever machines they are of."""
    return f"record-{digest(facts(training, data_digest))}-"


class Record(NamedTuple):
    """Where the record of a student's teachers lies, or would lie."""

    folder: Path
    num_rows: int
    layout: rows.Layout

    def file(self, workers: Workers) -> Path:
        """That of this worker."""
        return self.folder / f"{workers.rank}.npy"

    @property
    def shape(self) -> tuple[int, int]:
        """Of each worker's array."""
        return self.num_rows, rows.width(self.layout)


def record_of(job: Job, setup: Setup) -> Record | None:
    """Where the record of a job lies for these workers and this device; None: its teachers are not recorded.

    Bits depend on the machine, too: its processor or GPU, the threads on a CPU, and the version of torch.
    """
    training = job.training
    if not isinstance(training, DistillTraining) or kind_of(training) is None:
        return None
    assert job.teacher is not None
    if setup.device.type == "cuda":
        where = torch.cuda.get_device_name(setup.device)
    else:
        processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
        where = f"{processor}, {torch.get_num_threads()} threads"
    machine = {"device": where, "torch": torch.__version__, "workers": setup.workers.number}
    layout = layout_of(training, setup.info, setup.workers)
    name = name_of(training, job.data.digest) + digest(machine)
    return Record(Path(job.teacher.path) / name, num_rows(training), layout)


def _fits(training: Training, info: DataInfo, workers: Workers) -> bool:
    """Whether a record may be made and read: it is within `execution.record_teachers_gb`."""
    assert isinstance(training, DistillTraining)
    limit = training.execution.record_teachers_gb
    limit = LIMIT_GB if limit is None else limit
    return num_bytes(training, info, workers.number) <= limit * 2**30


# ---- reading -----------------------------------------------------------------------------------------------


def rows_to_read(job: Job, setup: Setup, state_dir: Path, say: checkpoint.Say) -> Tensor | None:
    """This worker's rows, memory-mapped, where the training reads a record; None: it trains its teachers, if
    it has any. Every worker gets the same answer. Collective.

    Args:
        state_dir: whose newest whole checkpoint says how the training began.
        say: is given a line where a record that is needed, or may be read, is damaged.
    """
    training, workers = job.training, setup.workers
    if (record := record_of(job, setup)) is None:
        return None
    assert isinstance(training, DistillTraining)
    began = distributed.computed_once(lambda: _began_to_read(state_dir, training), workers)
    is_wanted = can_read(training) and _fits(training, setup.info, workers)
    if began is False or (began is None and not is_wanted):
        return None
    found, why = _opened(record, workers)
    is_whole = distributed.gather_rows(torch.tensor([found is not None], device=setup.device), workers).all()
    if is_whole:
        return found
    if record.folder.exists() and workers.is_main:
        say(f"{record.folder}: {why or 'missing or damaged for another worker'}; the teachers train again")
        owners.remove(record.folder)
    if began:
        say(
            f"{state_dir}: the record of its teachers that it has read is no longer in {record.folder}; "
            "the training starts from its beginning, beside its teachers, and comes to the same result"
        )
    return None


def _began_to_read(state_dir: Path, training: DistillTraining) -> bool | None:
    """Whether the newest whole checkpoint lacks the teachers; None: there is no checkpoint."""
    newest = checkpoint.newest(state_dir, say=lambda line: None)  # `checkpoint.load` says what is damaged
    record = kind_of(training)
    assert record is not None
    return None if newest is None else not (newest / f"{record.networks[0]}.safetensors").exists()


def _opened(record: Record, workers: Workers) -> tuple[Tensor | None, str]:
    """This worker's rows; or None, and what is wrong with them."""
    file = record.file(workers)
    try:
        hashes = parse_json(read_text(record.folder / _META))
        if not isinstance(hashes, dict) or hashes.get(file.name) != file_hash(file, most=None):
            return None, f"{file.name} is damaged (sha256 differs)"
        return torch.from_numpy(open_array(file, _TYPE, record.shape)), ""
    except (OSError, ValueError) as error:
        return None, f"{file.name} or {_META} is missing or damaged ({error})"


# ---- recording ---------------------------------------------------------------------------------------------


class Recorder:
    """Writes the rows of this worker, beside the training. As a context it removes at its end what was not
    kept.

    Args:
        record: where they will lie; None: nothing is recorded.
        temporary: the folder that becomes the record, and exists; of all workers.
    """

    def __init__(self, record: Record | None, temporary: Path | None, setup: Setup):
        self.record, self.temporary, self.setup = record, temporary, setup
        self._file: IO[bytes] | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        if self.record is not None and self.temporary is not None:
            with _explained(self.record.folder):
                self._file = (self.temporary / self.record.file(self.setup.workers).name).open("wb")
                header = {"descr": _TYPE, "fortran_order": False, "shape": self.record.shape}
                np.lib.format.write_array_header_1_0(self._file, header)
            self._writer = ThreadPoolExecutor(1, "record")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()
        if self.temporary is not None:
            owners.remove(self.temporary)

    def take(self, recorded: Recorded | None, step: Step, numbers: Numbers) -> None:
        """Adds the row of a minibatch. Nothing waits for the device; the disk is waited for where it is slow.

        Args:
            recorded: gives the tensors of the record's layout; it is not called where nothing is recorded.
            step: after its phases.
            numbers: what they logged.

        Raises:
            StoreError: the disk refuses.
        """
        if self._writer is None:
            return
        assert self.record is not None and recorded is not None
        row, is_there = rows.packed(recorded(step, numbers), self.record.layout), None
        if row.device.type == "cuda":
            host = torch.empty(row.shape, dtype=row.dtype, pin_memory=True)
            host.copy_(row, non_blocking=True)
            is_there, row = torch.cuda.Event(), host
            is_there.record()
        self._waiting.append(self._writer.submit(self._write, row, is_there))
        if len(self._waiting) > _MOST_WAITING:
            self._take_back(1)

    def keep(self) -> None:
        """Makes the record of what was taken, which is all of the training's. Where another training has left
        one meanwhile, that stays. Collective.

        Raises:
            StoreError: the disk refuses.
        """
        if self._file is None:
            return
        assert self.record is not None and self.temporary is not None
        workers, final, temporary = self.setup.workers, self.record.folder, self.temporary
        self._take_back(len(self._waiting))
        with _explained(final):
            self._file.close()
            to_disk(Path(self._file.name))
        distributed.barrier(workers)
        if workers.is_main:
            with _explained(final):
                hashes = {path.name: file_hash(path, most=None) for path in sorted(temporary.iterdir())}
                (temporary / _META).write_text(json.dumps(hashes))
                to_disk(temporary / _META)
                to_disk(temporary)
                _renamed(temporary, final)
            remote.push(final)
        distributed.barrier(workers)

    def _write(self, row: Tensor, is_there: torch.cuda.Event | None) -> None:
        """In the thread of the writer, so that it may wait."""
        if is_there is not None:
            is_there.synchronize()
        assert self._file is not None
        self._file.write(row.numpy().data)

    def _take_back(self, number: int) -> None:
        """Waits for the oldest rows, and raises what happened to them."""
        assert self.record is not None
        with _explained(self.record.folder):
            for _ in range(number):
                self._waiting.popleft().result()


def recorder(job: Job, setup: Setup, nimg: int, is_read: bool) -> Recorder:
    """What records a training that goes on after `nimg` images. Collective.

    Nothing is recorded where it was interrupted, reads a record, has no teachers to record, or a record is
    there; where a record would be too large; or where workers do not see one folder.
    """
    record = record_of(job, setup) if nimg == 0 and not is_read else None
    if record is None or not _fits(job.training, setup.info, setup.workers):
        return Recorder(None, None, setup)
    temporary = distributed.computed_once(lambda: _begun(record.folder), setup.workers)
    is_seen = temporary is not None and temporary.is_dir()
    if not distributed.gather_rows(torch.tensor([is_seen], device=setup.device), setup.workers).all():
        if temporary is not None and setup.workers.is_main:
            owners.remove(temporary)
        return Recorder(None, None, setup)
    return Recorder(record, temporary, setup)


def _begun(final: Path) -> Path | None:
    """A new folder that may become the record; None: there is one already."""
    if final.exists():
        return None
    temporary = final.with_name(f".{final.name}.{owners.mark()}")
    with _explained(final):
        temporary.mkdir(parents=True)
    return temporary


def _renamed(temporary: Path, final: Path) -> None:
    """Renames a folder, unless the other is there."""
    try:
        os.rename(temporary, final)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return
    to_disk(final.parent)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: what teachers give to students cannot be written there: {error}. Free some space, "
            "or give --teacher-cache-gb 0: then every trial trains its own"
        ) from None
