"""Configs of the base distillations: what a student learns from its teacher's pictures, beside its terms.

The defaults are the published weights; docs/explanation/base-distillations.md has them in one table with
their sources.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.architectures import (
    PatchDiscriminator,
    PictureGenerator,
    UnetGenerator,
)
from raydistill.config.base import Frozen, Optimizer
from raydistill.config.bounds import Amount, Interval
from raydistill.config.variants import Variants
from raydistill.errors import ConfigError

GanLossName = Literal["hinge", "least_squares", "vanilla"]
"""A loss of GANs: `method.adversarial.GAN_LOSSES`. vanilla is the cross-entropy."""
TapNames = Annotated[tuple[str, ...] | None, Field(max_length=64)]
"""Names of activations; None: the four that the family of the generator says."""


class Base(Frozen):
    """What the configs of all base distillations have."""

    kind: str

    @property
    def learns(self) -> bool:
        """Whether it gives the student a loss; where it does not, the student learns from its terms alone."""
        return True

    @property
    def needs_features(self) -> bool:
        """Whether a feature network takes part: VGG16 of a file, or one that is trained on the data."""
        return False

    @property
    def takes_teacher_activations(self) -> bool:
        """Whether the trained teacher runs in every minibatch, because its pictures alone are not enough."""
        return False

    @property
    def trains_teachers(self) -> bool:
        """Whether teachers of its own train beside the student, in place of the trained teacher."""
        return False

    @property
    def follows_slabs(self) -> bool:
        """Whether the student learns from the teacher as it was at each report of its training."""
        return False

    @property
    def starts_at_teacher(self) -> bool:
        """Whether its discriminator starts with the weights of the teacher's."""
        return False

    @property
    def takes_stored_outputs(self) -> bool:
        """Whether the trained teacher's pictures can be stored before: they are all that it gives."""
        return not (self.takes_teacher_activations or self.trains_teachers or self.follows_slabs)

    def resolved(self, teacher: Any) -> Self:
        """The same base with what it has from the training of the teacher, a `GeneratorTraining`, filled in
        where a field is None.

        Raises:
            ConfigError: the base needs what that training does not have.
        """
        return self


class NoBase(Base):
    """No base distillation: the student learns from its terms alone."""

    kind: Literal["none"] = "none"

    @property
    def learns(self) -> bool:
        """Never."""
        return False


class PlainBase(Base):
    """Distances between the student's pictures and the teacher's; a weight of 0 leaves one out."""

    kind: Literal["plain"] = "plain"
    l1_weight: Amount = 10.0
    ssim_weight: Amount = 1.0
    """Weight of 1 - SSIM."""
    mse_weight: Amount = 0.0
    """Weight of the mean squared difference."""
    robust_weight: Amount = 0.0
    """Weight of the mean of sqrt(d^2 + 0.001^2) over all differences d (Charbonnier)."""
    multiscale_weight: Amount = 0.0
    """Weight of the L1 distance averaged over the pictures and two halvings of them."""

    @property
    def learns(self) -> bool:
        """Where a weight is not 0."""
        return any(value for name, value in self if name.endswith("_weight"))


class GanBase(Base):
    """GAN compression's: a discriminator of the student's pictures, L1, and activations through 1x1 adaptors.

    On pairs the discriminator sees input and picture, and L1 is to the target. On unpaired pictures it sees
    the picture alone, and L1 is to the teacher's picture. Source: Li et al. 2020.
    """

    kind: Literal["gan"] = "gan"
    gan_loss: Annotated[GanLossName | None, Field(exclude_if=lambda name: name is None)] = None
    """None: that of the teacher, which is hinge on pairs and least_squares on unpaired pictures unless its
    config says otherwise."""
    gan_weight: Amount = 1.0
    l1_weight: Amount | None = None
    """None: 100 on pairs, 10 on unpaired pictures."""
    activation_weight: Amount | None = None
    """Weight of the sum of mean squared differences of activations. None: 1 on pairs, 0.01 on unpaired
    pictures."""
    taps: TapNames = None
    teacher: PictureGenerator | None = None
    """The teacher's generator. None: `teacher.generator`."""
    discriminator: PatchDiscriminator | None = None
    """None: that of the teacher."""
    discriminator_start: Literal["teacher", "random"] = "teacher"
    """Weights with which the discriminator starts."""
    discriminator_optimizer: Optimizer | None = None
    """None: that of the teacher."""

    @property
    def learns(self) -> bool:
        """Where a weight is not 0; those that are None are not."""
        return (self.gan_weight, self.l1_weight, self.activation_weight) != (0, 0, 0)

    @property
    def takes_teacher_activations(self) -> bool:
        """Where activations count."""
        return self.activation_weight != 0

    @property
    def starts_at_teacher(self) -> bool:
        """As `discriminator_start` says."""
        return self.discriminator_start == "teacher"

    def resolved(self, teacher: Any) -> Self:
        """The discriminator, its optimizer and the weights for the teacher's kind of data."""
        is_unpaired = teacher.recipe == "cyclegan"
        names = {name: name for name in ("discriminator", "discriminator_optimizer")}
        found = _of_teacher(self, teacher, names | {"teacher": "generator"}) | _other_loss(
            self, teacher, "gan_loss"
        )
        weights = {"l1_weight": 10.0, "activation_weight": 0.01} if is_unpaired else {}
        weights = {"l1_weight": 100.0, "activation_weight": 1.0} | weights
        found |= {name: value for name, value in weights.items() if getattr(self, name) is None}
        return self.model_copy(update=found)


class FeatureBase(Base):
    """The distances of OMGD to each teacher's picture: structure, style and content of features, smoothness.

    Style is the L1 distance of Gram matrices at every tap of a feature network, content that of the second
    tap's activations. Source: Ren et al. 2021.
    """

    kind: str
    ssim_weight: Amount = 10.0
    style_weight: Amount = 1e4
    content_weight: Amount = 10.0
    tv_weight: Amount = 1e-5
    """Weight of the total variation of the student's picture, which is a sum over pixels."""
    channel_weight: Amount = 0.0
    """Weight of the channel distillation: mean squared difference of the spatial means of activations, the
    student's through an adaptor. Published: 500 horse2zebra, 100 summer2winter and edges2shoes with
    ResNets, 10 edges2shoes and 50 Cityscapes with U-Nets, 0 Cityscapes with ResNets."""
    taps: TapNames = None

    @property
    def learns(self) -> bool:
        """Where a weight of a student's distance is not 0."""
        pictures = self.ssim_weight or self.style_weight or self.content_weight or self.tv_weight
        return bool(pictures or self.channel_weight)

    @property
    def needs_features(self) -> bool:
        """Where style or content counts."""
        return bool(self.style_weight or self.content_weight)


class OmgdBase(FeatureBase):
    """OMGD on pairs: a wide and a deep teacher train beside the student and share a discriminator.

    The student has no discriminator and sees no target. Channels are distilled from the wide teacher alone.
    """

    kind: Literal["omgd"] = "omgd"
    channel_weight: Amount = 10.0
    student_steps: Interval = 1
    """Steps of the student for each of the teachers: 1 for edges2shoes, 3 for Cityscapes."""
    wide: PictureGenerator | None = None
    """The wide teacher. None: `teacher.generator`."""
    num_teachers: Literal[1, 2] = 2
    """1: there is no deep teacher."""
    deep: PictureGenerator | None = None
    """The deep teacher. None: a quarter as wide as the wide one, with two bottlenecks a level (U-Net) or
    twice as many blocks (ResNets)."""
    teacher_l1_weight: Amount | None = None
    """Of the teachers' L1 to the target. None: that of the teacher's training, 100 as published."""
    teacher_gan_weight: Amount | None = None
    teacher_gan_loss: Annotated[GanLossName | None, Field(exclude_if=lambda name: name is None)] = None
    """None: that of the teacher's training, which is hinge unless its config says otherwise."""
    teacher_optimizer: Optimizer | None = None
    discriminator: PatchDiscriminator | None = None
    discriminator_optimizer: Optimizer | None = None
    """None, of these four: as in the teacher's training."""

    @model_validator(mode="after")
    def _one_teacher_is_wide(self) -> Self:
        if self.num_teachers == 1 and self.deep is not None:
            raise ValueError("deep: given, but num_teachers is 1; leave one of the two out")
        return self

    @property
    def trains_teachers(self) -> bool:
        """Always."""
        return True

    def resolved(self, teacher: Any) -> Self:
        """Both teachers, their discriminator and all that trains them."""
        names = {
            "wide": "generator",
            "teacher_l1_weight": "l1_weight",
            "teacher_gan_weight": "gan_weight",
            "teacher_optimizer": "optimizer",
            "discriminator": "discriminator",
            "discriminator_optimizer": "discriminator_optimizer",
        }
        found: dict[str, Any] = _of_teacher(self, teacher, names)
        found |= _other_loss(self, teacher, "teacher_gan_loss")
        if self.num_teachers == 2 and self.deep is None:
            found["deep"] = _deeper(found.get("wide", self.wide))
        return self.model_copy(update=found)


class OmgdCycleganBase(FeatureBase):
    """OMGD on unpaired pictures: after each slab of the teacher's training, the student follows the best yet.

    The teacher is trained once a sweep and keeps its networks at the reports; the student's budget has as
    many parts, and in part k it learns from the best teacher of the first k reports, by val.
    """

    kind: Literal["omgd_cyclegan"] = "omgd_cyclegan"
    channel_weight: Amount = 500.0
    teacher: PictureGenerator | None = None
    """The teacher's generator. None: `teacher.generator`."""

    def resolved(self, teacher: Any) -> Self:
        """The teacher's generator."""
        return self.model_copy(update=_of_teacher(self, teacher, {"teacher": "generator"}))

    @property
    def takes_teacher_activations(self) -> bool:
        """Where channels count."""
        return bool(self.channel_weight)

    @property
    def follows_slabs(self) -> bool:
        """Always."""
        return True


def _of_teacher(base: Base, teacher: Any, names: dict[str, str]) -> dict[str, Any]:
    """Field of a base that is None -> what the teacher's training has under the name in `names`."""
    found: dict[str, Any] = {}
    for name, theirs in names.items():
        if getattr(base, name) is not None:
            continue
        if (value := getattr(teacher, theirs, None)) is None:
            raise ConfigError(
                f"student.base.{name}: base {base.kind!r} has it from the teacher, and the recipe "
                f"{teacher.recipe!r} has no {theirs}; give --set 'student.base.{name}=JSON', or base plain"
            )
        found[name] = value
    return found


def _other_loss(base: Base, teacher: Any, name: str) -> dict[str, Any]:
    """The teacher's GAN loss where the field `name` of a base is None and that is not its recipe's default.

    A default stays None, so that the digests of earlier students stay as they are.
    """
    loss = getattr(teacher, "gan_loss", None)
    if loss is None or getattr(base, name) is not None:
        return {}
    return {} if loss == type(teacher).model_fields["gan_loss"].default else {name: loss}


def _deeper(wide: Any) -> Any:
    """A deep teacher beside a wide one, see `OmgdBase.deep`."""
    widths = {name: max(1, width // 4) for name, width in wide.widths}
    changes = {"blocks_per_level": 2} if isinstance(wide, UnetGenerator) else {}
    if hasattr(wide, "num_blocks"):
        changes = {"num_blocks": 2 * wide.num_blocks}
    return wide.model_copy(update={"widths": wide.widths.model_copy(update=widths)} | changes)


BASE_VARIANTS = Variants("kind", NoBase, PlainBase, GanBase, OmgdBase, OmgdCycleganBase)
"""Every class of base distillations; a plug-in adds to it."""
AnyBase = Annotated[Base, BASE_VARIANTS]
