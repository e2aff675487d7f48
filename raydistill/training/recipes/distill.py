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
from raydistill.data.outputs import chunk_of, compute, load_outputs
from raydistill.errors import ConfigError
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import alignment
from raydistill.models import GENERATORS, networks, pruning, saved
from raydistill.models.inputs import Shown, inputs_of, latent_of, num_inputs, repeats
from raydistill.training import terms
from raydistill.training.recipes.parts import Bench, Phase, Recipe, Step, generator_recipe, phase
from raydistill.training.terms import Numbers, Pairs


def build(job: Job, bench: Bench) -> Recipe:
    training = job.training
    assert isinstance(training, DistillTraining)
    mi = training.mi
    student = networks.generator(training.generator, bench.info, training.seed)
    if training.init == "teacher":
        assert job.teacher is not None
        student.load_state_dict(
            pruning.student_state(*saved.load_generator(job.teacher), training.generator, "student.generator")
        )
    share_noise(student, job)
    student.to(bench.device)
    modules: dict[str, nn.Module] = {"generator": student}
    teacher = teacher_pictures(job, bench)
    terms.check(mi, bench.info.height, bench.info.width, training.batch_size)
    require_paired_target(training, bench.info)
    _require_outputs(student, teacher, training, job, bench)

    def forward(step: Step) -> None:
        step.teacher = teacher(Shown(step.indices, step.flips, step.positions))
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
        return generator_recipe(job, bench, modules, phases, forward)

    term = terms.build(
        mi, terms.Surroundings(training.seed, bench.info, bench.device, bench.workers, teacher)
    )

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
    return generator_recipe(job, bench, modules | term.networks, phases, forward)


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
    is_paired = info.pairing == "pairs" and latent_of(training.generator) is None
    if training.mi.weight and training.mi.positive == "target" and not is_paired:
        raise ConfigError(
            "student.mi.positive: 'target' needs pictures that belong to the inputs; use 'teacher'"
        )


def _require_outputs(
    student: nn.Module, teacher: terms.TeacherPictures, training: DistillTraining, job: Job, bench: Bench
) -> None:
    """Raises ConfigError where the outputs for the first training pictures are no pictures that can be paired."""
    split, latent = load_split(job.data, "train"), latent_of(training.generator)
    first = np.arange(min(2, num_inputs(split, latent)))
    shown = Shown(first, np.zeros(len(first), bool), first)
    with torch.no_grad():
        outputs = student.eval()(inputs_of(split, latent, job.training.seed, shown, bench.device))
    student.train()
    like = (3, bench.info.height, bench.info.width)
    terms.require_pictures(teacher(shown), like, "teacher.generator")
    is_bounded = GENERATORS[training.generator.family].bounded
    terms.require_pictures(outputs if is_bounded else outputs.clamp(-1, 1), like, "student.generator")


def teacher_pictures(job: Job, bench: Bench) -> terms.TeacherPictures:
    """The teacher's outputs on training images: read where the teacher stage stored them, else computed, the same bits.

    The teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    chunk = chunk_of(job.training.batch_size)
    outputs = load_outputs(job.teacher, job.data, job.training.flip, chunk)
    if outputs is not None:
        return lambda shown: torch.from_numpy(outputs[shown.flips.astype(int), shown.indices]).to(
            bench.device
        )
    split, seed, latent = (
        load_split(job.data, "train"),
        job.training.seed,
        latent_of(saved.generator_config(job.teacher)),
    )
    network = saved.load(job.teacher, bench.info, bench.device)
    distributed.split(network, job.training.execution, bench.device, bench.workers)
    is_repeated = repeats(split, latent)  # else nothing is ever stored that the bits could differ from

    def computed(shown: Shown) -> Tensor:
        inputs = inputs_of(split, latent, seed, shown, bench.device)
        return compute(network, inputs, chunk if is_repeated else len(inputs))

    return computed
