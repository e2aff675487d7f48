"""OMGD: the student imitates pictures of teachers that are still learning, by features instead of a GAN.

Source: Ren et al. 2021 (Online Multi-Granularity Distillation) and its code. What differs: the teachers'
discriminator moves before the teachers see it; in their code both gradients are taken first. And a student
may read what its teachers gave to another one, see `training.recording`.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill import models
from raydistill.config.architectures import Generator
from raydistill.config.bases import FeatureBase, OmgdBase, OmgdCycleganBase
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.method import adversarial, perceptual
from raydistill.method.similarity import dissimilarity
from raydistill.models import networks, patchgan, taps
from raydistill.training import feature_losses, rows
from raydistill.training.bases.parts import (
    BaseDistillation,
    BaseSetup,
    OwnPhase,
    RecordKind,
    with_asked,
)
from raydistill.training.steps import Networks, Step, in_eval_mode, weighted_sum
from raydistill.training.terms import Numbers, Pairs, Teacher, TeacherPictures


class Featured(BaseDistillation):
    """What OMGD and its form for CycleGAN share: the distances, and the channel distillation."""

    def __init__(self, config: Any, setup: BaseSetup):
        super().__init__(config, setup)
        if config.channel_weight:
            self.moves = ("adaptors",)
            self.student_taps = taps.module_paths(setup.student, config.taps, "student.base.taps")

    def teachers_pictures(self, pairs: Pairs) -> tuple[Tensor, ...]:
        """The pictures of each teacher that the student imitates, (B, 3, H, W) without a graph."""
        return (pairs.t,)

    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The distances to every teacher's pictures, summed, plus the channel distillation of the first's."""
        config: FeatureBase = self.config
        s, ts, features = pairs.s, self.teachers_pictures(pairs), self.setup.features
        of_s, of_ts = list[Tensor](), list[list[Tensor]]()
        if config.needs_features:
            assert features is not None
            of_s = features(s)
            with torch.no_grad():
                of_ts = [features(t) for t in ts]

        def compared(loss: Callable[..., Tensor]) -> Tensor:
            """A loss of features, over all teachers."""
            return _sum(loss(features, of_s, of_t) for of_t in of_ts)

        # as published: once for each teacher, and a sum over the batch, too
        variation = config.tv_weight * len(ts) * self.setup.batch_size
        losses: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "train/dissimilarity": (config.ssim_weight, lambda: _sum(dissimilarity(s, t) for t in ts)),
            "train/style": (config.style_weight, lambda: compared(feature_losses.style)),
            "train/content": (config.content_weight, lambda: compared(feature_losses.content)),
            "train/total_variation": (variation, lambda: perceptual.total_variation(s)),
            "train/channels": (config.channel_weight, lambda: self._channels(pairs)),
        }
        return weighted_sum(losses, s)

    def _channels(self, pairs: Pairs) -> Tensor:
        """The sum over taps of the mean squared difference of spatial means."""
        means = perceptual.spatial_means
        adapted = self.setup.networks["adaptors"](pairs.activations)
        of_taps = zip(adapted.values(), pairs.teacher_activations.values(), strict=True)
        return _sum(perceptual.channel_distillation(means(own), means(other)) for own, other in of_taps)


def _sum(losses: Iterable[Tensor]) -> Tensor:
    """The sum of scalars, one or more."""
    return functools.reduce(operator.add, losses)


class OnlineTeacher:
    """The wide teacher as it is now, for terms that ask for other pictures than those of the minibatch."""

    def __init__(self, network: nn.Module, trained: Teacher, keep: Callable[[Tensor], None] | None = None):
        self.network, self.inputs, self.keep = network, trained.inputs, keep

    def __call__(self, sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [-1, 1], in eval mode: batch statistics do not move."""
        inputs = self.inputs(sample) if inputs is None else inputs
        with torch.no_grad(), in_eval_mode(self.network):
            pictures: Tensor = self.network(inputs)
        if self.keep is not None:
            self.keep(pictures)
        return pictures


class RecordedTeacher:
    """Stands for a wide teacher that is only recorded: it says to a term again what it said to it then."""

    def __init__(self, answers: Mapping[str, Tensor], term: str):
        self.answers, self.term = answers, term

    def __call__(self, sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
        """(B, 3, H, W). Raises RuntimeError where nothing was recorded for the term."""
        if self.term not in self.answers:
            raise RuntimeError(
                f"term {self.term} asks a teacher that is recorded for other pictures; its config's "
                "`asks_teacher` must be True, and the teachers then train beside the student"
            )
        return self.answers[self.term]


class Omgd(Featured):
    """See `config.bases.OmgdBase`. Without its teachers' networks it reads their record."""

    config: OmgdBase

    def __init__(self, config: OmgdBase, setup: BaseSetup):
        super().__init__(config, setup)
        self.names = teachers_of(config)
        self.gan_loss = adversarial.GAN_LOSSES[config.teacher_gan_loss or "hinge"]
        self.is_read = "wide" not in setup.networks
        there = () if self.is_read else self.names
        self.teachers: Mapping[str, nn.Module] = {name: setup.networks[name] for name in there}
        share = len(range(setup.batch_size)[setup.workers.slice(setup.batch_size)])
        self.layout: rows.Layout = {}
        if self.is_read:
            own = layout_of(config, setup.info, share)
            self.layout = with_asked(own, setup.asking_terms, setup.info, share)
        self.answers: dict[str, Tensor] = {}
        """Term -> what the wide teacher has said to it in this minibatch."""
        self.wide_taps: Mapping[str, str] = {}
        if config.channel_weight:
            assert config.wide is not None
            self.wide_taps = taps.module_paths(config.wide, config.taps, "student.base.taps")

    def teacher_of(self, term: str) -> TeacherPictures:
        """The wide one. What it says is kept for the record where that has it."""
        if self.is_read:
            return RecordedTeacher(self.answers, term)
        assert self.setup.teacher is not None
        is_kept = term in self.setup.asking_terms
        keep = functools.partial(self.answers.__setitem__, term) if is_kept else None
        return OnlineTeacher(self.teachers["wide"], self.setup.teacher, keep)

    def see_teacher(self, step: Step) -> None:
        """All teachers' pictures; with their graphs where this minibatch moves them."""
        is_due = self._moves_teachers(step)
        if self.is_read:
            self._read(step, is_due)
            return
        for network in self.teachers.values():
            network.requires_grad_(is_due)
        with (
            torch.set_grad_enabled(is_due),
            taps.tapped(self.teachers["wide"], self.wide_taps) as activations,
        ):
            made = {name: network(step.batch.inputs) for name, network in self.teachers.items()}
        step.shared_tensors |= made
        step.teacher = made["wide"].detach()
        step.teacher_activations = {name: each.detach() for name, each in activations.items()}

    def _moves_teachers(self, step: Step) -> bool:
        """Whether the teachers move in this minibatch."""
        return step.nimg // self.setup.batch_size % self.config.student_steps == 0

    def _read(self, step: Step, is_due: bool) -> None:
        """Pictures, activations and numbers from the record. Activations are their spatial means, 1x1: the
        mean over one pixel has the same bits."""
        assert step.recorded is not None
        found = rows.unpacked(step.recorded, self.layout)
        shared = [*self.names, *(numbers_of(self.config) if is_due else ())]
        step.shared_tensors |= {name: found[name] for name in shared}
        self.answers |= {name: found[f"asked.{name}"] for name in self.setup.asking_terms}
        step.teacher = found["wide"]
        step.teacher_activations = {name: found[f"means.{name}"] for name in self.wide_taps}

    def recorded(self, step: Step, numbers: Numbers) -> Mapping[str, Tensor]:
        """All teachers' pictures, spatial means of the wide one's activations, what it has said to terms, and
        what the teachers log."""
        found = {name: step.shared_tensors[name] for name in self.names}
        found |= {f"asked.{name}": self.answers[name] for name in self.setup.asking_terms}
        for name, activation in step.teacher_activations.items():
            found[f"means.{name}"] = perceptual.spatial_means(activation)[:, :, None, None]
        nothing = torch.zeros((), device=self.setup.device)  # in a minibatch in which they do not move
        return found | {name: numbers.get(name, nothing) for name in numbers_of(self.config)}

    def teachers_pictures(self, pairs: Pairs) -> tuple[Tensor, ...]:
        """Those from which the teachers have made their own step."""
        return tuple(pairs.shared[name].detach() for name in self.names)

    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """As of every base of features; numbers of recorded teachers are logged beside."""
        loss, numbers = super().student_loss(pairs)
        of_teachers = {name: pairs.shared[name] for name in numbers_of(self.config) if name in pairs.shared}
        return loss, of_teachers | numbers

    def phases(self) -> tuple[OwnPhase, ...]:
        """The discriminator's and the teachers', in every `student_steps`-th minibatch."""
        if self.is_read:
            return ()
        config = self.config
        assert config.discriminator_optimizer is not None and config.teacher_optimizer is not None
        first, second = config.discriminator_optimizer, config.teacher_optimizer
        every, name = config.student_steps, "teacher_discriminator"
        return (
            OwnPhase(name, (name,), first, self.discriminator_loss, every),
            OwnPhase("teachers", tuple(self.teachers), second, self.teachers_loss, every),
        )

    def _scores(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        seen = torch.cat([pairs.inputs, pictures], 1)
        scores: Tensor = self.setup.networks["teacher_discriminator"](seen)
        return scores

    def discriminator_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The sum over teachers of the GAN loss of the target against the teacher's picture."""
        real = self._scores(pairs, pairs.target)
        fakes = [self._scores(pairs, pairs.shared[name].detach()) for name in self.teachers]
        loss = _sum(self.gan_loss.discriminator(real, fake) for fake in fakes)
        return loss, {"train/teacher_discriminator_loss": loss}

    def teachers_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """The sum over teachers of pix2pix's loss: GAN plus L1 to the target."""
        config, made = self.config, [pairs.shared[name] for name in self.teachers]
        assert config.teacher_l1_weight is not None and config.teacher_gan_weight is not None

        def gan() -> Tensor:
            return _sum(self.gan_loss.generator(self._scores(pairs, each)) for each in made)

        losses: dict[str, tuple[float, Callable[[], Tensor]]] = {
            "train/teacher_l1": (
                config.teacher_l1_weight,
                lambda: _sum(F.l1_loss(each, pairs.target) for each in made),
            ),
            "train/teacher_gan_loss": (config.teacher_gan_weight, gan),
        }
        return weighted_sum(losses, made[0])


class OmgdCyclegan(Featured):
    """See `config.bases.OmgdCycleganBase`."""

    config: OmgdCycleganBase

    def see_teacher(self, step: Step) -> None:
        """The pictures of the best teacher so far, see `OmgdCycleganBase`."""
        assert self.setup.teacher is not None
        teacher, inputs = self.setup.teacher, step.batch.inputs
        teacher.move_to(step.nimg)
        if self.config.channel_weight:
            step.teacher, step.teacher_activations = teacher.tapped(inputs, self.config.taps)
        else:
            step.teacher = teacher(step.sample, inputs)


def adaptors_of(config: FeatureBase, student: Generator, teacher: Any, info: DataInfo, seed: int) -> Networks:
    """The adaptors of the channel distillation, where it counts."""
    if not config.channel_weight:
        return {}
    where = "student.base.taps"
    return {"adaptors": networks.adaptors("conv_norm_relu", student, teacher, config.taps, info, seed, where)}


def networks_of(config: OmgdBase, student: Generator, info: DataInfo, seed: int) -> Networks:
    """Both teachers, their discriminator and the adaptors."""
    assert config.discriminator is not None and config.wide is not None
    found: Networks = {"wide": networks.generator(config.wide, info, seed, "wide")}
    if config.num_teachers == 2:
        assert config.deep is not None
        found["deep"] = networks.generator(config.deep, info, seed, "deep")
    found["teacher_discriminator"] = networks.discriminator(config.discriminator, info, seed)
    return found | adaptors_of(config, student, config.wide, info, seed)


def teachers_of(config: OmgdBase) -> tuple[str, ...]:
    """Names of the teachers."""
    return ("wide", "deep")[: config.num_teachers]


def numbers_of(config: OmgdBase) -> tuple[str, ...]:
    """Names of what discriminator and teachers log, in the order in which they do."""
    weights = {
        "train/teacher_l1": config.teacher_l1_weight,
        "train/teacher_gan_loss": config.teacher_gan_weight,
    }
    return ("train/teacher_discriminator_loss", *(name for name, weight in weights.items() if weight))


def layout_of(config: OmgdBase, info: DataInfo, number: int) -> rows.Layout:
    """What `Omgd.recorded` gives of a minibatch of `number` images."""
    layout: dict[str, tuple[int, ...]] = dict.fromkeys(
        teachers_of(config), (number, 3, info.height, info.width)
    )
    if config.channel_weight:
        assert config.wide is not None
        size = networks.size_for(config.wide, info)
        of_taps = taps.shapes(config.wide, config.taps, info.input_channels, *size)
        layout |= {f"means.{name}": (number, shape[0], 1, 1) for name, shape in of_taps.items()}
    return layout | dict.fromkeys(numbers_of(config), ())


def decides(config: OmgdBase) -> dict[str, Any]:
    """All of a config but the weights of the student's losses. Taps count where channels do."""
    of_student = {*FeatureBase.model_fields} - {"kind", "taps"}
    found = {name: value for name, value in config if name not in of_student}
    if config.teacher_gan_loss is None:  # as before there was another one
        del found["teacher_gan_loss"]
    return found | {"taps": config.taps if config.channel_weight else "none"}


RECORD = RecordKind(decides, ("wide", "deep", "teacher_discriminator"), layout_of)
"""How OMGD's teachers are recorded."""


def networks_of_cyclegan(config: OmgdCycleganBase, student: Generator, info: DataInfo, seed: int) -> Networks:
    """The adaptors."""
    return adaptors_of(config, student, config.teacher, info, seed)


def check(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where pictures are too small for the discriminator, or do not fit a teacher."""
    config = training.base
    assert isinstance(config, OmgdBase) and config.discriminator is not None
    for name in ("wide", "deep")[: config.num_teachers]:
        teacher: Any = getattr(config, name)
        size = networks.size_for(teacher, info)
        models.check(teacher, info.input_channels, *size, f"student.base.{name}")
    patchgan.check(
        config.discriminator, info.height, info.width, where="student.base.discriminator.num_layers"
    )
