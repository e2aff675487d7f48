"""What `evaluate` and `latency` measure of a sweep's trial goes back into the sweep's records."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from raydistill.commands.cli.output import say
from raydistill.config.options import Cli, Options
from raydistill.errors import RaydistillError, StoreError, without_passwords
from raydistill.exchange.trained_generator import find_generator
from raydistill.models import saved
from raydistill.records import locks, measured
from raydistill.records.measured import Measurement
from raydistill.sweep import page

_UNSAID = ("store", "against", "as_json", "no_record")
"""Options that change nothing about a number."""
_LONGEST = 1900
"""Characters of a command that are recorded."""


def trials_among(given: Iterable[str]) -> dict[str, str]:
    """Folder of a trial of a sweep, or of one that was retrained -> digest of its network.

    Args:
        given: what was given to a command, as it was typed; anything else is left out, and so is a trial that
            has no network yet.

    Raises:
        StoreError: what was measured of the trial before is in a damaged file.
    """
    out = {}
    for text in given:
        folder = Path(text).absolute()
        is_trial = folder.parent.name in ("trials", "retrained") and (folder / "trial.json").is_file()
        if not is_trial or not (_sweep_of(folder) / "sweep.json").is_file():
            continue
        found = find_generator(folder)
        if found is None or found.is_checkpoint:
            say(f"{text}: not recorded: its training has not ended")
            continue
        measured.read(folder)
        out[text] = saved.stored(found.path).digest
    return out


def how(command: str, options: Options, more: str = "") -> str:
    """The command as it was given, without what it was given for and without passwords.

    `more`: what else to know about the measurement.
    """
    words = ["raydistill", command]
    for name, field in type(options).model_fields.items():
        cli = next(each for each in field.metadata if isinstance(each, Cli))
        value = getattr(options, name)
        if cli.positional or name in _UNSAID or value == field.default:
            continue
        option = cli.name or f"--{name.replace('_', '-')}"
        if name == "size":
            value = "x".join(map(str, value))
        for each in value if isinstance(value, tuple) else (value,):
            words += [option] if each is True else [option, str(each)]
    return (without_passwords(shlex.join(words)) + more)[:_LONGEST]


def record(found: Mapping[str, Sequence[Measurement]]) -> None:
    """Writes measurements beside their trials, and into tables and pages of sweeps that have ended.

    Nothing is raised where that fails, as in a store that can only be read: a line says so.

    Args:
        found: folder of a trial -> what was measured of it now.
    """
    sweeps: dict[Path, None] = {}
    for text, new in found.items():
        folder = Path(text).absolute()
        sweep = _sweep_of(folder)
        try:
            measured.add(folder, new)
        except StoreError as error:
            say(f"{text}: not recorded: {error}")
            continue
        say(f"{text}: recorded {len(new)} numbers in {measured.FILE}")
        if folder.parent.name == "trials":
            sweeps[sweep] = None
    for sweep in sweeps:
        _renew(sweep)


def _renew(sweep: Path) -> None:
    """Brings tables and page of a sweep up to date, if it has ended; says what was done."""
    if not (sweep / "trials.parquet").is_file():
        say(f"sweep {sweep.name} has not ended: its tables and page take it in at the end")
        return
    try:
        with (
            measured.locked(sweep),
            locks.locked(sweep / "lock", what=f"sweep {sweep.name}", wait=False),
        ):
            is_drawn = page.renew(sweep)
    except RaydistillError as error:
        say(
            f"tables and page of {sweep.name} are as they were: {error}. "
            "The end of the sweep takes in what is recorded, and so does the next measurement"
        )
        return
    what = "tables and page" if is_drawn else "tables, and not the page, which an earlier version drew"
    say(f"sweep {sweep.name}: renewed {what}; MLflow: {shlex.join(['raydistill', 'track', str(sweep)])}")


def _sweep_of(trial: Path) -> Path:
    return trial.parent.parent
