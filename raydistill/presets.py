"""Presets: functions that return a full `Experiment`. `PRESETS` registers them by name."""

from collections.abc import Callable

from raydistill.config import (
    DistillTraining,
    EnergyNetwork,
    Experiment,
    JudgeTraining,
    MutualInformation,
    Optimizer,
    PatchDiscriminator,
    Pix2pixTraining,
    ResnetGenerator,
    ResnetWidths,
    ShapesData,
)


def shapes32() -> Experiment:
    """The embedded default: drawn label maps -> pictures at 32x32, sized for two CPU cores."""
    return Experiment(
        data=ShapesData(),
        judge=JudgeTraining(
            budget_nimg=8_000, report_every_nimg=4_000, optimizer=Optimizer(learning_rate=2e-3, betas=(0.9, 0.999), decay_start=0.3)
        ),
        teacher=Pix2pixTraining(
            budget_nimg=20_000,
            report_every_nimg=5_000,
            ema_nimg=500,
            generator=ResnetGenerator(widths=ResnetWidths.uniform(24), num_blocks=3),
            discriminator=PatchDiscriminator(width=24, num_layers=2),
            optimizer=Optimizer(learning_rate=1e-3, betas=(0.5, 0.999), decay_start=0.5),
            discriminator_optimizer=Optimizer(learning_rate=1e-3, betas=(0.5, 0.999), decay_start=0.5),
            l1_weight=10.0,
        ),
        student=DistillTraining(
            budget_nimg=20_000,
            report_every_nimg=5_000,
            ema_nimg=500,
            generator=ResnetGenerator(widths=ResnetWidths.uniform(8), num_blocks=3),
            optimizer=Optimizer(learning_rate=2e-3, betas=(0.5, 0.999), decay_start=0.5),
            mi=MutualInformation(weight=0.1, step_size=1.0, energy=EnergyNetwork(channels=8)),
        ),
    )


PRESETS: dict[str, Callable[[], Experiment]] = {"shapes32": shapes32}
