"""The method once more, to compare with: plainly from its formulas, in the published way, sharing nothing
with raydistill.

The published way: spectral norms are computed in every forward (with a power iteration, Langevin forwards
included), and the energies of positives and negatives come from two forwards. As its author does, the energy
is frozen while it is sampled from.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ReferenceConv(nn.Module):
    """conv(x, W / (sigma + 1e-6)), with `capped` conv(x, W / (sigma + 1e-6) * min(sigma + 1e-6, 1)); no
    gradient through sigma."""

    u: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, capped: bool = False):
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel_size, kernel_size) * (1e-10 if capped else 1.0)
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.capped = capped
        self.iterates = True

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight.detach().reshape(len(self.weight), -1)
        v = matrix.t() @ self.u / torch.linalg.norm(matrix.t() @ self.u)
        if self.iterates:
            self.u = matrix @ v / torch.linalg.norm(matrix @ v)
        sigma = torch.dot(self.u, matrix @ v) + 1e-6
        weight = self.weight / sigma
        if self.capped:
            weight = weight * torch.clamp(sigma, max=1.0)
        return F.conv2d(x, weight, self.bias, padding=self.weight.shape[2] // 2)


class ReferenceBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.first = ReferenceConv(in_channels, in_channels, 3)
        self.second = ReferenceConv(in_channels, out_channels, 3, capped=True)
        self.shortcut = (
            ReferenceConv(in_channels, out_channels, 3) if in_channels != out_channels else nn.Identity()
        )

    def forward(self, h: Tensor) -> Tensor:
        branch = self.first(h)
        branch = F.leaky_relu(branch, 0.01)
        branch = self.second(branch)
        h = branch + self.shortcut(h)
        h = F.avg_pool2d(h, 2)
        return F.leaky_relu(h, 0.01)


class ReferenceEnergy(nn.Module):
    """(t, s), each (B, 3, H, W) -> (B,). Parameters and u have the names of raydistill's energy, so that
    states can be exchanged."""

    def __init__(self, channels: int, num_blocks: int):
        super().__init__()
        self.stem = ReferenceConv(6, channels, 3)
        self.blocks = nn.ModuleList()
        width = channels
        for _ in range(num_blocks):
            wider = min(2 * width, 4 * channels)
            self.blocks.append(ReferenceBlock(width, wider))
            width = wider
        self.head = ReferenceConv(width, 1, 1)

    def iterate(self, iterates: bool) -> None:
        """Whether forwards move u."""
        for module in self.modules():
            if isinstance(module, ReferenceConv):
                module.iterates = iterates

    def forward(self, t: Tensor, s: Tensor) -> Tensor:
        h = torch.cat([F.avg_pool2d(t, 3, 2, 1), F.avg_pool2d(s, 3, 2, 1)], dim=1)
        h = F.leaky_relu(self.stem(h), 0.01)
        for block in self.blocks:
            h = block(h)
        h = F.relu(h)
        h = h.mean(dim=(2, 3), keepdim=True)
        return self.head(h)[:, 0, 0, 0]


def draw_negatives(
    energy: ReferenceEnergy,
    s: Tensor,
    normal: Callable[[], Tensor],
    num_steps: int,
    step_size: float,
    noise_std: float,
) -> Tensor:
    """t~ <- t~ - eta grad E(t~, s) + sigma eps, from s, clamped after the last step."""
    negatives = s.detach().clone()
    energy.requires_grad_(False)
    for _ in range(num_steps):
        negatives.requires_grad_(True)
        (gradient,) = torch.autograd.grad(energy(negatives, s.detach()).sum(), negatives)
        negatives = negatives.detach() - step_size * gradient + noise_std * normal()
    energy.requires_grad_(True)
    return negatives.clamp(-1, 1)


def energy_loss(
    energy: ReferenceEnergy, t: Tensor, negatives: Tensor, s: Tensor, l2_weight: float
) -> tuple[Tensor, Tensor]:
    """(loss, energy gap)"""
    positive = energy(t.detach(), s.detach())
    negative = energy(negatives.detach(), s.detach())
    gap = positive.mean() - negative.mean()
    return gap + l2_weight * (positive**2 + negative**2).mean(), gap


def student_term(energy: ReferenceEnergy, t: Tensor, negatives: Tensor, s: Tensor) -> Tensor:
    return energy(t.detach(), s).mean() - energy(negatives.detach(), s).mean()


def dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    """1 - SSIM by a convolution with a 7x7 window, mirrored borders, values in [-1, 1]: the base method's
    loss."""
    window = torch.ones(a.shape[1], 1, 7, 7, dtype=a.dtype, device=a.device) / 49

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), window, groups=len(window))

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = (mean(a * a) - mean_a**2).clamp(min=0), (mean(b * b) - mean_b**2).clamp(min=0)
    covariance = mean(a * b) - mean_a * mean_b
    light_a, light_b = mean_a + 1, mean_b + 1  # from black
    above = (2 * light_a * light_b + 0.02**2) * (2 * covariance + 0.06**2)
    return 1 - (above / ((light_a**2 + light_b**2 + 0.02**2) * (variance_a + variance_b + 0.06**2))).mean()


def train_step(
    energy: ReferenceEnergy,
    energy_optimizer: torch.optim.Optimizer,
    student_optimizer: torch.optim.Optimizer,
    s: Tensor,
    t: Tensor,
    base_loss: Tensor,
    normal: Callable[[], Tensor],
    *,
    num_steps: int,
    step_size: float,
    noise_std: float,
    l2_weight: float,
    mi_weight: float,
) -> dict[str, Tensor]:
    """One minibatch: negatives, energy step, then the student's with the updated energy and the same
    negatives. s has its graph."""
    negatives = draw_negatives(energy, s, normal, num_steps, step_size, noise_std)
    loss, gap = energy_loss(energy, t, negatives, s, l2_weight)
    energy_optimizer.zero_grad()
    loss.backward()
    energy_optimizer.step()

    energy.requires_grad_(False)
    term = student_term(energy, t, negatives, s)
    student_optimizer.zero_grad()
    (base_loss + mi_weight * term).backward()
    student_optimizer.step()
    energy.requires_grad_(True)
    return {"energy_loss": loss.detach(), "term": term.detach(), "gap": gap.detach()}
