"""Minibatches and evaluations on the meta device, for the bytes of the tensors that live in them.

A minibatch goes through the phases of its recipe by the functions of the training loop; only the optimizers
do not move. On the meta device a tensor has a shape and no numbers, and takes no memory.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.features import FeatureNetworkConfig, needs_features
from raydistill.config.training import DistillTraining, StudentTraining, Training
from raydistill.data import Batch, DataInfo, to_float, to_uint8
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import compute
from raydistill.distributed import Workers
from raydistill.models import GENERATORS, cost, input_shape, networks, taps
from raydistill.models.features import FeatureNetwork, without_weights
from raydistill.models.inputs import BATCH, latent_size, repeats
from raydistill.planning.tensor_bytes import LiveTensorBytes
from raydistill.training import assembly, loop, recipes, recording
from raydistill.training.recipes import Networks, Setup, Step

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


STAND_IN = FeatureNetworkConfig()
"""The feature network where none is named."""


def minibatch(
    training: StudentTraining,
    info: DataInfo,
    batch: int,
    teacher: Generator | None = None,
    features: FeatureNetworkConfig | None = STAND_IN,
    outputs_fit: bool = True,
) -> Minibatch:
    """Goes through one minibatch of `batch` images, with all phases.

    Args:
        teacher: the teacher of a student; None: the training has none.
        features: what its losses compare features by, where they do; None: VGG16.
        outputs_fit: whether the teacher's outputs are stored where they can be.
    """
    with META:
        shown = _images(training, info, batch)
    stored, is_in_loop = 0, None
    if isinstance(training, DistillTraining) and teacher is not None:
        stored = shown.target.nbytes if is_stored(training, teacher, info, outputs_fit) else 0
        is_in_loop = runs_in_loop(training, teacher, info, outputs_fit)
    moving = _movers(training, info, teacher, features_of(training, features), is_in_loop)
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


def beside(training: StudentTraining, info: DataInfo, reads: bool = False) -> Beside:
    """What there is beside the network that is trained for; nothing is gone through.

    Args:
        reads: whether it reads a record of its base's teachers, and so does without them.
    """
    record = recording.kind_of(training) if reads else None
    gone = () if record is None else record.networks
    return _beside(_movers(training, info, None, features_of(training)), gone)


def stored_beside_bytes(training: StudentTraining, info: DataInfo) -> int:
    """Bytes of the networks that are stored beside the one that is trained for."""
    kind = recipes.kind_of(training)
    if not kind.stored_beside:
        return 0
    with META:
        modules = kind.networks(training, info)
    states = (modules[name].state_dict() for name in kind.stored_beside)
    return sum(value.nbytes for state in states for value in state.values())


def features_of(
    training: Training, features: FeatureNetworkConfig | None = STAND_IN
) -> FeatureNetwork | None:
    """The feature network of a training on the meta device; None: no loss of it looks at features.

    Args:
        features: of which config; None: VGG16.
    """
    if not needs_features(training):
        return None
    with META:
        return without_weights(features)


def features_bytes(training: Training, features: FeatureNetworkConfig | None) -> int:
    """Bytes of the weights and buffers of `features_of`; 0 where there is none."""
    network = features_of(training, features)
    if network is None:
        return 0
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])


def _movers(
    training: StudentTraining,
    info: DataInfo,
    teacher: Generator | None,
    features: FeatureNetwork | None,
    is_in_loop: bool | None = None,
) -> assembly.Movers:
    """Networks and phases of a training on the meta device."""
    with META:
        modules = recipes.kind_of(training).networks(training, info)
    rehearsed = None
    if isinstance(training, DistillTraining):
        rehearsed = RehearsedTeacher(training, teacher, info, is_in_loop)
    return assembly.movers(training, modules, Setup(info, META, Workers(0, 1), rehearsed, features))


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


def _beside(moving: assembly.Movers, gone: Collection[str] = ()) -> Beside:
    moved = {name for phase in moving.phases for name in phase.moves}
    learning = resting = 0
    for name, module in moving.networks.items():
        if name == moving.network or name in gone:
            continue
        resting += sum(buffer.nbytes for buffer in module.buffers())
        if name in moved:
            learning += cost.module_params(module)
        else:
            resting += sum(parameter.nbytes for parameter in module.parameters())
    return Beside(learning, resting)


# ---- the teacher of a student ------------------------------------------------------------------------------


def is_stored(training: DistillTraining, teacher: Generator, info: DataInfo, fits: bool = True) -> bool:
    """Whether the teacher's pictures for the training images are stored before the training: there is room
    (`fits`), its inputs repeat, and its pictures are all that the student's base takes of it."""
    return fits and training.base.takes_stored_outputs and repeats(info, latent_size(teacher))


def runs_in_loop(training: DistillTraining, teacher: Generator, info: DataInfo, fits: bool = True) -> bool:
    """Whether the trained teacher makes its pictures in every minibatch; `fits`: as in `is_stored`."""
    return not (is_stored(training, teacher, info, fits) or training.base.trains_teachers)


class RehearsedTeacher:
    """A trained teacher on the meta device, see `training.terms.Teacher`.

    Args:
        teacher: None: its pictures are stored, whatever it is.
        is_in_loop: whether it makes its pictures in every minibatch. None: as `runs_in_loop` says.
    """

    def __init__(
        self,
        training: DistillTraining,
        teacher: Generator | None,
        info: DataInfo,
        is_in_loop: bool | None = None,
    ):
        self.info, self.config, self.network = info, teacher, None
        self.student = training.generator
        if teacher is not None:
            is_in_loop = runs_in_loop(training, teacher, info) if is_in_loop is None else is_in_loop
            self.network = generator_of(teacher, info).eval() if is_in_loop else None
        with META:
            self.stored = _pictures(info, training.batch_size)

    def __call__(self, sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        """(B, 3, H, W)."""
        if self.network is None:
            return self.stored[: len(sample.indices)]
        inputs = self.inputs(sample) if inputs is None else inputs
        return compute(self.network, inputs, len(inputs))

    def inputs(self, sample: SampleIndex) -> Tensor:
        """What a generator gets for so many images."""
        shape = input_shape(self.config or self.student, self.info.input_channels, *self.info.input_size)
        return torch.empty(len(sample.indices), *shape, device=META)

    def tapped(self, inputs: Tensor, names: Sequence[str] | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs, and activations by name."""
        assert self.network is not None and self.config is not None
        paths = taps.module_paths(self.config, names, "student.base.taps")
        with taps.tapped(self.network, paths) as activations:
            pictures = compute(self.network, inputs, len(inputs))
        return pictures, dict(activations)

    def move_to(self, nimg: int) -> None:
        """Every slab has the same network."""


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
