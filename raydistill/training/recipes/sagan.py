"""The self-attention GAN: hinge losses, and spectral norms in both networks.

Source: Zhang et al. 2018. What differs: no classes.
"""

from torch import Tensor

from raydistill.config.training import SaganTraining
from raydistill.data import DataInfo
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.models import networks
from raydistill.training.steps import (
    Networks,
    RecipeKind,
    Schedule,
    Setup,
    Step,
    in_eval_mode,
    phase,
)
from raydistill.training.terms import Numbers


def build(config: SaganTraining, info: DataInfo) -> Networks:
    """Generator and discriminator."""
    return {
        "generator": networks.generator(config.generator, info, config.seed),
        "discriminator": networks.picture_discriminator(config.discriminator, config.seed),
    }


def schedule(config: SaganTraining, modules: Networks, setup: Setup) -> Schedule:
    """The discriminator moves first, then the generator."""
    generator, discriminator = modules["generator"], modules["discriminator"]

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        real, fake = discriminator(step.batch.target), discriminator(step.output.detach())
        loss = hinge_discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss, "train/discriminator_gap": real.mean() - fake.mean()}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        with in_eval_mode(discriminator):  # its power iteration belongs to the phase that moves it
            loss = hinge_generator(discriminator(step.output))
        return loss, {"train/gan_loss": loss}

    return Schedule(
        forward,
        (
            phase("discriminator", config.discriminator_optimizer, discriminator_loss),
            phase("generator", config.optimizer, generator_loss),
        ),
    )


KIND = RecipeKind(SaganTraining, build, schedule, stored_beside=("discriminator",))
