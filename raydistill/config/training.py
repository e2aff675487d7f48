"""Configs of trainings: one class for each recipe."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config import renamed
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
from raydistill.config.bases import AnyBase, GanLossName, PlainBase
from raydistill.config.bounds import Amount, BatchSize, Cost, Interval, NumImages, Share, WholeNumber
from raydistill.config.terms import AnyTerm, MutualInformation, Term, TermName
from raydistill.config.variants import Variants

OutputKind = Literal["float32", "uint8"]
"""How the teacher's pictures are given to its students."""


class Execution(Frozen):
    """How a training is computed. Not part of a digest, because it changes no result beyond rounding."""

    sharding: Literal["data_parallel", "fsdp"] = "data_parallel"
    """data_parallel: every worker holds whole networks. fsdp: each worker holds a part of the large networks'
    weights, gradients and optimizer moments."""
    fsdp_min_params: NumImages = 1_000_000
    """Networks, and blocks within them, with fewer parameters are not split: gathering them would cost more
    than they weigh."""
    microbatch: BatchSize | None = None
    """Largest number of images in one forward pass of a worker; gradients are summed over the batch. None:
    the worker's whole share of the batch at once."""
    activation_checkpointing: bool = False
    """Blocks keep no activations and compute them again in the backward pass."""
    compile: bool = False
    """Compile the networks with torch.compile; on a CPU that needs a C++ compiler."""
    resident_share: Share = 0.1
    """On a GPU: the decoded training pictures and the teacher's stored outputs lie in its memory where they
    take at most this share of it, a copy for each trial. Otherwise each minibatch is read ahead and
    copied."""
    record_teachers_gb: Amount | None = None
    """Of a base that trains teachers beside the student: what they give is recorded, and read by later
    trainings with the same teachers, where it takes no more GiB; 0: never. None: --teacher-cache-gb, and 2
    outside a sweep."""


class Training(Frozen):
    """What the configs of all recipes have. Progress counts images (nimg), over all workers."""

    recipe: str
    seed: WholeNumber = 0
    batch_size: BatchSize = 16
    """Images of a minibatch over all workers; must be divisible by their number."""
    budget_nimg: NumImages
    """Length of the training in images."""
    report_every_nimg: NumImages
    """A checkpoint and an evaluation on val follow after every so many images, and at the end."""
    flip: bool = False
    """Mirror each training pair with probability 1/2, drawn anew in every pass."""
    ema_nimg: Cost = 0.0
    """Half-life in images of the moving average of the generator, which is what is evaluated and stored; 0:
    no average is taken."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of forward and backward passes. Weights, energies, losses, scores and the teacher are float32
    in both."""
    execution: Annotated[Execution, EXECUTION] = Execution()
    optimizer: Optimizer

    @property
    def share_multiple(self) -> int:
        """Each worker's share of the batch must be a multiple of this number."""
        return 1

    def misfit(self, number: int, workers: str) -> str | None:
        """Why `number` workers cannot share the batch, as the end of a message; None: they can.

        Args:
            workers: what the message calls them, such as "one worker".
        """
        if self.batch_size % number:
            return f"{self.batch_size} is not divisible by {workers}; use a multiple of {number}"
        if self.batch_size // number % self.share_multiple:
            needed = self.share_multiple * number
            why = "the discriminator sees pictures by fours"
            return f"{self.batch_size} for {workers}: {why}; use a multiple of {needed}"
        return None


class EvaluatorTraining(Training):
    """Trains the evaluator, which predicts the input from a real picture.

    It predicts classes where there are labels, else the input picture.
    """

    recipe: Literal["evaluator"] = "evaluator"
    network: EvaluatorNetwork = EvaluatorNetwork()


class GeneratorTraining(Training):
    """Trains a generator without a teacher: the teacher itself, or the baseline that has none.

    Each recipe is a subclass that says which generators it can train.
    """

    start: Stored | None = None
    """A stored network of the same config to start from, such as an imported one; None: random weights."""
    outputs: Annotated[OutputKind, Field(exclude_if=lambda kind: kind == "float32")] = "float32"
    """Of a teacher: how its pictures are given to students. uint8: rounded to 8 bits, also where the teacher
    makes them in the loop; stored, they then take a quarter of the space. It changes what students learn
    from, and nothing about the teacher itself."""
    keeps_reports: Annotated[bool, Field(exclude_if=lambda keeps: not keeps)] = False
    """The network of every report that is the best so far by val is kept, for students that follow the
    training. A sweep sets it where a base asks for it."""
    generator: AnyGenerator


class Pix2pixTraining(GeneratorTraining):
    """pix2pix: a conditional GAN, plus the L1 distance to the target."""

    recipe: Literal["pix2pix"] = "pix2pix"
    generator: PictureGenerator
    discriminator: PatchDiscriminator
    discriminator_optimizer: Optimizer
    gan_loss: Annotated[GanLossName, Field(exclude_if=lambda name: name == "hinge")] = "hinge"
    l1_weight: Amount = 100.0
    gan_weight: Amount = 1.0


class EnhanceTraining(GeneratorTraining):
    """The L1 distance to the target alone: for super-resolution, denoising and similar tasks."""

    recipe: Literal["enhance"] = "enhance"
    generator: PictureGenerator


class SaganTraining(GeneratorTraining):
    """The self-attention GAN without classes: hinge losses and spectral norms."""

    recipe: Literal["sagan"] = "sagan"
    generator: SaganGenerator
    discriminator: SaganDiscriminator = SaganDiscriminator()
    discriminator_optimizer: Optimizer


class Stylegan2Training(GeneratorTraining):
    """StyleGAN2: non-saturating losses, lazy R1 and path length penalties, style mixing.

    Truncation is a field of the generator.
    """

    recipe: Literal["stylegan2"] = "stylegan2"
    generator: StyleganGenerator
    discriminator: StyleganDiscriminator
    discriminator_optimizer: Optimizer
    r1_weight: Amount = 10.0
    r1_every: Interval = 16
    """The R1 penalty is computed in one of so many minibatches, and multiplied by that number."""
    path_weight: Amount = 2.0
    path_every: Interval = 4
    """The same for the path length penalty."""
    mixing: Share = 0.9
    """Share of images whose styles come from two latents: from a random layer on, the second one's."""

    @model_validator(mode="after")
    def _differentiates_twice(self) -> Self:
        default = Execution()
        changed = {name for name, value in self.execution if value != getattr(default, name)}
        if refused := changed - {"fsdp_min_params", "record_teachers_gb"}:
            raise ValueError(
                f"execution.{min(refused)}: gradients of gradients need whole, plain networks and batches; "
                "leave it out"
            )
        if self.precision != "float32":
            raise ValueError(f"precision {self.precision}: gradients of gradients need float32")
        if (misfit := self.misfit(1, "one worker")) is not None:
            raise ValueError(f"batch_size {misfit}")
        return self

    @property
    def share_multiple(self) -> int:
        """The discriminator's group of pictures: a worker's share consists of whole groups."""
        return STYLEGAN_GROUP


class CycleganTraining(GeneratorTraining):
    """CycleGAN: two generators and two discriminators with GAN losses, cycle and identity losses.

    The discriminators see pictures from pools of older ones. The generator from A to B is the one that is
    stored.
    """

    recipe: Literal["cyclegan"] = "cyclegan"
    generator: PictureGenerator
    """Architecture of both generators, A to B and B to A."""
    discriminator: PatchDiscriminator
    """Architecture of the discriminators of both domains, which see pictures without a condition."""
    discriminator_optimizer: Optimizer
    gan_loss: Annotated[GanLossName, Field(exclude_if=lambda name: name == "least_squares")] = "least_squares"
    cycle_weight: Amount = 10.0
    identity_weight: Amount = 0.5
    """The identity loss is multiplied by this and by `cycle_weight`."""
    pool_size: Annotated[int, Field(ge=0, le=2**16)] = 50
    """Number of pictures in each pool; 0: the discriminators see the newest pictures only."""

    @model_validator(mode="after")
    def _takes_whole_batches(self) -> Self:
        if self.execution.microbatch is not None:
            raise ValueError("execution.microbatch: the pools take a whole batch in its order; leave it out")
        return self


class DistillTraining(Training):
    """Trains a student: one base distillation, and any number of mutual-information terms beside it."""

    recipe: Literal["distill"] = "distill"
    generator: AnyGenerator
    init: Literal["random", "teacher", "auto"] = "random"
    """teacher: the student starts with the teacher's channels of the largest score. It must then have the
    teacher's family and depth, and no width above the teacher's. auto: so do students of which this is true
    and whose base learns from that teacher; the others start at random, which the plan says."""
    init_score: Annotated[Literal["l1", "content"], Field(exclude_if=lambda score: score == "l1")] = "l1"
    """What channels of the teacher are chosen by: the L1 norm of the weights that make one, or how much the
    content of pictures depends on it (CAGC, StyleGAN2 alone)."""
    base: AnyBase = PlainBase()
    terms: Annotated[dict[TermName, AnyTerm], Field(max_length=16)] = {"mi": MutualInformation()}
    """Name -> term: `student.terms.mi.weight`. `student.mi` is short for `student.terms.mi`."""

    @model_validator(mode="before")
    @classmethod
    def _names_of_before(cls, data: object) -> object:
        return renamed.student_now(data)

    @property
    def active_terms(self) -> dict[str, Term]:
        """The terms whose weight is not 0."""
        return {name: term for name, term in self.terms.items() if term.weight}

    @property
    def asking_terms(self) -> tuple[str, ...]:
        """Names of the active terms whose questions to the teacher can be recorded, see `Term.asks_once`."""
        return tuple(sorted(name for name, term in self.active_terms.items() if term.asks_once))

    def without_terms(self) -> Self:
        """The same training by its base distillation alone: every term has the weight 0."""
        off = {name: term.model_copy(update={"weight": 0.0}) for name, term in self.terms.items()}
        return self.model_copy(update={"terms": off})


TEACHER_VARIANTS = Variants(
    "recipe", Pix2pixTraining, EnhanceTraining, SaganTraining, Stylegan2Training, CycleganTraining
)
"""Every recipe that can train a teacher."""
TeacherTraining = Annotated[GeneratorTraining, TEACHER_VARIANTS]
StudentTraining = DistillTraining | GeneratorTraining
"""How a network of the size of a student is trained: from a teacher, or as the baseline without one."""
