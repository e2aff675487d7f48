"""Distillation: base distillation on the teacher's pictures + mi_weight * a mutual-information term of `terms.py`.

Per minibatch: student forward, step of the term's own network, student step with the UPDATED term (the schedule of the paper's code).
Teacher and student get the same inputs: the same label map, picture, degraded picture or z.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.config.terms import LearntTerm
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
from raydistill.training.recipes.parts import Phase, Recipe, Setup, Step, generator_recipe, phase
from raydistill.training.terms import Numbers, Pairs


def build(job: Job, setup: Setup) -> Recipe:
    training = job.training
    assert isinstance(training, DistillTraining)
    mi = training.mi
    student = networks.generator(training.generator, setup.info, training.seed)
    if training.init == "teacher":
        assert job.teacher is not None
        student.load_state_dict(
            pruning.student_state(*saved.load_generator(job.teacher), training.generator, "student.generator")
        )
    share_noise(student, job)
    student.to(setup.device)
    modules: dict[str, nn.Module] = {"generator": student}
    teacher = teacher_pictures(job, setup)
    terms.check(mi, setup.info.height, setup.info.width, training.batch_size)
    require_paired_target(training, setup.info)
    _require_outputs(student, teacher, training, job, setup)

    def forward(step: Step) -> None:
        step.teacher = teacher(SampleIndex(step.indices, step.flips, step.positions))
        step.output = student(step.batch.inputs)
        positive = step.teacher if mi.positive == "teacher" else step.batch.target
        drawn = None if step.pairs is None else step.pairs.negatives  # a later forward of the same images
        step.pairs = Pairs(
            step.output, step.teacher, positive, step.indices, step.flips, step.nimg + step.offset, drawn
        )

    def base_loss(step: Step) -> tuple[Tensor, Numbers]:
        s, t = step.output, step.teacher
        l1, ssim = F.l1_loss(s, t), dissimilarity(s, t)
        return training.l1_weight * l1 + training.ssim_weight * ssim, {
            "train/l1": l1,
            "train/dissimilarity": ssim,
        }

    phases: tuple[Phase, ...]
    if mi.weight == 0:
        phases = (phase("generator", student, training.optimizer, base_loss),)
        return generator_recipe(job, setup, modules, phases, forward)

    term = terms.build(mi, terms.TermSetup(training.seed, setup.info, setup.device, setup.workers, teacher))

    def student_loss(step: Step) -> tuple[Tensor, Numbers]:
        base, numbers = base_loss(step)
        assert step.pairs is not None
        loss = term.student_loss(step.pairs)
        return base + mi.weight * loss, numbers | {
            "energy/alignment": alignment(loss, step.output, step.teacher)
        }

    def own_loss(step: Step) -> tuple[Tensor, Numbers]:
        assert step.pairs is not None
        return term.own_loss(step.pairs)

    phases = (phase("generator", student, training.optimizer, student_loss),)
    if isinstance(mi, LearntTerm):
        phases = (phase(term.name, term.networks[term.name], mi.optimizer, own_loss), *phases)
    return generator_recipe(job, setup, modules | term.networks, phases, forward)


def share_noise(student: nn.Module, job: Job) -> None:
    """Gives a student the noise that its teacher's pictures have: it is not learnt, and with another the two would never agree."""
    own = {name: noise for name, noise in student.named_buffers() if name.endswith(".noise")}
    if not own:
        return
    assert job.teacher is not None
    _, given = saved.load_generator(job.teacher)
    for name, noise in own.items():
        if name in given and given[name].shape == noise.shape:
            noise.copy_(given[name])


def require_paired_target(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where the real picture that an output shall be paired with has nothing to do with it."""
    is_paired = info.pairing == "pairs" and latent_size(training.generator) is None
    if training.mi.weight and training.mi.positive == "target" and not is_paired:
        raise ConfigError(
            "student.mi.positive: 'target' needs pictures that belong to the inputs; use 'teacher'"
        )


def _require_outputs(
    student: nn.Module, teacher: terms.TeacherPictures, training: DistillTraining, job: Job, setup: Setup
) -> None:
    """Raises ConfigError where the outputs for the first training pictures are no pictures that can be paired."""
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
    """The teacher's outputs on training images: read where the teacher stage stored them, else computed, the same bits.

    The teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    chunk = chunk_of(job.training.batch_size)
    outputs = load_outputs(job.teacher, job.data, job.training.flip, chunk)
    if outputs is not None:
        return lambda sample: torch.from_numpy(outputs[sample.flips.astype(int), sample.indices]).to(
            setup.device
        )
    split, seed, latent = (
        load_split(job.data, "train"),
        job.training.seed,
        latent_size(saved.generator_config(job.teacher)),
    )
    network = saved.load(job.teacher, setup.info, setup.device)
    distributed.shard(network, job.training.execution, setup.device, setup.workers)
    is_repeated = repeats(split, latent)  # else nothing is ever stored that the bits could differ from

    def computed(sample: SampleIndex) -> Tensor:
        inputs = inputs_of(split, latent, seed, sample, setup.device)
        return compute(network, inputs, chunk if is_repeated else len(inputs))

    return computed
