"""What one training step asks of a device, counted without one: kernels, waits, copies, random numbers.

The whole step, from its minibatch to the moving average, runs by the functions of the training loop on the
meta device, where a tensor has a shape and no numbers: what asks for a value raises there, and is named
with its line. The rest is seen by a dispatch mode. A kernel is an operation that torch dispatches and that
computes or moves something: not a view, not an allocation. One operation may launch several kernels on a
GPU (the backward of a convolution two), or be fused with others; a list of tensors of different shapes
counts once for each tensor.
"""

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import raydistill
from raydistill import distributed
from raydistill.config.architectures import Generator
from raydistill.config.training import DistillTraining, OutputKind, Training
from raydistill.data import DataInfo
from raydistill.data.outputs import output_shape
from raydistill.data.tensors import without_values
from raydistill.distributed import ALONE, Workers
from raydistill.errors import RunError
from raydistill.planning.rehearsal import META, RehearsedTeacher, features_of
from raydistill.planning.tensor_bytes import called, tensors_in
from raydistill.training import assembly, loop, recipes, recording, rows
from raydistill.training.minibatches import TrainingData
from raydistill.training.recipes import Setup

_PACKAGE = str(Path(raydistill.__file__).parent)
_WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "_unique2", "unique_dim", "item"}
"""Operations whose result is on the host, or has a shape that the host has to be told."""
_NO_KERNEL = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "lift_fresh",
    "detach",
}
_RANDOM = ("rand", "normal", "uniform", "bernoulli", "multinomial", "exponential", "cauchy", "geometric")


class StepCounts(NamedTuple):
    """What one step asks of a device."""

    kernels: int
    synchronisations: int
    """How often the host waits for the device."""
    host_random_bytes: int
    """Bytes of random numbers that the host draws."""
    host_to_device_copies: int
    pinned: bool
    """Whether every copy is from pinned memory and does not wait; True where there is none."""
    collectives: int
    """Of one of two workers."""
    gmac: float
    """Multiply-accumulates in units of 10^9, of convolutions and matrix products, backward passes
    included.
    """
    megabytes_touched: float
    """Bytes of all kernels' arguments and results, in units of 10^6."""
    waits: tuple[str, ...]
    """Where the host waits, or draws: what, and the file and line that asked for it."""


class Counting(TorchDispatchMode):
    """Counts what runs inside, on any device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.by_name: Counter[str] = Counter()
        """Operation -> how many kernels."""
        self.waits: list[str] = []
        self.draws: list[str] = []
        """Where the host waits, and where it draws random numbers."""
        self.random_bytes = self.copies = self.waiting_copies = self.collectives = 0
        self.macs = self.touched = 0.0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        given = list(tensors_in((args, kwargs)))
        if func.namespace in ("c10d", "_c10d_functional"):
            self.collectives += func.namespace == "c10d" or "wait" not in name
            return func(*args, **kwargs)
        is_asked = any(self._is_there(each) for each in given)
        if name in _WAITS and is_asked:
            self._wait(name)
        if name == "_local_scalar_dense" and given[0].is_meta:
            return given[0].dtype.is_floating_point * 1.0 or 1  # any value, so that the rest is counted, too
        if (
            name == "_to_copy"
            and given[0].is_meta
            and torch.device(kwargs.get("device") or "meta").type == "cpu"
        ):
            self._wait("copy to the host")
            return torch.zeros(given[0].shape, dtype=kwargs.get("dtype") or given[0].dtype)
        # the fused Adam works in place, and torch gives it no form for the meta device
        out = None if name == "_fused_adam_" and given[0].is_meta else called(func, args, kwargs)
        made = list(tensors_in(out))
        if any(self._is_there(each) for each in (*given, *made)):
            self._count(func, name, args, kwargs, out)
        elif any(word in name for word in _RANDOM):
            self.random_bytes += sum(each.nbytes for each in made)
            self.draws.append(f"{name} on the host: {_asked_by()}")
        return out

    def _is_there(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device.type

    def _wait(self, name: str) -> None:
        self.waits.append(f"{name}: {_asked_by()}")

    def _count(
        self,
        func: Any,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> None:
        """Adds an operation that has to do with the device."""
        given, made = list(tensors_in((args, kwargs))), list(tensors_in(out))
        on_host = [each for each in given if not self._is_there(each) and each.dim() > 0]
        if on_host:
            self.copies += 1
            if not kwargs.get("non_blocking"):
                self.waiting_copies += 1
                self._wait(f"{name} of a tensor on the host")
        if not on_host and any(not self._is_there(each) for each in made):
            self._wait(f"{name} to the host")
        if func.is_view or name.rstrip("_") in _NO_KERNEL:
            return
        self.by_name[name] += _launches(name, args)
        self.touched += sum(each.nbytes for each in (*given, *made))
        if func._overloadpacket in flop_registry:
            self.macs += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out) / 2

    def counts(self, collectives: int) -> StepCounts:
        """What was counted, with the number of collectives of another count."""
        return StepCounts(
            kernels=self.by_name.total(),
            synchronisations=len(self.waits),
            host_random_bytes=self.random_bytes,
            host_to_device_copies=self.copies,
            pinned=not self.waiting_copies,
            collectives=collectives,
            gmac=self.macs / 1e9,
            megabytes_touched=self.touched / 1e6,
            waits=(*self.waits, *self.draws),
        )


def _launches(name: str, args: Sequence[Any]) -> int:
    """How many kernels an operation counts as: of lists of tensors, one where their shapes agree pairwise."""
    lists = [each for each in args if isinstance(each, list | tuple) and each and isinstance(each[0], Tensor)]
    if not name.startswith("_foreach") or len(lists) < 2:
        return 1
    agree = all(len({each.shape for each in row}) == 1 for row in zip(*lists))
    return 1 if agree else len(lists[0])


def _asked_by() -> str:
    """The innermost line that is not torch's: of raydistill, or of a plug-in."""
    return _outside_of_torch(traceback.extract_stack())


def _outside_of_torch(frames: traceback.StackSummary) -> str:
    """The innermost of these lines that is neither torch's nor of what counts."""
    torch_folder, counting = str(Path(torch.__file__).parent), str(Path(__file__).parent)
    for frame in reversed(frames):
        if not frame.filename.startswith((torch_folder, counting)):
            name = frame.filename.replace(_PACKAGE, "raydistill")
            return f"{name}:{frame.lineno}: {frame.line}"
    return "torch"


# ---- a step ------------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """A training whose step is counted."""

    training: Training
    info: DataInfo
    teacher: Generator | None = None
    """Of a student; None: the training has none."""
    outputs: OutputKind | None = None
    """How the teacher's pictures are stored; None: it makes them in the loop."""
    is_resident: bool = False
    """Whether pictures and outputs lie on the device; otherwise they are read on the host and copied."""
    is_read: bool = False
    """Whether what teachers beside the student give is read from a record, as by
    `training.recording`."""


def count_step(counted: Counted) -> StepCounts:
    """Counts one minibatch of one worker, with all phases, and the collectives of one of two workers.

    It is the second that it goes through, so what is computed once a pass, or kept between steps, is not in
    it.

    Raises:
        RunError: an operation of the step needs values, such as `.numpy()` or a mask; the message has its
            line.
    """
    far = {"budget_nimg": 10**12, "report_every_nimg": 10**12}
    counted = counted._replace(training=counted.training.model_copy(update=far))
    alone = _second_step(counted, ALONE)
    collectives = 0
    if counted.training.misfit(2, "two workers") is None:
        with distributed.pretended(2) as workers:
            collectives = _second_step(counted, workers).collectives
    return alone.counts(collectives)


def _second_step(counted: Counted, workers: Workers) -> Counting:
    """What was counted of one of these workers."""
    training, info, kind = counted.training, counted.info, recipes.kind_of(counted.training)
    with META:
        modules, average = kind.networks(training, info), kind.networks(training, info)[kind.network]
    pictures = None
    if isinstance(training, DistillTraining):
        pictures = RehearsedTeacher(
            training, counted.teacher, info, is_in_loop=not training.base.trains_teachers
        )
    setup = Setup(info, META, workers, pictures, features_of(training))
    data = _data(counted)
    if counted.is_read:
        assert isinstance(training, DistillTraining)
        row = rows.width(recording.layout_of(training, info, workers))
        data = data._replace(recorded=torch.zeros(1, row, device=data.split.device))
        modules = recording.left(modules, training, data.recorded)
    trained = assembly.stepping(training, modules, data, setup)
    distributed.prepare(trained.networks, training, META, workers)
    for optimizer in trained.optimizers.values():
        _begin(optimizer)
    logged = loop.Means()
    try:
        for _ in range(2):
            with Counting(META) as counting:
                logged.add(loop.take_step(trained, trained.minibatches.step(0), training, workers))
                if training.ema_nimg:
                    distributed.move_average(average, trained.networks[kind.network], 0.999)
    except (RuntimeError, TypeError, NotImplementedError) as error:  # what needs values has none here
        where = _outside_of_torch(traceback.extract_tb(error.__traceback__))
        raise RunError(f"{where}: a step asks for values, and would wait for the device: {error}") from error
    return counting


def _data(counted: Counted) -> TrainingData:
    """Pictures without values, or a few black ones on the host."""
    info, device = counted.info, "meta" if counted.is_resident else "cpu"
    number = info.counts["train"] if counted.is_resident else 2 * counted.training.batch_size
    few: dict[str, Any] = {"counts": info.counts | {"train": number}}
    if info.input_counts is not None:
        few["input_counts"] = info.input_counts | {"train": number}
    split = without_values(info.model_copy(update=few))
    outputs = None
    if counted.outputs is not None:
        shape = output_shape(split.info, counted.training.flip)
        outputs = torch.zeros(shape, dtype=getattr(torch, counted.outputs), device=device)
    return TrainingData(split if counted.is_resident else split.filled(device), outputs)


def _begin(optimizer: torch.optim.Optimizer) -> None:
    """Gives an Adam the state that its first step would: on the meta device its fused form refuses to."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            step = torch.zeros((), device=parameter.device)
            moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": step, **moments}
