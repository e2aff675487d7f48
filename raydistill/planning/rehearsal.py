"""Minibatches and evaluations on the meta device, for the bytes of the tensors that live in them.

A minibatch goes through the phases of its recipe by the functions of the training loop; only the optimizers
do not move. On the meta device a tensor has a shape and no numbers, and takes no memory.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.training import StudentTraining
from raydistill.data import Batch, DataInfo, to_float, to_uint8
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import compute
from raydistill.distributed import Workers
from raydistill.models import GENERATORS, cost, input_shape, networks
from raydistill.models.inputs import BATCH
from raydistill.planning.tensor_bytes import LiveTensorBytes
from raydistill.training import assembly, loop, recipes
from raydistill.training.recipes import Networks, Setup, Step
from raydistill.training.terms import TeacherPictures

META = torch.device("meta")
History = NDArray[np.int64]
"""Bytes that live at first (0) and after each tensor was made or gone."""


# ---- a minibatch -------------------------------------------------------------------------------------------


class Beside(NamedTuple):
    """What a training has beside the network that is trained for."""

    learning: int
    """Number of parameters that learn."""
    resting: int
    """Bytes of parameters that no phase moves, and of all buffers: pools of pictures, for instance."""


class Minibatch(NamedTuple):
    """Bytes of one minibatch of a training, without those of the network that is trained for."""

    history: History
    """What lives in the minibatch, beside its images and the gradients of networks."""
    images: int
    """Of inputs, targets, labels and the teacher's stored pictures."""
    beside: Beside


def minibatch(
    training: StudentTraining, info: DataInfo, batch: int, teacher: Generator | None = None
) -> Minibatch:
    """Goes through one minibatch of `batch` images, with all phases.

    Args:
        teacher: the teacher of a student; None: the training has none.
    """
    with META:
        shown = _images(training, info, batch)
        pictures, stored = (None, 0) if teacher is None else _teacher_pictures(teacher, info, batch)
    moving = _movers(training, info, pictures)
    step = Step(shown, shown_first(batch), nimg=0)
    parts = loop.microbatches(step, training.execution.microbatch)
    with LiveTensorBytes() as live:
        loop.begin(moving, parts)
        for phase in moving.phases:
            loop.descend(phase, moving, parts)
            live.leave_out(_take_gradients(moving.networks))
    return Minibatch(live.history(), _num_bytes(shown) + stored, _beside(moving))


def shown_first(number: int) -> SampleIndex:
    """The first so many pictures, on the meta device."""
    positions = torch.empty(number, dtype=torch.int64, device=META)
    return SampleIndex(positions, torch.empty(number, dtype=torch.bool, device=META), positions)


def beside(training: StudentTraining, info: DataInfo) -> Beside:
    """What there is beside the network that is trained for; nothing is gone through."""
    return _beside(_movers(training, info, lambda sample, inputs=None: _pictures(info, len(sample.indices))))


def _movers(training: StudentTraining, info: DataInfo, teacher: TeacherPictures | None) -> assembly.Movers:
    """Networks and phases of a training on the meta device."""
    with META:
        modules = recipes.kind_of(training).networks(training, info)
    return assembly.movers(training, modules, Setup(info, META, Workers(0, 1), teacher))


def _images(training: StudentTraining, info: DataInfo, number: int) -> Batch:
    """What a minibatch shows."""
    shape = input_shape(training.generator, info.input_channels, *info.input_size)
    labels = torch.empty(number, info.height, info.width, dtype=torch.int64) if info.has_labels else None
    classes = torch.empty(number, dtype=torch.int64) if info.picture_classes else None
    return Batch(torch.empty(number, *shape), _pictures(info, number), labels, classes)


def _pictures(info: DataInfo, number: int) -> Tensor:
    return torch.empty(number, 3, info.height, info.width)


def _num_bytes(shown: Batch) -> int:
    given = (shown.inputs, shown.target, shown.labels, shown.classes)
    return sum(tensor.nbytes for tensor in given if tensor is not None)


def _take_gradients(modules: Networks) -> list[Tensor]:
    """The gradients of all parameters, which lose them."""
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter in parameters:
        parameter.grad = None
    return gradients


def _beside(moving: assembly.Movers) -> Beside:
    moved = {name for phase in moving.phases for name in phase.moves}
    learning = resting = 0
    for name, module in moving.networks.items():
        if name == moving.network:
            continue
        resting += sum(buffer.nbytes for buffer in module.buffers())
        if name in moved:
            learning += cost.module_params(module)
        else:
            resting += sum(parameter.nbytes for parameter in module.parameters())
    return Beside(learning, resting)


# ---- the teacher of a student ------------------------------------------------------------------------------


def teacher_runs_in_loop(teacher: Generator, info: DataInfo) -> bool:
    """Whether the teacher makes its pictures in every minibatch, which it does where inputs never repeat.

    Elsewhere its pictures are stored, or are made by fours.
    """
    return GENERATORS[teacher.family].takes == "noise" or info.degrade.is_on or info.load_size is not None


def _teacher_pictures(teacher: Generator, info: DataInfo, batch: int) -> tuple[TeacherPictures, int]:
    """Gives the teacher's outputs for training images; and bytes of the pictures that are there before."""
    if not teacher_runs_in_loop(teacher, info):
        pictures = _pictures(info, batch)
        return (lambda sample, inputs=None: pictures[: len(sample.indices)]), pictures.nbytes
    return made_in_loop(teacher, info), 0


def made_in_loop(teacher: Generator, info: DataInfo) -> TeacherPictures:
    """Makes a teacher's pictures in every minibatch, on the meta device."""
    network = generator_of(teacher, info).eval()
    shape = input_shape(teacher, info.input_channels, *info.input_size)

    def computed(sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        if inputs is None:
            inputs = torch.empty(len(sample.indices), *shape, device=META)
        return compute(network, inputs, len(inputs))

    return computed


# ---- an evaluation -----------------------------------------------------------------------------------------


def generator_of(config: Generator, info: DataInfo) -> nn.Module:
    """The generator of `config` for these data, on the meta device."""
    with META:
        return networks.generator(config, info, 0)


def evaluation_batch_size(config: Generator, info: DataInfo, num_workers: int) -> int:
    """How many pictures a worker evaluates at a time."""
    counts = info.counts
    if info.input_counts is not None and GENERATORS[config.family].takes != "noise":
        counts = info.input_counts
    return min(BATCH, -(-counts["val"] // num_workers))


def evaluation_history(config: Generator, info: DataInfo, number: int) -> History:
    """Bytes that live while a generator makes `number` pictures for an evaluation."""
    generator = generator_of(config, info).eval()
    inputs = torch.empty(number, *input_shape(config, info.input_channels, *info.input_size), device=META)
    with torch.no_grad(), LiveTensorBytes() as live:
        generator(inputs)
    return live.history()


def evaluator_bytes(config: EvaluatorNetwork, info: DataInfo, number: int) -> tuple[int, int]:
    """Number of the evaluator's parameters; most bytes that live while it sees `number` pictures, these
    included."""
    with META:
        evaluator, pictures = networks.evaluator(config, info, 0), _pictures(info, number)
    with torch.no_grad(), LiveTensorBytes() as live:
        evaluator(to_float(to_uint8(pictures)))
    return cost.module_params(evaluator), pictures.nbytes + int(live.history().max())
