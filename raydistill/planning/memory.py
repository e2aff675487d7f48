"""Prediction of the memory that a worker needs, before anything is trained, and the measured peak.

The prediction counts live tensor bytes at the worst moment of a minibatch, of an evaluation or of the
teacher's forward. They come from networks on the meta device (`rehearsal`), so nothing is allocated.
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

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, cost, networks
from raydistill.planning import rehearsal
from raydistill.planning.meta_networks import META, inputs_of, other_networks, pictures_of

_TRAINED_BYTES = 16
"""Bytes for each parameter that learns: weight, gradient and Adam's two moments, float32."""
_STORED_BYTES = 4
"""Bytes for each parameter that does not: of averages, eval network, evaluator and teacher."""
_OVERHEAD = 1.6
"""Peak memory over live tensor bytes: workspaces, and what the allocator loses.

Measured on a CPU, see docs/results.md.
"""
_TERM_OPTIONS = ("energy", "discriminator", "start", "replay_size", "num_steps")
"""The options of a term that decide how many bytes it holds."""
CONTEXT_BYTES = 600 * 2**20
"""On a GPU, for a CUDA context with the workspaces of its libraries: an allowance, which was not measured."""
PROCESS_BYTES = 760 * 2**20
"""On a CPU, for a Ray actor that has trained before, without the bytes that are predicted.

Measured (docs/results.md): 534 MiB are resident after its imports, 650 at the peak of its first training, and
up to 760 once thirty trainings have left their fragments, where it stays.
"""


class MemorySetup(NamedTuple):
    """What decides about a training's memory, beside its own config."""

    evaluator: EvaluatorNetwork
    info: DataInfo
    teacher: Generator
    num_workers: int = 1
    """How many workers share the batch."""


def training_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """Peak bytes of one worker on its GPU: `states_and_tensors` plus `CONTEXT_BYTES`."""
    return states_and_tensors(training, setup) + CONTEXT_BYTES


def states_and_tensors(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """The part of `training_bytes` that the networks and the batch decide: states, and what lives
    at the worst moment.
    """
    params = cost.params(networks.layers(training.generator, setup.info))
    return _total_bytes(training, params, _generator_bytes(training, setup), _other_bytes(training, setup))


def live_tensor_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """Live tensor bytes at the worst moment, without the networks' states and the minibatch itself."""
    return _peak_bytes(_generator_bytes(training, setup), _other_bytes(training, setup))


class Predictor:
    """`training_bytes` of students: the same numbers, but thousands in a second where only widths differ.

    In most families, what lives after each operation is affine in every width. So it is rehearsed once,
    and once more for each width, and is then known for all widths. Where one more rehearsal disagrees,
    every prediction is rehearsed.
    """

    def __init__(self, setup: MemorySetup):
        self.setup = setup
        self.affine: dict[Any, tuple[_GeneratorBytes, NDArray[np.int64]] | None] = {}
        """(generator of width 1, batch size, which losses have a weight) -> bytes at
        width 0 and their slopes.

        The slopes have a row for each width. None: the bytes are not affine in the widths.
        """
        self.others: dict[Any, _OtherBytes] = {}
        """(options of the term, batch size) -> the bytes of everything but the generator."""

    def __call__(self, training: DistillTraining) -> int:
        """Peak bytes of one worker on its GPU."""
        mi, batch_size = training.mi, training.batch_size
        term = (mi.kind, *(getattr(mi, name, None) for name in _TERM_OPTIONS)) if mi.weight else None
        if (term, batch_size) not in self.others:
            self.others[term, batch_size] = _other_bytes(training, self.setup)
        other = self.others[term, batch_size]
        params = cost.params(networks.layers(training.generator, self.setup.info))
        return _total_bytes(training, params, self._generator_bytes(training), other) + CONTEXT_BYTES

    def _generator_bytes(self, training: DistillTraining) -> "_GeneratorBytes":
        """The same as the function of this name."""
        generator = training.generator
        if GENERATORS[generator.family].takes == "noise":  # eighths of widths, and widths that are None
            return _generator_bytes(training, self.setup)
        widths = {name: getattr(generator.widths, name) for name in type(generator.widths).model_fields}
        narrow = _with_widths(training, dict.fromkeys(widths, 1))
        key = (narrow.generator, training.batch_size, training.l1_weight > 0, training.ssim_weight > 0)
        if key not in self.affine:
            self.affine[key] = self._fit(narrow)
        if (fit := self.affine[key]) is None:
            return _generator_bytes(training, self.setup)
        at_zero, slopes = fit
        rise = (np.array(list(widths.values())) @ slopes).astype(np.int64)
        return at_zero._replace(history=at_zero.history + rise)

    def _fit(self, narrow: DistillTraining) -> tuple["_GeneratorBytes", NDArray[np.int64]] | None:
        """The bytes at width 0 and their slopes, (widths, operations), of a training whose widths are all 1.

        None: the bytes are not affine in the widths.
        """
        names = list(type(narrow.generator.widths).model_fields)

        def rehearsed(widths: dict[str, int]) -> _GeneratorBytes:
            return _generator_bytes(_with_widths(narrow, widths), self.setup)

        base = rehearsed(dict.fromkeys(names, 1))
        rows = [rehearsed({name: 2 if name == raised else 1 for name in names}) for raised in names]
        last = rehearsed(dict.fromkeys(names, 5))
        if any(each[1:] != base[1:] or len(each.history) != len(base.history) for each in (*rows, last)):
            return None
        slopes = np.array([row.history for row in rows]) - base.history
        offset = base.history - slopes.sum(axis=0)
        is_affine = (last.history == offset + 5 * slopes.sum(axis=0)).all()
        return (base._replace(history=offset), slopes) if is_affine else None


def _with_widths(training: DistillTraining, widths: dict[str, int]) -> DistillTraining:
    """The training with a generator of these widths; nothing is validated."""
    generator = training.generator
    of_generator = {"widths": generator.widths.model_copy(update=widths)}
    return training.model_copy(update={"generator": generator.model_copy(update=of_generator)})


class _GeneratorBytes(NamedTuple):
    """Bytes that live while the generator trains and is evaluated, after each tensor that is made or gone."""

    history: NDArray[np.int64]
    """Of a minibatch, then of an evaluation."""
    start_of_evaluation: int
    """Index in `history` at which the evaluation begins."""
    after_forward: int
    """Index in `history` at which the forward of a student has ended."""
    after_loss: int
    """Index in `history` at which the base loss of a student is computed."""


class _OtherBytes(NamedTuple):
    """Bytes of everything in a training but its generator."""

    states: int
    """Of networks, optimizers, pools and buffers."""
    batch: int
    """Of inputs, targets and the teacher's pictures."""
    term: rehearsal.TermBytes
    teacher: int
    """The most that live while the teacher makes its pictures, before the student's forward."""
    evaluator: int
    """The most that live while the evaluator sees the pictures of an evaluation."""


def _generator_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> _GeneratorBytes:
    info, batch = setup.info, _worker_batch_size(training, setup)
    number = rehearsal.evaluation_batch_size(training.generator, info, setup.num_workers)
    evaluation = rehearsal.evaluation_history(training.generator, info, number)
    if isinstance(training, DistillTraining):
        minibatch, after_forward, after_loss = rehearsal.student_bytes(training, info, batch)
    else:
        peak = rehearsal.generator_bytes(training, info, batch)
        minibatch, after_forward, after_loss = np.array([peak], dtype=np.int64), 0, 0
    history = np.concatenate([minibatch, evaluation])
    return _GeneratorBytes(history, len(minibatch), after_forward, after_loss)


def _other_bytes(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> _OtherBytes:
    info, batch = setup.info, _worker_batch_size(training, setup)
    with META:
        states = _STORED_BYTES * cost.module_params(networks.evaluator(setup.evaluator, info, 0))
    learning, pools = other_networks(training, info)
    states += sum(_TRAINED_BYTES * cost.module_params(module) for module in learning) + pools
    term, teacher = rehearsal.TermBytes(), 0
    if isinstance(training, DistillTraining):
        term = rehearsal.term_bytes(training, info, batch, setup.teacher)
        if rehearsal.teacher_runs_in_loop(setup.teacher, info):
            states += _STORED_BYTES * cost.params(networks.layers(setup.teacher, info))
            teacher = rehearsal.teacher_bytes(setup.teacher, info, batch)
    number = rehearsal.evaluation_batch_size(training.generator, info, setup.num_workers)
    evaluator = rehearsal.evaluator_bytes(setup.evaluator, info, number)
    minibatch = inputs_of(training.generator, info, batch).nbytes + 2 * pictures_of(info, batch).nbytes
    return _OtherBytes(states, minibatch, term, teacher, evaluator)


def _peak_bytes(own: _GeneratorBytes, other: _OtherBytes) -> int:
    """The most bytes that live at any moment of a minibatch or an evaluation."""
    minibatch, evaluation = own.history[: own.start_of_evaluation], own.history[own.start_of_evaluation :]
    return max(
        int(minibatch.max()) + other.term.backward,
        int(minibatch[own.after_forward]) + other.term.own_phase,
        int(minibatch[own.after_loss]) + other.term.student_loss,
        other.teacher,
        int(evaluation.max()),
        other.evaluator,
    )


def _total_bytes(
    training: DistillTraining | GeneratorTraining, params: int, own: _GeneratorBytes, other: _OtherBytes
) -> int:
    """States and live tensors; `params`: the number of the generator's parameters."""
    per_param = _TRAINED_BYTES + _STORED_BYTES + (_STORED_BYTES if training.ema_nimg else 0)
    return other.states + per_param * params + int(_OVERHEAD * (_peak_bytes(own, other) + other.batch))


def _worker_batch_size(training: DistillTraining | GeneratorTraining, setup: MemorySetup) -> int:
    """How many images of a minibatch one worker has, at most."""
    return -(-training.batch_size // setup.num_workers)


def start_peak() -> None:
    """Starts the count of `peak_gb`.

    What earlier trainings in this process have freed goes back to the system first: glibc keeps it, in an
    arena for each of their threads.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # only Linux forgets a peak
            Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float | None:
    """The peak since `start_peak` in GiB: of what torch reserved on the GPU, or else of what was
    resident of this process.

    None: this system does not say.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    try:
        line = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(line[1]) / 2**20 if line else None
