"""For tests of recipes: one that is built, with a minibatch whose forward is done. Nothing is trained."""

from pathlib import Path
from typing import Any

from conftest import TINY
from test_recipes import EXPERIMENTS, SMALL, lengths

from raydistill import testing
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.testing.trainings import Begun, Stage
from raydistill.training import recipes
from raydistill.training.assembly import Assembly


def begin(folder: Path, name: str, stage: Stage = "teacher", **values: Any) -> Begun:
    """A stage's job on the tiny experiment of a recipe ("pix2pix": on shapes), its recipe, and a minibatch.

    `values`: config paths below the stage, with `__` for the dot. Evaluator and teacher have random weights.
    """
    base = with_values(shapes32(), TINY, where="test") if name == "pix2pix" else EXPERIMENTS[name](folder)
    given = {f"{stage}.{path.replace('__', '.')}": value for path, value in values.items()}
    experiment = with_values(with_values(base, SMALL | lengths(4), where="test"), given, where="test")
    return testing.begin(folder, experiment, stage)


def phases_of(recipe: Assembly) -> dict[str, recipes.Phase]:
    return {phase.name: phase for phase in recipe.phases}
