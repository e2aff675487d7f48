"""Image enhancement: L1 to the target. Source: Lim et al. 2017 (EDSR), whose loss it is."""

import torch.nn.functional as F
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.config.training import EnhanceTraining
from raydistill.training.recipes.parts import Recipe, Setup, Step, generator_recipe, phase, start_of
from raydistill.training.terms import Numbers


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of an `EnhanceTraining`: the generator alone."""
    training = job.training
    assert isinstance(training, EnhanceTraining)
    generator = start_of(training, training.generator, setup)

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def loss(step: Step) -> tuple[Tensor, Numbers]:
        l1 = F.l1_loss(step.output, step.batch.target)
        return l1, {"train/l1": l1}

    phases = (phase("generator", generator, training.optimizer, loss),)
    return generator_recipe(job, setup, {"generator": generator}, phases, forward)
