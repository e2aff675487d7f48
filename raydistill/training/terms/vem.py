"""The paper's term, with the four places where its chains can start."""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.config.terms import MutualInformation
from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers, gather_rows, total
from raydistill.errors import ConfigError
from raydistill.method.langevin import temperature
from raydistill.method.vem import (
    ENERGY_LIMIT,
    displacement,
    draw_negatives,
    ebm_loss,
    energy_gap,
    is_within,
    pair_energies,
    student_mi_loss,
)
from raydistill.models import networks
from raydistill.models.energy import EnergyModel, num_blocks
from raydistill.seeds import normal_stream, numpy_stream
from raydistill.training.terms.parts import Check, MiTerm, OwnLoss, Pairs, TermSetup, num_inputs

REPLAY_SIZE = 256
"""Pictures in the replay buffer where the config names no size."""
FRESH_SHARE = 0.05
"""Share of chains that start at noise although there is a replay buffer."""


class Vem(MiTerm):
    """The paper's term, see `method/vem.py`.

    The negatives are drawn with the energy before its step. The student's step then has the UPDATED energy
    and the SAME negatives.
    """

    name = "energy"

    def __init__(self, config: MutualInformation, setup: TermSetup):
        super().__init__(config, setup)
        self.energy = cast(EnergyModel, setup.networks["energy"])
        if config.start == "replay":
            self.buffer = cast(Replay, setup.networks["replay"])

    def own_loss(self, pairs: Pairs) -> OwnLoss:
        """L_EBM with negatives drawn from the energy as it is, which are shared. Collective.

        Its check: all energies of all workers are finite, and none is too large.
        """
        s, t, config, setup = pairs.s.detach(), pairs.t, self.config, self.setup
        normal = normal_stream(setup.seed, "langevin", pairs.first_image, s)
        negatives = draw_negatives(self.energy, s, config, normal, STARTS[config.start](self, pairs))
        if config.start == "replay":
            self.buffer.put(pairs.positions, negatives.samples, setup.workers)
        pos, neg = pair_energies(self.energy, pairs.positive, negatives.samples, s)
        check = self._within(pos.detach(), neg.detach(), pairs.first_image)
        numbers = {
            "energy/pos": pos.mean(),
            "energy/neg": neg.mean(),
            "energy/gap": energy_gap(pos, neg),
            "energy/grad_norm": negatives.grad_norm,
            "energy/displacement": displacement(negatives.samples, s, t),
            "energy/clamped": negatives.clamped,
            "energy/temperature": torch.tensor(temperature(config.step_size, config.noise_std)),
        }
        loss = ebm_loss(pos, neg, config.l2_weight)
        return OwnLoss(loss, numbers, {"negatives": negatives.samples}, (check,))

    def student_loss(self, pairs: Pairs) -> Tensor:
        """The energy gap of the pairs and the negatives that `own_loss` has drawn."""
        return student_mi_loss(self.energy, pairs.positive, pairs.shared["negatives"], pairs.s)

    def _within(self, pos: Tensor, neg: Tensor, first_image: int) -> Check:
        """Whether no worker has an energy out of range. Collective."""
        out_of_range = torch.stack([~is_within(pos), ~is_within(neg)]).float().sum()

        def message() -> str:
            means = f"mean e+ {pos.mean().item():.4g}, e- {neg.mean().item():.4g}"
            return (
                "phase energy: "
                f"an energy is not finite or beyond {ENERGY_LIMIT:,.0f} at image {first_image} ({means}); "
                "lower student.mi.optimizer.learning_rate, or raise student.mi.l2_weight"
            )

        return Check(total(out_of_range, self.setup.workers) == 0, message)


def uniform_noise(term: Vem, pairs: Pairs) -> Tensor:
    """Uniform noise in [-1, 1], of the shape of s: the error function makes it of normal numbers."""
    normal = normal_stream(term.setup.seed, "chain start", pairs.first_image, pairs.s.detach())
    return torch.erf(normal() / 2**0.5)


def other_pictures(term: Vem, pairs: Pairs) -> Tensor:
    """The teacher's outputs for other training images, (B, 3, H, W).

    They are mirrored as these are; from noise, they are those of later images. Which images they are depends
    on the positions of these alone.
    """
    count, setup = num_inputs(term.setup.info), term.setup
    streams = [numpy_stream(setup.seed, "chain start", int(position)) for position in pairs.positions]
    steps = np.array([stream.integers(1, count) for stream in streams])
    return setup.teacher(SampleIndex((pairs.indices + steps) % count, pairs.flips, pairs.positions + steps))


STARTS: dict[str, Callable[[Vem, Pairs], Tensor]] = {
    "student": lambda term, pairs: pairs.s,
    "other": other_pictures,
    "noise": uniform_noise,
    "replay": lambda term, pairs: term.buffer.get(pairs, uniform_noise(term, pairs)),
}
"""`start` of the config -> a function that says where the chains of a minibatch start, (B, 3, H, W)."""


class Replay(nn.Module):
    """The ends of older chains: a ring of pictures, whose oldest are used and replaced first.

    It is in the checkpoint, and the same on every worker. Until chains have filled it, it
    holds uniform noise.
    """

    pictures: Tensor

    def __init__(self, size: int, height: int, width: int, seed: int):
        super().__init__()
        self.seed = seed
        normal = normal_stream(seed, "replay", 0, torch.empty(size, 3, height, width))
        self.register_buffer("pictures", torch.erf(normal() / 2**0.5))

    def get(self, pairs: Pairs, fresh: Tensor) -> Tensor:
        """The end of an older chain for each of the pairs, (B, 3, H, W).

        With probability `FRESH_SHARE` it is replaced by the picture of `fresh` (B, 3, H, W).
        """
        streams = [numpy_stream(self.seed, "replay", int(position)) for position in pairs.positions]
        is_fresh = torch.tensor([stream.random() < FRESH_SHARE for stream in streams], device=fresh.device)
        older = self.pictures[self._slots(pairs.positions)]
        return torch.where(is_fresh[:, None, None, None], fresh, older)

    def put(self, positions: np.ndarray, samples: Tensor, workers: Workers) -> None:
        """Stores the chain ends `samples` (B, 3, H, W) of the images at `positions` (B,), of all workers.

        Collective.
        """
        slots = gather_rows(self._slots(positions), workers).to(samples.device)
        self.pictures[slots] = gather_rows(samples, workers).to(samples.device)

    def _slots(self, positions: np.ndarray) -> Tensor:
        """Which pictures of the ring belong to these positions, (B,)."""
        return torch.from_numpy(positions % len(self.pictures)).to(self.pictures.device)


def networks_of(config: MutualInformation, info: DataInfo, seed: int) -> dict[str, nn.Module]:
    """The energy network and, where chains start at the ends of older ones, their buffer."""
    found: dict[str, nn.Module] = {"energy": networks.energy(config.energy, info, seed)}
    if config.start == "replay":
        found["replay"] = Replay(config.replay_size or REPLAY_SIZE, info.height, info.width, seed)
    return found


def shortened(config: MutualInformation) -> MutualInformation:
    """With two Langevin steps at most: further ones hold what the second one holds."""
    return config.model_copy(update={"num_steps": min(config.num_steps, 2)})


def check_vem(config: MutualInformation, height: int, width: int, batch_size: int) -> None:
    """Raises ConfigError where pictures are too small for the energy, or the replay buffer for a batch."""
    num_blocks(config.energy, height, width, where="student.mi.energy.num_blocks")
    size = config.replay_size or REPLAY_SIZE
    if config.start == "replay" and size < batch_size:
        raise ConfigError(
            "student.mi.replay_size: "
            f"{size} is less than student.batch_size {batch_size}, so chains would meet; raise it"
        )
