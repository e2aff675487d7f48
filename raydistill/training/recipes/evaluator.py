"""The evaluator, supervised by what the data have: see `networks.evaluator_task`.

It predicts the class of each pixel or of each picture, by cross entropy, or the input picture,
by L1. Of pictures without any of these it predicts by how many quarter turns their middle square
was turned (Gidaris et al. 2018).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.training import EvaluatorTraining
from raydistill.data import DataInfo, noise
from raydistill.evaluation.task_scorer import turn_squares
from raydistill.models import networks
from raydistill.models.networks import EvaluatorTask
from raydistill.training.steps import Networks, RecipeKind, Schedule, Setup, Step, phase
from raydistill.training.terms import Numbers


def build(config: EvaluatorTraining, info: DataInfo) -> Networks:
    """The evaluator alone."""
    return {"evaluator": networks.evaluator(config.network, info, config.seed)}


def schedule(config: EvaluatorTraining, modules: Networks, setup: Setup) -> Schedule:
    """One phase."""
    evaluator, task = modules["evaluator"], networks.evaluator_task(setup.info)

    def forward(step: Step) -> None:
        pictures = step.batch.target
        if task == "rotation":
            pictures = turn_squares(pictures, turns_of(config.seed, step.images, pictures.device))
        step.output = evaluator(pictures).prediction

    def evaluator_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss = task_loss(step, task, setup.info, config.seed)
        return loss, {"train/evaluator_loss": loss}

    return Schedule(forward, (phase("evaluator", config.optimizer, evaluator_loss),))


def task_loss(step: Step, task: EvaluatorTask, info: DataInfo, seed: int) -> Tensor:
    """The loss of the evaluator's predictions in `step.output`: a scalar."""
    if task == "input_picture":
        return F.l1_loss(step.output, step.batch.inputs)
    if task == "pixel_class":
        assert step.batch.labels is not None
        ignore = -100 if info.ignore_index is None else info.ignore_index
        # The mean over all pixels, where ignored ones count 0: so the loss of a batch is the mean of those of
        # its parts.
        summed = F.cross_entropy(step.output, step.batch.labels, ignore_index=ignore, reduction="sum")
        return summed / step.batch.labels.numel()
    if task == "picture_class":
        assert step.batch.classes is not None
        return F.cross_entropy(step.output, step.batch.classes)
    return F.cross_entropy(step.output, turns_of(seed, step.images, step.output.device))


def turns_of(seed: int, images: range, device: torch.device) -> Tensor:
    """The quarter turns of the images of these numbers in the training, (B,) int64, 0 to 3."""
    return noise.integers(noise.image_keys(seed, "turns", images, device), 4)


KIND = RecipeKind(EvaluatorTraining, build, schedule, network="evaluator")
