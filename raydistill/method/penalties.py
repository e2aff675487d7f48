"""Terms beside the adversarial losses: the gradient penalty R1, path lengths, cycles and identities."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Translator = Callable[[Tensor], Tensor]
"""Pictures of one domain (B, C, H, W) -> pictures of the other."""


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """mean |grad_x D(x)|^2 over real pictures x: a scalar with a graph, to be multiplied by gamma / 2.

    Args:
        discriminator: (B, C, H, W) -> scores (B,). The gradient is that of the sum of all scores.
        real: (B, C, H, W), detached before use.

    Source: Mescheder et al. 2018, equation 9.
    """
    real = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(pictures: Tensor, styles: Tensor, normal: Tensor) -> Tensor:
    """|J^T y| of each picture, (B,), with a graph. J is the picture's derivative by its styles.

    Args:
        pictures: (B, C, H, W), made from `styles`, with their graph.
        styles: (B, layers, style). Squares are added up over the numbers of a style and averaged over layers.
        normal: N(0, I) of the shape of `pictures`; y is `normal` over the root of H * W.

    Source: Karras et al. 2020, equation 4; the root and the mean over layers are of the authors' code.
    """
    y = normal / (pictures.shape[2] * pictures.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((pictures * y).sum(), styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Tensor, mean_length: Tensor) -> Tensor:
    """mean (|J^T y| - a)^2 of lengths |J^T y| (B,); a is their moving mean, a scalar without a graph.

    Source: Karras et al. 2020, equation 4.
    """
    return (lengths - mean_length).square().mean()


def cycle_loss(
    forth: Translator, back: Translator, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor
) -> Tensor:
    """mean |F(G(a)) - a| + mean |G(F(b)) - b|; G is `forth`, from domain A to B, and F is `back`.

    Args:
        a, b: (B, 3, H, W), pictures of A and of B.
        fake_a, fake_b: F(b) and G(a), with their graphs: they are needed elsewhere, too.

    Source: Zhu et al. 2017, equation 2, with means in place of sums.
    """
    return F.l1_loss(back(fake_b), a) + F.l1_loss(forth(fake_a), b)


def identity_loss(forth: Translator, back: Translator, a: Tensor, b: Tensor) -> Tensor:
    """mean |G(b) - b| + mean |F(a) - a|, named as in `cycle_loss`: what is in its domain already stays.

    Source: Zhu et al. 2017, section 5.2, with means in place of sums.
    """
    return F.l1_loss(forth(b), b) + F.l1_loss(back(a), a)
