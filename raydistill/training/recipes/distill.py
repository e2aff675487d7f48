"""Distillation: base distillation on the teacher's pictures, plus a mutual-information term of `terms`.

The loss of the student is l1_weight * L1 + ssim_weight * (1 - SSIM) + mi.weight * the term. A minibatch is
a forward of the student, a step of the term's own network, and a step of the student with the UPDATED
term: the schedule of the paper's code. Teacher and student get the same inputs: the same label map,
picture, degraded picture or noise.
"""

import torch.nn.functional as F
from torch import Tensor

from raydistill.config.terms import LearntTerm, Term
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.errors import ConfigError
from raydistill.method.similarity import dissimilarity
from raydistill.method.vem import alignment
from raydistill.models import networks
from raydistill.models.inputs import latent_size
from raydistill.training import terms
from raydistill.training.recipes.parts import (
    Networks,
    Phase,
    RecipeKind,
    Schedule,
    Setup,
    Step,
    phase,
    weighted_sum,
)
from raydistill.training.terms import Numbers, Pairs


def build(config: DistillTraining, info: DataInfo) -> Networks:
    """The student, and the networks of its term.

    Raises:
        ConfigError: data and term do not fit together.
    """
    terms.check(config.mi, info.height, info.width, config.batch_size)
    require_paired_target(config, info)
    student = networks.generator(config.generator, info, config.seed)
    return {"generator": student} | terms.networks(config.mi, info, config.seed)


def schedule(config: DistillTraining, modules: Networks, setup: Setup) -> Schedule:
    """The term's own network moves first, where it has one, then the student."""
    mi, student = config.mi, modules["generator"]
    assert setup.teacher is not None

    def forward(step: Step) -> None:
        step.output = student(step.batch.inputs)

    def plain_loss(step: Step) -> tuple[Tensor, Numbers]:
        return base_loss(config, step.output, step.teacher)

    if mi.weight == 0:
        return Schedule(forward, (phase("generator", config.optimizer, plain_loss),))

    own = {name: module for name, module in modules.items() if name != "generator"}
    term = terms.build(
        mi, terms.TermSetup(config.seed, setup.info, setup.device, setup.workers, setup.teacher, own)
    )

    def student_loss(step: Step) -> tuple[Tensor, Numbers]:
        base, numbers = plain_loss(step)
        loss = term.student_loss(pairs_of(step, mi))
        if step.is_reported:
            numbers["energy/alignment"] = alignment(loss, step.output, step.teacher)
        return base + mi.weight * loss, numbers

    def own_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss, numbers, shared, checks = term.own_loss(pairs_of(step, mi))
        step.shared_tensors |= shared
        step.checks += checks
        return loss, numbers

    phases: tuple[Phase, ...] = (phase("generator", config.optimizer, student_loss),)
    if isinstance(mi, LearntTerm):
        phases = (phase(term.name, mi.optimizer, own_loss), *phases)
    return Schedule(forward, phases)


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
        sample=step.sample,
        first_image=step.images.start,
        is_reported=step.is_reported,
        shared=step.shared_tensors,
    )


def require_paired_target(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where outputs are to be paired with target pictures that do not
    belong to the inputs.
    """
    is_paired = info.pairing == "pairs" and latent_size(training.generator) is None
    if training.mi.weight and training.mi.positive == "target" and not is_paired:
        raise ConfigError(
            "student.mi.positive: 'target' needs pictures that belong to the inputs; use 'teacher'"
        )


KIND = RecipeKind(DistillTraining, build, schedule)
