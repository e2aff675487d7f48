"""Recipes: which networks there are, and which phases move them. A recipe is data for the loop in `train.py`.

GAN: phases discriminator, generator. Distillation: the phase of a mutual-information term (where it is on), and generator.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill import inherit, networks, parallel, terms
from raydistill.config import DistillTraining, Frozen, Job, JudgeTraining, LearntTerm, Optimizer, Pix2pixTraining
from raydistill.data import Batch, DataInfo, batch, load_split
from raydistill.data.outputs import compute, load_outputs
from raydistill.evaluate import Evaluator, batches, confusion_counts, require_finite
from raydistill.losses import dissimilarity, hinge_discriminator, hinge_generator
from raydistill.metrics import mean_iou
from raydistill.parallel import Workers, total
from raydistill.terms import Numbers, Pairs
from raydistill.vem import alignment


@dataclass
class Step:
    """One minibatch on its way through the phases. All tensors are this worker's part."""

    batch: Batch
    indices: np.ndarray
    """Which training images, (B,)."""
    flips: np.ndarray
    """Which of them are mirrored, bool (B,)."""
    nimg: int
    """Images seen before this minibatch, over all workers."""
    offset: int = 0
    """Place of its first image in the global batch."""
    output: Tensor = field(init=False)
    """The trained network's output, with its graph; s in a distillation."""
    teacher: Tensor = field(init=False)
    """t: the teacher's output; only in a distillation."""
    pairs: Pairs | None = None
    """What the mutual-information term sees; only in a distillation."""


class Phase(NamedTuple):
    name: str
    network: str
    """The network whose parameters it moves; no other is changed."""
    config: Optimizer
    optimizer: torch.optim.Optimizer
    loss: Callable[[Step], tuple[Tensor, Numbers]]
    """Step -> (scalar to descend, numbers to log)"""


class Recipe(NamedTuple):
    kind: str
    """What the finished network is: generator or judge."""
    network: str
    """The network that is trained for; its average is what is evaluated and kept."""
    config: Frozen
    networks: dict[str, nn.Module]
    phases: tuple[Phase, ...]
    forward: Callable[[Step], None]
    """Fills in the step's outputs, once for all phases."""
    evaluate: Callable[[Any], dict[str, float]]
    """Finished network -> scores on val. Collective."""
    context: dict[str, Any]
    """What the scores were computed with."""
    columns: Callable[[Any], dict[str, Callable[[Batch], Tensor]]]
    """Finished network -> named pictures for the sample grid."""


class Bench(NamedTuple):
    """Where a recipe runs."""

    info: DataInfo
    device: torch.device
    workers: Workers


def build(job: Job, bench: Bench) -> Recipe:
    return RECIPES[job.training.recipe](job, bench)


def _pix2pix(job: Job, bench: Bench) -> Recipe:
    """Conditional GAN with hinge losses + L1 to the target. Source: Isola et al. 2017; what differs: hinge losses."""
    training = job.training
    assert isinstance(training, Pix2pixTraining)
    generator = networks.generator(training.generator, bench.info, training.seed)
    if training.start is not None:
        generator.load_state_dict(networks.load_generator(training.start)[1])
    generator.to(bench.device)
    discriminator = networks.discriminator(training.discriminator, bench.info, training.seed).to(bench.device)

    def forward(step: Step) -> None:
        step.output = generator(step.batch.inputs)

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        x = step.batch.inputs
        pairs = torch.cat([torch.cat([x, step.batch.target], 1), torch.cat([x, step.output.detach()], 1)])
        real, fake = discriminator(pairs).chunk(2)
        loss = hinge_discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss}

    def generator_loss(step: Step) -> tuple[Tensor, Numbers]:
        l1 = F.l1_loss(step.output, step.batch.target)
        gan = hinge_generator(discriminator(torch.cat([step.batch.inputs, step.output], 1)))
        return training.l1_weight * l1 + training.gan_weight * gan, {"train/l1": l1, "train/gan_loss": gan}

    phases = (
        _phase("discriminator", discriminator, training.discriminator_optimizer, discriminator_loss),
        _phase("generator", generator, training.optimizer, generator_loss),
    )
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    return _generator_recipe(job, bench, modules, phases, forward, training.generator, "output")


def _distill(job: Job, bench: Bench) -> Recipe:
    """Base distillation on the teacher's pictures + mi_weight * a mutual-information term of `terms.py`.

    Per minibatch: student forward, step of the term's own network, student step with the UPDATED term (the schedule of the paper's code).
    """
    training = job.training
    assert isinstance(training, DistillTraining)
    mi = training.mi
    student = networks.generator(training.generator, bench.info, training.seed)
    if training.init == "teacher":
        assert job.teacher is not None
        student.load_state_dict(inherit.student_state(*networks.load_generator(job.teacher), training.generator, "student.generator"))
    student.to(bench.device)
    modules: dict[str, nn.Module] = {"generator": student}
    teacher = teacher_pictures(job, bench)
    terms.check(mi, bench.info.height, bench.info.width, training.batch_size)
    _require_outputs(student, teacher, job, bench)

    def forward(step: Step) -> None:
        step.teacher = teacher(step.indices, step.flips)
        step.output = student(step.batch.inputs)
        positive = step.teacher if mi.positive == "teacher" else step.batch.target
        drawn = None if step.pairs is None else step.pairs.negatives  # a later forward of the same images
        step.pairs = Pairs(step.output, step.teacher, positive, step.indices, step.flips, step.nimg + step.offset, drawn)

    def base_loss(step: Step) -> tuple[Tensor, Numbers]:
        s, t = step.output, step.teacher
        l1, ssim = F.l1_loss(s, t), dissimilarity(s, t)
        return training.l1_weight * l1 + training.ssim_weight * ssim, {"train/l1": l1, "train/dissimilarity": ssim}

    phases: tuple[Phase, ...]
    if mi.weight == 0:
        phases = (_phase("generator", student, training.optimizer, base_loss),)
        return _generator_recipe(job, bench, modules, phases, forward, training.generator, "student")

    term = terms.build(mi, terms.Surroundings(training.seed, bench.info, bench.device, bench.workers, teacher))

    def student_loss(step: Step) -> tuple[Tensor, Numbers]:
        base, numbers = base_loss(step)
        assert step.pairs is not None
        loss = term.student_loss(step.pairs)
        return base + mi.weight * loss, numbers | {"energy/alignment": alignment(loss, step.output, step.teacher)}

    def own_loss(step: Step) -> tuple[Tensor, Numbers]:
        assert step.pairs is not None
        return term.own_loss(step.pairs)

    phases = (_phase("generator", student, training.optimizer, student_loss),)
    if isinstance(mi, LearntTerm):
        phases = (_phase(term.name, term.networks[term.name], mi.optimizer, own_loss), *phases)
    return _generator_recipe(job, bench, modules | term.networks, phases, forward, training.generator, "student")


def _require_outputs(student: nn.Module, teacher: terms.TeacherPictures, job: Job, bench: Bench) -> None:
    """Raises ConfigError where the outputs for the first training pictures are no pictures that can be paired."""
    first = np.arange(min(2, bench.info.counts["train"]))
    flips = np.zeros(len(first), bool)
    part = batch(load_split(job.data, "train"), first, device=bench.device, flips=flips)
    with torch.no_grad():
        outputs = student.eval()(part.inputs)
    student.train()
    terms.require_pictures(teacher(first, flips), part.target, "teacher.generator")
    terms.require_pictures(outputs, part.target, "student.generator")


def _judge(job: Job, bench: Bench) -> Recipe:
    """Supervised: classes by cross entropy, or the input picture by L1 where the data has no labels."""
    training = job.training
    assert isinstance(training, JudgeTraining)
    judge = networks.judge(training.network, bench.info, training.seed).to(bench.device)
    ignore = -100 if bench.info.ignore_index is None else bench.info.ignore_index

    def forward(step: Step) -> None:
        step.output = judge(step.batch.target).prediction

    def judge_loss(step: Step) -> tuple[Tensor, Numbers]:
        if step.batch.labels is None:
            loss = F.l1_loss(step.output, step.batch.inputs)
        else:
            # over all pixels, where ignored ones count 0: so the loss of a batch is the mean of those of its parts
            summed = F.cross_entropy(step.output, step.batch.labels, ignore_index=ignore, reduction="sum")
            loss = summed / step.batch.labels.numel()
        return loss, {"train/judge_loss": loss}

    val = load_split(job.data, "val")

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        parts = [(network(part.target).prediction, part) for part in batches(val, bench.device, bench.workers)]
        broken = torch.stack([~torch.isfinite(prediction).all() for prediction, _ in parts]).float().sum()
        require_finite(broken, "a prediction of the judge", bench.workers)
        if not bench.info.has_labels:
            summed = torch.stack([(prediction - part.inputs).abs().double().sum() for prediction, part in parts]).sum()
            count = len(val) * bench.info.input_channels * bench.info.height * bench.info.width
            return {"val/input_l1": float(total(summed, bench.workers)) / count}
        counts = [
            confusion_counts(prediction, part.labels, bench.info.ignore_index) for prediction, part in parts if part.labels is not None
        ]
        return {"val/miou": mean_iou(total(torch.stack(counts).sum(0), bench.workers))}

    phases = (_phase("judge", judge, training.optimizer, judge_loss),)
    return Recipe("judge", "judge", training.network, {"judge": judge}, phases, forward, evaluate, {}, lambda network: {})


RECIPES: dict[str, Callable[[Job, Bench], Recipe]] = {"pix2pix": _pix2pix, "distill": _distill, "judge": _judge}


def teacher_pictures(job: Job, bench: Bench) -> terms.TeacherPictures:
    """The teacher's outputs on training images: read where the teacher stage stored them, else computed, the same bits.

    The teacher is float32 and not compiled, whatever the student is.
    """
    assert job.teacher is not None
    outputs = load_outputs(job.teacher, job.data, job.training.flip)
    if outputs is not None:
        return lambda indices, flips: torch.from_numpy(outputs[flips.astype(int), indices]).to(bench.device)
    split = load_split(job.data, "train")
    network = networks.load(job.teacher, bench.info, bench.device)
    parallel.split(network, job.training.execution, bench.device, bench.workers)
    return lambda indices, flips: compute(network, batch(split, indices, device=bench.device, flips=flips).inputs)


def _phase(network: str, module: nn.Module, config: Optimizer, loss: Callable[[Step], tuple[Tensor, Numbers]]) -> Phase:
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    return Phase(network, network, config, optimizer, loss)


def _generator_recipe(
    job: Job,
    bench: Bench,
    modules: dict[str, nn.Module],
    phases: tuple[Phase, ...],
    forward: Callable[[Step], None],
    config: Frozen,
    column: str,
) -> Recipe:
    assert job.judge is not None
    evaluator = Evaluator(job.data, job.judge, "val", bench.device, bench.workers)

    def evaluate(network: nn.Module) -> dict[str, float]:
        return evaluator.score(lambda part: network(part.inputs))

    def columns(network: nn.Module) -> dict[str, Callable[[Batch], Tensor]]:
        shown: dict[str, Callable[[Batch], Tensor]] = {}
        if job.teacher is not None:
            teacher = networks.load(job.teacher, bench.info, bench.device)
            shown["teacher"] = lambda part: teacher(part.inputs)
        return shown | {column: lambda part: network(part.inputs)}

    return Recipe("generator", "generator", config, modules, phases, forward, evaluate, evaluator.context, columns)
