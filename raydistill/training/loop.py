"""The training loop of every recipe, on one worker or several, new or resumed.

It knows no framework for sweeps and no model.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.base import Optimizer, Stored
from raydistill.config.experiment import Job
from raydistill.config.training import Training
from raydistill.data import load_split, read_info
from raydistill.errors import CheckpointError, say_notice
from raydistill.evaluation.samples import write_grid
from raydistill.models import dropout, saved
from raydistill.records.trials import Evaluation
from raydistill.training import assembly, checkpoint, peak, recording
from raydistill.training.assembly import Assembly, Movers, Stepping
from raydistill.training.minibatches import is_report_due
from raydistill.training.recipes import Phase, Setup, Step

NOT_FINITE = "the gradient is not finite; lower its learning rate"
"""What is said of a phase whose gradient is not finite."""
SAMPLES = "samples.png"
"""Pictures of a training's network, in its folder."""
REPORTED = "samples"
"""Folder, in that one, of such pictures at each report: `000001000.png` after 1,000 images."""
Report = Callable[[Evaluation], None]
"""Takes an evaluation."""


@dataclass
class TrainingResult:
    """What a training gives."""

    nimg: int
    """Images seen, over all workers."""
    metrics: dict[str, float]
    """The numbers of the last evaluation."""
    evaluations: list[Evaluation]
    """All evaluations, in order."""
    wall_sec: float
    """Seconds of training and evaluation, over all interruptions."""
    context: dict[str, Any]
    """What the scores were computed with."""
    network: Stored
    """The network that was trained for, on disk."""
    beside: dict[str, Stored]
    """What is stored beside it, by name, see `RecipeKind.stored_beside`."""
    peak_memory_gb: float | None
    """See `peak.gb`."""


def train(job: Job, *, report: Report, state_dir: Path, say: checkpoint.Say = say_notice) -> TrainingResult:
    """Trains `job` to its budget and writes the network to `state_dir/network`. Collective.

    Networks that its recipe stores beside that one go to `state_dir`, too, each in a folder of its name.

    Training resumes from the newest whole checkpoint in `state_dir`; the result equals that of a run that
    never stopped. With a process group, every worker calls this with the same arguments and gets the same
    result.

    Args:
        report: Gets every evaluation but the last. The last one is in the result, which the caller stores
            before it reports it.
        say: is given a line for each damaged checkpoint, by every worker.

    Raises:
        DivergenceError: a gradient is not finite, or a check of a loss does not hold. It is raised at the
            next report, on every worker; nothing has moved since, and no checkpoint has it.
        CheckpointError: the checkpoint in `state_dir` is of another version or job, or is damaged for some
            of the workers only.
        StoreError: a checkpoint cannot be written.
    """
    # Longer than other functions, so that the whole loop can be read from top to bottom.
    mapped, training, workers = peak.start(), job.training, distributed.current()
    start_sec, device = time.monotonic(), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setup = Setup(read_info(job.data), device, workers)
    recorded = recording.rows_to_read(job, setup, state_dir, say)
    trained = assembly.build(job, setup, recorded)
    distributed.check(workers, training, trained.networks)
    eval_network = copy.deepcopy(trained.networks[trained.network]).requires_grad_(False).eval()
    source = checkpoint.evaluated_network(training, trained.network)  # eval_network is a copy of it
    networks_to_save = dict(trained.networks)
    if training.ema_nimg:
        networks_to_save[source] = copy.deepcopy(eval_network)
        distributed.shard(networks_to_save[source], training.execution, setup.device, workers)
    apply_execution(trained, training, setup)
    nimg, history = checkpoint.load(state_dir, job.key, networks_to_save, trained.optimizers, say)
    _require_same_start(nimg, state_dir, workers)
    copy_whole(networks_to_save[source], eval_network)
    earlier_sec = history[-1].wall_sec if history else 0.0

    logged = Means()
    with recording.recorder(job, setup, nimg, recorded is not None) as recorder:
        while nimg < training.budget_nimg:
            step = trained.minibatches.step(nimg)
            found = take_step(trained, step, training, workers)
            logged.add(found)
            recorder.take(trained.recorded, step, found)
            nimg += training.batch_size
            if training.ema_nimg:
                beta = 0.5 ** (training.batch_size / training.ema_nimg)
                distributed.move_average(networks_to_save[source], trained.networks[trained.network], beta)
            if is_report_due(nimg, training):  # between reports, nothing waits for the device
                trained.divergence.require_none()
                state = distributed.gather_state(networks_to_save, trained.optimizers)
                eval_network.load_state_dict(state.networks[source])
                is_last = nimg >= training.budget_nimg
                evaluate = trained.evaluate if is_last else trained.evaluate_report
                numbers, before_sec = logged.over(workers), time.monotonic()
                numbers |= evaluate(eval_network)
                scoring_sec, wall_sec = (
                    time.monotonic() - before_sec,
                    earlier_sec + time.monotonic() - start_sec,
                )
                history.append(
                    Evaluation(nimg=nimg, wall_sec=wall_sec, numbers=numbers, scoring_sec=scoring_sec)
                )
                logged = Means()
                if workers.is_main:
                    keep_report(trained, eval_network, history, job, setup, state_dir)
                    checkpoint.save(state_dir, job.key, checkpoint.Progress(nimg, history), state)
                distributed.barrier(workers)
                if not is_last:
                    report(history[-1])
        recorder.keep()

    network = write_network(trained, eval_network, job, setup, state_dir)
    beside = write_beside(trained, training, setup, state_dir)
    last = history[-1]
    return TrainingResult(
        nimg, last.numbers, history, last.wall_sec, trained.context, network, beside, peak.gb(mapped)
    )


def _require_same_start(nimg: int, state_dir: Path, workers: distributed.Workers) -> None:
    """Raises CheckpointError where workers have found different checkpoints. Collective."""
    everyone = distributed.gather_rows(torch.tensor([nimg]), workers)
    if len(set(everyone.tolist())) > 1:
        raise CheckpointError(
            f"{state_dir}: the workers have found the checkpoints of {everyone.tolist()} images; "
            "does every node see the same folder?"
        )


def copy_whole(source: nn.Module, target: nn.Module) -> None:
    """Loads the state of a network, which may be sharded, into one that is whole. Collective."""
    target.load_state_dict(distributed.gather_state({"source": source}, {}).networks["source"])


def write_network(
    trained: Assembly, eval_network: nn.Module, job: Job, setup: Setup, state_dir: Path
) -> Stored:
    """Writes the network to `state_dir/network`, and pictures of its outputs to `state_dir/samples.png`.

    Collective.
    """
    folder = state_dir / "network"
    trained.finish(eval_network)
    if setup.workers.is_main:
        saved.save(folder, trained.network, eval_network, trained.config)
        if columns := trained.columns(eval_network, True):
            val = load_split(job.data, "val")
            write_grid(state_dir / SAMPLES, val, columns, setup.device, trained.latent)
    distributed.barrier(setup.workers)
    return saved.stored(folder)


def keep_report(
    trained: Assembly,
    eval_network: nn.Module,
    history: list[Evaluation],
    job: Job,
    setup: Setup,
    state_dir: Path,
) -> None:
    """Keeps what a recipe keeps of a report, and draws two pictures: few, as there are many reports.

    `history`: all evaluations, this one last.
    """
    trained.keep(eval_network, history, state_dir)
    if columns := trained.columns(eval_network, False):
        path = state_dir / REPORTED / f"{history[-1].nimg:09d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_grid(path, load_split(job.data, "val"), columns, setup.device, trained.latent, num_rows=2)


def write_beside(trained: Assembly, training: Training, setup: Setup, state_dir: Path) -> dict[str, Stored]:
    """Writes what the recipe stores beside the network, by name; what is sharded, whole. Collective."""
    written: dict[str, Stored] = {}
    for name in trained.kind.stored_beside:
        state = distributed.gather_state({name: trained.networks[name]}, {}).networks[name]
        if setup.workers.is_main:
            saved.save_state(state_dir / name, name, state, getattr(training, name))
        distributed.barrier(setup.workers)
        written[name] = saved.stored(state_dir / name)
    return written


def apply_execution(trained: Assembly, training: Training, setup: Setup) -> None:
    """Changes the training's networks in place, as `training.execution` and `training.precision` ask.

    Collective.

    It comes before the first step: the optimizers get the parameters that the networks have then.
    """
    distributed.prepare(trained.networks, training, setup.device, setup.workers)
    for phase in trained.phases:
        (group,) = trained.optimizers[phase.network].param_groups
        moved = (trained.networks[name] for name in phase.moves)
        group["params"] = [parameter for network in moved for parameter in network.parameters()]


def microbatches(step: Step, size: int | None) -> list[Step]:
    """The step in parts of at most `size` images, in order. None: the step itself is the only part."""
    count = len(step)
    if size is None or size >= count:
        return [step]
    return [step.part(slice(start, min(start + size, count))) for start in range(0, count, size)]


def take_step(
    trained: Stepping, step: Step, training: Training, workers: distributed.Workers
) -> dict[str, Tensor]:
    """Runs all phases that are due on one minibatch, in turn; returns their numbers to log. Collective."""
    parts = microbatches(step, training.execution.microbatch)
    begin(trained, parts)
    numbers: dict[str, Tensor] = {}
    for phase in trained.phases:
        if step.nimg // training.batch_size % phase.every == 0:
            numbers |= advance(phase, trained, parts, training, workers)
    return numbers


def begin(trained: Movers, parts: list[Step]) -> None:
    """The forward that all phases of a minibatch share, where it has one part only. Collective."""
    trained.networks[trained.network].requires_grad_(True)
    if len(parts) == 1:
        dropout.show(trained.networks.values(), parts[0].images)
        trained.forward(parts[0])


def advance(
    phase: Phase, trained: Stepping, parts: list[Step], training: Training, workers: distributed.Workers
) -> dict[str, Tensor]:
    """One optimizer step of one phase; returns its numbers to log. Collective.

    From the first step on in which the gradient is not finite, or a check of the phase does not hold, nothing
    moves any more; `trained.divergence` knows which step it was.
    """
    optimizer = trained.optimizers[phase.network]
    optimizer.zero_grad()
    _, numbers = descend(phase, trained, parts)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    checks: dict[str, list[Tensor]] = {}  # what is said of a check -> whether it holds, for each part
    for part in parts:
        for check in part.checks:
            checks.setdefault(check.what, []).append(check.holds)
        part.checks.clear()
    of_worker = [torch.stack(each).all() if len(each) > 1 else each[0] for each in checks.values()]
    holds = distributed.average_gradients(parameters, workers, torch.stack(of_worker) if checks else None)
    is_finite = (distributed.gradient_norm(parameters) < torch.inf)[None]  # NaN is not below infinity either
    holds = is_finite if holds is None else torch.cat([holds, is_finite])
    conditions = [*checks, NOT_FINITE]
    number = trained.phases.index(phase)
    trained.divergence.note(number, parts[0].nimg, conditions, holds)
    for group in optimizer.param_groups:
        group["lr"].fill_(learning_rate(phase.config, parts[0].nimg, training.budget_nimg))
    optimizer.found_inf = trained.divergence.found  # type: ignore[attr-defined]
    optimizer.step()
    return numbers


def descend(phase: Phase, trained: Movers, parts: list[Step]) -> tuple[Tensor, dict[str, Tensor]]:
    """The gradients of one phase's loss; the loss of the last part, and the numbers to log. Collective.

    No network but those that the phase moves gets a gradient. Where the minibatch has several parts, the
    forward of each is computed anew, with a graph only where this phase moves the network that is trained
    for: so one graph is held at a time. Every part starts from the same buffers, so a buffer that
    moves once in a step still does.

    Args:
        parts: This worker's part of the minibatch, see `microbatches`.
    """
    for name, module in trained.networks.items():
        module.requires_grad_(name in phase.moves)
    network, total = trained.networks[phase.network], sum(len(part) for part in parts)
    buffers = [buffer.clone() for buffer in network.buffers()] if len(parts) > 1 else []
    summed: dict[str, Tensor] = {}
    for part in parts:
        if len(parts) > 1:
            for buffer, first in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(first)
            dropout.show(trained.networks.values(), part.images)
            with torch.set_grad_enabled(trained.network in phase.moves):
                trained.forward(part)
        loss, numbers = phase.loss(part)
        if len(parts) == 1:
            loss.backward()
            return loss.detach(), {name: number.detach() for name, number in numbers.items()}
        share = len(part) / total
        (loss * share).backward()
        summed = {name: summed.get(name, 0.0) + number.detach() * share for name, number in numbers.items()}
    return loss.detach(), summed


def learning_rate(config: Optimizer, nimg: int, budget_nimg: int) -> float:
    """The learning rate after `nimg` images: linear from 0 up to `warmup_end` of the budget, constant up to
    `decay_start` of it, then linear to 0 at its end.
    """
    share = nimg / budget_nimg
    rising = share / config.warmup_end if config.warmup_end > 0 else 1.0
    falling = (1 - share) / (1 - config.decay_start) if config.decay_start < 1 else 1.0
    return config.learning_rate * min(1.0, rising, falling)


class Means:
    """Means of the numbers that steps log, each over the steps that log it; on the device until they are
    asked.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[Tensor, int]] = {}
        """Names that a step has logged -> (sums of their values, how many steps)."""

    def add(self, numbers: dict[str, Tensor]) -> None:
        """Adds the numbers of a step: scalars by name, without graphs."""
        if not numbers:
            return
        values, names = torch.stack(list(numbers.values())).double(), tuple(numbers)
        sums, count = self._sums.get(names, (torch.zeros_like(values), 0))
        self._sums[names] = (sums.add_(values), count + 1)

    def over(self, workers: distributed.Workers) -> dict[str, float]:
        """The means over steps and workers. It waits for the device. Collective."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for names, (values, count) in self._sums.items():
            for name, value in zip(names, values.unbind(), strict=True):
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + count
        return distributed.mean_numbers({name: sums[name] / counts[name] for name in sums}, workers)
