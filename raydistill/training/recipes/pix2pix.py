"""pix2pix: a conditional GAN, plus L1 to the target.

The discriminator sees the input and a picture together. Source: Isola et al. 2017. What
differs: hinge losses, unless `gan_loss` says otherwise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.training import Pix2pixTraining
from raydistill.data import DataInfo
from raydistill.method.adversarial import GAN_LOSSES
from raydistill.models import networks
from raydistill.training.steps import (
    Networks,
    RecipeKind,
    Schedule,
    Setup,
    Step,
    phase,
    weighted_sum,
)
from raydistill.training.terms import Numbers


def build(config: Pix2pixTraining, info: DataInfo) -> Networks:
    """Generator and discriminator."""
    return {
        "generator": networks.generator(config.generator, info, config.seed),
        "discriminator": networks.discriminator(config.discriminator, info, config.seed),
    }


def schedule(config: Pix2pixTraining, modules: Networks, setup: Setup) -> Schedule:
    """The discriminator moves first, then the generator."""
    generator, discriminator = modules["generator"], modules["discriminator"]
    gan_loss = GAN_LOSSES[config.gan_loss]

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        x = step.batch.inputs
        pairs = torch.cat([torch.cat([x, step.batch.target], 1), torch.cat([x, step.output.detach()], 1)])
        real, fake = discriminator(pairs).chunk(2)
        loss = gan_loss.discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        def l1() -> Tensor:
            return F.l1_loss(step.output, step.batch.target)

        def gan() -> Tensor:
            return gan_loss.generator(discriminator(torch.cat([step.batch.inputs, step.output], 1)))

        losses = {"train/l1": (config.l1_weight, l1), "train/gan_loss": (config.gan_weight, gan)}
        return weighted_sum(losses, step.output)

    return Schedule(
        forward,
        (
            phase("discriminator", config.discriminator_optimizer, discriminator_loss),
            phase("generator", config.optimizer, generator_loss),
        ),
    )


KIND = RecipeKind(Pix2pixTraining, build, schedule, pairing="pairs", stored_beside=("discriminator",))
