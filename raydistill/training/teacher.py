"""The teacher in a student's training: its pictures, and the student's start from it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.architectures import Generator
from raydistill.config.base import Frozen, Stored
from raydistill.config.experiment import Job
from raydistill.config.paths import leaves
from raydistill.config.training import DistillTraining, OutputKind
from raydistill.data import to_float, to_uint8
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import as_floats, chunk_of, compute, load_outputs
from raydistill.distributed import Workers
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, pruning, saved, taps
from raydistill.models.inputs import inputs_of, latent_size, num_inputs, repeats
from raydistill.seeds import torch_stream
from raydistill.training import peak
from raydistill.training.minibatches import TrainingData, copied_together
from raydistill.training.terms import Teacher, require_pictures


def stored_outputs(job: Job) -> Tensor | None:
    """The teacher's stored outputs for the training pictures, memory-mapped; None: it makes them in the loop,
    or nobody needs them.
    """
    training = job.training
    if (
        job.teacher is None
        or not isinstance(training, DistillTraining)
        or not training.base.takes_stored_outputs
    ):
        return None
    chunk = chunk_of(training.batch_size)
    outputs = load_outputs(job.teacher, job.data, training.flip, chunk, job.teacher_outputs)
    return None if outputs is None else torch.from_numpy(outputs)


class TrainedTeacher:
    """A teacher that is trained: it gives its outputs for training images, as `training.terms.Teacher`.

    They are read where the teacher's stage has stored them, and computed elsewhere: the same bits. The
    teacher is float32 and not compiled, whatever the student is.

    Args:
        networks: What computes outputs, one for each slab of the teacher's training; it is loaded when it is
            needed first. Empty: outputs are stored, or another teacher makes them.
        config: of the networks.
        source: The data that they are asked about.
        made: How outputs are made.
    """

    def __init__(
        self, networks: Sequence[Callable[[], nn.Module]], config: Generator, source: "Source", made: "Made"
    ):
        self._networks, self.config, self.source, self.made = networks, config, source, made
        self._loaded: tuple[int, nn.Module] | None = None
        self._slab = 0
        if networks:
            self._network()

    def __call__(self, sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        if self.source.data.outputs is not None:
            (outputs,) = copied_together([self.source.data.outputs_of(sample)], self.source.device)
            return as_floats(outputs)
        inputs = self.inputs(sample) if inputs is None else inputs
        return computed_outputs(self._network(), inputs, self.made.chunk or len(inputs), self.made.kind)

    def inputs(self, sample: SampleIndex) -> Tensor:
        """What a generator gets for training images."""
        own = inputs_of(self.source.data.split, self.source.latent, self.source.seed, sample)
        (inputs,) = copied_together([own], self.source.device)
        return inputs

    def tapped(self, inputs: Tensor, names: Sequence[str] | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The outputs, and the activations of these names; None: the family's four.

        The outputs have the bits of `__call__`: forwards take the same number of pictures.
        """
        paths = taps.module_paths(self.config, names, "student.base.taps")
        network, found = self._network(), dict[str, list[Tensor]]()
        chunk = self.made.chunk or len(inputs)

        def forward(part: Tensor) -> Tensor:
            with taps.tapped(network, paths) as activations:
                pictures: Tensor = network(part)
            for name, activation in activations.items():
                found.setdefault(name, []).append(activation)
            return pictures

        outputs = computed_outputs(forward, inputs, chunk, self.made.kind)
        return outputs, {name: torch.cat(parts)[: len(inputs)] for name, parts in found.items()}

    def move_to(self, nimg: int) -> None:
        """Takes the slab that belongs to so many images of the student: each has an equal part of its
        length."""
        self._slab = min(len(self._networks) - 1, nimg * len(self._networks) // self.made.budget_nimg)

    def _network(self) -> nn.Module:
        if self._loaded is None or self._loaded[0] != self._slab:
            self._loaded = (self._slab, self._networks[self._slab]())
        return self._loaded[1]


class Source(NamedTuple):
    """Where the inputs of training images come from."""

    data: TrainingData
    latent: int | None
    """How many numbers an input from noise has; None: inputs are those of the data."""
    seed: int
    device: torch.device


class Made(NamedTuple):
    """How a teacher's outputs are made."""

    chunk: int | None
    """Pictures of one forward; None: all at once, because inputs never repeat and nothing is stored."""
    kind: OutputKind
    budget_nimg: int = 1
    """Length of the student's training."""


def trained_teacher(job: Job, data: TrainingData, device: torch.device, workers: Workers) -> TrainedTeacher:
    """The teacher of a student's job; its networks are loaded only where the student needs them."""
    training = job.training
    assert job.teacher is not None and isinstance(training, DistillTraining)
    config = saved.generator_config(job.teacher)
    latent = latent_size(config)

    def loaded(stored: Stored) -> nn.Module:
        network = saved.load(stored, data.split.info, device)
        distributed.shard(network, training.execution, device, workers)
        return network

    is_unused = data.outputs is not None or training.base.trains_teachers
    stored = () if is_unused else (job.slabs or (job.teacher,))
    # Stored outputs are computed by chunks. Where inputs never repeat, nothing is stored: any size will do.
    chunk = chunk_of(training.batch_size) if repeats(data.split.info, latent) else None
    source = Source(data, latent, training.seed, device)
    made = Made(chunk, job.teacher_outputs, training.budget_nimg)
    return TrainedTeacher([partial(loaded, each) for each in stored], config, source, made)


def computed_outputs(
    network: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int, kind: OutputKind
) -> Tensor:
    """`compute`, rounded to 8 bits where `kind` is uint8."""
    outputs = compute(network, inputs, chunk)
    return to_float(to_uint8(outputs)) if kind == "uint8" else outputs


def start_at_teacher(student: nn.Module, job: Job) -> None:
    """Gives a student the teacher's channels, where `init` asks for them, and its noise.

    Which channels they are, `init_score` says. The content's score draws from a stream of the training's
    seed, the same on every worker.
    """
    training = job.training
    assert isinstance(training, DistillTraining) and job.teacher is not None
    if training.init != "random":
        _cut_from_teacher(student, training, job.teacher)
        peak.forget()  # of the teacher's file
    share_noise(student, job)


def _cut_from_teacher(student: nn.Module, training: DistillTraining, teacher: Stored) -> None:
    """Gives a student the teacher's channels, unless it does not start there."""
    if pruning.why_at_random(saved.generator_config(teacher), training) is not None:
        return
    config, weights = saved.load_generator(teacher)
    score = training.init_score
    pruning.require_score(config, score, "student.init_score")
    random = torch_stream(training.seed, "init/content_score")
    scores = pruning.SCORES[score](config, weights, random)
    state = pruning.student_state(config, weights, training.generator, "student.generator", scores)
    student.load_state_dict(state)


def start_discriminator(discriminator: nn.Module, config: Frozen, job: Job, where: str) -> None:
    """Gives a student's discriminator the weights of the teacher's.

    Args:
        discriminator: with random weights, whole.
        config: what it is built from.
        job: the student's, with `teacher_discriminator`.
        where: dotted path of `config`, for messages.

    Raises:
        ConfigError: there is none to start from, or it has another architecture or sees other pictures.
        CheckpointError: it is missing or damaged.
    """
    if job.teacher_discriminator is None:
        raise ConfigError(
            f"{where}: the teacher has no discriminator to start from: it was given, its recipe has none, or "
            "an earlier version trained it (remove its folder in the store's cache and it is trained again); "
            "else start at random"
        )
    try:
        of_teacher, state = saved.load_discriminator(job.teacher_discriminator, type(config))
    except ConfigError as error:
        raise ConfigError(
            f"{where}: a {type(config).__name__}, but the teacher's discriminator is another one ({error}); "
            "use one like it, or start at random"
        ) from None
    require_same_discriminator(of_teacher, config, where)
    for name, value in discriminator.state_dict().items():
        if name not in state or state[name].shape != value.shape:
            theirs = tuple(state[name].shape) if name in state else "missing"
            raise ConfigError(
                f"{where}: its {name} is {tuple(value.shape)}, that of the teacher's discriminator {theirs}: "
                "one sees inputs beside pictures, the other pictures alone; start at random"
            )
    discriminator.load_state_dict(state)


def require_same_discriminator(of_teacher: Frozen, config: Frozen, where: str) -> None:
    """Raises ConfigError, which calls a student's discriminator `where`, if the teacher's is another one."""
    if type(config) is not type(of_teacher):
        raise ConfigError(
            f"{where}: a {type(config).__name__}, but the teacher's discriminator is a "
            f"{type(of_teacher).__name__}; use one, or start at random"
        )
    theirs = leaves(of_teacher)
    for name, value in leaves(config).items():
        if value != theirs[name]:
            raise ConfigError(
                f"{where}.{name}: {value}, but the teacher's discriminator that it starts from has "
                f"{theirs[name]}; give the same, or start at random"
            )


def share_noise(student: nn.Module, job: Job) -> None:
    """Copies the noise of the teacher's pictures into the student, where the two have noise of one shape.

    Noise is not learnt: with another one than the teacher's, the student could never agree with the teacher.
    """
    own_noise = {name: noise for name, noise in student.named_buffers() if name.endswith(".noise")}
    if not own_noise:
        return
    assert job.teacher is not None
    _, teacher_state = saved.load_generator(job.teacher)
    for name, noise in own_noise.items():
        if name in teacher_state and teacher_state[name].shape == noise.shape:
            noise.copy_(teacher_state[name])


def require_outputs(student: nn.Module, teacher: Teacher, data: TrainingData, job: Job) -> None:
    """Raises ConfigError where the outputs for the first training pictures cannot be paired."""
    training = job.training
    assert isinstance(training, DistillTraining)
    split, latent = data.split, latent_size(training.generator)
    first = torch.arange(min(2, num_inputs(split, latent)), device=split.device)
    sample = SampleIndex(first, torch.zeros_like(first).bool(), first)
    device = next(student.parameters()).device
    with torch.no_grad():
        outputs = student.eval()(inputs_of(split, latent, training.seed, sample).to(device))
    student.train()
    like = (3, split.info.height, split.info.width)
    if not training.base.trains_teachers:
        require_pictures(teacher(sample), like, "teacher.generator")
    is_bounded = GENERATORS[training.generator.family].bounded
    require_pictures(outputs if is_bounded else outputs.clamp(-1, 1), like, "student.generator")
