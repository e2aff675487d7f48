"""The network that stands in for VGG16 in losses of features: supervised as the evaluator is, and another.

It learns the evaluator's task (`networks.evaluator_task`) through a head that is thrown away. Its
architecture, its initial weights, its order of pictures and its turns are others than the evaluator's: what
gives a loss never scores.
"""

import torch
from torch import Tensor, nn

from raydistill.config.base import Stored
from raydistill.config.features import FeaturesTraining
from raydistill.data import DataInfo, load_split
from raydistill.distributed import Workers, total
from raydistill.errors import RunError
from raydistill.evaluation.task_scorer import turn_squares
from raydistill.models import networks
from raydistill.models.features import TrainedTaps
from raydistill.models.inputs import target_batches
from raydistill.training.recipes.evaluator import task_loss, turns_of
from raydistill.training.steps import Networks, Phase, RecipeKind, Schedule, Setup, Step
from raydistill.training.terms import Numbers

_NUM_MEASURED = 2_048
"""Training pictures that the size of features is measured on, at most."""


def build(config: FeaturesTraining, info: DataInfo) -> Networks:
    """The feature network, and its head."""
    network = networks.feature_network(config.network, config.seed)
    return {"features": network, "head": networks.feature_head(network, info, config.seed)}


def schedule(config: FeaturesTraining, modules: Networks, setup: Setup) -> Schedule:
    """One phase, which moves both."""
    network, head, task = modules["features"], modules["head"], networks.evaluator_task(setup.info)

    def forward(step: Step) -> None:
        pictures = step.batch.target
        if task == "rotation":
            pictures = turn_squares(pictures, turns_of(config.seed, step.images, pictures.device))
        step.output = head(network(pictures))

    def features_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss = task_loss(step, task, setup.info, config.seed)
        return loss, {"train/features_loss": loss}

    return Schedule(forward, (Phase("features", ("features", "head"), config.optimizer, features_loss),))


@torch.no_grad()
def measure_rms(network: nn.Module, data: Stored, device: torch.device, workers: Workers) -> None:
    """Fills in `rms` of a trained network: the root mean square of each tap over training pictures, at most
    `_NUM_MEASURED` of them. Every tap has 1 from then on. Collective.

    Raises:
        RunError: a tap is 0 on all pictures, or not finite.
    """
    assert isinstance(network, TrainedTaps)
    network.rms.fill_(1)
    counts = torch.zeros(2, len(network.widths), dtype=torch.float64, device=device)
    for part in target_batches(load_split(data, "train"), device, workers, _NUM_MEASURED):
        for number, tap in enumerate(network(part.target)):
            counts[0, number] += tap.double().square().sum()
            counts[1, number] += tap.numel()
    squares, numbers = total(counts, workers)
    if not bool(((squares > 0) & (squares < torch.inf)).all()):
        raise RunError(
            "the feature network gives nothing at one of its stages, or nothing finite: train it again with "
            "--set features.optimizer.learning_rate=1e-4, or another features.seed"
        )
    network.rms.copy_((squares / numbers).sqrt())


KIND = RecipeKind(FeaturesTraining, build, schedule, network="features")
