"""Recipes: which networks a training has, and which phases move them.

A recipe is data for the loop in `loop.py`.

A file each: `pix2pix`, `cyclegan`, `sagan`, `stylegan2` and `enhance` train a generator, `distill` trains
a student of one, and `evaluator` trains the network that scores them. `parts` has what they share.
`RECIPES` registers them by name.
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
"""`recipe` of a training's config -> what builds it."""


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of `job.training`, with its networks built.

    Collective where the recipe scores a generator.
    """
    return RECIPES[job.training.recipe](job, setup)
