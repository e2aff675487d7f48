"""The mutual-information terms of a student, behind one interface. `TERMS` registers them by their kind.

A term has a network of its own that learns in a phase of its own, then gives the student a loss. VEM: `vem.py`. VID: `vid.py`. Critic: a
discriminator of the pair (t, s) against (s, s).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.config.terms import MutualInformation, PairCritic, Term, VariationalInformation
from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers, gather_rows, normal_stream, total
from raydistill.errors import ConfigError, DivergenceError
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.method.langevin import temperature
from raydistill.method.vem import (
    ENERGY_LIMIT,
    Negatives,
    displacement,
    draw_negatives,
    ebm_loss,
    energy_gap,
    is_within,
    pair_energies,
    student_mi_loss,
)
from raydistill.method.vid import ChannelVariance, gaussian_nll
from raydistill.models import networks, patchgan
from raydistill.models.energy import num_blocks
from raydistill.seeds import numpy_stream

Numbers = dict[str, Tensor]
TeacherPictures = Callable[[SampleIndex], Tensor]
"""Training images -> the teacher's outputs (B, 3, H, W) in [-1, 1]"""
REPLAY_SIZE, FRESH_SHARE = 256, 0.05
"""Of the replay buffer: its size where none is given, and the share of chains that start at noise all the same."""


@dataclass
class Pairs:
    """What a term sees of one minibatch: this worker's part."""

    s: Tensor
    """The student's outputs (B, 3, H, W), with their graph."""
    t: Tensor
    """The teacher's outputs, without a graph."""
    positive: Tensor
    """What s is paired with: t, or the target pictures."""
    indices: np.ndarray
    flips: np.ndarray
    first_image: int
    """Number of the first of them in the whole training: images seen before it, the same for any number of workers."""
    negatives: Negatives | None = None
    """VEM's t~: drawn for the energy's loss, used again in the student's."""

    @property
    def positions(self) -> np.ndarray:
        """The number of each picture in the whole training, (B,)."""
        return np.arange(self.first_image, self.first_image + len(self.s))


@dataclass(frozen=True)
class TermSetup:
    """Where a term lives."""

    seed: int
    info: DataInfo
    device: torch.device
    workers: Workers
    teacher: TeacherPictures


class MiTerm(ABC):
    """A mutual-information term, or any loss between student and teacher. All of it that moves is in `networks`, so in checkpoints."""

    name: str
    """Of its phase and of the network that the phase moves. A term without a network has none."""
    networks: dict[str, nn.Module]
    """Empty: a loss that learns nothing. It has no phase of its own."""

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """What its own network descends, and numbers to log; s is detached. Called before `student_loss`, on the same pairs."""
        raise NotImplementedError(f"{type(self).__name__} has a network and no own_loss")

    @abstractmethod
    def student_loss(self, pairs: Pairs) -> Tensor:
        """What the student descends, to be multiplied by the weight. Its own network is not moved; the gradient flows through s alone."""


class Vem(MiTerm):
    """The paper's term: Langevin negatives with the current energy; the student's step has the UPDATED energy and the SAME negatives."""

    name = "energy"

    def __init__(self, config: MutualInformation, setup: TermSetup):
        self.config, self.setup = config, setup
        self.energy = networks.energy(config.energy, setup.info, setup.seed).to(setup.device)
        self.networks = {"energy": self.energy}
        if config.start == "replay":
            self.buffer = Replay(config.replay_size or REPLAY_SIZE, setup).to(setup.device)
            self.networks["replay"] = self.buffer

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        s, t, config, setup = pairs.s.detach(), pairs.t, self.config, self.setup
        normal = normal_stream(setup.seed, "langevin", pairs.first_image, s)
        pairs.negatives = draw_negatives(self.energy, s, config, normal, STARTS[config.start](self, pairs))
        if config.start == "replay":
            self.buffer.put(pairs.positions, pairs.negatives.samples)
        self.energy.train()
        pos, neg = pair_energies(self.energy, pairs.positive, pairs.negatives.samples, s)
        self._require_within(pos, neg, pairs.first_image)
        numbers = {
            "pos": pos.mean(),
            "neg": neg.mean(),
            "gap": energy_gap(pos, neg),
            "grad_norm": pairs.negatives.grad_norm,
        }
        numbers |= {
            "displacement": displacement(pairs.negatives.samples, s, t),
            "clamped": pairs.negatives.clamped,
        }
        numbers["temperature"] = torch.tensor(temperature(config.step_size, config.noise_std))
        return ebm_loss(pos, neg, config.l2_weight), {
            f"energy/{name}": number for name, number in numbers.items()
        }

    def student_loss(self, pairs: Pairs) -> Tensor:
        assert pairs.negatives is not None, "the energy's loss comes first"
        return student_mi_loss(self.energy, pairs.positive, pairs.negatives.samples, pairs.s)

    def _require_within(self, pos: Tensor, neg: Tensor, first_image: int) -> None:
        """Raises DivergenceError on every worker where one of them has an energy out of range. Collective."""
        broken = torch.stack([~is_within(pos), ~is_within(neg)]).float().sum()
        if total(broken, self.setup.workers).item():
            means = f"mean e+ {pos.mean().item():.4g}, e- {neg.mean().item():.4g}"
            raise DivergenceError(
                f"phase energy: an energy is not finite or beyond {ENERGY_LIMIT:,.0f} at image {first_image} ({means}); "
                "lower student.mi.optimizer.learning_rate, or raise student.mi.l2_weight"
            )


def _noise(term: Vem, pairs: Pairs) -> Tensor:
    """Uniform in [-1, 1]: the error function makes it of normal numbers."""
    return torch.erf(
        normal_stream(term.setup.seed, "chain start", pairs.first_image, pairs.s.detach())() / 2**0.5
    )


def _other(term: Vem, pairs: Pairs) -> Tensor:
    """The teacher's output for another training image, mirrored as this one is, or for the z of a later one. Which one depends on the
    picture's position alone."""
    count, setup = num_inputs(term.setup.info), term.setup
    steps = np.array(
        [
            numpy_stream(setup.seed, "chain start", int(position)).integers(1, count)
            for position in pairs.positions
        ]
    )
    return setup.teacher(SampleIndex((pairs.indices + steps) % count, pairs.flips, pairs.positions + steps))


STARTS: dict[str, Callable[[Vem, Pairs], Tensor]] = {
    "student": lambda term, pairs: pairs.s,
    "other": _other,
    "noise": _noise,
    "replay": lambda term, pairs: term.buffer.get(pairs, _noise(term, pairs)),
}
"""`start` of the config -> where the chains of a minibatch start, (B, 3, H, W)."""


class Replay(nn.Module):
    """Where older chains ended: a ring of pictures, the oldest taken first. In the checkpoint, and the same on every worker."""

    pictures: Tensor

    def __init__(self, size: int, setup: TermSetup):
        super().__init__()
        self.setup = setup
        shape = (size, 3, setup.info.height, setup.info.width)
        normal = normal_stream(setup.seed, "replay", 0, torch.empty(shape))
        self.register_buffer("pictures", torch.erf(normal() / 2**0.5))

    def get(self, pairs: Pairs, fresh: Tensor) -> Tensor:
        """A chain's end for each of the pairs; `fresh` in its place with probability 5 %."""
        drawn = [
            numpy_stream(self.setup.seed, "replay", int(position)).random() < FRESH_SHARE
            for position in pairs.positions
        ]
        return torch.where(
            torch.tensor(drawn, device=fresh.device)[:, None, None, None],
            fresh,
            self.pictures[self._places(pairs.positions)],
        )

    def put(self, positions: np.ndarray, samples: Tensor) -> None:
        """Takes in the chains of all workers. Collective."""
        workers = self.setup.workers
        places = gather_rows(self._places(positions), workers).to(samples.device)
        self.pictures[places] = gather_rows(samples, workers).to(samples.device)

    def _places(self, positions: np.ndarray) -> Tensor:
        return torch.from_numpy(positions % len(self.pictures)).to(self.pictures.device)


class Vid(MiTerm):
    """-log q(t|s) of a Gaussian around s: its variances learn it, then the student descends it."""

    name = "variance"

    def __init__(self, config: VariationalInformation, setup: TermSetup):
        self.variance = ChannelVariance(3, config.initial_variance).to(setup.device)
        self.networks = {"variance": self.variance}

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        variance = self.variance()
        loss = gaussian_nll(pairs.positive, pairs.s.detach(), variance)
        return loss, {"train/vid_nll": loss, "train/vid_variance": variance.mean()}

    def student_loss(self, pairs: Pairs) -> Tensor:
        return gaussian_nll(pairs.positive, pairs.s, self.variance().detach())


class Critic(MiTerm):
    """Hinge discriminator of (t, s) against (s, s), a score a patch; the student descends -D(s, s) through the FIRST argument alone.

    Through the second, the pair could also look real by moving s away from t.
    """

    name = "critic"

    def __init__(self, config: PairCritic, setup: TermSetup):
        self.critic = networks.critic(config.discriminator, setup.seed).to(setup.device)
        self.networks = {"critic": self.critic}

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        s = pairs.s.detach()
        both = torch.cat([torch.cat([pairs.positive.detach(), s], 1), torch.cat([s, s], 1)])
        real, fake = self.critic(both).chunk(2)
        loss = hinge_discriminator(real, fake)
        return loss, {"train/critic_loss": loss, "train/critic_gap": real.mean() - fake.mean()}

    def student_loss(self, pairs: Pairs) -> Tensor:
        return hinge_generator(self.critic(torch.cat([pairs.s, pairs.s.detach()], 1)))


def _check_vem(config: MutualInformation, height: int, width: int, batch_size: int) -> None:
    num_blocks(config.energy, height, width, where="student.mi.energy.num_blocks")
    size = config.replay_size or REPLAY_SIZE
    if config.start == "replay" and size < batch_size:
        raise ConfigError(
            f"student.mi.replay_size: {size} is less than student.batch_size {batch_size}, so chains would meet; raise it"
        )


def _check_critic(config: PairCritic, height: int, width: int, batch_size: int) -> None:
    patchgan.check(config.discriminator, height, width, where="student.mi.discriminator.num_layers")


class TermKind(NamedTuple):
    config: type[Term]
    build: Callable[[Any, TermSetup], MiTerm]
    check: Callable[[Any, int, int, int], None] = lambda config, height, width, batch_size: None
    """(config, height, width, batch size): raises ConfigError where the term cannot be trained on such pictures."""


TERMS: dict[str, TermKind] = {
    "vem": TermKind(MutualInformation, Vem, _check_vem),
    "vid": TermKind(VariationalInformation, Vid),
    "critic": TermKind(PairCritic, Critic, _check_critic),
}
"""By the `kind` of a term's config."""


def num_inputs(info: DataInfo) -> int:
    """Training images that a teacher may be asked for."""
    return (info.input_counts or info.counts)["train"]


def build(config: Term, setup: TermSetup) -> MiTerm:
    """The term of `config`, which has passed `check`."""
    if isinstance(config, MutualInformation) and config.start == "other" and num_inputs(setup.info) < 2:
        raise ConfigError(
            "student.mi.start: 'other' needs two or more training pictures, there is 1; use 'student' or 'noise'"
        )
    return TERMS[config.kind].build(config, setup)


def check(config: Term, height: int, width: int, batch_size: int = 1) -> None:
    """Raises ConfigError, with the dotted path, where pictures are too small for the network or a batch too large for the buffer."""
    if config.weight:
        TERMS[config.kind].check(config, height, width, batch_size)


def require_pictures(pictures: Tensor, like: tuple[int, int, int], path: str) -> None:
    """Raises ConfigError where outputs (B, 3, H, W) are not of the shape `like` each, not finite or outside [-1, 1]."""
    if pictures.shape[1:] != like:
        raise ConfigError(
            f"{path}: puts out pictures {tuple(pictures.shape[1:])}, expected {like} (channels, height, width); "
            "use a generator whose output has the size of its input"
        )
    low, high = pictures.min().item(), pictures.max().item()
    if not (low >= -1 - 1e-6 and high <= 1 + 1e-6):
        raise ConfigError(
            f"{path}: puts out values from {low:.4g} to {high:.4g}, allowed -1 to 1; end the generator with tanh"
        )
