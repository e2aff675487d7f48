"""Prediction of a worker's memory before anything is trained, from networks on the meta device: nothing is allocated.

Counted is what lives in tensors at the worst moment of a minibatch, of an evaluation or of the teacher's forward (`rehearsal`).
"""

import contextlib
import ctypes
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, cost, networks
from raydistill.planning import rehearsal

_TRAINED = 16
"""Bytes of a trained parameter: weight, gradient and Adam's two moments, float32."""
_KEPT = 4
"""Bytes of a parameter that is only kept: averages, the finished network, evaluator and teacher."""
_OVERHEAD = 1.6
"""Peak over what lives in tensors, for workspaces and for what the allocator loses. Resident on a CPU: see docs/results.md."""
_OF_TERM = ("energy", "discriminator", "start", "replay_size", "num_steps")
"""What of a term's config decides how much it holds."""
CONTEXT_BYTES = 600 * 2**20
"""On a GPU: a CUDA context with its libraries' workspaces: an allowance, not measured here."""
PROCESS_BYTES = 760 * 2**20
"""On a CPU: a Ray actor that has trained before, without what is counted. Measured (docs/results.md): 534 MiB resident after its imports,
650 at the peak of its first training, and up to 760 once thirty trainings have left their fragments, where it stays."""


class MemorySetup(NamedTuple):
    """What a training meets beside its own networks."""

    evaluator: EvaluatorNetwork
    info: DataInfo
    teacher: Generator
    num_workers: int = 1
    """They share the batch."""


def training_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """Peak bytes on its GPU of one worker: states, and what lives at the worst moment, plus `CONTEXT_BYTES`."""
    return states_and_tensors(training, setup) + CONTEXT_BYTES


def states_and_tensors(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """The part of `training_bytes` that the networks and the batch decide."""
    params = cost.params(networks.layers(training.generator, setup.info))
    return _sum(training, params, _own(training, setup), _rest(training, setup))


def live_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """What lives in tensors at the worst moment, beside the networks' states and the minibatch itself."""
    return _live(_own(training, setup), _rest(training, setup))


class Predictor:
    """`training_bytes` of students, the same numbers, thousands a second where only widths differ.

    What lives after each operation of most families is affine in every width: measured once, and once more a width, it is known for
    all. Where one more measurement disagrees, each prediction is made anew.
    """

    def __init__(self, setup: MemorySetup):
        self.setup = setup
        self.affine: dict[Any, tuple[_Own, NDArray[np.int64]] | None] = {}
        """(generator of width 1, batch) -> `_Own` at width 0, and its numbers' slopes, a row a width; None: not affine."""
        self.rests: dict[Any, _Rest] = {}

    def __call__(self, training: DistillTraining) -> int:
        """Peak bytes of one worker on its GPU."""
        generator, mi = training.generator, training.mi
        term = (mi.kind, *(getattr(mi, name, None) for name in _OF_TERM)) if mi.weight else None
        if (term, training.batch_size) not in self.rests:
            self.rests[term, training.batch_size] = _rest(training, self.setup)
        rest = self.rests[term, training.batch_size]
        params = cost.params(networks.layers(generator, self.setup.info))
        return _sum(training, params, self._own(training), rest) + CONTEXT_BYTES

    def _own(self, training: DistillTraining) -> "_Own":
        generator = training.generator
        if GENERATORS[generator.family].takes == "noise":  # eighths of widths, and widths that are None
            return _own(training, self.setup)
        widths = {name: getattr(generator.widths, name) for name in type(generator.widths).model_fields}
        narrow = _with_widths(training, dict.fromkeys(widths, 1))
        alike = (narrow.generator, training.batch_size)
        if alike not in self.affine:
            self.affine[alike] = self._measured(narrow)
        if (found := self.affine[alike]) is None:
            return _own(training, self.setup)
        own, slopes = found
        return own._replace(numbers=own.numbers + (np.array(list(widths.values())) @ slopes).astype(np.int64))

    def _measured(self, narrow: DistillTraining) -> tuple["_Own", NDArray[np.int64]] | None:
        names = list(type(narrow.generator.widths).model_fields)

        def measured(widths: dict[str, int]) -> _Own:
            return _own(_with_widths(narrow, widths), self.setup)

        base, *rows = (
            measured({name: 2 if name == raised else 1 for name in names}) for raised in (None, *names)
        )
        last = measured(dict.fromkeys(names, 5))
        if any(each[1:] != base[1:] or len(each.numbers) != len(base.numbers) for each in (*rows, last)):
            return None
        slopes = np.array([row.numbers for row in rows]) - base.numbers
        offset = base.numbers - slopes.sum(axis=0)
        is_affine = (last.numbers == offset + 5 * slopes.sum(axis=0)).all()
        return (base._replace(numbers=offset), slopes) if is_affine else None


def _with_widths(training: DistillTraining, widths: dict[str, int]) -> DistillTraining:
    generator = training.generator
    return training.model_copy(
        update={
            "generator": generator.model_copy(update={"widths": generator.widths.model_copy(update=widths)})
        }
    )


class _Own(NamedTuple):
    """Bytes that live while the generator trains and is evaluated, after each tensor that is made or gone."""

    numbers: NDArray[np.int64]
    """A minibatch, then an evaluation."""
    evaluation: int
    """Where the evaluation begins."""
    forward: int
    """Where the forward of a student has ended."""
    loss: int
    """Where the base loss of a student is there."""


class _Rest(NamedTuple):
    """Bytes of everything in a training but its generator."""

    states: int
    batch: int
    """Inputs, targets and the teacher's pictures."""
    term: rehearsal.Term
    teacher: int
    """While the teacher makes its pictures, before the student's forward."""
    evaluator: int
    """While the evaluator sees the pictures of an evaluation."""


def _own(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> _Own:
    info, batch = setup.info, _batch(training, setup)
    number = rehearsal.num_evaluated(training.generator, info, setup.num_workers)
    evaluation = rehearsal.evaluation(training.generator, info, number)
    if isinstance(training, DistillTraining):
        history, forward, loss = rehearsal.student(training, info, batch)
    else:
        history, forward, loss = np.array([rehearsal.alone(training, info, batch)], dtype=np.int64), 0, 0
    return _Own(np.concatenate([history, evaluation]), len(history), forward, loss)


def _rest(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> _Rest:
    info, batch = setup.info, _batch(training, setup)
    with rehearsal.META:
        states = _KEPT * _count(networks.evaluator(setup.evaluator, info, 0))
    learning, other = rehearsal.others(training, info)
    states += sum(_TRAINED * _count(module) for module in learning) + other
    term, teacher = rehearsal.Term(), 0
    if isinstance(training, DistillTraining):
        term = rehearsal.term(training, info, batch, setup.teacher)
        if rehearsal.runs_in_the_loop(setup.teacher, info):
            states += _KEPT * cost.params(networks.layers(setup.teacher, info))
            teacher = rehearsal.taught(setup.teacher, info, batch)
    number = rehearsal.num_evaluated(training.generator, info, setup.num_workers)
    pictures = rehearsal.pictures_of(info, batch).nbytes
    held = rehearsal.inputs_of(training.generator, info, batch).nbytes + 2 * pictures
    return _Rest(states, held, term, teacher, rehearsal.evaluated(setup.evaluator, info, number))


def _live(own: _Own, rest: _Rest) -> int:
    history, evaluation = own.numbers[: own.evaluation], own.numbers[own.evaluation :]
    return max(
        int(history.max()) + rest.term.left,
        int(history[own.forward]) + rest.term.own,
        int(history[own.loss]) + rest.term.student,
        rest.teacher,
        int(evaluation.max()),
        rest.evaluator,
    )


def _sum(training: DistillTraining | GeneratorTraining, params: int, own: _Own, rest: _Rest) -> int:
    states = rest.states + (_TRAINED + _KEPT + (_KEPT if training.ema_nimg else 0)) * params
    return states + int(_OVERHEAD * (_live(own, rest) + rest.batch))


def _batch(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """Of one worker."""
    return -(-training.batch_size // setup.num_workers)


def start_peak() -> None:
    """From here on `peak_gb` counts. What earlier trainings in this process freed goes back to the system first: glibc keeps it, in an
    arena for each of their threads."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # only Linux forgets a peak
            Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float | None:
    """GiB: most that torch reserved on the GPU, else most of this process that was resident; None: this system does not tell."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 2**20 if found else None


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
