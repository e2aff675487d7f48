"""Presets of the published experiments: networks, losses, optimisers and lengths as they were published.

Sources: Isola et al. 2017 (pix2pix), Zhu et al. 2017 (CycleGAN), Zhang et al. 2018 (SAGAN), Karras et al.
2020 (StyleGAN2); the students are those of OMGD (Ren et al. 2021) and CAGC (Liu et al. 2021) with the term of
mutual information beside. What nobody published is ours: the evaluator, and the whole of `enhance_x2`.

Lengths in images are those of the published data. A search space has them in epochs (`config.lengths`), and a
sweep counts its own data.
"""

from collections.abc import Callable

from raydistill.config.architectures import (
    EnhanceGenerator,
    EnhanceWidths,
    MobileResnetGenerator,
    MobileResnetWidths,
    PatchDiscriminator,
    PictureGenerator,
    SaganDiscriminator,
    SaganDiscriminatorWidths,
    SaganGenerator,
    SaganWidths,
    StyleganDiscriminator,
    StyleganGenerator,
    StyleganWidths,
    UnetGenerator,
    UnetWidths,
)
from raydistill.config.base import Optimizer
from raydistill.config.bases import OmgdBase, OmgdCycleganBase, PlainBase
from raydistill.config.data import Degradation, FolderData
from raydistill.config.experiment import Experiment
from raydistill.config.term_presets import (
    published_cyclegan,
    published_pix2pix,
    published_stylegan2,
    recommended_vem,
)
from raydistill.config.training import (
    CycleganTraining,
    DistillTraining,
    EnhanceTraining,
    EvaluatorTraining,
    Pix2pixTraining,
    SaganTraining,
    Stylegan2Training,
)

EDGES2SHOES, CITYSCAPES, HORSE2ZEBRA, SUMMER2WINTER = 49_825, 2_975, 1_334, 1_231
"""Training pictures of the published data; of unpaired data those of the larger domain."""


def pix2pix_edges2shoes_unet() -> Experiment:
    """Edges -> shoes by U-Nets of 256 pixels, the student by OMGD beside two teachers."""
    data = _translation("aligned")
    return _pix2pix(data, _unet(64), _unet(16), OmgdBase(channel_weight=10.0), EDGES2SHOES, (200, 200), 0.5)


def pix2pix_edges2shoes_resnet() -> Experiment:
    """Edges -> shoes by mobile ResNets of nine blocks, the student by OMGD beside two teachers."""
    data, base = _translation("aligned"), OmgdBase(channel_weight=100.0)
    return _pix2pix(data, _mobile(64), _mobile(16), base, EDGES2SHOES, (200, 200), 0.5)


def pix2pix_cityscapes_unet() -> Experiment:
    """Label maps -> photos of streets by U-Nets, three steps of the student for each of its two teachers'."""
    base = OmgdBase(channel_weight=50.0, student_steps=3)
    return _pix2pix(_cityscapes(), _unet(64), _unet(16), base, CITYSCAPES, (250, 750), 0.4)


def pix2pix_cityscapes_resnet() -> Experiment:
    """Label maps -> photos of streets by mobile ResNets, without channel distillation."""
    base = OmgdBase(channel_weight=0.0, student_steps=3)
    return _pix2pix(_cityscapes(), _mobile(64), _mobile(16), base, CITYSCAPES, (250, 750), 0.4)


def cyclegan_horse2zebra() -> Experiment:
    """Horses -> zebras by mobile ResNets, the student by OMGD after each slab of the teacher's training."""
    return _cyclegan(500.0, HORSE2ZEBRA)


def cyclegan_summer2winter() -> Experiment:
    """Summer -> winter in Yosemite, as `cyclegan_horse2zebra` with a fifth of its channel distillation."""
    return _cyclegan(100.0, SUMMER2WINTER)


def sagan_celeba64() -> Experiment:
    """Noise -> faces of 64x64 by the self-attention GAN, the student by the distance to its pictures.

    The published student's base (GCC: features of generator and discriminator) is not one of raydistill's.
    """
    return Experiment(
        data=FolderData(height=64, width=64, layout="pictures"),
        evaluator=_evaluator(),
        teacher=SaganTraining(
            batch_size=64,
            budget_nimg=6_400_000,
            report_every_nimg=640_000,
            generator=SaganGenerator(widths=SaganWidths.uniform(64)),
            discriminator=SaganDiscriminator(widths=SaganDiscriminatorWidths.uniform(64)),
            optimizer=_adam(1e-4, (0.0, 0.9), 1.0),
            discriminator_optimizer=_adam(4e-4, (0.0, 0.9), 1.0),
        ),
        student=DistillTraining(
            batch_size=64,
            budget_nimg=6_400_000,
            report_every_nimg=640_000,
            generator=SaganGenerator(widths=SaganWidths.uniform(48)),
            base=PlainBase(),
            terms={"mi": recommended_vem()},
            optimizer=_adam(1e-4, (0.0, 0.9), 1.0),
        ),
    )


def stylegan2_ffhq256() -> Experiment:
    """Noise -> faces of 256x256 by StyleGAN2, the student pruned from the teacher by content (CAGC).

    CAGC's losses are not one of raydistill's bases: here the student learns by the distance to the teacher's
    pictures.
    """
    optimizer, widths = _adam(2e-3, (0.0, 0.99), 1.0), StyleganWidths.published(256)
    return Experiment(
        data=FolderData(height=256, width=256, layout="nvlabs"),
        evaluator=_evaluator(),
        teacher=Stylegan2Training(
            batch_size=16,
            budget_nimg=7_200_000,
            report_every_nimg=720_000,
            flip=True,
            ema_nimg=10_000,
            generator=StyleganGenerator(widths=widths),
            discriminator=StyleganDiscriminator(widths=widths),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
        ),
        student=DistillTraining(
            batch_size=16,
            budget_nimg=7_200_000,
            report_every_nimg=720_000,
            ema_nimg=10_000,
            generator=StyleganGenerator(widths=StyleganWidths.published(256, share=0.3)),
            init="teacher",
            init_score="content",
            base=PlainBase(),
            terms={"mi": published_stylegan2()},
            optimizer=optimizer,
        ),
    )


def enhance_x2() -> Experiment:
    """Super-resolution by 2, to 256x256, from a folder of any pictures. The networks are ours."""
    optimizer = _adam(2e-4, (0.9, 0.999), 0.5)

    def generator(ngf: int) -> EnhanceGenerator:
        return EnhanceGenerator(widths=EnhanceWidths.uniform(ngf), num_blocks=16, scale=2)

    return Experiment(
        data=FolderData(height=256, width=256, layout="pictures", degrade=Degradation(scale=2)),
        evaluator=_evaluator(),
        teacher=EnhanceTraining(
            batch_size=16,
            budget_nimg=1_600_000,
            report_every_nimg=160_000,
            flip=True,
            generator=generator(64),
            optimizer=optimizer,
        ),
        student=DistillTraining(
            batch_size=16,
            budget_nimg=1_600_000,
            report_every_nimg=160_000,
            flip=True,
            generator=generator(32),
            base=PlainBase(ssim_weight=0.0),
            terms={"mi": recommended_vem()},
            optimizer=optimizer,
        ),
    )


# ---- what they share ---------------------------------------------------------------------------------------


def _adam(rate: float, betas: tuple[float, float], decay_start: float) -> Optimizer:
    return Optimizer(learning_rate=rate, betas=betas, decay_start=decay_start)


def _evaluator() -> EvaluatorTraining:
    """It is ours: no published experiment has one."""
    optimizer = _adam(2e-3, (0.9, 0.999), 0.3)
    return EvaluatorTraining(budget_nimg=48_000, report_every_nimg=12_000, optimizer=optimizer)


def _translation(layout: str) -> FolderData:
    """Pictures that are loaded at 286 pixels and cropped to 256."""
    values = {"layout": layout, "height": 256, "width": 256, "load_height": 286, "load_width": 286}
    return FolderData.model_validate(values)


def _cityscapes() -> FolderData:
    """Label maps as pictures in the colours of their classes, as the published networks take them."""
    return _translation("cityscapes").model_copy(update={"label_inputs": "colors"})


def _unet(ngf: int) -> UnetGenerator:
    return UnetGenerator(widths=UnetWidths.uniform(ngf), num_levels=8, norm_std=0.02)


def _mobile(ngf: int) -> MobileResnetGenerator:
    return MobileResnetGenerator(widths=MobileResnetWidths.uniform(ngf), num_blocks=9)


def _pix2pix(
    data: FolderData,
    teacher: UnetGenerator | MobileResnetGenerator,
    student: PictureGenerator,
    base: OmgdBase,
    num_pictures: int,
    epochs: tuple[int, int],
    decay_start: float,
) -> Experiment:
    """Hinge GAN + 100 L1, batches of four.

    Args:
        epochs: of teacher and student; the learning rates fall after `decay_start` of them.
    """
    optimizer, (of_teacher, of_student) = _adam(2e-4, (0.5, 0.999), decay_start), epochs
    return Experiment(
        data=data,
        evaluator=_evaluator(),
        teacher=Pix2pixTraining(
            batch_size=4,
            budget_nimg=of_teacher * num_pictures,
            report_every_nimg=of_teacher * num_pictures // 10,
            flip=True,
            generator=teacher,
            discriminator=PatchDiscriminator(
                width=128, num_layers=3, norm=teacher.norm, norm_std=teacher.norm_std
            ),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
            l1_weight=100.0,
        ),
        student=DistillTraining(
            batch_size=4,
            budget_nimg=of_student * num_pictures,
            report_every_nimg=of_student * num_pictures // 10,
            flip=True,
            generator=student,
            base=base,
            terms={"mi": published_pix2pix()},
            optimizer=optimizer,
        ),
    )


def _cyclegan(channel_weight: float, num_pictures: int) -> Experiment:
    """Least squares, batches of one; a report of the teacher after each slab of ten epochs."""
    optimizer = _adam(2e-4, (0.5, 0.999), 0.5)
    return Experiment(
        data=_translation("unpaired"),
        evaluator=_evaluator(),
        teacher=CycleganTraining(
            batch_size=1,
            budget_nimg=200 * num_pictures,
            report_every_nimg=10 * num_pictures,
            flip=True,
            generator=_mobile(64),
            discriminator=PatchDiscriminator(width=64, num_layers=3),
            optimizer=optimizer,
            discriminator_optimizer=optimizer,
        ),
        student=DistillTraining(
            batch_size=1,
            budget_nimg=800 * num_pictures,
            report_every_nimg=40 * num_pictures,
            flip=True,
            generator=_mobile(16),
            base=OmgdCycleganBase(channel_weight=channel_weight),
            terms={"mi": published_cyclegan()},
            optimizer=optimizer,
        ),
    )


PUBLISHED: dict[str, Callable[[], Experiment]] = {
    "pix2pix_edges2shoes_unet": pix2pix_edges2shoes_unet,
    "pix2pix_edges2shoes_resnet": pix2pix_edges2shoes_resnet,
    "pix2pix_cityscapes_unet": pix2pix_cityscapes_unet,
    "pix2pix_cityscapes_resnet": pix2pix_cityscapes_resnet,
    "cyclegan_horse2zebra": cyclegan_horse2zebra,
    "cyclegan_summer2winter": cyclegan_summer2winter,
    "sagan_celeba64": sagan_celeba64,
    "stylegan2_ffhq256": stylegan2_ffhq256,
    "enhance_x2": enhance_x2,
}
"""Name -> preset; `search_spaces/published/` has a space of the same name for each."""
