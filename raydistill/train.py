"""The training loop: every recipe, one or several workers, resumed or new. Knows no framework and no model."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raydistill import checkpoint, networks, parallel, recipes
from raydistill.config import Job, Optimizer, Stored, Training
from raydistill.data import Split, batch, load_split
from raydistill.errors import DivergenceError
from raydistill.evaluate import write_grid
from raydistill.recipes import Bench, Phase, Step
from raydistill.seeds import numpy_stream

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

    Resumes from the newest checkpoint in `state_dir`; the result equals that of a run that never stopped. With a process
    group, every worker calls this with the same arguments and gets the same result. `report` gets every evaluation but the last,
    which is in the result: the caller keeps the result first and reports it then.

    Raises:
        DivergenceError: a loss or gradient is not finite; raised before the optimiser step, on every worker.
    """
    started, training, workers = time.monotonic(), job.training, parallel.current()
    split = load_split(job.data, "train")
    bench = Bench(split.info, torch.device("cuda" if torch.cuda.is_available() else "cpu"), workers)
    recipe = recipes.build(job, bench)
    parallel.check(workers, training.batch_size, recipe.networks)
    trained = recipe.networks[recipe.network]
    finished = copy.deepcopy(trained).requires_grad_(False) if training.ema_nimg else trained
    moving = recipe.networks | {"average": finished} if training.ema_nimg else recipe.networks
    optimizers = {phase.name: phase.optimizer for phase in recipe.phases}
    nimg, history = checkpoint.load(state_dir, job.key, moving, optimizers)
    before = history[-1]["wall_sec"] if history else 0.0

    seen: list[dict[str, Tensor]] = []
    while nimg < training.budget_nimg:
        step = next_step(split, training, nimg, bench)
        recipe.forward(step)
        seen.append({})
        for phase in recipe.phases:
            seen[-1] |= advance(phase, recipe.networks[phase.network], step, training, workers)
        nimg += training.batch_size
        if training.ema_nimg:
            move_average(finished, trained, 0.5 ** (training.batch_size / training.ema_nimg))
        if is_report_due(nimg, training):
            numbers = mean_of(seen, workers) | recipe.evaluate(finished.eval())
            trained.train()
            history.append({"nimg": nimg, "wall_sec": before + time.monotonic() - started, **numbers})
            seen = []
            if workers.is_main:
                checkpoint.save(state_dir, job.key, checkpoint.Progress(nimg, history), moving, optimizers)
            parallel.barrier(workers)
            if nimg < training.budget_nimg:
                report(history[-1])

    if workers.is_main:
        networks.save(state_dir / "network", recipe.kind, finished.eval(), recipe.config)
        if columns := recipe.columns(finished):
            write_grid(state_dir / "samples.png", load_split(job.data, "val"), columns, bench.device)
    parallel.barrier(workers)
    metrics = {name: value for name, value in history[-1].items() if name not in ("nimg", "wall_sec")}
    return TrialResult(nimg, metrics, history, history[-1]["wall_sec"], recipe.context, networks.stored(state_dir / "network"))


def next_step(split: Split, training: Training, nimg: int, bench: Bench) -> Step:
    """The minibatch that follows after `nimg` images: a new permutation of the training set every pass."""
    positions = np.arange(nimg, nimg + training.batch_size)[bench.workers.slice(training.batch_size)]
    indices = np.empty(len(positions), int)
    flips = np.zeros(len(positions), bool)
    for number in np.unique(positions // len(split)):
        here = positions // len(split) == number
        first_image = int(number) * len(split)
        indices[here] = numpy_stream(training.seed, "order", first_image).permutation(len(split))[positions[here] - first_image]
        if training.flip:
            flips[here] = numpy_stream(training.seed, "flip", first_image).random(len(split))[indices[here]] < 0.5
    return Step(batch(split, indices, device=bench.device, flips=flips), indices, flips, nimg)


def advance(phase: Phase, network: nn.Module, step: Step, training: Training, workers: parallel.Workers) -> dict[str, Tensor]:
    """One optimiser step of one phase; returns its numbers to log."""
    loss, numbers = phase.loss(step)
    parameters = list(network.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient  # type: ignore[assignment]
    parallel.average_gradients(parameters, workers)
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if not torch.isfinite(norm):
        raise DivergenceError(
            f"phase {phase.name}: the gradient is not finite at image {step.nimg} (loss {loss.item():.4g}); lower its learning rate"
        )
    for group in phase.optimizer.param_groups:
        group["lr"] = learning_rate(phase.config, step.nimg, training.budget_nimg)
    phase.optimizer.step()
    return {name: number.detach() for name, number in numbers.items()}


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
    return nimg >= training.budget_nimg or nimg // training.report_every_nimg > (nimg - training.batch_size) // training.report_every_nimg


def mean_of(seen: list[dict[str, Tensor]], workers: parallel.Workers) -> dict[str, float]:
    """Means of the logged numbers over steps and workers."""
    return parallel.mean_numbers({name: torch.stack([numbers[name] for numbers in seen]).mean() for name in seen[-1]}, workers)
