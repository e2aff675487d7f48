"""Prediction of a worker's memory before anything is trained, from modules on the meta device: nothing is allocated."""

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill import cost, feed, networks
from raydistill.architectures import Generator, JudgeNetwork
from raydistill.config import (
    CycleganTraining,
    DistillTraining,
    GeneratorTraining,
    MutualInformation,
    PairCritic,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, input_shape

_TRAINED = 16
"""Bytes of a trained parameter: weight, gradient and Adam's two moments, float32."""
_KEPT = 4
"""Bytes of a parameter that is only kept: averages, the judge, frozen weights of Langevin chains."""
_OVERHEAD = 1.6
"""Peak over what is counted, for gradients of activations, workspaces and fragments: 1.4 to 1.8 measured, as resident memory on a CPU."""
CONTEXT_BYTES = 600 * 2**20
"""On a GPU: a CUDA context with its libraries' workspaces: an allowance, not measured here."""
PROCESS_BYTES = 760 * 2**20
"""On a CPU: a Ray actor that has trained before, without what is counted. Measured (docs/results.md): 534 MiB resident after its imports,
650 at the peak of its first training, and up to 760 once thirty trainings have left their fragments, where it stays."""


def training_bytes(training: DistillTraining | GeneratorTraining, judge: JudgeNetwork, info: DataInfo, num_workers: int = 1) -> int:
    """Peak bytes on its GPU of one worker of several that share the batch: states, plus what the backward needs or an evaluation holds,
    plus `CONTEXT_BYTES`."""
    return states_and_activations(training, judge, info, num_workers) + CONTEXT_BYTES


def states_and_activations(training: DistillTraining | GeneratorTraining, judge: JudgeNetwork, info: DataInfo, num_workers: int = 1) -> int:
    """The part of `training_bytes` that the networks and the batch decide."""
    batch = -(-training.batch_size // num_workers)
    with torch.device("meta"):
        generator = networks.generator(training.generator, info, 0)
    saved, steps = _generator_use(training.generator, info, batch)
    return _sum(training, _count(generator), saved, max(steps), _rest(training, judge, info, batch))


class Predictor:
    """`training_bytes` of students, the same numbers, thousands a second where only widths differ.

    What a forward pass of most families keeps, and what each layer holds, is affine in every width: measured once, and once more a
    width, it is known for all. Where one more measurement disagrees, each prediction is made anew.
    """

    def __init__(self, judge: JudgeNetwork, info: DataInfo, num_workers: int = 1):
        self.judge, self.info, self.num_workers = judge, info, num_workers
        self.affine: dict[Any, tuple[NDArray[np.int64], NDArray[np.int64]] | None] = {}
        """(generator of width 1, batch) -> offset and slopes, a row a width, of [bytes kept, of each layer...]; None: not affine."""
        self.rests: dict[Any, _Rest] = {}

    def __call__(self, training: DistillTraining) -> int:
        """Peak bytes of one worker on its GPU."""
        if GENERATORS[training.generator.family].takes == "noise":  # eighths of widths, and widths that are None
            return training_bytes(training, self.judge, self.info, self.num_workers)
        batch, generator, mi = -(-training.batch_size // self.num_workers), training.generator, training.mi
        widths = {name: getattr(generator.widths, name) for name in type(generator.widths).model_fields}
        narrow = _with_widths(generator, dict.fromkeys(widths, 1))
        if (narrow, batch) not in self.affine:
            self.affine[narrow, batch] = self._measured(narrow, batch)
        if (found := self.affine[narrow, batch]) is None:
            return training_bytes(training, self.judge, self.info, self.num_workers)
        offset, slopes = found
        saved, *steps = (offset + np.array(list(widths.values())) @ slopes).tolist()
        term = (mi.kind, getattr(mi, "energy", None), getattr(mi, "discriminator", None)) if mi.weight else None
        if (term, batch) not in self.rests:
            self.rests[term, batch] = _rest(training, self.judge, self.info, batch)
        return (
            _sum(training, cost.params(networks.layers(generator, self.info)), saved, max(steps), self.rests[term, batch]) + CONTEXT_BYTES
        )

    def _measured(self, narrow: Generator, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        names = list(type(narrow.widths).model_fields)

        def measured(widths: dict[str, int]) -> NDArray[np.int64]:
            saved, steps = _generator_use(_with_widths(narrow, widths), self.info, batch)
            return np.array([saved, *steps], dtype=np.int64)

        base, *rows = (measured({name: 2 if name == raised else 1 for name in names}) for raised in (None, *names))
        slopes = np.array(rows) - base
        offset = base - slopes.sum(axis=0)
        is_affine = (measured(dict.fromkeys(names, 5)) == offset + 5 * slopes.sum(axis=0)).all()
        return (offset, slopes) if is_affine else None


def _with_widths(generator: Generator, widths: dict[str, int]) -> Generator:
    return generator.model_copy(update={"widths": generator.widths.model_copy(update=widths)})


class _Rest(NamedTuple):
    """Bytes of everything in a training but its generator."""

    states: int
    saved: int
    evaluation: int
    batches: int


def _rest(training: DistillTraining | GeneratorTraining, judge: JudgeNetwork, info: DataInfo, batch: int) -> _Rest:
    shape = input_shape(training.generator, info.input_channels, *info.input_size)
    with torch.device("meta"):
        scorer = networks.judge(judge, info, 0)
        inputs, picture = torch.empty(batch, *shape), torch.empty(batch, 3, info.height, info.width)
        states, saved = _KEPT * _count(scorer), 0
        if isinstance(training, Pix2pixTraining):
            discriminator = networks.discriminator(training.discriminator, info, 0)
            states += _TRAINED * _count(discriminator)
            saved += saved_bytes(discriminator, torch.cat([torch.cat([inputs, picture], 1)] * 2))
        elif isinstance(training, CycleganTraining | SaganTraining | Stylegan2Training):
            discriminator, generator = (
                networks.picture_discriminator(training.discriminator, 0),
                networks.generator(training.generator, info, 0),
            )
            seen = saved_bytes(discriminator, picture)
            if isinstance(training, CycleganTraining):  # each picture goes through both generators, and back, and to its own domain
                states += _TRAINED * (_count(generator) + 2 * _count(discriminator)) + 2 * training.pool_size * picture[0].nbytes
                saved += 5 * saved_bytes(generator, inputs) + 2 * seen
            else:
                states += _TRAINED * _count(discriminator)
                saved += seen
            if isinstance(training, Stylegan2Training):  # gradients of gradients keep the graph of the first ones
                saved += seen + saved_bytes(generator, inputs)
        elif isinstance(training, DistillTraining) and training.mi.weight and isinstance(training.mi, MutualInformation):
            energy = networks.energy(training.mi.energy, info, 0)
            states += (_TRAINED + _KEPT) * _count(energy)
            saved += saved_bytes(energy, torch.cat([picture] * 2), torch.cat([picture] * 2))
        elif isinstance(training, DistillTraining) and training.mi.weight and isinstance(training.mi, PairCritic):
            critic = networks.critic(training.mi.discriminator, 0)
            states += _TRAINED * _count(critic)
            saved += saved_bytes(critic, torch.cat([torch.cat([picture] * 2, 1)] * 2))
        evaluation = max(step_bytes(scorer, torch.empty(feed.BATCH, 3, info.height, info.width)))
    batches = 2 * (inputs.nbytes + 4 * picture.nbytes)  # inputs, pictures and their gradients
    return _Rest(states, saved, evaluation, batches)


def _generator_use(config: Generator, info: DataInfo, batch: int) -> tuple[int, list[int]]:
    """(bytes that a forward pass of a batch keeps, what each layer holds in an evaluation)."""
    with torch.device("meta"):
        generator = networks.generator(config, info, 0)
        shape = input_shape(config, info.input_channels, *info.input_size)
        inputs, many = (torch.empty(count, *shape) for count in (batch, feed.BATCH))
        return saved_bytes(generator, inputs), step_bytes(generator, many)


def _sum(training: DistillTraining | GeneratorTraining, params: int, saved: int, evaluation: int, rest: _Rest) -> int:
    states = rest.states + (_TRAINED + (_KEPT if training.ema_nimg else 0)) * params
    return states + int(_OVERHEAD * (max(saved + rest.saved, evaluation, rest.evaluation) + rest.batches))


def start_peak() -> None:
    """From here on `peak_gb` counts."""
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


def saved_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Bytes that a forward pass keeps for its backward, beside the parameters. Modules and inputs on the meta device."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later one gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*inputs)
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def step_bytes(module: nn.Module, *inputs: Tensor) -> list[int]:
    """Input and output of each layer in turn: the largest is what a forward pass without a graph holds at its peak."""
    sizes: list[int] = []

    def note(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        sizes.append(sum(tensor.nbytes for tensor in itertools.chain(_tensors(given), _tensors(out))))

    handles = [layer.register_forward_hook(note) for layer in module.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
