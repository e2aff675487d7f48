"""Image enhancement: L1 to the target. Source: Lim et al. 2017 (EDSR), whose loss it is."""

import torch.nn.functional as F
from torch import Tensor

from raydistill.config.training import EnhanceTraining
from raydistill.data import DataInfo
from raydistill.models import networks
from raydistill.training.steps import Networks, RecipeKind, Schedule, Setup, Step, phase
from raydistill.training.terms import Numbers


def build(config: EnhanceTraining, info: DataInfo) -> Networks:
    """The generator alone."""
    return {"generator": networks.generator(config.generator, info, config.seed)}


def schedule(config: EnhanceTraining, modules: Networks, setup: Setup) -> Schedule:
    """One phase."""
    generator = modules["generator"]

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def loss(step: Step) -> tuple[Tensor, Numbers]:
        l1 = F.l1_loss(step.output, step.batch.target)
        return l1, {"train/l1": l1}

    return Schedule(forward, (phase("generator", config.optimizer, loss),))


KIND = RecipeKind(EnhanceTraining, build, schedule, pairing="pairs")
