"""The self-attention GAN: hinge losses, and spectral norms in both networks.

Source: Zhang et al. 2018. What differs: no classes.
"""

from torch import Tensor, nn

from raydistill.config.experiment import Job
from raydistill.config.training import SaganTraining
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.models import networks
from raydistill.training.recipes.parts import Recipe, Setup, Step, generator_recipe, phase, start_of
from raydistill.training.terms import Numbers


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of a `SaganTraining`: the discriminator moves first, then the generator."""
    training = job.training
    assert isinstance(training, SaganTraining)
    generator = start_of(training, training.generator, setup)
    discriminator = networks.picture_discriminator(training.discriminator, training.seed).to(setup.device)

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        discriminator.train()
        real, fake = discriminator(step.batch.target), discriminator(step.output.detach())
        loss = hinge_discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss, "train/discriminator_gap": real.mean() - fake.mean()}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        discriminator.eval()  # its power iteration belongs to the phase that moves it
        loss = hinge_generator(discriminator(step.output))
        return loss, {"train/gan_loss": loss}

    phases = (
        phase("discriminator", discriminator, training.discriminator_optimizer, discriminator_loss),
        phase("generator", generator, training.optimizer, generator_loss),
    )
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    return generator_recipe(job, setup, modules, phases, forward)
