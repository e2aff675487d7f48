"""Distillation: base distillation on the teacher's pictures, plus a mutual-information term of `terms`.

The loss of the student is l1_weight * L1 + ssim_weight * (1 - SSIM) + mi.weight * the term. A minibatch is
a forward of the student, a step of the term's own network, and a step of the student with the UPDATED
term: the schedule of the paper's code. Teacher and student get the same inputs: the same label map,
picture, degraded picture or noise.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.config.terms import LearntTerm, Term
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo, load_split
from raydistill.data.augment import SampleIndex
from raydistill.data.outputs import chunk_of, compute, load_outputs
from raydistill.errors import ConfigError
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import alignment
from raydistill.models import GENERATORS, networks, pruning, saved
from raydistill.models.inputs import inputs_of, latent_size, num_inputs, repeats
from raydistill.training import terms
from raydistill.training.recipes.parts import (
    Phase,
    Recipe,
    Setup,
    Step,
    generator_recipe,
    phase,
    weighted_sum,
)
from raydistill.training.terms import Numbers, Pairs


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of a `DistillTraining`.

    Raises:
        ConfigError: student, teacher, term and data do not fit together.
    """
    training = job.training
    assert isinstance(training, DistillTraining)
    mi = training.mi
    student = initial_student(training, job, setup)
    modules: dict[str, nn.Module] = {"generator": student}
    teacher = teacher_pictures(job, setup)
    terms.check(mi, setup.info.height, setup.info.width, training.batch_size)
    require_paired_target(training, setup.info)
    _require_outputs(student, teacher, training, job, setup)

    def forward(step: Step) -> None:
        step.teacher = teacher(SampleIndex(step.indices, step.flips, step.positions))
        step.output = student(step.batch.inputs)
        step.pairs = pairs_of(step, mi)

    def plain_loss(step: Step) -> tuple[Tensor, Numbers]:
        return base_loss(training, step.output, step.teacher)

    phases: tuple[Phase, ...]
    if mi.weight == 0:
        phases = (phase("generator", student, training.optimizer, plain_loss),)
        return generator_recipe(job, setup, modules, phases, forward)

    term = terms.build(mi, terms.TermSetup(training.seed, setup.info, setup.device, setup.workers, teacher))

    def student_loss(step: Step) -> tuple[Tensor, Numbers]:
        base, numbers = plain_loss(step)
        assert step.pairs is not None
        loss = term.student_loss(step.pairs)
        total = base + mi.weight * loss
        return total, numbers | {"energy/alignment": alignment(loss, step.output, step.teacher)}

    def own_loss(step: Step) -> tuple[Tensor, Numbers]:
        assert step.pairs is not None
        return term.own_loss(step.pairs)

    phases = (phase("generator", student, training.optimizer, student_loss),)
    if isinstance(mi, LearntTerm):
        phases = (phase(term.name, term.networks[term.name], mi.optimizer, own_loss), *phases)
    return generator_recipe(job, setup, modules | term.networks, phases, forward)


def base_loss(training: DistillTraining, s: Tensor, t: Tensor) -> tuple[Tensor, Numbers]:
    """l1_weight * L1 + ssim_weight * (1 - SSIM) of pictures (B, 3, H, W), and numbers to log.

    What has the weight 0 is neither computed nor logged.
    """
    l1, ssim = (lambda: F.l1_loss(s, t)), (lambda: dissimilarity(s, t))
    losses = {"train/l1": (training.l1_weight, l1), "train/dissimilarity": (training.ssim_weight, ssim)}
    return weighted_sum(losses, s)


def pairs_of(step: Step, mi: Term) -> Pairs:
    """What the term sees of a step whose outputs are computed."""
    return Pairs(
        s=step.output,
        t=step.teacher,
        positive=step.teacher if mi.positive == "teacher" else step.batch.target,
        indices=step.indices,
        flips=step.flips,
        first_image=step.nimg + step.offset,
        # A later forward of the same images has the negatives that the first one drew.
        negatives=None if step.pairs is None else step.pairs.negatives,
    )


def initial_student(training: DistillTraining, job: Job, setup: Setup) -> nn.Module:
    """The student on the device: with random weights or channels of the teacher, as `training.init` says."""
    student = networks.generator(training.generator, setup.info, training.seed)
    if training.init == "teacher":
        assert job.teacher is not None
        config, weights = saved.load_generator(job.teacher)
        state = pruning.student_state(config, weights, training.generator, "student.generator")
        student.load_state_dict(state)
    share_noise(student, job)
    return student.to(setup.device)


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


def require_paired_target(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where outputs are to be paired with target pictures that do not
    belong to the inputs.
    """
    is_paired = info.pairing == "pairs" and latent_size(training.generator) is None
    if training.mi.weight and training.mi.positive == "target" and not is_paired:
        raise ConfigError(
            "student.mi.positive: 'target' needs pictures that belong to the inputs; use 'teacher'"
        )


def _require_outputs(
    student: nn.Module, teacher: terms.TeacherPictures, training: DistillTraining, job: Job, setup: Setup
) -> None:
    """Raises ConfigError where the outputs for the first training pictures cannot be paired."""
    split, latent = load_split(job.data, "train"), latent_size(training.generator)
    first = np.arange(min(2, num_inputs(split, latent)))
    sample = SampleIndex(first, np.zeros(len(first), bool), first)
    with torch.no_grad():
        outputs = student.eval()(inputs_of(split, latent, job.training.seed, sample, setup.device))
    student.train()
    like = (3, setup.info.height, setup.info.width)
    terms.require_pictures(teacher(sample), like, "teacher.generator")
    is_bounded = GENERATORS[training.generator.family].bounded
    terms.require_pictures(outputs if is_bounded else outputs.clamp(-1, 1), like, "student.generator")


def teacher_pictures(job: Job, setup: Setup) -> terms.TeacherPictures:
    """A function that gives the teacher's outputs for training images, (B, 3, H, W) in [-1, 1].

    They are read where the teacher's stage has stored them, and computed elsewhere: the same bits. The
    teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    chunk = chunk_of(job.training.batch_size)
    outputs = load_outputs(job.teacher, job.data, job.training.flip, chunk)
    if outputs is not None:

        def stored(sample: SampleIndex) -> Tensor:
            return torch.from_numpy(outputs[sample.flips.astype(int), sample.indices]).to(setup.device)

        return stored
    split, seed = load_split(job.data, "train"), job.training.seed
    latent = latent_size(saved.generator_config(job.teacher))
    network = saved.load(job.teacher, setup.info, setup.device)
    distributed.shard(network, job.training.execution, setup.device, setup.workers)
    # Stored outputs are computed by chunks. Where inputs never repeat, nothing is stored: any size will do.
    is_repeated = repeats(split, latent)

    def computed(sample: SampleIndex) -> Tensor:
        inputs = inputs_of(split, latent, seed, sample, setup.device)
        return compute(network, inputs, chunk if is_repeated else len(inputs))

    return computed
