"""Recipes: which networks there are, and which phases move them. A recipe is data for the loop in `train.py`.

A file each: `pix2pix`, `cyclegan`, `sagan`, `stylegan2` and `enhance` train a generator, `distill` trains a student of one, `evaluator` what
scores them. `RECIPES` registers them by name.
"""

from collections.abc import Callable

from raydistill.config.experiment import Job
from raydistill.training.recipes import cyclegan, distill, enhance, evaluator, pix2pix, sagan, stylegan2
from raydistill.training.recipes.distill import teacher_pictures
from raydistill.training.recipes.parts import Phase, Recipe, Setup, Step

__all__ = ["RECIPES", "Phase", "Recipe", "Setup", "Step", "build", "teacher_pictures"]

RECIPES: dict[str, Callable[[Job, Setup], Recipe]] = {
    "pix2pix": pix2pix.build,
    "cyclegan": cyclegan.build,
    "sagan": sagan.build,
    "stylegan2": stylegan2.build,
    "enhance": enhance.build,
    "distill": distill.build,
    "evaluator": evaluator.build,
}


def build(job: Job, setup: Setup) -> Recipe:
    return RECIPES[job.training.recipe](job, setup)
