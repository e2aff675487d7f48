"""`raydistill watch`: what a sweep does now, from the files in its folder; it writes nothing.

On a terminal it is one picture that changes, elsewhere lines as something happens. It ends with the sweep.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raydistill.config.analysis_options import WatchOptions
from raydistill.errors import RunError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror, pareto, remote, stored_paths, sweep_state, tables
from raydistill.records.sweep_state import FORECAST, State
from raydistill.records.tables import NamedDirection
from raydistill.records.trials import Trial, read_trials
from raydistill.sweep import tracking_record
from raydistill.terminal import Bar, Board, Terminal, left_in_words

_REPORT = re.compile(r"nimg=(\d+) ")
"""How a line of a training's log begins that is a report; any other one is a warning."""
_WARNINGS = 4
"""So many of the last warnings are shown."""
_SAY_EVERY_SEC = 60.0
"""Without a terminal, how often it is said how far the sweep is where nothing else is."""


class Look(NamedTuple):
    """What a sweep's folder says at one moment."""

    state: State
    name: str
    asked: int
    """Trials that the search is to train; 0: not known."""
    running: list[Bar]
    """Trials that have reported and have not ended."""
    waiting: list[str]
    """Ids of those without a report."""
    ended: dict[str, str]
    """Trial id -> how it ended, in words."""
    front: str
    left_sec: float | None
    """Seconds that the rest takes, about; None: not known."""
    gpu_hours: float
    shared: str
    """The last line that evaluator or teacher have logged; "" once trials run."""
    warnings: list[str]


def run(options: WatchOptions) -> int:
    """Shows a sweep until it ends.

    Returns:
        the exit code: 0 where it has ended, 1 where it has failed or was interrupted, 130 after Ctrl-C.

    Raises:
        StoreError: there is no such sweep, or a file of it is damaged.
    """
    folder, terminal = mirror.sweep_of(options.sweep), Terminal()
    try:
        last = _follow(folder, options.every, terminal)
    except KeyboardInterrupt:
        return 130
    for line in final_lines(last, folder):
        terminal.say(line)
    return int(last.state != "ended")


def _follow(folder: Path, every_sec: float, terminal: Terminal) -> Look:
    """Looks again and again; returns what was seen last, when the sweep no longer ran."""
    seen, said_sec, board = set[str](), float("-inf"), Board()
    with board:
        while (now := look(folder)).state == "running":
            if board.is_shown:
                board.show(_head(now), now.running, _tail(now))
            else:
                new = [line for line in _events(now) if line not in seen]
                seen.update(new)
                if new or time.monotonic() - said_sec >= _SAY_EVERY_SEC:
                    said_sec = time.monotonic()
                    for line in (*new, *_head(now), *(f"{each.label} {each.text}" for each in now.running)):
                        terminal.say(line)
            time.sleep(every_sec)
    return now


def final_lines(last: Look, folder: Path) -> list[str]:
    """How a sweep ended that no longer runs, in words."""
    counts = f"{len(last.ended)} trials have ended"
    front = f"front: {last.front or 'none'}"
    if last.state == "ended":
        return [f"sweep {last.name} has ended: {counts}; {front}; page: {folder / 'frontier.html'}"]
    again = f"the same command with --resume --name {last.name} goes on"
    what = (
        "has failed: no student was trained" if last.state == "failed" else "does not run: it was interrupted"
    )
    return [f"sweep {last.name} {what}; {counts}; {front}; {again}", *last.warnings]


# ---- looking -----------------------------------------------------------------------------------------------


def look(folder: Path) -> Look:
    """What the folder of a sweep says now.

    Raises:
        StoreError: it is no sweep's, or a file of it is damaged.
    """
    _pull(folder)
    state, record = sweep_state.state_of(folder), tracking_record.read(folder)
    trials = read_trials(folder)
    students = [trial for trial in trials if trial.role != "teacher"]
    ended = {trial.trial_id: _outcome(trial) for trial in students if trial.result is not None}
    running, waiting, warnings = [], [], list[str]()
    for trial in students:
        reports, said = _log(folder / "trials" / trial.trial_id / "log.txt")
        warnings += [f"{trial.trial_id}: {line}" for line in said]
        if trial.result is not None:
            if trial.result.status == "FAIL":
                warnings.append(f"{trial.trial_id} failed: {trial.result.reason}")
        elif reports:
            share = min(1.0, reports[-1] / max(1, trial.budget_nimg))
            text = f"{reports[-1]:,} of {trial.budget_nimg:,} images"
            running.append(Bar(f"{trial.trial_id} {trial.label}", share, text))
        else:
            waiting.append(trial.trial_id)
    asked = record.tags.get("raydistill.trials", "")
    return Look(
        state=state,
        name=folder.name,
        asked=int(asked) if asked.isdigit() else 0,
        running=running,
        waiting=waiting,
        ended=ended,
        front=_front(trials, record.objectives),
        left_sec=_left_sec(folder, students, int(asked) if asked.isdigit() else 0, len(running)),
        gpu_hours=sum(trial.result.gpu_sec for trial in students if trial.result is not None) / 3600,
        shared="" if trials else _shared_log(folder),
        warnings=warnings[-_WARNINGS:],
    )


def _pull(folder: Path) -> None:
    """Brings what a look reads, where the sweep is in an object store."""
    if mirror.url_of(folder) is None:
        return
    remote.require_bucket(folder)
    for name in ("sweep.json", "tracking.json", FORECAST, "spent.json", *sweep_state.TABLES):
        remote.pull(folder / name)
    for trial in remote.folders(folder / "trials"):
        for name in ("trial.json", "result.json", "log.txt"):
            remote.pull(trial / name)


def _outcome(trial: Trial) -> str:
    result = trial.result
    assert result is not None
    if result.status != "COMPLETE":
        return f"{trial.trial_id} {trial.label}: {result.status}: {result.reason}"
    scores = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    return f"{trial.trial_id} {trial.label}, {trial.macs / 1e6:.2f} M MACs: {shown}, {result.wall_sec:.0f} s"


def _log(file: Path) -> tuple[list[int], list[str]]:
    """Images at each report of a training's log, and its other lines; nothing where there is none yet."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], []
    matches = [(_REPORT.match(line), line) for line in lines]
    return [int(match[1]) for match, _ in matches if match], [line for match, line in matches if not match]


def _front(trials: Sequence[Trial], objectives: Sequence[tuple[str, str]]) -> str:
    """Ids of the front over the trials that have ended, the cheapest first; "" where it is not known."""
    if not objectives or not any(trial.is_complete for trial in trials):
        return ""
    named: list[NamedDirection] = [(name, "min" if way == "min" else "max") for name, way in objectives]
    table = tables.mean_over_seeds(tables.trial_table(list(trials), sweep_id=""))
    try:
        points = tables.objective_points(table, named)
    except RunError:
        return ""
    rows = table[tables.competitors(table)][pareto.members(points, [way for _, way in named])]
    return " ".join(rows.sort_values("cost.macs")["trial_id"])


def _left_sec(folder: Path, students: Sequence[Trial], asked: int, at_once: int) -> float | None:
    """Seconds that the rest takes: by the trials that have ended, else by the forecast."""
    done = [trial.result.wall_sec for trial in students if trial.result is not None]
    searched = [trial for trial in students if trial.role == "search"]
    left = sum(trial.result is None for trial in students) + max(0, asked - len(searched))
    if done:
        return sum(done) / len(done) * left / max(1, at_once)
    try:
        total = float(parse_json(read_text(folder / FORECAST))["forecast"]["total_sec"])
        return max(0.0, total - float(parse_json(read_text(folder / "spent.json"))["spent_sec"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _shared_log(folder: Path) -> str:
    """The last line of the newest log of evaluator, feature network or teacher in the sweep's store."""
    cache = stored_paths.store_of(folder) / "cache"
    began = (folder / "sweep.json").stat().st_mtime
    logs = [
        path for kind in ("evaluator", "features", "teacher") for path in (cache / kind).glob("*/log.txt")
    ]
    newest = max(logs, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None or newest.stat().st_mtime < began:
        return "evaluator and teacher: no report yet"
    return f"{newest.parent.parent.name}: {newest.read_text(errors='replace').splitlines()[-1]}"


# ---- showing -----------------------------------------------------------------------------------------------


def _head(now: Look) -> list[str]:
    of = f" of {now.asked} and baselines" if now.asked else ""
    left = "" if now.left_sec is None else f"; {left_in_words(now.left_sec)}"
    lines = [f"sweep {now.name}: {len(now.ended)} trials have ended{of}{left}; {now.gpu_hours:.2f} GPU-hours"]
    lines += [now.shared] if now.shared else [f"front: {now.front or 'none yet'}"]
    return lines


def _tail(now: Look) -> list[str]:
    lines = [f"without a report yet: {' '.join(now.waiting)}"] if now.waiting else []
    lines += [f"last: {line}" for line in [*now.ended.values()][-3:]]
    return lines + [f"warning: {line}" for line in now.warnings]


def _events(now: Look) -> list[str]:
    return [*now.ended.values(), *(f"warning: {line}" for line in now.warnings)]
