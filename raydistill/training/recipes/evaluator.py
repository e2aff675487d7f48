"""The evaluator, supervised by what the data have: see `networks.evaluator_task`.

It predicts the class of each pixel or of each picture, by cross entropy, or the input picture,
by L1. Of pictures without any of these it predicts by how many quarter turns their middle square
was turned (Gidaris et al. 2018).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.experiment import Job
from raydistill.config.training import EvaluatorTraining
from raydistill.data import Batch, DataInfo, load_split
from raydistill.distributed import total
from raydistill.evaluation.metrics import mean_iou
from raydistill.evaluation.scorer import confusion_counts, require_finite
from raydistill.models import networks
from raydistill.models.inputs import target_batches
from raydistill.models.networks import EvaluatorTask
from raydistill.seeds import numpy_stream
from raydistill.training.recipes.parts import Recipe, Setup, Step, phase
from raydistill.training.terms import Numbers


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of an `EvaluatorTraining`: the evaluator alone, scored by its own task on val."""
    training, info, workers = job.training, setup.info, setup.workers
    assert isinstance(training, EvaluatorTraining)
    evaluator = networks.evaluator(training.network, info, training.seed).to(setup.device)
    task, val = networks.evaluator_task(info), load_split(job.data, "val")

    def forward(step: Step) -> None:
        pictures = step.batch.target
        if task == "rotation":
            pictures = turn_squares(pictures, turns_of(training.seed, step.positions))
        step.output = evaluator(pictures).prediction

    def evaluator_loss(step: Step) -> tuple[Tensor, Numbers]:
        loss = task_loss(step, task, info, training.seed)
        return loss, {"train/evaluator_loss": loss}

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        parts = [measure(network, part, task, info) for part in target_batches(val, setup.device, workers)]
        not_finite = torch.stack([~torch.isfinite(prediction).all() for prediction, _ in parts]).float().sum()
        require_finite(not_finite, "a prediction of the evaluator", workers)
        counts = total(torch.stack([count for _, count in parts]).sum(0), workers)
        if task == "pixel_class":
            return {"val/miou": mean_iou(counts)}
        return {"val/input_l1" if task == "input_picture" else "val/accuracy": float(counts[0] / counts[1])}

    return Recipe(
        kind="evaluator",
        network="evaluator",
        config=training.network,
        networks={"evaluator": evaluator},
        phases=(phase("evaluator", evaluator, training.optimizer, evaluator_loss),),
        forward=forward,
        evaluate=evaluate,
        context={},
        columns=lambda network: {},
    )


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
    turns = torch.from_numpy(turns_of(seed, step.positions)).to(step.output.device)
    return F.cross_entropy(step.output, turns)


def measure(network: nn.Module, part: Batch, task: EvaluatorTask, info: DataInfo) -> tuple[Tensor, Tensor]:
    """An evaluator's predictions for a part of val, and counts of them that are added up over parts.

    For pixel classes the counts are the confusion (C, C); for input pictures, the sum of absolute errors and
    the number of values; otherwise, the number of right predictions and of all. For rotation, the network
    sees every picture in all four turns.
    """
    if task == "rotation":
        pictures = [turn_squares(part.target, np.full(len(part.target), turn)) for turn in range(4)]
        prediction = torch.cat([network(each).prediction for each in pictures])
        truth = torch.arange(4, device=prediction.device).repeat_interleave(len(part.target))
    else:
        prediction = network(part.target).prediction
    if task == "pixel_class":
        assert part.labels is not None
        return prediction, confusion_counts(prediction, part.labels, info.ignore_index)
    if task == "input_picture":
        error = (prediction - part.inputs).abs().double().sum()
        return prediction, torch.stack([error, torch.full_like(error, prediction.numel())])
    if task == "picture_class":
        assert part.classes is not None
        truth = part.classes
    right = (prediction.argmax(1) == truth).double().sum()
    return prediction, torch.stack([right, torch.full_like(right, len(truth))])


def turns_of(seed: int, positions: np.ndarray) -> np.ndarray:
    """The quarter turns of the images at these positions of the training, (B,) int64, 0 to 3."""
    return np.array([numpy_stream(seed, "turns", int(position)).integers(4) for position in positions])


def turn_squares(pictures: Tensor, turns: np.ndarray) -> Tensor:
    """The middle squares of pictures (B, 3, H, W), each turned by its number of quarter turns (B,)."""
    side = min(pictures.shape[2:])
    top, left = ((length - side) // 2 for length in pictures.shape[2:])
    squares = pictures[:, :, top : top + side, left : left + side]
    return torch.stack([torch.rot90(square, int(turn), (1, 2)) for square, turn in zip(squares, turns)])
