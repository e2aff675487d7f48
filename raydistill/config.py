"""Configs: frozen, typed, printable, identified by a digest.

A preset is a function returning a full `Experiment`. Overrides are dotted paths (`dotted.py`). Only the canonical JSON of a
config travels to workers; where a file lies (`Location`) and how a training is carried out (`Execution`) are not part of what it is, so
they are left out of the digest.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from raydistill.architectures import (
    STYLEGAN_GROUP,
    AnyGenerator,
    EnergyNetwork,
    Frozen,
    JudgeNetwork,
    PatchDiscriminator,
    PictureGenerator,
    SaganDiscriminator,
    SaganGenerator,
    StyleganDiscriminator,
    StyleganGenerator,
)
from raydistill.kinds import CODE, Kinds

_LOCATION, _EXECUTION = "location", "execution"
Location = Annotated[str, _LOCATION]
"""A path. Not part of a digest: the digest of the content stands beside it."""

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]


# ---- the mutual-information term ------------------------------------------------------------------------------------


class Optimizer(Frozen):
    learning_rate: PositiveFloat
    betas: Betas
    decay_start: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the budget after which the learning rate falls linearly to 0; 1.0: constant."""


class Term(Frozen):
    """What every mutual-information term has. weight 0 switches it off: nothing of it is built."""

    kind: str
    weight: NonNegativeFloat
    positive: Literal["teacher", "target"] = "teacher"
    """The picture that the student's output is paired with: the teacher's output, or the real one (the paper's pix2pix code)."""


class LearntTerm(Term):
    """A term with a network of its own."""

    optimizer: Optimizer
    """Of that network."""


class MutualInformation(LearntTerm):
    """The variational energy-based term (VEM). The defaults are the published ones, with the command line's step size."""

    kind: Literal["vem"] = "vem"
    weight: NonNegativeFloat = 0.1
    start: Literal["student", "other", "noise", "replay"] = "student"
    """Where the chains start: at the student's own output (published), at the teacher's output for another picture of the batch, at uniform
    noise, or where older chains ended."""
    num_steps: NonNegativeInt = 10
    """Langevin steps; 0: the start itself is the negative."""
    step_size: PositiveFloat = 1.0
    noise_std: NonNegativeFloat = 0.005
    clamp: bool = True
    """Clamp the negatives to [-1, 1] once, after the last step."""
    replay_size: PositiveInt | None = None
    """Pictures in the buffer of `start: replay`; None: 256."""
    l2_weight: NonNegativeFloat = 0.05
    energy: EnergyNetwork = EnergyNetwork()
    optimizer: Optimizer = Optimizer(learning_rate=1e-4, betas=(0.0, 0.999))

    @model_validator(mode="after")
    def _only_replay_has_a_buffer(self) -> "MutualInformation":
        if self.replay_size is not None and self.start != "replay":
            raise ValueError(f"replay_size {self.replay_size} is for start 'replay', given start {self.start!r}; leave replay_size out")
        return self


class VariationalInformation(LearntTerm):
    """VID on the output pictures: a Gaussian around the student's output with one learnt variance a channel."""

    kind: Literal["vid"] = "vid"
    weight: NonNegativeFloat = 1.0
    initial_variance: PositiveFloat = 5.0
    optimizer: Optimizer = Optimizer(learning_rate=1e-2, betas=(0.9, 0.999))


class PairCritic(LearntTerm):
    """A discriminator of pairs: (teacher's, student's) against (student's, student's)."""

    kind: Literal["critic"] = "critic"
    weight: NonNegativeFloat = 0.1
    discriminator: PatchDiscriminator = PatchDiscriminator(width=24, num_layers=2)
    optimizer: Optimizer = Optimizer(learning_rate=1e-3, betas=(0.5, 0.999))


TERM_KINDS = Kinds("kind", MutualInformation, VariationalInformation, PairCritic)
AnyTerm = Annotated[Term, TERM_KINDS]


# ---- data -----------------------------------------------------------------------------------------------------------


class Degradation(Frozen):
    """How inputs are made of the pictures, which are then the targets: image enhancement. The default makes none."""

    scale: Literal[1, 2, 4] = 1
    """The mean of so many by so many pixels becomes one: super-resolution."""
    noise_std: Annotated[float, Field(ge=0, le=255)] = 0.0
    """Of normal noise, in steps of 8-bit values, added after that: denoising."""

    @property
    def is_on(self) -> bool:
        return self != Degradation()


class DataSet(Frozen):
    """What every data set has: the size of its pictures, to which it is decoded."""

    kind: str
    height: PositiveInt
    width: PositiveInt
    load_height: PositiveInt | None = None
    """Training pictures are decoded at load_height x load_width, and a part of height x width is shown, another one in each pass; the
    published experiments have 286 for 256. None, and None for both: they are shown whole."""
    load_width: PositiveInt | None = None
    degrade: Degradation = Degradation()
    """Not for aligned and unpaired pictures, which have inputs of their own."""


class ShapesData(DataSet):
    """The embedded data set: label maps and pictures that raydistill draws itself."""

    kind: Literal["shapes"] = "shapes"
    height: PositiveInt = 32
    width: PositiveInt = 32
    num_train: PositiveInt = 4096
    num_val: Annotated[int, Field(ge=2)] = 192
    num_test: Annotated[int, Field(ge=2)] = 192
    seed: int = 0


FolderLayout = Literal["auto", "labelled", "cityscapes", "aligned", "unpaired", "nvlabs", "idx", "npz", "classes", "pictures"]


class FolderData(DataSet):
    """A folder or file in one of the layouts of `data/layouts.py`."""

    kind: Literal["folder"] = "folder"
    root: Location = ""
    layout: FolderLayout = "auto"
    """auto: what is found; loose pictures are A|B where the first is twice as wide as high."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Aligned and unpaired pictures only: which half or domain is the input. A is the left half."""


DATA_KINDS = Kinds("kind", ShapesData, FolderData)
Data = Annotated[DataSet, DATA_KINDS]


# ---- training -------------------------------------------------------------------------------------------------------


class Stored(Frozen):
    """Something on disk with the digest of its content: prepared data, or a trained network's folder."""

    path: Location
    digest: str


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
    execution: Annotated[Execution, _EXECUTION] = Execution()
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


class JudgeTraining(Training):
    """The evaluator: predicts the input (classes, or the input picture where there are no labels) from a real picture."""

    recipe: Literal["judge"] = "judge"
    network: JudgeNetwork = JudgeNetwork()


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
            raise ValueError("budget_nimg 0 leaves random weights as they are; give 1 or more, or a network to start from (--teacher)")
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
        options = {name for name, value in self.execution if value != getattr(Execution(), name)} - {"fsdp_min_params"}
        if options:
            raise ValueError(f"execution.{min(options)}: gradients of gradients need whole, plain networks and batches; leave it out")
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


TEACHER_KINDS = Kinds("recipe", Pix2pixTraining, EnhanceTraining, SaganTraining, Stylegan2Training, CycleganTraining)
TeacherTraining = Annotated[GeneratorTraining, TEACHER_KINDS]
AnyTraining = Annotated[Training, Kinds("recipe", JudgeTraining, DistillTraining, TEACHER_KINDS)]


class Experiment(Frozen):
    """All that one sweep needs: the data, and how judge, teacher and students are trained."""

    data: Data
    judge: JudgeTraining
    teacher: TeacherTraining
    student: DistillTraining


class Job(Frozen):
    """Everything `train` needs, as JSON. Two jobs with one key give the same result."""

    version: Literal[2] = 2
    """Raised when `train` gives another result for the same config, so that nothing older is reused."""
    training: AnyTraining
    data: Stored
    judge: Stored | None = None
    teacher: Stored | None = None

    @model_validator(mode="after")
    def _judge_gives_no_loss(self) -> "Job":
        if self.judge is not None and self.teacher is not None and self.judge.digest == self.teacher.digest:
            raise ValueError(f"network {self.judge.digest} is the teacher, so it cannot be the judge too: what gives a loss never scores")
        return self

    @property
    def key(self) -> str:
        """trial_key: digest of resolved config, seed, data, teacher and evaluator."""
        return digest(self)


# ---- digests --------------------------------------------------------------------------------------------------------


def canonical(value: Any) -> Any:
    """`value` as JSON data, without the places where things lie and the way they are carried out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        kept = {name: canonical(getattr(value, name)) for name in fields if not {_LOCATION, _EXECUTION} & set(fields[name].metadata)}
        return kept | ({"plugin": CODE[type(value)]} if type(value) in CODE else {})
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    return value


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
