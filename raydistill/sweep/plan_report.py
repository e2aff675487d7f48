"""The plan of a sweep as people read it: what it will take, and at its end what it took."""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from raydistill.cluster.placement import Group, Node, Placement, Placements, place_stages, why
from raydistill.config import space
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.errors import RaydistillError, StoreError
from raydistill.planning import scorers
from raydistill.planning.generator_checks import start_sentence
from raydistill.planning.plan import Plan
from raydistill.records.sweep_state import FORECAST
from raydistill.records.tables import FRONT_ROLES
from raydistill.records.trials import read_trials
from raydistill.sweep import forecast
from raydistill.sweep.forecast import Forecast
from raydistill.sweep.rates import WITHOUT_TEACHER, Rates, rates_of
from raydistill.terminal import Terminal
from raydistill.training import bases, recording
from raydistill.training.minibatches import lie_on_device
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import stages_done

GIB, MIB = 2**30, 2**20


class PlanEstimate(NamedTuple):
    """The rates of a plan's trainings, and what follows. Both are None where time cannot be predicted."""

    rates: Rates | None
    forecast: Forecast | None
    why_not: str = ""
    """Why time cannot be predicted."""
    fails: bool = False
    """Whether the reason is that a training of the plan failed."""


@dataclass(frozen=True, eq=False)
class PlanReport:
    """What a sweep will take, before anything is trained."""

    lines: tuple[str, ...]
    """What `raydistill plan` prints, a sentence each."""
    students: pd.DataFrame
    """Students from the whole range of costs, a row each: `cost.macs` of one picture, `cost.params`, and
    `cost.memory_gb` in GiB where the space asks for it."""
    baselines: tuple[str, ...]
    """Labels of the trials beside the searched ones."""
    max_concurrent: int
    """Trials at a time."""
    worker_gb: float
    """Memory of one worker of a trial, at most, in GiB."""
    disk_gb: float
    """What the sweep leaves on disk, in GiB."""
    trial_sec: tuple[float, float, float] | None
    """Seconds of a searched trial: the shortest, the mean and the longest; None: time cannot be predicted."""
    total_sec: float | None
    """Seconds of the whole sweep; None as above."""
    device_hours: float | None
    """GPU-hours where the trials use GPUs, else CPU-hours; None as above."""
    why_no_time: str
    """Why time cannot be predicted; "" where it is."""
    fails: bool
    """Whether the reason is that a training of the plan failed at its first steps."""

    def __repr__(self) -> str:
        return "\n".join(self.lines)


def report_plan(plan: Plan, nodes: list[Node]) -> PlanReport:
    """All that `raydistill plan` says. Nothing is trained; a few steps are timed."""
    info, counts = plan.info, ", ".join(f"{split} {count:,}" for split, count in plan.info.counts.items())
    classes = f", {info.num_classes} classes" if info.has_labels else ""
    size = f"{info.width}x{info.height}"
    placements = place_stages(nodes, plan.options, plan.worker_bytes, plan.sharing)
    estimated = estimate(plan, placements)
    lines = [
        *plan.warm_start.messages,
        f"data {plan.data.digest}: {info.layout} at {size}{classes}: {counts}. {info.split_rule}",
        *plan_lines(plan, placements, nodes, estimated),
        "nothing was trained: leave --plan out, or `sweep` for `plan`",
    ]
    students = [
        {name.replace("/", "."): value for name, value in plan.costs_of(training).items()}
        for training, _ in plan.students
    ]
    expected = estimated.forecast
    return PlanReport(
        lines=tuple(lines),
        students=pd.DataFrame(students),
        baselines=tuple(label for _, label, _ in plan.baselines),
        max_concurrent=placements.trials.max_concurrent,
        worker_gb=plan.worker_bytes(placements.trials.group.gpus, placements.trials.gpu_bytes) / GIB,
        disk_gb=forecast.disk_bytes(plan, placements.trials.max_concurrent).total / GIB,
        trial_sec=expected and expected.trial_sec,
        total_sec=expected and expected.total_sec,
        device_hours=expected and expected.device_hours,
        why_no_time=estimated.why_not,
        fails=estimated.fails,
    )


def plan_lines(
    plan: Plan, placements: Placements, nodes: list[Node], estimated: PlanEstimate
) -> Iterator[str]:
    """Trials, costs, time, trials at a time, memory and disk, a line each; last, what is not as it was in the
    files of the data, and what of these was left out."""
    labels = ", ".join(label for _, label, _ in plan.baselines) or "none"
    num_searched, num_baselines = plan.options.trials, len(plan.baselines)
    rechecks = "no recheck" if plan.options.skip_recheck else "1 recheck"
    yield f"plan: {num_searched} searched trials; {num_baselines} baselines ({labels}); {rechecks}"
    yield from _base_lines(plan)
    yield _costs_line(plan)
    if (sentence := start_sentence(plan)) is not None:
        yield f"plan: {sentence}"
    trials = placements.trials
    if estimated.forecast is None:
        yield f"plan: no time: {estimated.why_not}"
    else:
        yield from _time_lines(plan, estimated.forecast, "GPU" if trials.group.gpus else "CPU")
    yield from _scoring_lines(plan, estimated)
    worker_bytes = plan.worker_bytes(trials.group.gpus, trials.gpu_bytes)
    at_once = trials.max_concurrent * trials.group.workers * worker_bytes / GIB
    yield f"plan: {trials.max_concurrent} trials at a time, because {why(nodes, plan.options, trials)}"
    beside = _unlike_the_window(plan, trials.group)
    yield f"plan: at most {worker_bytes / GIB:.2f} GiB of memory a worker, {at_once:.1f} GiB in all{beside}"
    if (needed := plan.teacher_bytes(placements.stages.gpus, trials.gpu_bytes)) is not None:
        yield f"plan: {needed / GIB:.2f} GiB of memory for each worker that trains the teacher"
    if trials.gpu_bytes:
        yield _place_of_pictures(plan, trials)
    left, free = forecast.disk_bytes(plan, trials.max_concurrent).total, shutil.disk_usage(plan.store).free
    yield f"plan: {left / MIB:.0f} MiB of disk in {plan.store}, where {free / GIB:.0f} GiB are free"
    if len(nodes) > 1:
        yield forecast.data_line(plan, len(nodes))
    yield from (f"data: {remark}" for remark in plan.info.remarks)
    if plan.info.left_out:
        yield f"left out: {plan.info.left_out}"


def _scoring_lines(plan: Plan, estimated: PlanEstimate) -> Iterator[str]:
    """What networks from files take of a trial, and which of their numbers are too high."""
    if plan.scoring is None or not plan.scoring.files:
        return
    names = ", ".join(f"{each.role} {each.name}" for each in plan.scoring.files)
    when = "at every report" if plan.scoring.at_reports else "at the end"
    takes = "not timed, as --seconds-per-image is given"
    if estimated.rates is not None and (seconds := estimated.rates.scoring_sec):
        reports = 1
        if plan.scoring.at_reports:
            student = plan.experiment.student
            reports = math.ceil(student.budget_nimg / student.report_every_nimg)
        share = 0.0 if estimated.forecast is None else reports * seconds / estimated.forecast.trial_sec[1]
        takes = f"{seconds:.1f} s each time, {share:.0%} of a trial"
    yield f"plan: scored by {names} {when} of a trial: {takes}"
    number = min(plan.info.counts["val"], plan.scoring.num or plan.info.counts["val"])
    if biased := [name for name, width in scorers.num_features(plan.scoring).items() if number <= width]:
        other = "kid" if biased == ["fid"] else "the kernel distance"
        yield (
            f"plan: {', '.join(biased)} of {number} pictures is biased (more features than pictures); "
            f"{other} of as many is not"
        )


def _costs_line(plan: Plan) -> str:
    """The range of the students' costs, the windows on them, and the teacher's cost."""
    students = [plan.costs_of(training) for training, _ in plan.students]
    macs, params = (sorted(costs[name] for costs in students) for name in ("cost/macs", "cost/params"))
    teacher = plan.costs_of(plan.experiment.teacher)["cost/macs"]
    windows = "".join(f"; window: {_window(window)}" for window in plan.space.constraints)
    return (
        f"plan: students of {macs[0] / 1e6:,.1f} to {macs[-1] / 1e6:,.1f} M MACs and "
        f"{params[0]:,.0f} to {params[-1]:,.0f} parameters{windows}; "
        f"the teacher has {teacher / 1e6:,.1f} M MACs"
    )


def _time_lines(plan: Plan, expected: Forecast, device: str) -> Iterator[str]:
    """How long a trial and the sweep will take. `device`: GPU or CPU, what the hours are of."""
    options, (low, mean, high) = plan.options, expected.trial_sec
    stages = "evaluator and teacher are in the store"
    if expected.stages_sec:
        stages = f"evaluator and teacher {expected.stages_sec:.0f} s"
    yield (
        f"plan: a trial takes {low:.0f} to {high:.0f} s, {mean:.0f} s on average; {stages}; "
        f"from {expected.source}"
    )
    limits = [f"--max-hours {options.max_hours:g}"] if options.max_hours is not None else []
    limits += [f"--max-gpu-hours {options.max_gpu_hours:g}"] if options.max_gpu_hours is not None else []
    ends_at = f"; {' and '.join(limits)} may end it before" if limits else ""
    yield (
        f"plan: in all about {expected.total_sec / 60:.1f} min and "
        f"{expected.device_hours:.2f} {device}-hours{ends_at}"
    )
    if options.replicates:
        more = expected.replicates
        yield (
            f"plan: of that {more.total_sec / 60:.1f} min, {more.device_hours:.2f} {device}-hours and "
            f"{more.disk_bytes / MIB:.0f} MiB of disk for {options.replicates} replicates: an upper bound, "
            "all of them of the most expensive student"
        )


def _base_lines(plan: Plan) -> Iterator[str]:
    """What the bases other than plain take of a teacher, which costs time in every trial."""
    for base in plan.experiment.bases:
        if base.trains_teachers:
            what = _own_teachers(plan, base.kind)
        elif base.follows_slabs:
            what = "the teacher's networks at its reports are kept, and run in every minibatch"
        elif base.takes_teacher_activations:
            what = "the teacher runs in every minibatch for its activations, and its outputs are not stored"
        else:
            continue
        yield f"plan: base {base.kind}: {what}"


def _own_teachers(plan: Plan, kind: str) -> str:
    """Whether trials of a base train their teachers each, or read what others have recorded."""
    records, every = plan.records, "every trial trains its own teachers"
    if bases.BASES[kind].record is None:
        return f"{every}, and no outputs of them are stored"
    size = f"{records.total / GIB:.2f} GiB"
    if len(records.names) > 1:
        size = (
            f"{len(records.names)} records, as teachers, batches or what terms ask them differ; {size} in all"
        )
    if not records.are_made:
        limit = f"--teacher-cache-gb {records.limit_gb:g}"
        return f"{every}: what they give to students, {size}, is more than {limit}"
    trainings = [training for training, _ in plan.students]
    asking = {name for each in trainings for name in recording.unforeseen(each)}
    others = f"term {', '.join(sorted(asking))} asks them for other pictures"
    own = f", but where {others}" if asking else ""
    if not any(plan.may_read(training) for training in trainings):
        own = f"; no searched trial reads it, because {others}"
    return (
        f"teachers train beside the first student that ends, which records what they give ({size}); later "
        f"trials read it{own}"
    )


def _place_of_pictures(plan: Plan, trials: Placement) -> str:
    """Whether training pictures and the teacher's outputs lie on the GPUs of trials, with the arithmetic."""
    needed, share = plan.picture_bytes, plan.experiment.student.execution.resident_share
    fits = lie_on_device(needed, trials.gpu_bytes, plan.experiment.student)
    return (
        f"plan: training pictures and teacher's outputs, {needed / GIB:.2f} GiB, are "
        f"{'held by each trial on its GPU' if fits else 'read ahead from disk'}: student.execution."
        f"resident_share is {share:g} of {trials.gpu_bytes / GIB:.1f} GiB"
    )


def _unlike_the_window(plan: Plan, group: Group) -> str:
    """Says so where a window is on memory and the trials use no GPU: "" elsewhere.

    A cost must be the same wherever a sweep goes on, so the window is always on the memory of a GPU.
    """
    if group.gpus or all(window.cost != "cost/memory_gb" for window in plan.space.constraints):
        return ""
    return f" (a process on the CPU; the window is on that of a GPU, {plan.trial_bytes / GIB:.2f} GiB)"


def _window(window: space.Window) -> str:
    high = f" to {window.high:,.6g}" if window.high < 1e30 else " or more"
    return f"{window.name} {window.low:,.6g}{high}"


def estimate(plan: Plan, placements: Placements) -> PlanEstimate:
    """The rates, measured now or given, and what follows from them."""
    group, stages = placements.trials.group, placements.stages
    if plan.options.seconds_per_image is None and group.gpus and not torch.cuda.is_available():
        why_not = "the trials use GPUs and this machine has none; give --seconds-per-image"
        return PlanEstimate(None, None, why_not)
    try:
        rates = rates_of(plan, stage_workers=stages.workers, cpus=group.cpus)
    except (RaydistillError, RuntimeError, MemoryError) as error:
        why_not = f"a training of this plan failed at its first steps: {str(error).splitlines()[0]}"
        return PlanEstimate(None, None, why_not, fails=True)
    per_worker, per_stage = group.gpus or group.cpus, stages.gpus or stages.cpus
    expected = forecast.forecast(
        plan,
        rates,
        at_a_time=placements.trials.max_concurrent,
        devices=group.workers * per_worker,
        stage_devices=stages.workers * per_stage,
        memory_bytes=plan.worker_bytes(group.gpus, placements.trials.gpu_bytes),
        is_inline=placements.trials.inline,
        stages_there=stages_done(plan.experiment, plan.data, plan.store / "cache", plan.scoring),
    )
    return PlanEstimate(rates, expected)


def for_sweep(
    plan: Plan, folder: Path, placements: Placements, nodes: list[Node], terminal: Terminal
) -> PlanEstimate:
    """The estimate that the sweep of `folder` began with; where it begins now, it is said and stored."""
    file = folder / FORECAST
    if file.exists():
        try:
            return PlanEstimate(*forecast.read(file, plan))
        except StoreError as error:  # a sweep can go on without its plan
            terminal.say(f"{error}; what is left is planned anew")
    trials = read_trials(folder)
    num_searched = sum(trial.role == "search" for trial in trials)
    if num_searched >= plan.options.trials and all(trial.result for trial in trials):
        return PlanEstimate(None, None)  # nothing is left to do
    if plan.options.seconds_per_image is None:
        terminal.say("timing a few steps of each kind of training")
    estimated = estimate(plan, placements)
    for line in plan_lines(plan, placements, nodes, estimated):
        terminal.say(line)
    if estimated.rates is not None and estimated.forecast is not None:
        forecast.write(file, estimated.rates, estimated.forecast)
    return estimated


def against_actual(
    ledger: Ledger, estimated: PlanEstimate, trials: Placement, total_sec: float, stages_sec: float | None
) -> pd.DataFrame:
    """What was predicted before the sweep, beside what it took, and the ratio of the two.

    The time of each trial is predicted from its own MACs.

    Args:
        trials: how the trials were placed.
        total_sec: seconds of the sweep, over all its starts.
        stages_sec: seconds of evaluator and teacher; None where they were in the store.
    """
    rows: list[tuple[str, float, float]] = []
    if estimated.rates is not None and estimated.forecast is not None:
        if stages_sec is not None and estimated.forecast.stages_sec:
            rows.append(("evaluator and teacher, s", estimated.forecast.stages_sec, stages_sec))
        rows += _trial_rows(ledger, predicted_sec(ledger, estimated.rates))
        rows.append(("the whole sweep, min", estimated.forecast.total_sec / 60, total_sec / 60))
    how = trials.group.gpus, trials.gpu_bytes
    for what, needed, is_teacher in (
        ("memory of a worker, GiB", ledger.plan.worker_bytes(*how), False),
        ("memory of the teacher's worker, GiB", ledger.plan.teacher_bytes(*how), True),
    ):
        results = [each.result for each in ledger.trials if (each.role == "teacher") == is_teacher]
        peaks = [peak for result in results if result and (peak := result.peak_memory_gb)]
        if needed and peaks:
            rows.append((what, needed / GIB, max(peaks)))
    files = [path for path in (ledger.folder / "trials").rglob("*") if path.is_file()]
    records = (f"{name}*/*.npy" for name in ledger.plan.records.names)  # not those of other sweeps
    for stored in ("outputs-*.npy", *records):
        files += Path(ledger.stages.teacher.path).glob(stored)
    actual = sum(path.stat().st_size for path in files)
    expected_bytes = forecast.disk_bytes(ledger.plan, trials.max_concurrent).total
    rows.append(("disk, MiB", expected_bytes / MIB, actual / MIB))
    table = pd.DataFrame(rows, columns=["what", "predicted", "actual"])
    return table.assign(**{"actual / predicted": table["actual"] / table["predicted"]})


def _trial_rows(ledger: Ledger, predicted: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """(what, predicted seconds, actual seconds): means over the trials of a kind, and the sum over all."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for trial in ledger.trials:
        result = trial.result
        if trial.trial_id not in predicted or result is None or result.status != "COMPLETE":
            continue
        if trial.role == "no_teacher":
            kind = WITHOUT_TEACHER
        else:
            kind = "with terms" if trial.has_terms else "without terms"
        by_kind.setdefault(kind, []).append((predicted[trial.trial_id], result.wall_sec))
    for kind, pairs in by_kind.items():
        expected, actual = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        yield f"a trial {kind}, s ({len(pairs)})", expected, actual
    if every := [pair for pairs in by_kind.values() for pair in pairs]:
        expected, actual = (sum(column) for column in zip(*every, strict=True))
        yield f"all {len(every)} trials, s", expected, actual


def predicted_sec(ledger: Ledger, rates: Rates) -> dict[str, float]:
    """Trial id -> predicted seconds of every student with a result; of one stopped early, up to there.

    Of those that may read what their teachers gave, all but the first are taken to have read it.
    """
    out: dict[str, float] = {}
    is_first = True
    for trial in ledger.trials:
        if trial.role in (*FRONT_ROLES, "replicate") and trial.result is not None:
            training = trial.job.training
            assert isinstance(training, DistillTraining | GeneratorTraining)
            may_read = ledger.plan.may_read(training)
            whole = rates.trial_sec(training, trial.macs, is_read=may_read and not is_first)
            is_first = is_first and not may_read
            out[trial.trial_id] = whole * trial.result.nimg / training.budget_nimg
    return out
