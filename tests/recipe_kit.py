"""For tests of recipes: one that is built, with a minibatch whose forward is done. Nothing is trained."""

from pathlib import Path
from typing import Any

import torch
from conftest import TINY
from test_recipes import EXPERIMENTS, SMALL, lengths

from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import load_split, prepare, read_info
from raydistill.distributed import Workers
from raydistill.models import networks, saved
from raydistill.training import assembly, loop, recipes
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Setup, Step


def begin(folder: Path, name: str, stage: str = "teacher", **values: Any) -> tuple[Job, Assembly, Step]:
    """A stage's job on the tiny experiment of a recipe ("pix2pix": on shapes), its recipe, and a minibatch.

    `values`: config paths below the stage, with `__` for the dot. Evaluator and teacher have random weights.
    """
    base = with_values(shapes32(), TINY, where="test") if name == "pix2pix" else EXPERIMENTS[name](folder)
    given = {f"{stage}.{path.replace('__', '.')}": value for path, value in values.items()}
    experiment = with_values(with_values(base, SMALL | lengths(4), where="test"), given, where="test")
    data = prepare(experiment.data, folder / "data", **recipes.data_needs(experiment.teacher))
    info = read_info(data)
    config = experiment.evaluator.network
    job = Job(training=getattr(experiment, stage), data=data)
    if stage != "evaluator":
        evaluator = networks.evaluator(config, info, 0)
        job = job.model_copy(
            update={"evaluator": saved.save(folder / "evaluator", "evaluator", evaluator, config)}
        )
    if stage == "student":
        teacher = networks.generator(experiment.teacher.generator, info, 0)
        stored = saved.save(folder / "teacher", "generator", teacher, experiment.teacher.generator)
        job = job.model_copy(update={"teacher": stored})
    setup = Setup(info, torch.device("cpu"), Workers(0, 1))
    recipe = assembly.build(job, setup)
    step = loop.next_step(load_split(data, "train"), job.training, 0, setup)
    recipe.forward(step)
    return job, recipe, step


def phases_of(recipe: Assembly) -> dict[str, recipes.Phase]:
    return {phase.name: phase for phase in recipe.phases}
