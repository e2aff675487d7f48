"""The evaluator, supervised by what the data have: see `networks.evaluator_task`.

Classes of pixels or pictures by cross entropy, input pictures by L1. Of pictures without any, the quarter turns that their middle square
has been given (Gidaris et al. 2018).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.experiment import Job
from raydistill.config.training import EvaluatorTraining
from raydistill.data import Batch, load_split
from raydistill.distributed import total
from raydistill.evaluation.metrics import mean_iou
from raydistill.evaluation.scorer import confusion_counts, require_finite
from raydistill.models import networks
from raydistill.models.inputs import target_batches
from raydistill.seeds import numpy_stream
from raydistill.training.recipes.parts import Recipe, Setup, Step, phase
from raydistill.training.terms import Numbers


def build(job: Job, setup: Setup) -> Recipe:
    training, info, workers = job.training, setup.info, setup.workers
    assert isinstance(training, EvaluatorTraining)
    evaluator, kind = (
        networks.evaluator(training.network, info, training.seed).to(setup.device),
        networks.evaluator_task(info),
    )
    ignore = -100 if info.ignore_index is None else info.ignore_index

    def forward(step: Step) -> None:
        pictures = step.batch.target
        if kind == "rotation":
            pictures = turned(pictures, turns_of(training.seed, step.positions))
        step.output = evaluator(pictures).prediction

    def evaluator_loss(step: Step) -> tuple[Tensor, Numbers]:
        if kind == "input_picture":
            loss = F.l1_loss(step.output, step.batch.inputs)
        elif step.batch.labels is not None:
            # over all pixels, where ignored ones count 0: so the loss of a batch is the mean of those of its parts
            summed = F.cross_entropy(step.output, step.batch.labels, ignore_index=ignore, reduction="sum")
            loss = summed / step.batch.labels.numel()
        else:
            turns = torch.from_numpy(turns_of(training.seed, step.positions)).to(setup.device)
            loss = F.cross_entropy(step.output, turns if step.batch.classes is None else step.batch.classes)
        return loss, {"train/evaluator_loss": loss}

    val = load_split(job.data, "val")

    def measured(network: nn.Module, part: Batch) -> tuple[Tensor, Tensor]:
        """Predictions, and what is added up of them: confusion counts (C, C), or (right, number), or (error, number)."""
        if kind == "pixel_class":
            assert part.labels is not None
            prediction = network(part.target).prediction
            return prediction, confusion_counts(prediction, part.labels, info.ignore_index)
        if kind == "input_picture":
            prediction = network(part.target).prediction
            error = (prediction - part.inputs).abs().double().sum()
            return prediction, torch.stack([error, torch.full_like(error, prediction.numel())])
        given = (
            [part.target]
            if part.classes is not None
            else [turned(part.target, np.full(len(part.target), turn)) for turn in range(4)]
        )
        prediction = torch.cat([network(pictures).prediction for pictures in given])
        truth = (
            part.classes
            if part.classes is not None
            else torch.arange(4, device=prediction.device).repeat_interleave(len(part.target))
        )
        right = (prediction.argmax(1) == truth).double().sum()
        return prediction, torch.stack([right, torch.full_like(right, len(truth))])

    @torch.no_grad()
    def evaluate(network: nn.Module) -> dict[str, float]:
        found = [measured(network, part) for part in target_batches(val, setup.device, workers)]
        broken = torch.stack([~torch.isfinite(prediction).all() for prediction, _ in found]).float().sum()
        require_finite(broken, "a prediction of the evaluator", workers)
        counts = total(torch.stack([count for _, count in found]).sum(0), workers)
        if kind == "pixel_class":
            return {"val/miou": mean_iou(counts)}
        return {"val/input_l1" if kind == "input_picture" else "val/accuracy": float(counts[0] / counts[1])}

    phases = (phase("evaluator", evaluator, training.optimizer, evaluator_loss),)
    return Recipe(
        "evaluator",
        "evaluator",
        training.network,
        {"evaluator": evaluator},
        phases,
        forward,
        evaluate,
        {},
        lambda network: {},
    )


def turns_of(seed: int, positions: np.ndarray) -> np.ndarray:
    """(B,) int64, 0 to 3: the quarter turns of the images with these numbers."""
    return np.array([numpy_stream(seed, "turns", int(position)).integers(4) for position in positions])


def turned(pictures: Tensor, turns: np.ndarray) -> Tensor:
    """The middle squares of (B, 3, H, W), each by its quarter turns."""
    side = min(pictures.shape[2:])
    top, left = ((length - side) // 2 for length in pictures.shape[2:])
    square = pictures[:, :, top : top + side, left : left + side]
    return torch.stack(
        [torch.rot90(picture, int(turn), (1, 2)) for picture, turn in zip(square, turns, strict=True)]
    )
