"""StyleGAN2: non-saturating losses, R1 and path lengths every few minibatches, style mixing.

Source: Karras et al. 2020. What differs: the mean path length, with which lengths are compared, carries no
gradient, and every image draws its own mixing and noise, so that the number of workers changes nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.base import Optimizer
from raydistill.config.training import Stylegan2Training
from raydistill.data import DataInfo, noise
from raydistill.distributed import total
from raydistill.method.adversarial import logistic_discriminator, logistic_generator
from raydistill.method.penalties import path_length_penalty, path_lengths, r1_penalty
from raydistill.models import networks
from raydistill.models.inputs import latents
from raydistill.models.stylegan2 import Generator
from raydistill.training.steps import Networks, Phase, RecipeKind, Schedule, Setup, Step, phase
from raydistill.training.terms import Numbers

NAMES = ("generator", "discriminator", "path_mean")
"""What moves in a training."""
_STYLE_SHARE, _PATH_SHARE = 0.005, 0.01
"""Shares of each minibatch in the moving mean style and in the moving mean path length."""


class Mean(nn.Module):
    """The moving mean path length, as a buffer, so that it is in checkpoints."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))


class Drawing(NamedTuple):
    """Draws styles and noise of images. Each image has its own, whatever the minibatch and the worker."""

    generator: Generator
    seed: int
    mixing: float
    device: torch.device

    def mixed(self, z: Tensor, step: Step, purpose: str) -> Tensor:
        """Styles (B, layers, style) of the latents z (B, latent).

        With probability `mixing` they are, from a random layer on, those of a second latent.
        """
        number = self.generator.num_styles
        seconds = latents(self.seed, f"{purpose}/second", step.images, z.shape[1], self.device)
        first, second = self.generator.styles(z), self.generator.styles(seconds)
        keys = noise.image_keys(self.seed, f"{purpose}/mixing", step.images, self.device)
        starts = 1 + noise.integers(noise.keyed(keys, torch.zeros_like(keys)), number - 1)
        is_mixed = noise.uniform(noise.keyed(keys, torch.ones_like(keys))) < self.mixing
        is_second = is_mixed[:, None] & (torch.arange(number, device=self.device) >= starts[:, None])
        return torch.where(is_second[:, :, None], second[:, None], first[:, None])

    def pictures(self, styles: Tensor, step: Step, purpose: str) -> Tensor:
        """Pictures (B, 3, H, W) of styles (B, layers, style), with noise of their own."""
        sides = self.generator.noise_sides
        sizes = [side * side for side in sides]
        drawn = latents(self.seed, f"{purpose}/noise", step.images, sum(sizes), self.device).split(sizes, 1)
        return self.generator.synthesis(
            list(styles.unbind(1)),
            [part.view(-1, 1, side, side) for part, side in zip(drawn, sides, strict=True)],
        )


def build(config: Stylegan2Training, info: DataInfo) -> Networks:
    """Generator, discriminator and the moving mean path length."""
    return {
        "generator": networks.generator(config.generator, info, config.seed),
        "discriminator": networks.picture_discriminator(config.discriminator, config.seed),
        "path_mean": Mean(),
    }


def schedule(config: Stylegan2Training, modules: Networks, setup: Setup) -> Schedule:
    """Discriminator, R1, generator and path lengths, in this order.

    It is longer than other functions, because all phases are closures over the same networks. A penalty
    whose weight is 0 has no phase.
    """
    seed, device, workers = config.seed, setup.device, setup.workers
    generator, discriminator, path_mean = (modules[name] for name in NAMES)
    assert isinstance(generator, Generator) and isinstance(path_mean, Mean)
    draw = Drawing(generator, seed, config.mixing, device)

    def forward(step: Step) -> None:
        styles = draw.mixed(step.batch.inputs, step, "styles")
        step.output = draw.pictures(styles, step, "styles")
        with torch.no_grad():
            mean = total(styles[:, 0].mean(0), workers) / workers.number
            generator.mean_style.lerp_(mean, _STYLE_SHARE)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        real, fake = discriminator(step.batch.target), discriminator(step.output.detach())
        loss = logistic_discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss, "train/discriminator_gap": real.mean() - fake.mean()}

    def r1_loss(step: Step) -> tuple[Tensor, Numbers]:
        penalty = r1_penalty(discriminator, step.batch.target)
        return config.r1_weight / 2 * config.r1_every * penalty, {"train/r1": penalty}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss = logistic_generator(discriminator(step.output))
        return loss, {"train/gan_loss": loss}

    def path_loss(step: Step) -> tuple[Tensor, Numbers]:
        """On latents of its own."""
        z = latents(seed, "path", step.images, config.generator.style, device)
        styles = draw.mixed(z, step, "path")
        pictures = draw.pictures(styles, step, "path")
        normal = latents(seed, "path/direction", step.images, pictures[0].numel(), device)
        lengths = path_lengths(pictures, styles, normal.view_as(pictures))
        path_mean.value.lerp_(total(lengths.detach().mean(), workers) / workers.number, _PATH_SHARE)
        penalty = path_length_penalty(lengths, path_mean.value)
        numbers = {"train/path_length": lengths.mean(), "train/path_penalty": penalty}
        return config.path_weight * config.path_every * penalty, numbers

    optimizer = lazy(config.discriminator_optimizer, config.r1_weight, config.r1_every)
    phases = [phase("discriminator", optimizer, discriminator_loss)]
    if config.r1_weight:
        phases.append(beside(phases[0], "r1", r1_loss, config.r1_every))
    optimizer = lazy(config.optimizer, config.path_weight, config.path_every)
    phases.append(phase("generator", optimizer, generator_loss))
    if config.path_weight:
        phases.append(beside(phases[-1], "path", path_loss, config.path_every))
    return Schedule(forward, tuple(phases))


def lazy(config: Optimizer, weight: float, every: int) -> Optimizer:
    """The optimizer's config where a penalty adds one more step in every `every` minibatches.

    The learning rate is lowered and the betas are raised, so that Adam moves and forgets as fast as without
    the penalty, counted in minibatches. Where the penalty's `weight` is 0, the config stays as it is.
    Source: Karras et al. 2020, lazy regularization.
    """
    share = every / (every + 1) if weight else 1.0
    first, second = config.betas
    return config.model_copy(
        update={"learning_rate": share * config.learning_rate, "betas": (first**share, second**share)}
    )


def beside(main: Phase, name: str, loss: Callable[[Step], tuple[Tensor, Numbers]], every: int) -> Phase:
    """A phase of the same network and optimizer as `main`, in every `every`-th minibatch."""
    return main._replace(name=name, loss=loss, every=every)


KIND = RecipeKind(Stylegan2Training, build, schedule, stored_beside=("discriminator",))
