"""The paper's term, with the four places where its chains can start."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from raydistill.config.terms import MutualInformation
from raydistill.data import DataInfo, noise
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers, gather_rows
from raydistill.errors import ConfigError
from raydistill.method.langevin import temperature
from raydistill.method.vem import (
    ENERGY_LIMIT,
    displacement,
    draw_negatives,
    ebm_loss,
    is_within,
    pair_energies,
    student_mi_loss,
)
from raydistill.models import networks
from raydistill.models.energy import EnergyModel, num_blocks
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

        Its check: all energies are finite, and none is too large.
        """
        s, config, setup = pairs.s.detach(), self.config, self.setup
        keys = noise.image_keys(setup.seed, "langevin", pairs.images, s.device)
        # drawn for (H, W, 3): in memory, channels come last, as in the chains
        drawn = noise.normal(keys, (*s.shape[2:], s.shape[1]), config.num_steps).permute(0, 1, 4, 2, 3)
        normal = iter(drawn).__next__
        negatives = draw_negatives(self.energy, s, config, normal, STARTS[config.start](self, pairs))
        if config.start == "replay":
            self.buffer.put(pairs.images, negatives.samples, setup.workers)
        pos, neg = pair_energies(self.energy, pairs.positive, negatives.samples, s)
        mean_pos, mean_neg = pos.detach().mean(), neg.detach().mean()
        numbers = {
            "energy/pos": mean_pos,
            "energy/neg": mean_neg,
            "energy/gap": mean_pos - mean_neg,
            "energy/grad_norm": negatives.grad_norm,
            "energy/clamped": negatives.clamped,
        }
        if pairs.is_reported:
            numbers["energy/displacement"] = displacement(negatives.samples, s, pairs.t)
            chain_temperature = temperature(config.step_size, config.noise_std)
            numbers["energy/temperature"] = pos.new_full((), chain_temperature)
        loss = ebm_loss(pos, neg, config.l2_weight)
        return OwnLoss(
            loss, numbers, {"negatives": negatives.samples}, (within_limit(pos, neg, setup.where),)
        )

    def student_loss(self, pairs: Pairs) -> Tensor:
        """The energy gap of the pairs and the negatives that `own_loss` has drawn."""
        return student_mi_loss(self.energy, pairs.positive, pairs.shared["negatives"], pairs.s)


def within_limit(pos: Tensor, neg: Tensor, where: str) -> Check:
    """That all energies (B,) are finite, and none is too large."""
    return Check(
        is_within(torch.cat([pos, neg]).detach()),
        f"an energy is not finite or beyond {ENERGY_LIMIT:,.0f}; "
        f"lower {where}.optimizer.learning_rate, or raise {where}.l2_weight",
    )


def uniform_pictures(keys: Tensor, like: Tensor) -> Tensor:
    """Uniform noise in [-1, 1] for each key (B,), of the shape of one picture of `like`: the error function
    makes it of normal numbers.
    """
    return torch.erf(noise.normal(keys, like.shape[1:]) / 2**0.5)


def uniform_noise(term: Vem, pairs: Pairs) -> Tensor:
    """Uniform noise in [-1, 1], of the shape of s."""
    keys = noise.image_keys(term.setup.seed, "chain start", pairs.images, pairs.s.device)
    return uniform_pictures(keys, pairs.s)


def other_pictures(term: Vem, pairs: Pairs) -> Tensor:
    """The teacher's outputs for other training images, (B, 3, H, W).

    They are mirrored as these are; from noise, they are those of later images. Which images they are depends
    on the positions of these alone.
    """
    count, setup = num_inputs(term.setup.info), term.setup
    indices, flips, positions = pairs.sample
    steps = 1 + noise.integers(noise.image_keys(setup.seed, "chain start/other", positions), count - 1)
    return setup.teacher(SampleIndex((indices + steps) % count, flips, positions + steps))


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
        keys = noise.image_keys(seed, "replay", range(size))
        self.register_buffer("pictures", uniform_pictures(keys, torch.empty(1, 3, height, width)))

    def get(self, pairs: Pairs, fresh: Tensor) -> Tensor:
        """The end of an older chain for each of the pairs, (B, 3, H, W).

        With probability `FRESH_SHARE` it is replaced by the picture of `fresh` (B, 3, H, W).
        """
        keys = noise.image_keys(self.seed, "replay/fresh", pairs.images, fresh.device)
        is_fresh = noise.uniform(keys) < FRESH_SHARE
        return torch.where(is_fresh[:, None, None, None], fresh, self.pictures[self._slots(pairs.images)])

    def put(self, images: range, samples: Tensor, workers: Workers) -> None:
        """Stores the chain ends `samples` (B, 3, H, W) of the images of these numbers, of all workers.

        Collective.
        """
        self.pictures[gather_rows(self._slots(images), workers)] = gather_rows(samples, workers)

    def _slots(self, images: range) -> Tensor:
        """Which pictures of the ring belong to these images, (B,)."""
        return torch.arange(images.start, images.stop, device=self.pictures.device) % len(self.pictures)


def networks_of(config: MutualInformation, info: DataInfo, seed: int) -> dict[str, nn.Module]:
    """The energy network and, where chains start at the ends of older ones, their buffer."""
    found: dict[str, nn.Module] = {"energy": networks.energy(config.energy, info, seed)}
    if config.start == "replay":
        found["replay"] = Replay(config.replay_size or REPLAY_SIZE, info.height, info.width, seed)
    return found


def check_vem(config: MutualInformation, height: int, width: int, batch_size: int) -> None:
    """Raises ConfigError where pictures are too small for the energy, or the replay buffer for a batch."""
    num_blocks(config.energy, height, width, where="energy.num_blocks")
    size = config.replay_size or REPLAY_SIZE
    if config.start == "replay" and size < batch_size:
        raise ConfigError(
            "replay_size: "
            f"{size} is less than student.batch_size {batch_size}, so chains would meet; raise it"
        )
