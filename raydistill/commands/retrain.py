"""`raydistill retrain`: trains students of a sweep again, on more images, and records where they come from.

Each is in SWEEP/retrained/<trial>-<key>/, as a trial of its own: trial.json, result.json, network,
checkpoints. The sweep's own trials stay as they are.
"""

from pathlib import Path

from raydistill.commands import retrain_front
from raydistill.commands.retrain_jobs import comparison, descendant, length_of, originals, pull
from raydistill.config.command_options import RetrainOptions
from raydistill.records import locks, mirror, owners
from raydistill.records.retrained import FOLDER
from raydistill.records.trials import Evaluation, Trial, write_trial
from raydistill.terminal import Terminal
from raydistill.trials.run_job import perform


def run(options: RetrainOptions) -> int:
    """Trains these students, or goes on with them: one in this process, the front by Ray.

    Returns:
        the exit code: 0, 1 where a training failed, 130 where it was interrupted.

    Raises:
        InputError: there is no such student, or it had as many images already.
    """
    sweep = mirror.sweep_of(options.sweep)
    pull(sweep)
    nimg = length_of(sweep, options)
    chosen = originals(sweep, options, nimg)
    again = [descendant(each, options, sweep, nimg) for each in chosen]
    if options.trial is None:
        return retrain_front.run(options, sweep, chosen, again)
    return _run_here(sweep, chosen[0], again[0])


def _run_here(sweep: Path, original: Trial, trial: Trial) -> int:
    """Trains one student in this process; returns the exit code."""
    terminal, folder = Terminal(), sweep / FOLDER / trial.trial_id
    with locks.locked(sweep / FOLDER / f"{trial.trial_id}.lock", what=f"{folder}", wait=False):
        owners.remove_left(folder, below=True)
        if not (folder / "trial.json").exists():
            write_trial(folder, trial)
        terminal.say(
            f"trial {original.trial_id}, {original.label}, at {trial.budget_nimg:,} images; in {folder}"
        )
        try:
            result = perform(trial.job, folder, lambda evaluation: terminal.say(_line(evaluation)))
        except KeyboardInterrupt:
            terminal.say("interrupted; go on: the same command")
            return 130
    if result.status != "COMPLETE":
        terminal.say(f"{result.status}: {result.reason}")
        return 1
    assert original.result is not None
    title = f"trial {original.trial_id} at both lengths"
    terminal.rows(title, comparison(original.result, result), keys=["images"])
    return 0


def _line(evaluation: Evaluation) -> str:
    scores = [(name, value) for name, value in evaluation.numbers.items() if name.startswith("val/")]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in scores)
    return f"{evaluation.nimg:,} images: {shown or 'no scores'}"
