"""What a model card says of inputs, and of scores beside those of teacher and baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from raydistill.config.experiment import Job
from raydistill.data import read_info
from raydistill.errors import RaydistillError
from raydistill.records import measured
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

    Args:
        path: what was exported; of the folder of a trial in a sweep, the sweep is looked at.
        result: of the trial; None: not known.
    """
    own = {} if result is None else _scores_of(result)
    if result is None or not own:
        return "None recorded."
    trial_dir = path.parent if path.name == "network" else path
    beside = _beside(trial_dir)
    heads = ["metric", "value", "95 % interval", *(trial.label for trial in beside)]
    intervals = _intervals(trial_dir)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, value in own.items():
        others = [f"{_scores_of(trial.result)[name]:.6g}" if _has(trial, name) else "" for trial in beside]
        lines.append(f"| {' | '.join([name, f'{value:.6g}', intervals.get(name, ''), *others])} |")
    contexts = [f"val: {_told(result.context)}."]
    if result.test_context:
        contexts.append(f"test: {_told(result.test_context)}.")
    if not intervals:
        contexts.append("`raydistill evaluate` measures intervals; none were.")
    return "\n".join(lines) + "\n\nMeasured with: " + " ".join(contexts)


def _scores_of(result: TrialResult | None) -> dict[str, float]:
    """The scores on val, and on test where there are any, by name."""
    if result is None:
        return {}
    val = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
    return val | (result.test or {})


def _has(trial: Trial, name: str) -> bool:
    return name in _scores_of(trial.result)


def _told(context: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in context.items())


def _intervals(trial_dir: Path) -> dict[str, str]:
    """Metric -> its newest interval among what was measured later."""
    return {
        each.name: f"{each.low:.6g} to {each.high:.6g}"
        for each in measured.read(trial_dir)
        if each.low is not None and each.high is not None
    }


def _beside(trial_dir: Path) -> Sequence[Trial]:
    """Teacher and baselines of the sweep that a trial is in; none where there is no whole sweep around it."""
    sweep = trial_dir.absolute().parents[1]
    if not (sweep / "sweep.json").is_file():
        return []
    try:
        trials = read_trials(sweep)
    except RaydistillError:  # a card is no place to check the rest of a sweep
        return []
    named = trial_dir.absolute().name
    return [each for each in trials if each.role in _BESIDE and each.is_complete and each.trial_id != named]
