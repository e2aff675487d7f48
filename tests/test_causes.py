"""Why a worker failed is said as it was: by its own error, a lost node, a full disk, or a dead Ray."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ray.exceptions import (
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    WorkerCrashedError,
)
from test_ledger import bare
from test_results import synthetic_trials

from raydistill.cluster import causes, guard, places, runtime
from raydistill.cluster.guard import Guard
from raydistill.errors import NoticeWarning, RunError
from raydistill.records.files import disk_is_full

CREATION = """The actor died because of an error raised in its creation task, ray::TrainController.__init__()
ray.exceptions.RaySystemError: System error: libcudart.so.13: cannot open shared object file
traceback: Traceback (most recent call last):
  File "a.py", line 3, in <module>
    import torch
ImportError: libcudart.so.13: cannot open shared object file"""
KILLED = """The actor died unexpectedly before finishing this task.
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail:
Worker unexpectedly exits with a connection error code 2. End of file."""
LOST = "The actor died unexpectedly. The actor is dead because its node has died. Node Id: 5f"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RayActorError(error_msg=CREATION), "ImportError: libcudart.so.13: cannot open shared object file"),
        (RayActorError(error_msg=KILLED), causes.DIED),
        (RayActorError(error_msg=LOST), "its node was lost"),
        (WorkerCrashedError(), causes.DIED),
        (
            OutOfMemoryError("Task was killed due to the node running low on memory"),
            "out of memory: Ray ended",
        ),
        (OutOfDiskError("Local disk is full"), "the disk is full"),
        (RayTaskError("f", "Traceback\nKeyError: 'a'", KeyError("a")), "KeyError: 'a'"),
        (
            RayTaskError("f", "tb", OSError(28, "No space left on device")),
            "OSError: [Errno 28] No space left",
        ),
        (
            RayTaskError("f", "tb", ImportError("one\ncannot import name 'x'")),
            "ImportError: cannot import name",
        ),
        (RaySystemError("System error: x", "Traceback\n  at 3\nmine.BrokenError: x"), "mine.BrokenError: x"),
        (RuntimeError("one\ntwo"), "two"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_the_reason_is_what_happened_in_one_line(error: BaseException, reason: str) -> None:
    found = causes.reason(error)
    assert found.startswith(reason) and "\n" not in found
    assert ("killed" in found) == (reason == causes.DIED)


class Disk(NamedTuple):
    free: int


@pytest.mark.parametrize(
    ("reason", "free", "is_full"),
    [
        (
            "StoreError: a: the checkpoint could not be written ([enforce fail] file write failed)",
            2**30,
            True,
        ),
        (
            "SafetensorError: Error while serializing: I/O error: Os { code: 28, kind: StorageFull }",
            2**30,
            True,
        ),
        ("OSError: [Errno 122] Disk quota exceeded: 'a'", 2**30, True),
        ("ValueError: out of range", 2**30, False),
        ("RuntimeError: anything at all", 4096, True),
    ],
)
def test_a_full_disk_is_called_one(
    reason: str, free: int, is_full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Disk(free))
    assert disk_is_full(tmp_path, reason) == is_full


@pytest.mark.parametrize(
    ("written", "told", "said"),
    [
        ("Traceback\nValueError: its own", "RayTaskError: of Ray's", "ValueError: its own"),
        (None, "ImportError: of Ray's", "ImportError: of Ray's"),
        (None, "", "it ended without a result and without an error"),
        ("", "its node was lost", "its node was lost"),
        ("OSError: [Errno 28] No space left on device", "", "the disk of "),
    ],
)
def test_the_ledger_takes_the_trials_own_words_first(
    written: str | None, told: str, said: str, tmp_path: Path
) -> None:
    trial = synthetic_trials()[13].model_copy(update={"configuration": {"a": 1}})
    ledger = bare(tmp_path, [trial])
    folder = ledger.folder_of(trial)
    folder.mkdir(parents=True)
    if written is not None:
        (folder / "error.txt").write_text(written)
    result = ledger.end(trial, reason=told).result
    assert result == ledger.trials[0].result and not (folder / "result.json").exists()
    assert result.status == "FAIL" and result.reason.startswith(said)


# ---- an embedded Ray that dies -----------------------------------------------------------------------------


def test_a_process_that_ends_is_noticed_and_one_that_is_ended_on_purpose_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_NAMES", ("sleep",))
    monkeypatch.setattr(guard, "_LOOK_SEC", 0.01)
    with subprocess.Popen(["sleep", "60"]) as process:
        watched, stopped = Guard(tmp_path), Guard(tmp_path)
        while not (watched.processes and stopped.processes):
            time.sleep(0.01)
        watched.require_alive()
        stopped.stop()
        process.kill()
    watched.thread.join(0.2)
    with pytest.raises(RunError, match=r"Ray's process sleep on this machine has ended.*--resume"):
        watched.require_alive()
    watched.stop()
    stopped.thread.join(5)
    stopped.require_alive()


def test_a_main_thread_that_hangs_in_a_dead_ray_is_ended_with_the_same_line(tmp_path: Path) -> None:
    script = """
import subprocess, sys, time
from pathlib import Path
from raydistill.cluster import guard
guard._NAMES, guard._LOOK_SEC, guard._END_SEC = ("sleep", "none"), 0.01, 0.05
dies, left = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["sleep", "61"])
print(left.pid, flush=True)
watched = guard.Guard(Path(sys.argv[1]))
while len(watched.processes) < 2:
    time.sleep(0.01)
dies.kill()
time.sleep(60)
"""
    (tmp_path / "rd").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "rd")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("raydistill: Ray's process sleep on this machine has ended")
    assert not (tmp_path / "rd").exists() and not Path(f"/proc/{done.stdout.strip()}/cwd").exists()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise ImportError('libcudart.so.13: no such file')", "ImportError: libcudart.so.13: no such file"),
        (
            "import a_module_that_is_not_there",
            "ModuleNotFoundError: No module named 'a_module_that_is_not_there'",
        ),
        ("import os; os._exit(7)", "exit code 7"),
    ],
)
def test_a_python_that_cannot_import_ray_is_said_before_ray_starts_its_processes(
    module: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(runtime.ray, "init", lambda **options: pytest.fail("Ray was started"))
    try:
        with pytest.raises(RunError) as refused:
            runtime.start_ray(dashboard=False)
    finally:
        runtime.stop_ray()
    assert str(refused.value).startswith(f"Ray's worker processes cannot start here: {said}; ")


def test_an_embedded_ray_that_does_not_come_up_in_time_is_started_again_without_what_it_left(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def too_slow(**options: Any) -> None:
        folder = os.environ[places.TEMPORARY]
        left.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", folder]))
        raise Exception("The current node timed out during startup. And more.\nlines")

    monkeypatch.setattr(runtime.ray, "init", too_slow)
    monkeypatch.setattr(runtime, "_require_that_workers_start", lambda: None)
    before = os.environ.get(places.TEMPORARY)
    with pytest.raises(RunError, match=r"did not start: The current node timed out during startup. And more"):
        runtime.start_ray(dashboard=False)
    assert len(left) == runtime._STARTS == 3 and all(process.wait(timeout=10) for process in left)
    assert not runtime._OWN_FOLDERS and not runtime._GUARDS and os.environ.get(places.TEMPORARY) == before
    said = [str(each.message) for each in recwarn if each.category is NoticeWarning]
    assert [text.split(":")[0] for text in said] == [
        f"Ray did not start, and is started again ({number} of 3)" for number in (2, 3)
    ]
