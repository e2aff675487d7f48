"""What a model card says of inputs, and of scores beside those of teacher and baselines."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from raydistill.config.experiment import Job
from raydistill.data import read_info
from raydistill.errors import RaydistillError
from raydistill.records import measured
from raydistill.records.measured import Measurement
from raydistill.records.trials import Trial, TrialResult, read_trials

_BESIDE = ("teacher", "uniform", "no_teacher")
"""Roles of the trials whose scores stand beside a student's."""


def channels(job: Job | None, in_channels: int, takes: str) -> list[str]:
    """A paragraph on what each channel of an input means; none for latents.

    Args:
        job: the job that trained the generator; None: not known.
        in_channels: channels of an input.
        takes: what the generator takes, in words.
    """
    if takes.startswith("latents"):
        return []
    if job is None or not Path(job.data.path).is_dir():
        told = (
            "red, green and blue, where it takes pictures" if in_channels == 3 else "not known: no data here"
        )
        return [f"Channels of the input: {told}."]
    info = read_info(job.data)
    if not info.inputs_are_labels:
        return ["Channels of the input: red, green and blue."]
    names = [*info.class_names, *["ignored"] * (info.ignore_index is not None)]
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    return [f"Channels of the input: 1 where a pixel is of the class, else 0; {listed}."]


def scores(path: Path, result: TrialResult | None) -> str:
    """Scores on val and test as a table, with 95 % intervals and beside those of teacher and baselines.

    An interval stands beside a score where `raydistill evaluate` measured the same number. What it measured
    under other conditions follows as a list, with these.

    Args:
        path: what was exported; of the folder of a trial in a sweep, the sweep is looked at.
        result: of the trial; None: not known.
    """
    if result is None or not (own := _scores_of(result)):
        return "None recorded."
    trial_dir = (path.parent if path.name == "network" else path).absolute()
    later = _later(trial_dir, result)
    columns, beside = [(own, later)], _beside(trial_dir)
    for trial in beside:
        assert trial.result is not None
        folder = trial_dir.parents[1] / "trials" / trial.trial_id
        columns.append((_scores_of(trial.result), _later(folder, trial.result)))
    heads = ["metric", "this", *(trial.label for trial in beside)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name in own:
        lines.append(f"| {' | '.join([name, *(_cell(name, *column) for column in columns)])} |")
    paragraphs = ["\n".join(lines)]
    if others := [f"* {_sentence(each)}" for each in later if _is_other(each, own)]:
        paragraphs.append("Measured later:\n\n" + "\n".join(others))
    contexts = [f"val: {_told(result.context)}."]
    if result.test_context:
        contexts.append(f"test: {_told(result.test_context)}.")
    if not any(_interval_of(name, value, later) for name, value in own.items()):
        contexts.append("No 95 % intervals: `raydistill evaluate` measures them.")
    return "\n\n".join([*paragraphs, f"Measured with: {' '.join(contexts)}"])


def _scores_of(result: TrialResult) -> dict[str, float]:
    """The scores on val, and on test where there are any, by name."""
    val = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
    return val | (result.test or {})


def _later(trial_dir: Path, result: TrialResult) -> list[Measurement]:
    """What was measured of a trial's network after its training."""
    network = result.network and result.network.digest
    return [each for each in measured.read(trial_dir) if each.network == network]


def _cell(name: str, of: Mapping[str, float], later: Sequence[Measurement]) -> str:
    """A score with its 95 % interval, where it has one; "" where there is no such score."""
    return f"{of[name]:.6g}{_interval_of(name, of[name], later)}" if name in of else ""


def _interval_of(name: str, value: float, later: Sequence[Measurement]) -> str:
    """The 95 % interval of a score among what was measured later; "" where the same number was not."""
    for each in later:
        if each.name == name and _is_same(each, value) and each.low is not None and each.high is not None:
            return f" ({each.low:.6g} to {each.high:.6g})"
    return ""


def _is_same(each: Measurement, value: float) -> bool:
    """Whether a measurement gave this number, apart from rounding between devices."""
    return each.value is not None and math.isclose(each.value, value, rel_tol=1e-3, abs_tol=1e-6)


def _is_other(each: Measurement, own: Mapping[str, float]) -> bool:
    """Whether a measurement is a score that the table does not have."""
    is_score = each.name.startswith(("val/", "test/"))
    return is_score and not (each.name in own and _is_same(each, own[each.name]))


def _sentence(each: Measurement) -> str:
    value = "infinite" if each.value is None else f"{each.value:.6g}"
    has_interval = each.low is not None and each.high is not None
    interval = f" ({each.low:.6g} to {each.high:.6g})" if has_interval else ""
    return f"{each.name}: {value}{interval}, {each.when}, {_told(each.conditions)}"


def _told(context: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in context.items())


def _beside(trial_dir: Path) -> Sequence[Trial]:
    """Teacher and baselines of the sweep that a trial is in; none where there is no whole sweep around it."""
    sweep = trial_dir.parents[1]
    if not (sweep / "sweep.json").is_file():
        return []
    try:
        trials = read_trials(sweep)
    except RaydistillError:  # a card is no place to check the rest of a sweep
        return []
    named = trial_dir.name
    return [each for each in trials if each.role in _BESIDE and each.is_complete and each.trial_id != named]
