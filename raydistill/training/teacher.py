"""The teacher in a student's training: its pictures, and the student's start from it."""

import numpy as np
import torch
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo, load_split
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import chunk_of, compute, load_outputs
from raydistill.distributed import Workers
from raydistill.models import GENERATORS, pruning, saved
from raydistill.models.inputs import inputs_of, latent_size, num_inputs, repeats
from raydistill.training.terms import TeacherPictures, require_pictures


def teacher_pictures(job: Job, info: DataInfo, device: torch.device, workers: Workers) -> TeacherPictures:
    """A function that gives the teacher's outputs for training images, (B, 3, H, W) in [-1, 1].

    They are read where the teacher's stage has stored them, and computed elsewhere: the same bits. The
    teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    chunk = chunk_of(job.training.batch_size)
    outputs = load_outputs(job.teacher, job.data, job.training.flip, chunk)
    if outputs is not None:

        def stored(sample: SampleIndex) -> Tensor:
            return torch.from_numpy(outputs[sample.flips.astype(int), sample.indices]).to(device)

        return stored
    split, seed = load_split(job.data, "train"), job.training.seed
    latent = latent_size(saved.generator_config(job.teacher))
    network = saved.load(job.teacher, info, device)
    distributed.shard(network, job.training.execution, device, workers)
    # Stored outputs are computed by chunks. Where inputs never repeat, nothing is stored: any size will do.
    is_repeated = repeats(split, latent)

    def computed(sample: SampleIndex) -> Tensor:
        inputs = inputs_of(split, latent, seed, sample, device)
        return compute(network, inputs, chunk if is_repeated else len(inputs))

    return computed


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


def require_outputs(student: nn.Module, teacher: TeacherPictures, job: Job, device: torch.device) -> None:
    """Raises ConfigError where the outputs for the first training pictures cannot be paired."""
    training = job.training
    assert isinstance(training, DistillTraining)
    split, latent = load_split(job.data, "train"), latent_size(training.generator)
    first = np.arange(min(2, num_inputs(split, latent)))
    sample = SampleIndex(first, np.zeros(len(first), bool), first)
    with torch.no_grad():
        outputs = student.eval()(inputs_of(split, latent, training.seed, sample, device))
    student.train()
    like = (3, split.info.height, split.info.width)
    require_pictures(teacher(sample), like, "teacher.generator")
    is_bounded = GENERATORS[training.generator.family].bounded
    require_pictures(outputs if is_bounded else outputs.clamp(-1, 1), like, "student.generator")
