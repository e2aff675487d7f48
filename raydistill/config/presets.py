"""Presets: functions that return a full `Experiment`. `PRESETS` has them by name."""

from collections.abc import Callable

from raydistill.config.architectures import (
    EnhanceGenerator,
    EnhanceWidths,
    MobileResnetGenerator,
    PatchDiscriminator,
    PictureGenerator,
    ResnetGenerator,
    ResnetWidths,
    SaganDiscriminator,
    SaganDiscriminatorWidths,
    SaganGenerator,
    SaganWidths,
    StyleganDiscriminator,
    StyleganGenerator,
    StyleganWidths,
    UnetGenerator,
)
from raydistill.config.base import Optimizer
from raydistill.config.bases import PlainBase
from raydistill.config.data import Degradation, FolderData, ShapesData
from raydistill.config.experiment import Experiment
from raydistill.config.paths import with_values
from raydistill.config.published import PUBLISHED
from raydistill.config.term_presets import recommended_vem
from raydistill.config.training import (
    CycleganTraining,
    DistillTraining,
    EnhanceTraining,
    EvaluatorTraining,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)


def shapes32() -> Experiment:
    """The embedded default: label maps -> pictures, drawn at 32x32. Its size suits two CPU cores."""
    return Experiment(
        data=ShapesData(),
        evaluator=EvaluatorTraining(
            budget_nimg=8_000,
            report_every_nimg=4_000,
            optimizer=Optimizer(learning_rate=2e-3, betas=(0.9, 0.999), decay_start=0.3),
        ),
        teacher=Pix2pixTraining(
            budget_nimg=16_000,
            report_every_nimg=4_000,
            ema_nimg=500,
            generator=ResnetGenerator(widths=ResnetWidths.uniform(16), num_blocks=3),
            discriminator=PatchDiscriminator(width=24, num_layers=2),
            optimizer=Optimizer(learning_rate=2e-3, betas=(0.5, 0.999), decay_start=0.5),
            discriminator_optimizer=Optimizer(learning_rate=1e-3, betas=(0.5, 0.999), decay_start=0.5),
            l1_weight=100.0,
        ),
        student=DistillTraining(
            budget_nimg=6_000,
            report_every_nimg=2_000,
            ema_nimg=500,
            generator=ResnetGenerator(widths=ResnetWidths.uniform(4), num_blocks=3),
            init="auto",
            base=PlainBase(ssim_weight=5.0),
            optimizer=Optimizer(learning_rate=3e-3, betas=(0.5, 0.999), decay_start=0.5),
            terms={"mi": recommended_vem()},
        ),
    )


def shapes64() -> Experiment:
    """`shapes32` at 64x64."""
    return with_values(shapes32(), {"data.height": 64, "data.width": 64}, where="preset shapes64")


def labelled() -> Experiment:
    """A folder of pictures with label maps, at 64x48 (CamVid's proportions)."""
    base = shapes32()
    photos = {  # searched on CamVid, see docs/results/method.md: photos want structure, not colours
        "base": PlainBase(l1_weight=0.0, ssim_weight=5.0, mse_weight=1.0),
        "optimizer": _of_student(6e-3),
    }
    return Experiment(
        data=FolderData(height=48, width=64),
        evaluator=base.evaluator.model_copy(update=_length(24_000, 8_000) | {"flip": True}),
        teacher=base.teacher.model_copy(update=_length(24_000, 6_000) | {"flip": True}),
        student=base.student.model_copy(update=_length(8_000, 2_000) | {"flip": True, **photos}),
    )


def aligned() -> Experiment:
    """A folder of A|B pictures, at 64x64.

    There are no labels: the evaluator predicts A from B, and its features score.
    """
    return labelled().model_copy(update={"data": FolderData(height=64, width=64, layout="aligned")})


def unet() -> Experiment:
    """`labelled` with U-Nets of four levels, whose students learn more slowly."""
    base = with_values(labelled(), {"student.optimizer.learning_rate": 2.4e-3}, where="preset unet")
    return _with_generators(base, UnetGenerator(num_levels=4, norm="instance"), teacher=16, student=4)


def mobile() -> Experiment:
    """`labelled` with mobile ResNets of three blocks."""
    return _with_generators(labelled(), MobileResnetGenerator(num_blocks=3), teacher=16, student=4)


def enhance() -> Experiment:
    """Super-resolution by 2, from noisy pictures of 64x48 to 128x96, both made from a folder of any pictures.

    For a folder of A|B pictures where A is the worse one, set `data.degrade.scale=1`,
    `data.degrade.noise_std=0` and `scale=1` of both generators.
    """
    base = labelled()
    optimizer = Optimizer(learning_rate=1e-3, betas=(0.9, 0.999), decay_start=0.3)
    generator = EnhanceGenerator(widths=EnhanceWidths.uniform(32), num_blocks=4, scale=2)
    student = generator.model_copy(update={"widths": EnhanceWidths.uniform(8)})
    return Experiment(
        data=FolderData(height=96, width=128, degrade=Degradation(scale=2, noise_std=10.0)),
        evaluator=base.evaluator.model_copy(update=_length(8_000, 4_000)),
        teacher=EnhanceTraining(
            budget_nimg=8_000,
            report_every_nimg=2_000,
            ema_nimg=500,
            flip=True,
            generator=generator,
            optimizer=optimizer,
        ),
        student=base.student.model_copy(
            update=_length(4_000, 1_000)
            | {
                "generator": student,
                "optimizer": optimizer.model_copy(update={"learning_rate": 4.6e-3}),
                "base": PlainBase(ssim_weight=0.0),
            }
        ),
    )


_SUMS = PlainBase(l1_weight=10.0, robust_weight=10.0, mse_weight=1.0, multiscale_weight=40.0, ssim_weight=0.0)
"""What a search for `stylegan2` has found: docs/results/method.md."""


def sagan() -> Experiment:
    """Noise -> pictures of 64x64 by the self-attention GAN, from a folder of any pictures.

    Minibatches are small, because such a short training lacks steps. The moving average is short, because the
    statistics of the batch norms are not averaged with the weights.
    """
    base = labelled()
    optimizer = Optimizer(learning_rate=4e-4, betas=(0.0, 0.9), decay_start=0.5)
    student = {
        "optimizer": shapes32().student.optimizer,
        "flip": False,
        "batch_size": 8,
        "ema_nimg": 200.0,
        "base": PlainBase(ssim_weight=5.0),
        "generator": SaganGenerator(widths=SaganWidths.uniform(8), latent=64),
    }
    return Experiment(
        data=FolderData(height=64, width=64),
        evaluator=base.evaluator.model_copy(update={"budget_nimg": 16_000, "flip": False}),
        teacher=SaganTraining(
            batch_size=8,
            budget_nimg=24_000,
            report_every_nimg=6_000,
            ema_nimg=200,
            generator=SaganGenerator(widths=SaganWidths.uniform(16), latent=64),
            discriminator=SaganDiscriminator(widths=SaganDiscriminatorWidths.uniform(16)),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
        ),
        student=base.student.model_copy(update=student | {"terms": {"mi": recommended_vem()}}),
    )


def stylegan2() -> Experiment:
    """Noise -> pictures of 32x32 by StyleGAN2, from a folder of any pictures.

    For another size set `data.height`, `data.width` and the `widths` of all three networks.
    """
    base = labelled()
    optimizer = Optimizer(learning_rate=2e-3, betas=(0.0, 0.99))
    widths = StyleganWidths.published(32)

    def widths_at(ngf: int) -> StyleganWidths:
        return StyleganWidths(**widths.values_at(ngf))

    def generator(ngf: int) -> StyleganGenerator:
        return StyleganGenerator(widths=widths_at(ngf), style=64, num_mapping_layers=4)

    return Experiment(
        data=FolderData(height=32, width=32),
        evaluator=base.evaluator.model_copy(update={"budget_nimg": 16_000, "flip": False}),
        teacher=Stylegan2Training(
            budget_nimg=24_000,
            report_every_nimg=6_000,
            ema_nimg=2_000,
            generator=generator(6),
            discriminator=StyleganDiscriminator(widths=widths_at(6)),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
            r1_weight=1.0,
        ),
        student=base.student.model_copy(
            update={
                "optimizer": _of_student(4e-2),
                "flip": False,
                "generator": generator(3),
                "base": _SUMS,
                "terms": {"mi": recommended_vem()},
            }
        ),
    )


def cyclegan() -> Experiment:
    """CycleGAN on unpaired pictures of two domains in the folders trainA and trainB, at 64x48."""
    base = labelled()
    optimizer = Optimizer(learning_rate=5e-4, betas=(0.5, 0.999), decay_start=0.5)

    def generator(ngf: int) -> ResnetGenerator:
        return ResnetGenerator(widths=ResnetWidths.uniform(ngf), num_blocks=3)

    return Experiment(
        data=FolderData(height=48, width=64, layout="unpaired"),
        evaluator=base.evaluator.model_copy(update={"budget_nimg": 16_000}),
        teacher=CycleganTraining(
            batch_size=4,
            budget_nimg=12_000,
            report_every_nimg=3_000,
            ema_nimg=500,
            flip=True,
            generator=generator(12),
            discriminator=PatchDiscriminator(width=16, num_layers=2),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
        ),
        student=base.student.model_copy(
            update={
                "budget_nimg": 6_000,
                "generator": generator(4),
                "base": PlainBase(ssim_weight=5.0),
                "optimizer": shapes32().student.optimizer,
            }
        ),
    )


def _of_student(learning_rate: float) -> Optimizer:
    """The optimizer of the default preset's student with another learning rate."""
    return shapes32().student.optimizer.model_copy(update={"learning_rate": learning_rate})


def _length(budget_nimg: int, report_every_nimg: int) -> dict[str, object]:
    """Fields of a training, in images."""
    return {"budget_nimg": budget_nimg, "report_every_nimg": report_every_nimg}


def _with_generators(
    base: Experiment, generator: PictureGenerator, *, teacher: int, student: int
) -> Experiment:
    """`base` with generators like `generator`, of the base widths (ngf) `teacher` and `student`."""

    def at(ngf: int) -> PictureGenerator:
        return generator.model_copy(update={"widths": type(generator.widths).uniform(ngf)})

    return base.model_copy(
        update={
            "teacher": base.teacher.model_copy(update={"generator": at(teacher)}),
            "student": base.student.model_copy(update={"generator": at(student)}),
        }
    )


PRESETS: dict[str, Callable[[], Experiment]] = {
    "shapes32": shapes32,
    "shapes64": shapes64,
    "labelled": labelled,
    "aligned": aligned,
    "unet": unet,
    "mobile": mobile,
    "enhance": enhance,
    "cyclegan": cyclegan,
    "sagan": sagan,
    "stylegan2": stylegan2,
    **PUBLISHED,
}
"""Name -> preset. A search space names one as its base config."""
