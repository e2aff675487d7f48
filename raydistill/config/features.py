"""Configs of the feature network, which gives losses of features, and of the training of its stand-in."""

from typing import Literal

from raydistill.config.architectures import Width
from raydistill.config.base import Frozen, Optimizer
from raydistill.config.bounds import NumImages, WholeNumber
from raydistill.config.training import DistillTraining, Training


class FeatureNetworkConfig(Frozen):
    """The network that stands in for VGG16 where no file of it is given: like it, and small."""

    width: Width = 16
    """Width of the first of four stages; each next one is twice as wide, at half the size."""


class FeaturesTraining(Training):
    """Trains the stand-in for VGG16, on real pictures and by the evaluator's task.

    It is no evaluator: its architecture is another, and so are its random numbers.
    """

    recipe: Literal["features"] = "features"
    seed: WholeNumber = 1
    budget_nimg: NumImages = 4_000
    report_every_nimg: NumImages = 2_000
    optimizer: Optimizer = Optimizer(learning_rate=1e-3, betas=(0.9, 0.999), decay_start=0.3)
    network: FeatureNetworkConfig = FeatureNetworkConfig()


def needs_features(training: Training) -> bool:
    """Whether losses of a training look at features of pictures: a student's base distillation says so."""
    return isinstance(training, DistillTraining) and training.base.needs_features
