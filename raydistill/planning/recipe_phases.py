"""The phases of the generators' recipes, by hand, for the bytes of the tensors that live in them.

The order of forwards and backwards is that of `training/recipes/`; `tests/test_memory.py` compares the two.
Every function takes the training's config, the generator, the networks that learn beside it, and a batch of
inputs and of real pictures, and goes through one minibatch.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.training import (
    CycleganTraining,
    GeneratorTraining,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)
from raydistill.method.adversarial import (
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    logistic_discriminator,
    logistic_generator,
)
from raydistill.method.penalties import cycle_loss, identity_loss
from raydistill.planning.meta_networks import META


def rehearse(
    training: GeneratorTraining, generator: nn.Module, critics: list[nn.Module], x: Tensor, real: Tensor
) -> None:
    """Goes through one minibatch of a generator without a teacher; an unknown recipe is
    taken for a regression.

    Args:
        critics: The networks that learn beside the generator, see `meta_networks.other_networks`.
        x: The inputs of the generator, (B, ...).
        real: Real pictures, (B, 3, H, W).
    """
    phases = next((each for kind, each in _PHASES.items() if isinstance(training, kind)), _regression)
    phases(training, generator, critics, x, real)


def _regression(
    training: GeneratorTraining, generator: nn.Module, critics: list[nn.Module], x: Tensor, real: Tensor
) -> None:
    """The generator descends L1 to the real pictures, as in `enhance`."""
    F.l1_loss(generator(x), real).backward()


def _pix2pix(
    training: Pix2pixTraining, generator: nn.Module, critics: list[nn.Module], x: Tensor, real: Tensor
) -> None:
    (critic,), fake = critics, generator(x)
    pairs = torch.cat([torch.cat([x, real], 1), torch.cat([x, fake.detach()], 1)])
    hinge_discriminator(*critic(pairs).chunk(2)).backward()
    critic.requires_grad_(False)
    loss = F.l1_loss(fake, real) if training.l1_weight else 0.0 * fake.sum()
    if training.gan_weight:
        (loss + hinge_generator(critic(torch.cat([x, fake], 1)))).backward()
    else:
        loss.backward()


def _sagan(
    training: SaganTraining, generator: nn.Module, critics: list[nn.Module], z: Tensor, real: Tensor
) -> None:
    (critic,), fake = critics, generator(z)
    hinge_discriminator(critic(real), critic(fake.detach())).backward()
    critic.requires_grad_(False).eval()
    hinge_generator(critic(fake)).backward()


def _stylegan2(
    training: Stylegan2Training, generator: Any, critics: list[nn.Module], z: Tensor, real: Tensor
) -> None:
    (critic,) = critics

    def draw() -> tuple[Tensor, Tensor]:
        """Styles of two latents for each image, and its picture."""
        is_second = torch.empty(len(z), generator.num_styles, 1, dtype=torch.bool, device=META)
        styles = torch.where(is_second, generator.styles(z)[:, None], generator.styles(z)[:, None])
        noise = [torch.empty(len(z), 1, side, side, device=META) for side in generator.noise_sides]
        return styles, generator.synthesis(list(styles.unbind(1)), noise)

    fake = draw()[1]
    logistic_discriminator(critic(real), critic(fake.detach())).backward()
    if training.r1_weight:
        real = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
        gradient.square().sum((1, 2, 3)).mean().backward()
        del gradient
    critic.requires_grad_(False)
    logistic_generator(critic(fake)).backward()
    if training.path_weight:
        styles, pictures = draw()
        # In one expression: a name for the sum would keep its graph alive, which the recipe does not.
        (gradient,) = torch.autograd.grad(
            (pictures * torch.empty_like(pictures)).sum(), styles, create_graph=True
        )
        lengths = gradient.square().sum(2).mean(1).sqrt()
        (lengths - lengths.detach().mean()).square().mean().backward()


def _cyclegan(
    training: CycleganTraining, forth: nn.Module, critics: list[nn.Module], a: Tensor, b: Tensor
) -> None:
    back, of_targets, of_inputs = critics
    of_targets.requires_grad_(False), of_inputs.requires_grad_(False)
    fake_b, fake_a = forth(a), back(b)
    cycle = cycle_loss(forth, back, a, b, fake_a, fake_b)
    loss = cycle + least_squares_generator(of_targets(fake_b)) + least_squares_generator(of_inputs(fake_a))
    if training.identity_weight:
        loss = loss + identity_loss(forth, back, a, b)
    loss.backward()
    del loss, cycle
    for critic, fake in ((of_targets, fake_b), (of_inputs, fake_a)):
        critic.requires_grad_(True)
        least_squares_discriminator(critic(b), critic(fake.detach().clone())).backward()


_PHASES: dict[type[GeneratorTraining], Callable[..., None]] = {
    Pix2pixTraining: _pix2pix,
    SaganTraining: _sagan,
    Stylegan2Training: _stylegan2,
    CycleganTraining: _cyclegan,
}
