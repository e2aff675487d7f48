"""The mutual-information terms of a student, behind one interface. `TERMS` registers them by their kind.

A term has a network of its own, which learns in a phase of its own; then the term gives the student a loss.
A file each: `vem` (the paper's), `vid`, and `critic`, a discriminator of the pair (t, s) against (s, s).
`parts` has what they share.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from raydistill.config.terms import LearntTerm, MutualInformation, PairCritic, Term, VariationalInformation
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.errors import ConfigError
from raydistill.seeds import stream_key
from raydistill.training.terms import critic, vem, vid
from raydistill.training.terms.critic import Critic
from raydistill.training.terms.parts import (
    Check,
    MiTerm,
    Numbers,
    OwnLoss,
    Pairs,
    Teacher,
    TeacherPictures,
    TermSetup,
    num_inputs,
)
from raydistill.training.terms.vem import FRESH_SHARE, REPLAY_SIZE, STARTS, Vem
from raydistill.training.terms.vid import Vid

__all__ = [
    "FRESH_SHARE",
    "REPLAY_SIZE",
    "STARTS",
    "TERMS",
    "Check",
    "Critic",
    "MiTerm",
    "Numbers",
    "OwnLoss",
    "Pairs",
    "Teacher",
    "TeacherPictures",
    "TermKind",
    "TermSetup",
    "Vem",
    "Vid",
    "build",
    "check",
    "check_all",
    "networks",
    "numbers_of",
    "require_pictures",
    "seed_of",
    "weight_at",
]


class TermKind(NamedTuple):
    """What is registered for a kind of term."""

    config: type[Term]
    """The class of its config."""
    build: Callable[[Any, TermSetup], MiTerm]
    """(config, setup) -> the term."""
    check: Callable[[Any, int, int, int], None] = lambda config, height, width, batch_size: None
    """(config, height, width, batch size): raises ConfigError where the term cannot be trained. Its message
    begins with the option's path below the term's config, as in "energy.num_blocks: ..."."""
    networks: Callable[[Any, DataInfo, int], dict[str, nn.Module]] = lambda config, info, seed: {}
    """(config, what the data are, seed) -> networks and buffers of the term by name, with random weights from
    the seed. Empty: the term learns nothing and has no phase of its own."""


TERMS: dict[str, TermKind] = {
    "vem": TermKind(MutualInformation, Vem, vem.check_vem, vem.networks_of),
    "vid": TermKind(VariationalInformation, Vid, networks=vid.networks_of),
    "critic": TermKind(PairCritic, Critic, critic.check_critic, critic.networks_of),
}
"""`kind` of a term's config -> what is registered for it."""


def networks(config: Term, info: DataInfo, seed: int) -> dict[str, nn.Module]:
    """The networks and buffers of a term, by name; none where its weight is 0."""
    return TERMS[config.kind].networks(config, info, seed) if config.weight else {}


def seed_of(seed: int, name: str) -> int:
    """The seed of a term of a training's seed: two terms of one kind draw other numbers.

    That of the term `mi` is the training's own.
    """
    return seed if name == "mi" else stream_key(seed, f"term/{name}") % 2**32


def weight_at(config: Term, nimg: int) -> float:
    """The weight of a term after `nimg` images: it grows linearly over `warmup_nimg`."""
    return config.weight * (min(1.0, nimg / config.warmup_nimg) if config.warmup_nimg else 1.0)


def numbers_of(name: str, numbers: Numbers) -> Numbers:
    """What a term logs, by the names under which it is logged: those of another term than `mi` end with its
    name."""
    return numbers if name == "mi" else {f"{each}_{name}": number for each, number in numbers.items()}


def build(config: Term, setup: TermSetup) -> MiTerm:
    """The term of `config`, which has passed `check`. Where `setup` has no networks, it gets new ones.

    Raises:
        ConfigError: chains start at other pictures, and there is one picture only; or the term of a plug-in
            has a network that its kind does not give.
    """
    if isinstance(config, MutualInformation) and config.start == "other" and num_inputs(setup.info) < 2:
        raise ConfigError(
            f"{setup.where}.start: 'other' needs two or more training pictures, there is 1; "
            "use 'student' or 'noise'"
        )
    if not setup.networks:
        new = networks(config, setup.info, setup.seed)
        setup = dataclasses.replace(setup, networks={name: new[name].to(setup.device) for name in new})
    term = TERMS[config.kind].build(config, setup)
    if isinstance(config, LearntTerm) and getattr(term, "name", None) not in setup.networks:
        known = ", ".join(setup.networks) or "none"
        raise ConfigError(
            f"{setup.where}.kind: the term {config.kind!r} learns, so TermKind.networks has to give the "
            f"network that its `name` names ({getattr(term, 'name', 'it has none')!r}; given: {known})"
        )
    return term


def check_all(training: DistillTraining, height: int, width: int) -> None:
    """Raises ConfigError where a term of a student cannot be trained, see `check`."""
    for name, config in training.terms.items():
        check(config, height, width, training.batch_size, f"student.terms.{name}")


def check(
    config: Term, height: int, width: int, batch_size: int = 1, where: str = "student.terms.mi"
) -> None:
    """Raises ConfigError where the term cannot be trained: its network needs larger pictures, or its buffer
    is smaller than a batch.

    The message has the dotted path of the option, below `where`. A term whose weight is 0 is not checked.
    """
    if not config.weight:
        return
    try:
        TERMS[config.kind].check(config, height, width, batch_size)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None


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
