"""The teacher in a student's training: its pictures, and the student's start from it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, OutputKind
from raydistill.data import to_float, to_uint8
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import as_floats, chunk_of, compute, load_outputs
from raydistill.distributed import Workers
from raydistill.models import GENERATORS, pruning, saved
from raydistill.models.inputs import inputs_of, latent_size, num_inputs, repeats
from raydistill.training.minibatches import TrainingData, copied_together
from raydistill.training.terms import TeacherPictures, require_pictures


def stored_outputs(job: Job) -> Tensor | None:
    """The teacher's stored outputs for the training pictures, memory-mapped; None: it makes them in the
    loop.
    """
    if job.teacher is None:
        return None
    chunk = chunk_of(job.training.batch_size)
    outputs = load_outputs(job.teacher, job.data, job.training.flip, chunk, job.teacher_outputs)
    return None if outputs is None else torch.from_numpy(outputs)


def teacher_pictures(job: Job, data: TrainingData, device: torch.device, workers: Workers) -> TeacherPictures:
    """A function that gives the teacher's outputs for training images, (B, 3, H, W) in [-1, 1].

    They are read where the teacher's stage has stored them, and computed elsewhere: the same bits. The
    teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    kind = job.teacher_outputs
    if data.outputs is not None:

        def stored(sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
            (outputs,) = copied_together([data.outputs_of(sample)], device)
            return as_floats(outputs)

        return stored
    split, seed = data.split, job.training.seed
    latent = latent_size(saved.generator_config(job.teacher))
    network = saved.load(job.teacher, split.info, device)
    distributed.shard(network, job.training.execution, device, workers)
    # Stored outputs are computed by chunks. Where inputs never repeat, nothing is stored: any size will do.
    chunk = chunk_of(job.training.batch_size) if repeats(split.info, latent) else None

    def computed(sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        if inputs is None:
            (inputs,) = copied_together([inputs_of(split, latent, seed, sample)], device)
        return computed_outputs(network, inputs, chunk or len(inputs), kind)

    return computed


def computed_outputs(
    network: Callable[[Tensor], Tensor], inputs: Tensor, chunk: int, kind: OutputKind
) -> Tensor:
    """`compute`, rounded to 8 bits where `kind` is uint8."""
    outputs = compute(network, inputs, chunk)
    return to_float(to_uint8(outputs)) if kind == "uint8" else outputs


def start_at_teacher(student: nn.Module, job: Job) -> None:
    """Gives a student the teacher's channels, where `init` asks for them, and its noise."""
    training = job.training
    assert isinstance(training, DistillTraining) and job.teacher is not None
    if training.init == "teacher":
        config, weights = saved.load_generator(job.teacher)
        state = pruning.student_state(config, weights, training.generator, "student.generator")
        student.load_state_dict(state)
    share_noise(student, job)


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


def require_outputs(student: nn.Module, teacher: TeacherPictures, data: TrainingData, job: Job) -> None:
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
    require_pictures(teacher(sample), like, "teacher.generator")
    is_bounded = GENERATORS[training.generator.family].bounded
    require_pictures(outputs if is_bounded else outputs.clamp(-1, 1), like, "student.generator")
