"""Recipes: which networks a training has, and which phases move them.

A recipe is data for the loop in `loop.py`, and for the prediction of memory.

A file each: `pix2pix`, `cyclegan`, `sagan`, `stylegan2` and `enhance` train a generator, `distill` trains
a student of one, `evaluator` trains the network that scores them, and `features` the one that losses compare
features by. `training.steps` has what they share. `RECIPES` registers them by name.
"""

from typing import TypedDict

from raydistill.config.training import Training
from raydistill.data.source import Pairing
from raydistill.models.inputs import trained_latent_size
from raydistill.training.recipes import (
    cyclegan,
    distill,
    enhance,
    evaluator,
    features,
    pix2pix,
    sagan,
    stylegan2,
)
from raydistill.training.steps import Networks, Phase, RecipeKind, Schedule, Setup, Step, phase

__all__ = [
    "RECIPES",
    "Networks",
    "Phase",
    "RecipeKind",
    "Schedule",
    "Setup",
    "Step",
    "data_needs",
    "kind_of",
    "phase",
]

RECIPES: dict[str, RecipeKind] = {
    "pix2pix": pix2pix.KIND,
    "cyclegan": cyclegan.KIND,
    "sagan": sagan.KIND,
    "stylegan2": stylegan2.KIND,
    "enhance": enhance.KIND,
    "distill": distill.KIND,
    "evaluator": evaluator.KIND,
    "features": features.KIND,
}
"""`recipe` of a training's config -> what is registered for it."""


def kind_of(training: Training) -> RecipeKind:
    """What is registered for the recipe of a training."""
    return RECIPES[training.recipe]


class DataNeeds(TypedDict):
    """What `data.prepare` is to check for a recipe."""

    pairing: Pairing | None
    recipe: str
    whole_pictures: bool


def data_needs(training: Training) -> DataNeeds:
    """What the recipe of a training needs of its data."""
    return {
        "pairing": kind_of(training).pairing,
        "recipe": training.recipe,
        "whole_pictures": trained_latent_size(training) is not None,
    }
