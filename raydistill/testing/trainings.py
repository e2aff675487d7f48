"""A training that is built and has gone forward once: what recipes and terms are tested on. Nothing is
trained, and evaluator and teacher have random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.experiment import Experiment, Job, student_job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import prepare, read_info
from raydistill.distributed import Workers
from raydistill.planning.untrained import untrained
from raydistill.training import assembly, loop, recipes
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Setup, Step

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")
TINY: dict[str, Any] = {
    **{"data.height": 16, "data.width": 16, "data.num_train": 24, "data.num_val": 8, "data.num_test": 8},
    **{"evaluator.network.width": 4, "evaluator.network.feature_width": 4},
    **{f"{stage}.generator.widths.{width}": 4 for stage in ("teacher", "student") for width in WIDTHS},
    **{f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")},
    **{"teacher.discriminator.width": 4, "teacher.discriminator.num_layers": 1},
    "features.network.width": 4,
    **{f"{stage}.batch_size": 4 for stage in ("evaluator", "features", "teacher", "student")},
    **{f"{stage}.budget_nimg": 32 for stage in ("evaluator", "features", "teacher", "student")},
    **{f"{stage}.report_every_nimg": 16 for stage in ("evaluator", "features", "teacher", "student")},
    **{f"{stage}.ema_nimg": 16 for stage in ("teacher", "student")},
    **{
        "student.init": "random",  # a student as wide as its teacher would be its teacher
        "student.flip": True,
        "student.terms.mi.energy.channels": 2,
        "student.terms.mi.num_steps": 3,
        "student.terms.mi.step_size": 10.0,
    },
}
"""Config path -> value: the preset `shapes32`, tiny. Six batches a pass, so that the second of the two
reports lies in the second pass."""
Stage = Literal["evaluator", "features", "teacher", "student"]


class Begun(NamedTuple):
    """A training whose first forward is done."""

    job: Job
    trained: Assembly
    step: Step
    """A minibatch of 4 pictures, with the network's outputs."""


def tiny_experiment(values: Mapping[str, Any] | None = None) -> Experiment:
    """The drawn pictures at 16x16 with networks of width 4, for tests of parts of a training.

    Args:
        values: further config paths, such as {"student.terms.mi.kind": "vid"}; see `raydistill config`.
    """
    tiny = with_values(shapes32(), TINY, where="tiny")
    return with_values(tiny, dict(values or {}), where="values")


def begin(folder: Path, experiment: Experiment, stage: Stage = "teacher") -> Begun:
    """A stage of an experiment, built in `folder`, after the forward of its first minibatch."""
    data = prepare(experiment.data, folder / "data", **recipes.data_needs(experiment.teacher))
    info = read_info(data)
    shared, training = untrained(folder, experiment, info), getattr(experiment, stage)
    if stage == "student":
        job = student_job(experiment.resolved(training), experiment, data, shared)
    else:
        job = Job(training=training, data=data, evaluator=shared.evaluator if stage == "teacher" else None)
    setup = Setup(info, torch.device("cpu"), Workers(0, 1))
    trained = assembly.build(job, setup)
    step = trained.minibatches.step(0)
    loop.begin(trained, [step])
    return Begun(job, trained, step)


def states(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Name of a parameter or buffer -> a copy of it."""
    return {
        f"{name}.{key}": value.clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
