"""The training loop: every recipe, one or several workers, resumed or new.

Knows no framework and no model.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.base import Optimizer, Stored
from raydistill.config.experiment import Job
from raydistill.config.training import Training
from raydistill.data import Split, load_split
from raydistill.data.augment import order_and_flips
from raydistill.errors import DivergenceError
from raydistill.evaluation.scorer import write_grid
from raydistill.models import saved
from raydistill.models.inputs import num_inputs, trained_latent_size, training_batch
from raydistill.training import checkpoint, recipes
from raydistill.training.recipes import Phase, Recipe, Setup, Step

Report = Callable[[dict[str, Any]], None]


@dataclass
class TrialResult:
    nimg: int
    metrics: dict[str, float]
    """The last evaluation's numbers."""
    evaluations: list[dict[str, Any]]
    wall_sec: float
    """Training and evaluation, over all interruptions."""
    context: dict[str, Any]
    network: Stored


def train(job: Job, *, report: Report, state_dir: Path) -> TrialResult:
    """Trains `job` to its budget and keeps the network in `state_dir/network`.

    Resumes from the newest checkpoint in `state_dir`; the result equals that of a run that never stopped.
    With a process group, every worker calls this with the same arguments and gets the same result. `report`
    gets every evaluation but the last, which is in the result: the caller keeps the result first and reports
    it then.

    Raises:
        DivergenceError: a loss or gradient is not finite; raised before the optimiser step, on every worker.
    """
    started, training, workers = time.monotonic(), job.training, distributed.current()
    split = load_split(job.data, "train")
    setup = Setup(split.info, torch.device("cuda" if torch.cuda.is_available() else "cpu"), workers)
    recipe = recipes.build(job, setup)
    distributed.check(workers, training, recipe.networks)
    finished = copy.deepcopy(recipe.networks[recipe.network]).requires_grad_(False).eval()
    moving, kept = dict(recipe.networks), recipe.network
    if training.ema_nimg:
        kept = "average"
        moving[kept] = copy.deepcopy(finished)
        distributed.shard(moving[kept], training.execution, setup.device, workers)
    apply_execution(recipe, training, setup)
    optimizers = {phase.network: phase.optimizer for phase in recipe.phases}
    nimg, history = checkpoint.load(state_dir, job.key, moving, optimizers)
    finished.load_state_dict(distributed.gather_state({kept: moving[kept]}, {}).networks[kept])
    before = history[-1]["wall_sec"] if history else 0.0

    seen: list[dict[str, Tensor]] = []
    while nimg < training.budget_nimg:
        seen.append(take_step(recipe, next_step(split, training, nimg, setup), training, workers))
        nimg += training.batch_size
        if training.ema_nimg:
            move_average(
                moving[kept],
                recipe.networks[recipe.network],
                0.5 ** (training.batch_size / training.ema_nimg),
            )
        if is_report_due(nimg, training):
            state = distributed.gather_state(moving, optimizers)
            finished.load_state_dict(state.networks[kept])
            numbers = mean_of(seen, workers) | recipe.evaluate(finished)
            history.append({"nimg": nimg, "wall_sec": before + time.monotonic() - started, **numbers})
            seen = []
            if workers.is_main:
                checkpoint.save(state_dir, job.key, checkpoint.Progress(nimg, history), state)
            distributed.barrier(workers)
            if nimg < training.budget_nimg:
                report(history[-1])

    if not history:  # a budget of no images: what it starts from is what it ends with
        history.append({"nimg": 0, "wall_sec": time.monotonic() - started, **recipe.evaluate(finished)})
    if workers.is_main:
        saved.save(state_dir / "network", recipe.kind, finished, recipe.config)
        if columns := recipe.columns(finished):
            write_grid(
                state_dir / "samples.png", load_split(job.data, "val"), columns, setup.device, recipe.latent
            )
    distributed.barrier(workers)
    metrics = {name: value for name, value in history[-1].items() if name not in ("nimg", "wall_sec")}
    return TrialResult(
        nimg, metrics, history, history[-1]["wall_sec"], recipe.context, saved.stored(state_dir / "network")
    )


def apply_execution(recipe: Recipe, training: Training, setup: Setup) -> None:
    """Makes the recipe's networks what `training` asks for, in place, before the first step. Collective."""
    distributed.prepare(recipe.networks, training, setup.device, setup.workers)
    for phase in recipe.phases:
        (group,) = phase.optimizer.param_groups
        group["params"] = [
            parameter
            for name in (phase.network, *phase.also)
            for parameter in recipe.networks[name].parameters()
        ]


def next_step(split: Split, training: Training, nimg: int, setup: Setup) -> Step:
    """The minibatch that follows after `nimg` images: a new permutation of the training set every pass."""
    workers = setup.workers.slice(training.batch_size)
    positions, latent = np.arange(nimg, nimg + training.batch_size)[workers], trained_latent_size(training)
    seed, flip = training.seed, training.flip
    targets = inputs = order_and_flips(positions, len(split), seed=seed, flip=flip)
    if latent is None and split.info.pairing == "unpaired":
        count = num_inputs(split, latent)
        inputs = order_and_flips(positions, count, seed=seed, flip=flip, domain="/inputs")
    pictures = training_batch(split, latent, seed, inputs, targets, setup.device)
    return Step(pictures, inputs.indices, inputs.flips, nimg, workers.start)


def microbatches(step: Step, size: int | None) -> list[Step]:
    """The step's images in order, at most `size` a part; the step itself where it fits."""
    count = len(step.indices)
    if size is None or size >= count:
        return [step]
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    return [
        Step(step.batch.part(part), step.indices[part], step.flips[part], step.nimg, step.offset + part.start)
        for part in parts
    ]


def take_step(
    recipe: Recipe, step: Step, training: Training, workers: distributed.Workers
) -> dict[str, Tensor]:
    """All phases on one minibatch, in turn; returns their numbers to log."""
    parts = microbatches(step, training.execution.microbatch)
    recipe.networks[recipe.network].requires_grad_(True)
    if len(parts) == 1:
        recipe.forward(step)
    numbers: dict[str, Tensor] = {}
    for phase in recipe.phases:
        if step.nimg // training.batch_size % phase.every == 0:
            numbers |= advance(phase, recipe, parts, training, workers)
    return numbers


def advance(
    phase: Phase, recipe: Recipe, parts: list[Step], training: Training, workers: distributed.Workers
) -> dict[str, Tensor]:
    """One optimiser step of one phase; returns its numbers to log. No other network is changed or gets a gradient.

    Of several parts each one's forward is computed anew, with a graph only where the network trained for
    moves, so that one part's graph is held at a time. Each starts from the same buffers: what moves once a
    step still does.
    """
    for name, network in recipe.networks.items():
        network.requires_grad_(name == phase.network or name in phase.also)
    network, total = recipe.networks[phase.network], sum(len(part.indices) for part in parts)
    buffers = [buffer.clone() for buffer in network.buffers()] if len(parts) > 1 else []
    phase.optimizer.zero_grad()
    summed: dict[str, Tensor] = {}
    for part in parts:
        if len(parts) > 1:
            for buffer, first in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(first)
            with torch.set_grad_enabled(phase.network == recipe.network):
                recipe.forward(part)
        loss, numbers = phase.loss(part)
        share = len(part.indices) / total
        (loss * share).backward()
        summed = {name: summed.get(name, 0.0) + number.detach() * share for name, number in numbers.items()}
    parameters = [parameter for group in phase.optimizer.param_groups for parameter in group["params"]]
    distributed.average_gradients(parameters, workers)
    if not torch.isfinite(distributed.gradient_norm(parameters)):
        raise DivergenceError(
            f"phase {phase.name}: the gradient is not finite at image {parts[0].nimg} (loss {loss.item():.4g}); lower its learning rate"
        )
    for group in phase.optimizer.param_groups:
        group["lr"] = learning_rate(phase.config, parts[0].nimg, training.budget_nimg)
    phase.optimizer.step()
    return summed


def learning_rate(config: Optimizer, nimg: int, budget_nimg: int) -> float:
    """Constant up to `decay_start` of the budget, then linear to 0 at its end."""
    left = (1 - nimg / budget_nimg) / (1 - config.decay_start) if config.decay_start < 1 else 1.0
    return config.learning_rate * min(1.0, left)


def move_average(average: nn.Module, network: nn.Module, beta: float) -> None:
    """average <- beta * average + (1 - beta) * network, parameters only; buffers are copied."""
    with torch.no_grad():
        for target, source in zip(average.parameters(), network.parameters(), strict=True):
            target.lerp_(source, 1 - beta)
        for buffer, moved in zip(average.buffers(), network.buffers(), strict=True):
            buffer.copy_(moved)


def is_report_due(nimg: int, training: Training) -> bool:
    """After every `report_every_nimg` images, and at the end."""
    return (
        nimg >= training.budget_nimg
        or nimg // training.report_every_nimg > (nimg - training.batch_size) // training.report_every_nimg
    )


def mean_of(seen: list[dict[str, Tensor]], workers: distributed.Workers) -> dict[str, float]:
    """Means of the logged numbers over workers and over the steps that had them."""
    names = dict.fromkeys(name for numbers in seen for name in numbers)
    means = {
        name: torch.stack([numbers[name] for numbers in seen if name in numbers]).mean() for name in names
    }
    return distributed.mean_numbers(means, workers)
