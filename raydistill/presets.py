"""Presets: functions that return a full `Experiment`. `PRESETS` registers them by name."""

from collections.abc import Callable

from raydistill.config import (
    DistillTraining,
    EnergyNetwork,
    Experiment,
    FolderData,
    JudgeTraining,
    MutualInformation,
    Optimizer,
    PatchDiscriminator,
    Pix2pixTraining,
    ResnetGenerator,
    ResnetWidths,
    ShapesData,
    with_values,
)


def shapes32() -> Experiment:
    """The embedded default: drawn label maps -> pictures at 32x32, sized for two CPU cores."""
    return Experiment(
        data=ShapesData(),
        judge=JudgeTraining(
            budget_nimg=8_000, report_every_nimg=4_000, optimizer=Optimizer(learning_rate=2e-3, betas=(0.9, 0.999), decay_start=0.3)
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
            ssim_weight=5.0,
            optimizer=Optimizer(learning_rate=3e-3, betas=(0.5, 0.999), decay_start=0.5),
            mi=MutualInformation(weight=0.1, step_size=1.0, energy=EnergyNetwork(channels=8)),
        ),
    )


def shapes64() -> Experiment:
    """The same drawing at 64x64."""
    return with_values(shapes32(), {"data.height": 64, "data.width": 64}, where="preset shapes64")


def labelled() -> Experiment:
    """A folder of pictures with label maps, at 64x48 (CamVid's proportions)."""
    base = shapes32()
    return Experiment(
        data=FolderData(height=48, width=64),
        judge=base.judge.model_copy(update={"budget_nimg": 24_000, "report_every_nimg": 8_000, "flip": True}),
        teacher=base.teacher.model_copy(update={"budget_nimg": 24_000, "report_every_nimg": 6_000, "flip": True}),
        student=base.student.model_copy(update={"budget_nimg": 8_000, "report_every_nimg": 2_000, "flip": True}),
    )


def aligned() -> Experiment:
    """A folder of A|B pictures, at 64x64. There are no labels: the judge predicts A from B, and its features score."""
    return labelled().model_copy(update={"data": FolderData(height=64, width=64)})


PRESETS: dict[str, Callable[[], Experiment]] = {"shapes32": shapes32, "shapes64": shapes64, "labelled": labelled, "aligned": aligned}
