"""The mutual-information terms of a student, behind one interface. `TERMS` registers them by their kind.

A term has a network of its own, which learns in a phase of its own; then the term gives the student a
loss. There are three: VEM (`method/vem.py`), VID (`method/vid.py`), and a critic, which is a discriminator
of the pair (t, s) against (s, s).
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
"""Scalars to log, by name."""
TeacherPictures = Callable[[SampleIndex], Tensor]
"""Training images -> the teacher's outputs for them, (B, 3, H, W) in [-1, 1]"""
REPLAY_SIZE = 256
"""Pictures in the replay buffer where the config names no size."""
FRESH_SHARE = 0.05
"""Share of chains that start at noise although there is a replay buffer."""


@dataclass
class Pairs:
    """What a term sees of this worker's part of one minibatch."""

    s: Tensor
    """The student's outputs (B, 3, H, W), with their graph."""
    t: Tensor
    """The teacher's outputs (B, 3, H, W), without a graph."""
    positive: Tensor
    """What s is paired with, (B, 3, H, W): t, or the target pictures."""
    indices: np.ndarray
    """Which training images the inputs are, (B,)."""
    flips: np.ndarray
    """Which of them are mirrored, bool (B,)."""
    first_image: int
    """How many images of the whole training come before the first of these.

    It is the same for any number of workers.
    """
    negatives: Negatives | None = None
    """VEM's t~, drawn for the energy's loss and used again in the student's; None: they are not drawn yet."""

    @property
    def positions(self) -> np.ndarray:
        """The number of each picture in the whole training, (B,)."""
        return np.arange(self.first_image, self.first_image + len(self.s))


@dataclass(frozen=True)
class TermSetup:
    """What a term is built with, beside its config."""

    seed: int
    """Seed of the training: every random number of the term comes from it."""
    info: DataInfo
    """What the data are; its height and width are those of the pictures."""
    device: torch.device
    workers: Workers
    teacher: TeacherPictures
    """Gives the teacher's outputs for training images."""


class MiTerm(ABC):
    """A mutual-information term, or any loss between student and teacher.

    Everything of it that moves is in `networks`, so it is in checkpoints, too.
    """

    name: str
    """Name of its phase, and of the network that the phase moves. A term without a network needs no name."""
    networks: dict[str, nn.Module]
    """Networks and buffers by name. Empty: the term learns nothing and has no phase of its own."""

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The scalar that the term's own network descends, and numbers to log.

        It is called before `student_loss`, on the same pairs, and gives s no gradient. Collective.
        """
        raise NotImplementedError(f"{type(self).__name__} has a network and no own_loss")

    @abstractmethod
    def student_loss(self, pairs: Pairs) -> Tensor:
        """The scalar that the student descends, before it is multiplied by the term's weight.

        The term's own network is not moved: the gradient flows through s alone.
        """


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


def _noise(term: Vem, pairs: Pairs) -> Tensor:
    """Uniform noise in [-1, 1], of the shape of s: the error function makes it of normal numbers."""
    normal = normal_stream(term.setup.seed, "chain start", pairs.first_image, pairs.s.detach())
    return torch.erf(normal() / 2**0.5)


def _other(term: Vem, pairs: Pairs) -> Tensor:
    """The teacher's output for another training image, mirrored as this one is, or for the
    noise of a later one.

    Which one it is depends on the picture's position alone.
    """
    count, setup = num_inputs(term.setup.info), term.setup
    streams = [numpy_stream(setup.seed, "chain start", int(position)) for position in pairs.positions]
    steps = np.array([stream.integers(1, count) for stream in streams])
    return setup.teacher(SampleIndex((pairs.indices + steps) % count, pairs.flips, pairs.positions + steps))


STARTS: dict[str, Callable[[Vem, Pairs], Tensor]] = {
    "student": lambda term, pairs: pairs.s,
    "other": _other,
    "noise": _noise,
    "replay": lambda term, pairs: term.buffer.get(pairs, _noise(term, pairs)),
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


class Vid(MiTerm):
    """VID: -log q(t|s) of a Gaussian around s. Its variances descend it, then the student does."""

    name = "variance"

    def __init__(self, config: VariationalInformation, setup: TermSetup):
        self.variance = ChannelVariance(3, config.initial_variance).to(setup.device)
        self.networks = {"variance": self.variance}

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """-log q(t|s), for the variances."""
        variance = self.variance()
        loss = gaussian_nll(pairs.positive, pairs.s.detach(), variance)
        return loss, {"train/vid_nll": loss, "train/vid_variance": variance.mean()}

    def student_loss(self, pairs: Pairs) -> Tensor:
        """-log q(t|s), for s."""
        return gaussian_nll(pairs.positive, pairs.s, self.variance().detach())


class Critic(MiTerm):
    """A hinge discriminator D of the pairs (t, s) against (s, s), with a score for each patch.

    The student descends -D(s, s) through the FIRST argument alone. Through the second, the pair could also
    look real by moving s away from t.
    """

    name = "critic"

    def __init__(self, config: PairCritic, setup: TermSetup):
        self.critic = networks.critic(config.discriminator, setup.seed).to(setup.device)
        self.networks = {"critic": self.critic}

    def own_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The hinge loss of the discriminator: (t, s) is real, (s, s) is fake."""
        s = pairs.s.detach()
        both = torch.cat([torch.cat([pairs.positive.detach(), s], 1), torch.cat([s, s], 1)])
        real, fake = self.critic(both).chunk(2)
        loss = hinge_discriminator(real, fake)
        return loss, {"train/critic_loss": loss, "train/critic_gap": real.mean() - fake.mean()}

    def student_loss(self, pairs: Pairs) -> Tensor:
        """-mean D(s, s), whose gradient flows through the first s."""
        return hinge_generator(self.critic(torch.cat([pairs.s, pairs.s.detach()], 1)))


def _check_vem(config: MutualInformation, height: int, width: int, batch_size: int) -> None:
    num_blocks(config.energy, height, width, where="student.mi.energy.num_blocks")
    size = config.replay_size or REPLAY_SIZE
    if config.start == "replay" and size < batch_size:
        raise ConfigError(
            "student.mi.replay_size: "
            f"{size} is less than student.batch_size {batch_size}, so chains would meet; raise it"
        )


def _check_critic(config: PairCritic, height: int, width: int, batch_size: int) -> None:
    patchgan.check(config.discriminator, height, width, where="student.mi.discriminator.num_layers")


class TermKind(NamedTuple):
    """What is registered for a kind of term."""

    config: type[Term]
    """The class of its config."""
    build: Callable[[Any, TermSetup], MiTerm]
    """(config, setup) -> the term."""
    check: Callable[[Any, int, int, int], None] = lambda config, height, width, batch_size: None
    """(config, height, width, batch size): raises ConfigError where the term cannot be trained."""


TERMS: dict[str, TermKind] = {
    "vem": TermKind(MutualInformation, Vem, _check_vem),
    "vid": TermKind(VariationalInformation, Vid),
    "critic": TermKind(PairCritic, Critic, _check_critic),
}
"""`kind` of a term's config -> what is registered for it."""


def num_inputs(info: DataInfo) -> int:
    """Number of training images whose outputs a teacher can be asked for."""
    return (info.input_counts or info.counts)["train"]


def build(config: Term, setup: TermSetup) -> MiTerm:
    """The term of `config`, which has passed `check`.

    Raises:
        ConfigError: chains start at other pictures, and there is one picture only.
    """
    if isinstance(config, MutualInformation) and config.start == "other" and num_inputs(setup.info) < 2:
        raise ConfigError(
            "student.mi.start: 'other' needs two or more training pictures, there is 1; "
            "use 'student' or 'noise'"
        )
    return TERMS[config.kind].build(config, setup)


def check(config: Term, height: int, width: int, batch_size: int = 1) -> None:
    """Raises ConfigError where the term cannot be trained: its network needs larger pictures, or its buffer
    is smaller than a batch.

    The message has the dotted path of the option. A term whose weight is 0 is not checked.
    """
    if config.weight:
        TERMS[config.kind].check(config, height, width, batch_size)


def require_pictures(pictures: Tensor, like: tuple[int, int, int], path: str) -> None:
    """Raises ConfigError where a network's outputs cannot be paired with pictures.

    Args:
        pictures: The outputs, (B, C, H, W); they must be finite and in [-1, 1].
        like: The shape (C, H, W) that each must have.
        path: Dotted path of the network's config, for the message.
    """
    if pictures.shape[1:] != like:
        raise ConfigError(
            f"{path}: "
            f"puts out pictures {tuple(pictures.shape[1:])}, expected {like} (channels, height, width); "
            "use a generator whose output has the size of its input"
        )
    low, high = pictures.min().item(), pictures.max().item()
    if not (low >= -1 - 1e-6 and high <= 1 + 1e-6):
        raise ConfigError(
            f"{path}: puts out values from {low:.4g} to {high:.4g}, allowed -1 to 1; "
            "end the generator with tanh"
        )
