"""GAN compression: the student is trained as a GAN whose generator also imitates the teacher's activations.

Source: Li et al. 2020 (GAN Compression). What differs: the discriminator moves before the student sees it,
and fakes of unpaired data are those of this minibatch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.bases import GanBase
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.method import adversarial
from raydistill.models import networks, patchgan, taps
from raydistill.training.bases.parts import BaseDistillation, BaseSetup, OwnPhase
from raydistill.training.steps import Networks, Step, weighted_sum
from raydistill.training.terms import Numbers, Pairs


class Gan(BaseDistillation):
    """See `config.bases.GanBase`."""

    def __init__(self, config: GanBase, setup: BaseSetup):
        super().__init__(config, setup)
        of_data = "least_squares" if setup.is_unpaired else "hinge"
        self.gan_loss = adversarial.GAN_LOSSES[config.gan_loss or of_data]
        if config.activation_weight:
            self.moves = ("adaptors",)
            self.student_taps = taps.module_paths(setup.student, config.taps, "student.base.taps")

    def see_teacher(self, step: Step) -> None:
        """The teacher runs in the minibatch where its activations count."""
        if not self.config.activation_weight:
            return super().see_teacher(step)
        assert self.setup.teacher is not None
        step.teacher, step.teacher_activations = self.setup.teacher.tapped(
            step.batch.inputs, self.config.taps
        )

    def phases(self) -> tuple[OwnPhase, ...]:
        """The discriminator's."""
        config = self.config.discriminator_optimizer
        return (OwnPhase("discriminator", ("discriminator",), config, self.discriminator_loss),)

    def _scores(self, pairs: Pairs, pictures: Tensor) -> Tensor:
        """What the discriminator says of pictures (B, 3, H, W): with their inputs, where these belong to
        them."""
        seen = pictures if self.setup.is_unpaired else torch.cat([pairs.inputs, pictures], 1)
        scores: Tensor = self.setup.networks["discriminator"](seen)
        return scores

    def discriminator_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """Real pictures against the student's."""
        real, fake = self._scores(pairs, pairs.target), self._scores(pairs, pairs.s.detach())
        loss = self.gan_loss.discriminator(real, fake)
        return loss, {"train/discriminator_loss": loss}

    def student_loss(self, pairs: Pairs) -> tuple[Tensor, Numbers]:
        """gan_weight * GAN + l1_weight * L1 + activation_weight * sum of mean squared differences."""
        config = self.config
        imitated = pairs.t if self.setup.is_unpaired else pairs.target

        def gan() -> Tensor:
            return self.gan_loss.generator(self._scores(pairs, pairs.s))

        def activations() -> Tensor:
            adapted = self.setup.networks["adaptors"](pairs.activations)
            theirs = pairs.teacher_activations.values()
            pairs_of_taps = zip(adapted.values(), theirs, strict=True)
            return torch.stack([F.mse_loss(own, other) for own, other in pairs_of_taps]).sum()

        losses = {
            "train/gan_loss": (config.gan_weight, gan),
            "train/l1": (config.l1_weight, lambda: F.l1_loss(pairs.s, imitated)),
            "train/activations": (config.activation_weight, activations),
        }
        return weighted_sum(losses, pairs.s)


def networks_of(config: GanBase, student: Generator, info: DataInfo, seed: int) -> Networks:
    """The discriminator and, where activations count, the adaptors."""
    assert config.discriminator is not None
    if info.pairing == "unpaired":
        found = {"discriminator": networks.picture_discriminator(config.discriminator, seed)}
    else:
        found = {"discriminator": networks.discriminator(config.discriminator, info, seed)}
    if config.activation_weight:
        where, teacher = "student.base.taps", config.teacher
        assert teacher is not None
        found["adaptors"] = networks.adaptors("linear", student, teacher, config.taps, info, seed, where)
    return found


def check(training: DistillTraining, info: DataInfo) -> None:
    """Raises ConfigError where the pictures are too small for the discriminator."""
    config = training.base
    assert isinstance(config, GanBase) and config.discriminator is not None
    patchgan.check(
        config.discriminator, info.height, info.width, where="student.base.discriminator.num_layers"
    )
