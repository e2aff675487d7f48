"""Configs of trainings: one class a recipe."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from raydistill.config.architectures import (
    STYLEGAN_GROUP,
    AnyGenerator,
    EvaluatorNetwork,
    PatchDiscriminator,
    PictureGenerator,
    SaganDiscriminator,
    SaganGenerator,
    StyleganDiscriminator,
    StyleganGenerator,
)
from raydistill.config.base import EXECUTION, Frozen, Optimizer, Stored
from raydistill.config.terms import AnyTerm, MutualInformation
from raydistill.config.variants import Variants


class Execution(Frozen):
    """How a training is carried out. Not part of a digest: it changes no result beyond rounding."""

    sharding: Literal["data_parallel", "fsdp"] = "data_parallel"
    """data_parallel: every worker holds whole networks. fsdp: each holds a part of the large ones' weights, gradients and moments."""
    fsdp_min_params: PositiveInt = 1_000_000
    """Networks, and blocks within them, with fewer parameters are not split: gathering them would cost more than they weigh."""
    microbatch: PositiveInt | None = None
    """At most so many images a worker and forward, gradients summed over the batch; None: a worker's whole part at once."""
    activation_checkpointing: bool = False
    """Blocks keep no activations and are computed again in the backward."""
    compile: bool = False
    """By torch.compile; on a CPU it needs a C++ compiler."""


class Training(Frozen):
    """What every recipe shares. Progress counts images, over all workers."""

    recipe: str
    seed: int = 0
    batch_size: PositiveInt = 16
    """Over all workers; must be divisible by their number."""
    budget_nimg: PositiveInt
    report_every_nimg: PositiveInt
    """A checkpoint and an evaluation on val after so many images, and at the end."""
    flip: bool = False
    """Mirror each training pair with probability 1/2, anew in every pass."""
    ema_nimg: NonNegativeFloat = 0.0
    """Half-life of the averaged generator that is evaluated and kept; 0: no averaging."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of forward and backward. Weights, energies, losses, scores and the teacher are float32 in both."""
    execution: Annotated[Execution, EXECUTION] = Execution()
    optimizer: Optimizer

    @property
    def share_multiple(self) -> int:
        """Each worker's share of the batch must be a multiple of it."""
        return 1

    def misfit(self, number: int, workers: str) -> str | None:
        """Why so many workers, called that, cannot share the batch; None: they can."""
        if self.batch_size % number:
            return f"{self.batch_size} is not divisible by {workers}; use a multiple of {number}"
        if self.batch_size // number % self.share_multiple:
            needed = self.share_multiple * number
            return f"{self.batch_size} for {workers}: the discriminator sees pictures by fours; use a multiple of {needed}"
        return None


class EvaluatorTraining(Training):
    """The evaluator: predicts the input (classes, or the input picture where there are no labels) from a real picture."""

    recipe: Literal["evaluator"] = "evaluator"
    network: EvaluatorNetwork = EvaluatorNetwork()


class GeneratorTraining(Training):
    """A generator without a teacher: the teacher itself, and the baseline that has none. Every recipe names what `generator` may be."""

    budget_nimg: NonNegativeInt
    """0: `start` as it is."""
    start: Stored | None = None
    """A network of the same config to start from, such as an imported one; None: random weights."""
    generator: AnyGenerator

    @model_validator(mode="after")
    def _nothing_comes_from_nothing(self) -> Self:
        if self.budget_nimg == 0 and self.start is None:
            raise ValueError(
                "budget_nimg 0 leaves random weights as they are; give 1 or more, or a network to start from (--teacher)"
            )
        return self


class Pix2pixTraining(GeneratorTraining):
    """Conditional GAN (hinge) + L1 to the target."""

    recipe: Literal["pix2pix"] = "pix2pix"
    generator: PictureGenerator
    discriminator: PatchDiscriminator
    discriminator_optimizer: Optimizer
    l1_weight: NonNegativeFloat = 100.0
    gan_weight: NonNegativeFloat = 1.0


class EnhanceTraining(GeneratorTraining):
    """L1 to the target and nothing else: super-resolution, denoising and other dense predictions of pictures."""

    recipe: Literal["enhance"] = "enhance"
    generator: PictureGenerator


class SaganTraining(GeneratorTraining):
    """Self-attention GAN, unconditional: hinge losses and spectral norms."""

    recipe: Literal["sagan"] = "sagan"
    generator: SaganGenerator
    discriminator: SaganDiscriminator = SaganDiscriminator()
    discriminator_optimizer: Optimizer


class Stylegan2Training(GeneratorTraining):
    """StyleGAN2: non-saturating losses, lazy R1, lazy path lengths, style mixing. Truncation is the generator's own."""

    recipe: Literal["stylegan2"] = "stylegan2"
    generator: StyleganGenerator
    discriminator: StyleganDiscriminator
    discriminator_optimizer: Optimizer
    r1_weight: NonNegativeFloat = 10.0
    r1_every: PositiveInt = 16
    """Minibatches; both penalties are weighted by theirs."""
    path_weight: NonNegativeFloat = 2.0
    path_every: PositiveInt = 4
    mixing: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Share of images whose styles come from two latents, from a random layer on from the second."""

    @model_validator(mode="after")
    def _differentiates_twice(self) -> Self:
        options = {name for name, value in self.execution if value != getattr(Execution(), name)} - {
            "fsdp_min_params"
        }
        if options:
            raise ValueError(
                f"execution.{min(options)}: gradients of gradients need whole, plain networks and batches; leave it out"
            )
        if self.precision != "float32":
            raise ValueError(f"precision {self.precision}: gradients of gradients need float32")
        if (misfit := self.misfit(1, "one worker")) is not None:
            raise ValueError(f"batch_size {misfit}")
        return self

    @property
    def share_multiple(self) -> int:
        return STYLEGAN_GROUP


class CycleganTraining(GeneratorTraining):
    """CycleGAN: two generators, two discriminators (least squares), cycles, identity, pools of older pictures. A -> B is what is kept."""

    recipe: Literal["cyclegan"] = "cyclegan"
    generator: PictureGenerator
    """Both directions'."""
    discriminator: PatchDiscriminator
    """Of both domains; it sees pictures without a condition."""
    discriminator_optimizer: Optimizer
    cycle_weight: NonNegativeFloat = 10.0
    identity_weight: NonNegativeFloat = 0.5
    """Times `cycle_weight`."""
    pool_size: NonNegativeInt = 50

    @model_validator(mode="after")
    def _takes_whole_batches(self) -> Self:
        if self.execution.microbatch is not None:
            raise ValueError("execution.microbatch: the pools take a whole batch in its order; leave it out")
        return self


class DistillTraining(Training):
    """Base distillation on the teacher's output pictures, plus the mutual-information term."""

    recipe: Literal["distill"] = "distill"
    generator: AnyGenerator
    init: Literal["random", "teacher"] = "random"
    """teacher: the teacher's channels of the largest L1 norm; its family and depth, and no width above its own."""
    l1_weight: NonNegativeFloat = 10.0
    ssim_weight: NonNegativeFloat = 1.0
    mi: AnyTerm = MutualInformation()


TEACHER_VARIANTS = Variants(
    "recipe", Pix2pixTraining, EnhanceTraining, SaganTraining, Stylegan2Training, CycleganTraining
)


TeacherTraining = Annotated[GeneratorTraining, TEACHER_VARIANTS]


AnyTraining = Annotated[Training, Variants("recipe", EvaluatorTraining, DistillTraining, TEACHER_VARIANTS)]
