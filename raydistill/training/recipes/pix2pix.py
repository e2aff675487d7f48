"""pix2pix: a conditional GAN with hinge losses, plus L1 to the target.

The discriminator sees the input and a picture together. Source: Isola et al. 2017. What
differs: hinge losses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.experiment import Job
from raydistill.config.training import Pix2pixTraining
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.models import networks
from raydistill.training.recipes.parts import (
    Recipe,
    Setup,
    Step,
    generator_recipe,
    phase,
    start_of,
    weighted_sum,
)
from raydistill.training.terms import Numbers


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of a `Pix2pixTraining`: the discriminator moves first, then the generator."""
    training = job.training
    assert isinstance(training, Pix2pixTraining)
    generator = start_of(training, training.generator, setup)
    discriminator = networks.discriminator(training.discriminator, setup.info, training.seed).to(setup.device)

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        x = step.batch.inputs
        pairs = torch.cat([torch.cat([x, step.batch.target], 1), torch.cat([x, step.output.detach()], 1)])
        real, fake = discriminator(pairs).chunk(2)
        loss = hinge_discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        def l1() -> Tensor:
            return F.l1_loss(step.output, step.batch.target)

        def gan() -> Tensor:
            return hinge_generator(discriminator(torch.cat([step.batch.inputs, step.output], 1)))

        losses = {"train/l1": (training.l1_weight, l1), "train/gan_loss": (training.gan_weight, gan)}
        return weighted_sum(losses, step.output)

    phases = (
        phase("discriminator", discriminator, training.discriminator_optimizer, discriminator_loss),
        phase("generator", generator, training.optimizer, generator_loss),
    )
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    return generator_recipe(job, setup, modules, phases, forward)
