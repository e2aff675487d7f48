"""The paper's term, with the four places where its chains can start."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.config.terms import MutualInformation
from raydistill.data.augment import SampleIndex
from raydistill.distributed import gather_rows, normal_stream, total
from raydistill.errors import ConfigError, DivergenceError
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
from raydistill.models.energy import num_blocks
from raydistill.seeds import numpy_stream
from raydistill.training.terms.parts import MiTerm, Numbers, Pairs, TermSetup, num_inputs

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
        self.config, self.setup = config, setup
        self.energy = networks.energy(config.energy, setup.info, setup.seed).to(setup.device)
        self.networks = {"energy": self.energy}
        if config.start == "replay":
            self.buffer = Replay(config.replay_size or REPLAY_SIZE, setup).to(setup.device)
            self.networks["replay"] = self.buffer

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """Draws the negatives into `pairs.negatives`; the loss is L_EBM. Collective.

        Raises:
            DivergenceError: an energy is not finite or too large, on some worker.
        """
        s, t, config, setup = pairs.s.detach(), pairs.t, self.config, self.setup
        normal = normal_stream(setup.seed, "langevin", pairs.first_image, s)
        pairs.negatives = draw_negatives(self.energy, s, config, normal, STARTS[config.start](self, pairs))
        if config.start == "replay":
            self.buffer.put(pairs.positions, pairs.negatives.samples)
        self.energy.train()
        pos, neg = pair_energies(self.energy, pairs.positive, pairs.negatives.samples, s)
        self._require_within(pos, neg, pairs.first_image)
        numbers = {
            "energy/pos": pos.mean(),
            "energy/neg": neg.mean(),
            "energy/gap": energy_gap(pos, neg),
            "energy/grad_norm": pairs.negatives.grad_norm,
            "energy/displacement": displacement(pairs.negatives.samples, s, t),
            "energy/clamped": pairs.negatives.clamped,
            "energy/temperature": torch.tensor(temperature(config.step_size, config.noise_std)),
        }
        return ebm_loss(pos, neg, config.l2_weight), numbers

    def student_loss(self, pairs: Pairs) -> Tensor:
        """The energy gap of the pairs and the negatives that `own_loss` has drawn."""
        assert pairs.negatives is not None, "the energy's loss comes first"
        return student_mi_loss(self.energy, pairs.positive, pairs.negatives.samples, pairs.s)

    def _require_within(self, pos: Tensor, neg: Tensor, first_image: int) -> None:
        """Raises DivergenceError, on every worker, where one of them has an energy out of range.

        Collective.
        """
        out_of_range = torch.stack([~is_within(pos), ~is_within(neg)]).float().sum()
        if total(out_of_range, self.setup.workers).item():
            means = f"mean e+ {pos.mean().item():.4g}, e- {neg.mean().item():.4g}"
            raise DivergenceError(
                "phase energy: "
                f"an energy is not finite or beyond {ENERGY_LIMIT:,.0f} at image {first_image} ({means}); "
                "lower student.mi.optimizer.learning_rate, or raise student.mi.l2_weight"
            )


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

    def __init__(self, size: int, setup: TermSetup):
        super().__init__()
        self.setup = setup
        shape = (size, 3, setup.info.height, setup.info.width)
        normal = normal_stream(setup.seed, "replay", 0, torch.empty(shape))
        self.register_buffer("pictures", torch.erf(normal() / 2**0.5))

    def get(self, pairs: Pairs, fresh: Tensor) -> Tensor:
        """The end of an older chain for each of the pairs, (B, 3, H, W).

        With probability `FRESH_SHARE` it is replaced by the picture of `fresh` (B, 3, H, W).
        """
        streams = [numpy_stream(self.setup.seed, "replay", int(position)) for position in pairs.positions]
        is_fresh = torch.tensor([stream.random() < FRESH_SHARE for stream in streams], device=fresh.device)
        older = self.pictures[self._slots(pairs.positions)]
        return torch.where(is_fresh[:, None, None, None], fresh, older)

    def put(self, positions: np.ndarray, samples: Tensor) -> None:
        """Stores the chain ends `samples` (B, 3, H, W) of the images at `positions` (B,), of all workers.

        Collective.
        """
        workers = self.setup.workers
        slots = gather_rows(self._slots(positions), workers).to(samples.device)
        self.pictures[slots] = gather_rows(samples, workers).to(samples.device)

    def _slots(self, positions: np.ndarray) -> Tensor:
        """Which pictures of the ring belong to these positions, (B,)."""
        return torch.from_numpy(positions % len(self.pictures)).to(self.pictures.device)


def check_vem(config: MutualInformation, height: int, width: int, batch_size: int) -> None:
    """Raises ConfigError where pictures are too small for the energy, or the replay buffer for a batch."""
    num_blocks(config.energy, height, width, where="student.mi.energy.num_blocks")
    size = config.replay_size or REPLAY_SIZE
    if config.start == "replay" and size < batch_size:
        raise ConfigError(
            "student.mi.replay_size: "
            f"{size} is less than student.batch_size {batch_size}, so chains would meet; raise it"
        )
