"""`raydistill list` and `watch`: sweeps that run, have ended, failed, were interrupted, or half copied."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from made_sweeps import made_sweep
from test_compare import command
from test_results import synthetic_trials, write

from raydistill import load_sweep
from raydistill.commands import watch
from raydistill.commands.list_sweeps import sweeps_of
from raydistill.errors import StoreError
from raydistill.records import locks, sweep_state
from raydistill.records.trials import write_result
from raydistill.sweep.tracking_record import TrackingRecord
from raydistill.sweep.tracking_record import write as write_record

NASTY = "<script>alert(1)</script> [red]"


@contextmanager
def held(sweep: Path) -> Iterator[None]:
    """Inside, a process holds the sweep's lock, as one that runs it does."""
    with (sweep / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unfinished(root: Path, name: str, ended: int = 6) -> Path:
    """A sweep without tables: so many of its trials have a result; one has reported, others have not."""
    sweep = made_sweep(root, name)
    for path in sweep.glob("*.parquet"):
        path.unlink()
    for number, trial in enumerate(synthetic_trials()):
        folder = sweep / "trials" / trial.trial_id
        write(folder, trial if number < ended else trial.with_result(None))
    log = "nimg=3072 wall_sec=1.0 val/miou=0.1\nnimg=6144 wall_sec=2.0 val/miou=0.2\n"
    (sweep / f"trials/{ended:04d}/log.txt").write_text(f"checkpoint-1: damaged {NASTY}\n{log}")
    tags = {"raydistill.trials": "20", "raydistill.space": "made"}
    objectives = (("cost/macs", "min"), ("val/miou", "max"))
    write_record(sweep, TrackingRecord(uri=None, experiment="x", tags=tags, params={}, objectives=objectives))
    return sweep


def test_the_state_of_a_sweep_is_known_by_its_folder(tmp_path: Path) -> None:
    ended = made_sweep(tmp_path, "ended")
    assert sweep_state.state_of(ended) == "ended"
    crashed = unfinished(tmp_path, "crashed")
    assert sweep_state.state_of(crashed) == "interrupted"
    with held(crashed):
        assert sweep_state.state_of(crashed) == "running"
        with pytest.raises(StoreError, match="it is running now: raydistill watch"):
            load_sweep(crashed)
    with pytest.raises(StoreError, match="an interrupted one goes on with --resume"):
        load_sweep(crashed)
    failed = unfinished(tmp_path, "failed", ended=0)
    for trial in synthetic_trials():
        if trial.role != "teacher":
            (result,) = [
                each.result for each in synthetic_trials() if each.result and each.result.status == "FAIL"
            ]
            result = result.model_copy(update={"trial_key": trial.trial_key})
            write_result(failed / "trials" / trial.trial_id, result)
    assert sweep_state.state_of(failed) == "failed"
    with pytest.raises(StoreError, match="no student was trained"):
        load_sweep(failed)
    (ended / "trials.parquet").unlink()
    with pytest.raises(StoreError, match="half of it was copied"):
        load_sweep(ended)
    with pytest.raises(StoreError, match="sweeps there: crashed"):
        load_sweep(tmp_path / "sweeps" / "other")
    with pytest.raises(StoreError, match=r"a store; give one of .*sweeps"):
        load_sweep(tmp_path)


def test_the_sweeps_of_a_store_are_listed_and_broken_folders_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_sweep(tmp_path, "good", has_trials=True)
    unfinished(tmp_path, "crashed")
    shutil.copytree(tmp_path / "sweeps/good", tmp_path / "sweeps/half")
    (tmp_path / "sweeps/half/trials.parquet").write_bytes(b"PAR1")
    shutil.copytree(tmp_path / "sweeps/good", tmp_path / "sweeps/few")
    shutil.rmtree(tmp_path / "sweeps/few/trials/0003")
    (tmp_path / "sweeps/empty").mkdir()
    (tmp_path / "sweeps/damaged").mkdir()
    (tmp_path / "sweeps/damaged/sweep.json").write_text("{")
    found = sweeps_of(str(tmp_path))
    rows = {row["sweep"]: row for row in found.table.to_dict("records")}
    assert set(rows) == {"good", "crashed"}
    assert rows["good"]["state"] == "ended" and rows["good"]["hypervolume"] > 0
    assert rows["good"]["best"].startswith("00") and rows["good"]["best"].split()[1] == "val/miou"
    assert (rows["crashed"]["state"], rows["crashed"]["space"]) == ("interrupted", "made")
    assert rows["crashed"]["trials"].endswith(" of 20")
    assert len(found.broken) == 4
    for name in ("half", "empty", "damaged"):
        assert any(f"/{name}" in line for line in found.broken)
    assert any("few: half copied: 13 of 14 trials are in trials/" in line for line in found.broken)
    assert command(monkeypatch, "list", str(tmp_path), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["sweeps"]) == 2 and len(said["broken"]) == 4
    assert command(monkeypatch, "list", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.count("broken: ") == 4 and "good" in out
    assert command(monkeypatch, "list", str(tmp_path / "sweeps")) == 2
    assert "no raydistill store here" in capsys.readouterr().err


def test_a_look_says_what_runs_what_waits_and_what_was_warned_of(tmp_path: Path) -> None:
    sweep = unfinished(tmp_path, "crashed")
    now = watch.look(sweep)
    assert now.asked == 20 and len(now.ended) == 5
    (bar,) = now.running
    assert bar.label.startswith("0006") and 0 < bar.share <= 1 and "6,144 of" in bar.text
    assert now.waiting and "0006" not in now.waiting
    assert now.warnings == [f"0006: checkpoint-1: damaged {NASTY}"]
    assert now.front and set(now.front.split()) <= set(now.ended)
    assert now.left_sec is not None and now.left_sec > 0


def test_watch_follows_a_sweep_without_a_terminal_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = unfinished(tmp_path, "one")
    other = made_sweep(tmp_path, "two")
    looks = iter([True, True, False])

    def is_held(path: Path) -> bool:
        runs = next(looks)
        for file in () if runs else other.glob("*.parquet"):
            shutil.copy(file, sweep)
        return runs

    monkeypatch.setattr(locks, "is_held", is_held)
    assert command(monkeypatch, "watch", str(sweep), "--every", "0.2") == 0
    out = capsys.readouterr().out
    assert "5 trials have ended of 20" in out and "6,144 of" in out
    assert out.count(f"warning: 0006: checkpoint-1: damaged {NASTY}") == 1
    assert "sweep one has ended" in out.splitlines()[-1]


def test_watch_of_a_crashed_sweep_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = unfinished(tmp_path, "one")
    assert command(monkeypatch, "watch", str(sweep)) == 1
    out = capsys.readouterr().out
    assert "does not run: it was interrupted" in out and "--resume --name one goes on" in out
    assert command(monkeypatch, "watch", str(tmp_path / "no")) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_a_board_draws_bars_on_a_terminal() -> None:
    reader, writer = pty.openpty()
    code = (
        "from raydistill.terminal import Board, Bar\n"
        "board = Board(); assert board.is_shown\n"
        "with board:\n"
        " board.show(['sweep one: head'], [Bar('0006 <b>[red]', 0.5, '6 of 12 images')], ['tail'])\n"
    )
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "90"}
    child = subprocess.Popen([sys.executable, "-c", code], stdout=writer, env=environment)
    os.close(writer)
    shown = b""
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert child.wait(60) == 0
    text = shown.decode()
    assert "0006 <b>[red]" in text and "━" in text and "6 of 12 images" in text and "tail" in text
