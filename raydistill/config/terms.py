"""Configs of the mutual-information terms in a student's loss."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from raydistill.config.architectures import EnergyNetwork, PatchDiscriminator
from raydistill.config.base import Frozen, Optimizer
from raydistill.config.bounds import Amount, AmountAboveZero, BatchSize, WholeNumber
from raydistill.config.variants import Variants


def _named(name: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) is None:
        allowed = "a small letter, then small letters, digits and _, 32 characters at most; as in 'vid2'"
        raise PydanticCustomError("term_name", f"the name of a term is {allowed}")
    return name


TermName = Annotated[str, AfterValidator(_named)]
"""What a term is called in a config, in the names of its networks and of the numbers that it logs."""


class Term(Frozen):
    """What the configs of all mutual-information terms have."""

    kind: str
    weight: Amount
    """Factor of the term in the student's loss. 0 switches the term off: nothing of it is built."""
    positive: Literal["teacher", "target"] = "teacher"
    """The picture that the student's output is paired with: the teacher's output, or the real picture as in
    the paper's pix2pix code."""
    warmup_nimg: Annotated[WholeNumber, Field(exclude_if=lambda nimg: nimg == 0)] = 0
    """The weight grows from 0 to its value over so many images."""

    @property
    def asks_teacher(self) -> bool:
        """Whether the term may ask the teacher for other pictures than those of the minibatch.

        Here True: a term that never asks says so. A student with a term that may ask reads no record of
        teachers that train beside it, because they would not be there; but see `asks_once`.
        """
        return True

    @property
    def asks_once(self) -> bool:
        """Whether it asks once in each minibatch, in its own loss, and what it asks depends on its name
        and the training's seed and images alone: then the answers can be recorded, too.
        """
        return False


class LearntTerm(Term):
    """A term with a network that is trained beside the student."""

    optimizer: Optimizer
    """The optimizer of that network."""


class MutualInformation(LearntTerm):
    """The variational energy-based term (VEM).

    The defaults are the published ones, with the step size that is the default of the published command line.
    """

    kind: Literal["vem"] = "vem"
    weight: Amount = 0.1
    start: Literal["student", "other", "noise", "replay"] = "student"
    """Where the Langevin chains start: at the student's own output (published), at the teacher's output for
    another picture of the batch, at uniform noise, or where older chains ended."""
    num_steps: Annotated[int, Field(ge=0, le=10_000)] = 10
    """Langevin steps of a chain; 0: the start itself is the negative."""
    step_size: AmountAboveZero = 1.0
    noise_std: Amount = 0.005
    clamp: bool = True
    """Clamp the negatives to [-1, 1] once, after the last step."""
    replay_size: BatchSize | None = None
    """Number of pictures in the buffer of `start: replay`; None: 256."""
    l2_weight: Amount = 0.05
    """Weight of the squared energies in the loss of the energy network."""
    energy: EnergyNetwork = EnergyNetwork()
    optimizer: Optimizer = Optimizer(learning_rate=1e-4, betas=(0.0, 0.999))

    @property
    def asks_teacher(self) -> bool:
        """Where chains start at other pictures of the teacher."""
        return self.start == "other"

    @property
    def asks_once(self) -> bool:
        """For where chains start."""
        return self.asks_teacher

    @model_validator(mode="after")
    def _only_replay_has_a_buffer(self) -> "MutualInformation":
        if self.replay_size is not None and self.start != "replay":
            raise ValueError(
                f"replay_size {self.replay_size} is for start 'replay', given start {self.start!r}; "
                "leave replay_size out"
            )
        return self


class VariationalInformation(LearntTerm):
    """Variational information distillation (VID) on output pictures.

    The teacher's output is modelled as normal around the student's, with one learnt variance for each
    channel.
    """

    kind: Literal["vid"] = "vid"
    weight: Amount = 1.0
    initial_variance: AmountAboveZero = 5.0
    optimizer: Optimizer = Optimizer(learning_rate=1e-2, betas=(0.9, 0.999))

    @property
    def asks_teacher(self) -> bool:
        """Never."""
        return False


class PairCritic(LearntTerm):
    """A discriminator of the pairs (teacher's output, student's output) and (student's output, itself)."""

    kind: Literal["critic"] = "critic"
    weight: Amount = 0.1
    discriminator: PatchDiscriminator = PatchDiscriminator(width=24, num_layers=2)
    optimizer: Optimizer = Optimizer(learning_rate=1e-3, betas=(0.5, 0.999))

    @property
    def asks_teacher(self) -> bool:
        """Never."""
        return False


TERM_VARIANTS = Variants("kind", MutualInformation, VariationalInformation, PairCritic)
"""Every class of mutual-information term; a plug-in adds to it."""
AnyTerm = Annotated[Term, TERM_VARIANTS]
