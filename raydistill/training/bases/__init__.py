"""Base distillations: what a student learns from its teacher beside its terms. `BASES` registers them by
kind.

A file each: `plain` (distances of pictures, and none at all), `gan` (GAN compression), `omgd` (OMGD, and its
form for CycleGAN). `parts` has what they share.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raydistill import distributed
from raydistill.config.bases import Base, GanBase, NoBase, OmgdBase, OmgdCycleganBase, PlainBase
from raydistill.config.experiment import Experiment
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.data.source import Pairing
from raydistill.errors import ConfigError
from raydistill.models.inputs import latent_size
from raydistill.training import teacher
from raydistill.training.bases import gan, omgd, plain
from raydistill.training.bases.parts import (
    BaseDistillation,
    BaseKind,
    BaseSetup,
    OwnPhase,
    RecordKind,
    with_asked,
)
from raydistill.training.steps import Networks, Setup

__all__ = [
    "BASES",
    "BaseDistillation",
    "BaseKind",
    "BaseSetup",
    "OwnPhase",
    "RecordKind",
    "build",
    "check",
    "networks",
    "require_loss",
    "require_pairing",
    "require_teacher",
    "with_asked",
]

BASES: dict[str, BaseKind] = {
    "none": BaseKind(NoBase, plain.NoDistillation),
    "plain": BaseKind(PlainBase, plain.Plain),
    "gan": BaseKind(GanBase, gan.Gan, gan.networks_of, gan.check, ("pairs", "unpaired")),
    "omgd": BaseKind(OmgdBase, omgd.Omgd, omgd.networks_of, omgd.check, ("pairs",), omgd.RECORD),
    "omgd_cyclegan": BaseKind(
        OmgdCycleganBase, omgd.OmgdCyclegan, omgd.networks_of_cyclegan, pairings=("unpaired",)
    ),
}
"""`kind` of a base's config -> what is registered for it."""


def networks(training: DistillTraining, info: DataInfo) -> Networks:
    """The networks of a student's base, by name.

    Raises:
        ConfigError: the student cannot be trained by its base on these data; with the option's dotted path.
    """
    latent = latent_size(training.generator)
    require_pairing(training.base, "pictures" if latent is not None else info.pairing)
    if isinstance(training.base, NoBase):
        require_loss(training)
    kind = BASES[training.base.kind]
    kind.check(training, info)
    own = kind.networks(training.base, training.generator, info, training.seed)
    _check_execution(training, own)
    return own


def build(training: DistillTraining, setup: Setup, own: Mapping[str, nn.Module]) -> BaseDistillation:
    """The base of a student's training, which has passed `check`.

    Args:
        own: what `networks` gave, by name; the networks may be sharded or compiled by now.
    """
    base_setup = BaseSetup(
        info=setup.info,
        device=setup.device,
        workers=setup.workers,
        student=training.generator,
        batch_size=training.batch_size,
        teacher=setup.teacher,
        features=setup.features,
        asking_terms=training.asking_terms,
        networks=own,
    )
    return BASES[training.base.kind].build(training.base, base_setup)


def check(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where `networks` does. They are built without weights."""
    with torch.device("meta"):
        networks(training, info)


def require_pairing(base: Base, pairing: Pairing) -> None:
    """Raises ConfigError where a base needs inputs and targets that belong together otherwise.

    Args:
        base: the config; it need not be resolved.
        pairing: how those of the data do; "pictures": from noise.
    """
    kind = BASES[base.kind]
    if pairing in kind.pairings:
        return
    words = {"pairs": "pairs", "unpaired": "unpaired pictures", "pictures": "pictures from noise"}
    allowed = [name for name, each in BASES.items() if pairing in each.pairings]
    raise ConfigError(
        f"student.base.kind: {base.kind!r} is for {' or '.join(words[each] for each in kind.pairings)}, "
        f"these data are {words[pairing]}; use one of {', '.join(allowed)}"
    )


def require_loss(training: DistillTraining) -> None:
    """Raises ConfigError where neither the base nor a term gives the student a loss."""
    if training.base.learns or training.active_terms:
        return
    raise ConfigError(
        f"student.base.kind: {training.base.kind!r} without a weight above 0, in the base or of a term, "
        "learns nothing; give a weight that stays above 0, for example student.terms.mi.weight=0.1, or "
        "another base"
    )


def _check_execution(training: DistillTraining, own: Networks) -> None:
    """Raises ConfigError where `execution` does not go with activations, or with teachers that learn."""
    base, execution = training.base, training.execution
    if base.trains_teachers and execution.microbatch is not None:
        raise ConfigError(
            f"student.execution.microbatch: base {base.kind!r} takes its teachers' pictures of a whole "
            "minibatch; leave it out"
        )
    if "adaptors" in own:
        for option in ("compile", "activation_checkpointing"):
            if getattr(execution, option):
                raise ConfigError(
                    f"student.execution.{option}: base {base.kind!r} sees activations inside of the "
                    "networks; leave it out, or use a base without activations"
                )
        if execution.microbatch is not None and distributed.has_batch_norm(own["adaptors"]):
            raise ConfigError(
                f"student.execution.microbatch: the adaptors of base {base.kind!r} have batch norms, whose "
                "statistics would be those of a microbatch; leave it out, or use a base without activations"
            )
    for name, network in own.items():
        distributed.refuse_execution(execution, network, "student", f"{name} of base {base.kind!r}")


def require_teacher(experiment: Experiment) -> None:
    """Raises ConfigError where a base that students may have needs another teacher, or more of it.

    The bases are resolved, see `Experiment.resolved`.
    """
    for base in experiment.bases:
        is_given, where = experiment.given_teacher is not None, f"base {base.kind!r}"
        if is_given and (base.trains_teachers or base.follows_slabs):
            what = "trains teachers beside the student" if base.trains_teachers else "follows its training"
            raise ConfigError(
                f"student.base.kind: {where} {what}, and --teacher gives one that is trained; leave "
                "--teacher out, or use base plain or gan"
            )
        if is_given and base.starts_at_teacher:
            raise ConfigError(
                f"student.base.discriminator_start: {where} starts from the teacher's discriminator, and "
                "--teacher gives a generator alone; use --set student.base.discriminator_start=random"
            )
        if base.starts_at_teacher:
            parts: tuple[Any, Any] = (experiment.teacher, base)
            theirs, own = (each.discriminator for each in parts)
            teacher.require_same_discriminator(theirs, own, "student.base.discriminator")
