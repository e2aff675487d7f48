"""The plan of a sweep as people read it: before any cost, and afterwards against what it took."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from raydistill.cluster.placement import Group, Node, Placements, place_stages, why
from raydistill.config import space
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.errors import RaydistillError, StoreError
from raydistill.planning.plan import Plan
from raydistill.records.trials import read_trials
from raydistill.sweep import forecast
from raydistill.sweep.forecast import Forecast, Rates
from raydistill.terminal import Terminal
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import stages_done

FILE = "forecast.json"
GIB, MIB = 2**30, 2**20


class PlanEstimate(NamedTuple):
    """None, both: nothing could be predicted but memory and disk."""

    rates: Rates | None
    forecast: Forecast | None


def say_plan(plan: Plan, nodes: list[Node], terminal: Terminal) -> None:
    """All that `raydistill plan` says. Nothing is trained."""
    info, counts = plan.info, ", ".join(f"{split} {count:,}" for split, count in plan.info.counts.items())
    classes = f", {info.num_classes} classes" if info.has_labels else ""
    for line in plan.warm_start.messages:
        terminal.say(line)
    terminal.say(
        f"data {plan.data.digest}: {info.layout} at {info.width}x{info.height}{classes}: {counts}. {info.split_rule}"
    )
    placements = place_stages(nodes, plan.options, lambda: plan.trial_bytes)
    say(plan, placements, nodes, estimate(plan, placements, terminal), terminal)
    terminal.say("nothing was trained: leave --plan out, or `sweep` for `plan`")


def say(
    plan: Plan, placements: Placements, nodes: list[Node], estimated: PlanEstimate, terminal: Terminal
) -> None:
    """Trials, costs, time, memory, places and disk, a line each."""
    labels = ", ".join(label for _, label, _ in plan.baselines) or "none"
    terminal.say(
        f"plan: {plan.options.trials} searched trials; {len(plan.baselines)} baselines ({labels}); 1 recheck"
    )
    students = [plan.costs_of(training) for training, _ in plan.students]
    ends = {name: sorted(costs[name] for costs in students) for name in students[0]}
    teacher = plan.costs_of(plan.experiment.teacher)["cost/macs"]
    macs, params = ends["cost/macs"], ends["cost/params"]
    ranges = f"{macs[0] / 1e6:,.1f} to {macs[-1] / 1e6:,.1f} M MACs and {params[0]:,.0f} to {params[-1]:,.0f} parameters"
    windows = "".join(f"; window: {_window(window)}" for window in plan.space.constraints)
    terminal.say(f"plan: students of {ranges}{windows}; the teacher has {teacher / 1e6:,.1f} M MACs")
    options, trials, expected = plan.options, placements.trials, estimated.forecast
    if expected is None:
        terminal.say("plan: no time: the trials use GPUs and this machine has none; give --seconds-per-image")
    else:
        low, mean, high = expected.trial_sec
        cached = (
            f"evaluator and teacher {expected.stages_sec:.0f} s"
            if expected.stages_sec
            else "evaluator and teacher are in the store"
        )
        what = "GPU" if trials.group.gpus else "CPU"
        terminal.say(
            f"plan: a trial takes {low:.0f} to {high:.0f} s, {mean:.0f} s on average; {cached}; from {expected.source}"
        )
        limits = [f"--max-hours {options.max_hours:g}"] if options.max_hours is not None else []
        limits += [f"--max-gpu-hours {options.max_gpu_hours:g}"] if options.max_gpu_hours is not None else []
        ends_at = f"; {' and '.join(limits)} may end it before" if limits else ""
        terminal.say(
            f"plan: in all about {expected.total_sec / 60:.1f} min and {expected.device_hours:.2f} {what}-hours{ends_at}"
        )
        if options.replicates:
            more = expected.replicates
            parts = f"{more.total_sec / 60:.1f} min, {more.device_hours:.2f} {what}-hours and {more.disk_bytes / MIB:.0f} MiB of disk"
            terminal.say(
                f"plan: of that {parts} for {options.replicates} replicates: an upper bound, all of them of the most expensive student"
            )
    worker_bytes = plan.worker_bytes(trials.group.gpus)
    at_once = trials.max_concurrent * trials.group.workers * worker_bytes / GIB
    terminal.say(f"plan: {trials.max_concurrent} trials at a time, because {why(nodes, options, trials)}")
    beside = _unlike_the_window(plan, trials.group)
    terminal.say(
        f"plan: at most {worker_bytes / GIB:.2f} GiB of memory a worker, {at_once:.1f} GiB in all{beside}"
    )
    free = shutil.disk_usage(plan.store).free / GIB
    terminal.say(
        f"plan: {forecast.disk_bytes(plan).total / MIB:.0f} MiB of disk in {plan.store}, where {free:.0f} GiB are free"
    )


def _unlike_the_window(plan: Plan, group: Group) -> str:
    """A cost must be the same wherever a sweep goes on, so a window on memory is on that of a GPU."""
    if group.gpus or all(window.cost != "cost/memory_gb" for window in plan.space.constraints):
        return ""
    return f" (a process on the CPU; the window is on that of a GPU, {plan.trial_bytes / GIB:.2f} GiB)"


def _window(window: space.Window) -> str:
    high = f" to {window.high:,.6g}" if window.high < 1e30 else " or more"
    return f"{window.cost} {window.low:,.6g}{high}"


def estimate(plan: Plan, placements: Placements, terminal: Terminal) -> PlanEstimate:
    """Rates, measured now or given, and what follows from them."""
    group, stages = placements.trials.group, placements.stages
    if plan.options.seconds_per_image is None and group.gpus and not torch.cuda.is_available():
        return PlanEstimate(None, None)
    try:
        rates = forecast.rates(plan, stage_workers=stages.workers, cpus=group.cpus)
    except (RaydistillError, RuntimeError, MemoryError) as error:  # a plan is no reason not to try
        terminal.say(f"plan: no time: the steps to measure failed: {str(error).splitlines()[0]}")
        return PlanEstimate(None, None)
    per_worker, per_stage = (held.gpus or held.cpus for held in (group, stages))
    expected = forecast.forecast(
        plan,
        rates,
        at_a_time=placements.trials.max_concurrent,
        devices=group.workers * per_worker,
        stage_devices=stages.workers * per_stage,
        memory_bytes=plan.worker_bytes(group.gpus),
        is_inline=placements.trials.inline,
        stages_there=stages_done(plan.experiment, plan.data, plan.store / "cache"),
    )
    return PlanEstimate(rates, expected)


def for_sweep(
    plan: Plan, folder: Path, placements: Placements, nodes: list[Node], terminal: Terminal
) -> PlanEstimate:
    """The plan with which the sweep of `folder` began; said, and kept there, where it begins now."""
    file = folder / FILE
    if file.exists():
        try:
            return PlanEstimate(*forecast.read(file, plan))
        except StoreError as error:  # a plan is no reason not to go on
            terminal.say(f"{error}; what is left is planned anew")
    trials = read_trials(folder)
    if sum(trial["role"] == "search" for trial in trials) >= plan.options.trials and all(
        trial["result"] for trial in trials
    ):
        return PlanEstimate(None, None)  # nothing is left to do
    estimated = estimate(plan, placements, terminal)
    say(plan, placements, nodes, estimated, terminal)
    if estimated.rates is not None and estimated.forecast is not None:
        forecast.write(file, estimated.rates, estimated.forecast)
    return estimated


def against_actual(
    ledger: Ledger, estimated: PlanEstimate, gpus: float, total_sec: float, stages_sec: float | None
) -> pd.DataFrame:
    """What was predicted before the sweep, and each trial's time by its own MACs, beside what it took.

    Args:
        gpus: of a trial's worker.
        total_sec: of the sweep, over all its starts.
        stages_sec: of evaluator and teacher; None: they were there.
    """
    rows: list[tuple[str, float, float]] = []
    if estimated.rates is not None and estimated.forecast is not None:
        if stages_sec is not None and estimated.forecast.stages_sec:
            rows.append(("evaluator and teacher, s", estimated.forecast.stages_sec, stages_sec))
        predicted = predicted_sec(ledger, estimated.rates)
        done = [
            trial
            for trial in ledger.trials
            if trial["trial_id"] in predicted and trial["result"]["status"] == "COMPLETE"
        ]
        by_kind: dict[str, list[tuple[float, float]]] = {}
        for trial in done:
            has_mi = trial["params"].get("student.mi.weight")
            kind = (
                "without a teacher"
                if trial["role"] == "no_teacher"
                else "with MI"
                if has_mi
                else "without MI"
            )
            by_kind.setdefault(kind, []).append((predicted[trial["trial_id"]], trial["result"]["wall_sec"]))
        for kind, pairs in by_kind.items():
            mean = [sum(column) / len(pairs) for column in zip(*pairs, strict=True)]
            rows.append((f"a trial {kind}, s ({len(pairs)})", mean[0], mean[1]))
        if done:
            every = [pair for pairs in by_kind.values() for pair in pairs]
            rows.append(
                (f"all {len(every)} trials, s", *(sum(column) for column in zip(*every, strict=True)))
            )  # type: ignore[arg-type]
        rows.append(("the whole sweep, min", estimated.forecast.total_sec / 60, total_sec / 60))
    peaks = [
        trial["result"]["peak_memory_gb"]
        for trial in ledger.trials
        if trial["result"] and trial["result"].get("peak_memory_gb")
    ]
    if peaks:
        rows.append(("memory of a worker, GiB", ledger.plan.worker_bytes(gpus) / GIB, max(peaks)))
    files = [path for path in (ledger.folder / "trials").rglob("*") if path.is_file()]
    files += list(Path(ledger.stages.teacher.path).glob("outputs-*.npy"))
    rows.append(
        (
            "disk, MiB",
            forecast.disk_bytes(ledger.plan).total / MIB,
            sum(path.stat().st_size for path in files) / MIB,
        )
    )
    table = pd.DataFrame(rows, columns=["what", "predicted", "actual"])
    return table.assign(**{"actual / predicted": table["actual"] / table["predicted"]})


def predicted_sec(ledger: Ledger, rates: Rates) -> dict[str, float]:
    """Trial -> seconds, of every student that has a result; of one stopped early up to there."""
    out: dict[str, float] = {}
    for trial in ledger.trials:
        if trial["role"] in ("search", "uniform", "no_teacher", "replicate") and trial["result"] is not None:
            training = Job.model_validate(trial["job"]).training
            assert isinstance(training, DistillTraining | GeneratorTraining)
            whole = rates.trial_sec(training, trial["costs"]["macs"])
            out[trial["trial_id"]] = whole * trial["result"]["nimg"] / training.budget_nimg
    return out
