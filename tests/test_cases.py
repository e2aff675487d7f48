"""Scripts of tests/cases on the real command, a kill, and advice that is followed in whole sweeps."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from no_ray import SETTINGS, without_ray

from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.records.trials import read_trials

CASES = Path(__file__).parent / "cases"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command as it is installed: a script, which does not import from the working folder."""
    folder = tmp_path_factory.mktemp("bin")
    script = "import sys\nfrom raydistill.commands.cli import main\n"
    script += "if __name__ == '__main__':\n    sys.exit(main())\n"
    (folder / "lib").mkdir()
    (folder / "lib/raydistill").write_text(script)
    environment = f'PYTHONPATH="{CASES.parents[1]}" exec "{sys.executable}"'
    for name, arguments in (("python", ""), ("raydistill", f'"{folder}/lib/raydistill"')):
        (folder / name).write_text(f'#!/bin/bash\n{environment} {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return folder / "raydistill"


def ran(command: Path, name: str, work: Path, **environment: str) -> None:
    """Runs a script, and prints what it says. `work`: a short path, since Ray's sockets are below it."""
    work.mkdir(parents=True)
    (script,) = CASES.glob(f"{name}-*")
    env = os.environ | {"RAYDISTILL": str(command), "WORK": str(work)} | environment
    shell = [str(command.with_name("python"))] if script.suffix == ".py" else ["bash"]
    # a script about names that are no UTF-8 may print one
    kept = {"errors": "backslashreplace"}
    done = subprocess.run([*shell, str(script)], env=env, capture_output=True, text=True, **kept)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def swept(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of case 14, with the store of a finished sweep."""
    work = tmp_path_factory.mktemp("case-14") / "w"
    ran(command, "14", work)
    return work


def test_a_long_tmpdir_and_a_store_with_an_odd_name(swept: Path) -> None:
    (sweep,) = swept.glob("a b*/sweeps/default-001")
    assert (sweep / "trials.parquet").exists()


def test_python_files_in_the_working_folder(command: Path, tmp_path: Path) -> None:
    ran(command, "19", tmp_path / "w")


def test_text_terminals(command: Path, swept: Path, tmp_path: Path) -> None:
    (sweep,) = swept.glob("a b*/sweeps/default-001")
    ran(command, "24", tmp_path / "w", SWEEP=str(sweep))


@pytest.mark.parametrize("name", ["16", "17", "28"])
def test_tracking_stores(name: str, command: Path, tmp_path: Path) -> None:
    ran(command, name, tmp_path / "w")


def test_a_results_folder_that_is_moved(command: Path, tmp_path: Path) -> None:
    ran(command, "22", tmp_path / "w")


def test_a_store_elsewhere_and_a_working_folder_that_cannot_be_written(command: Path, tmp_path: Path) -> None:
    """/proc cannot be written, not even by root."""
    options = ["--seconds-per-image", "0.01", "--trials", "1", "--nimg", "32", *SETTINGS]
    for arguments in (["doctor"], ["sweep", *options]):
        line = [str(command), *arguments, "--store", str(tmp_path / "store")]
        done = subprocess.run(line, cwd="/proc", capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stderr
    refused = subprocess.run([str(command), "plan"], cwd="/proc", capture_output=True, text=True)
    assert refused.returncode == 2 and "give a folder that can be written" in refused.stderr


# ---- a kill ------------------------------------------------------------------------------------------------


def ours(folder: Path) -> list[str]:
    """Command lines of the processes that belong to an embedded Ray whose files are below `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if str(folder) in " ".join(line) or str(folder) in process.environ().get("RAY_TMPDIR", ""):
                found.append(" ".join(line)[:150])
        except psutil.Error:
            continue
    return found


def test_90_s_after_a_kill_no_process_is_left_and_the_next_command_removes_the_rest(
    command: Path, tmp_path: Path
) -> None:
    place, store = Path("/tmp") / f"k{os.getpid()}", tmp_path / "store"
    place.mkdir()
    options = ["--seconds-per-image", "0.01", "--trials", "1", "--nimg", "100000", *SETTINGS]
    environment = os.environ | {"RAY_TMPDIR": str(place)}
    try:
        with (tmp_path / "out.txt").open("w") as out:
            sweep = subprocess.Popen(
                [str(command), "sweep", *options, "--store", str(store)],
                env=environment,
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + 300
        while not list(store.glob("sweeps/*/trials/*/checkpoint-*")):
            assert sweep.poll() is None and time.monotonic() < deadline, (tmp_path / "out.txt").read_text()
            time.sleep(0.5)
        assert len(ours(place)) > 3 and list(place.glob("rd-*/owner"))
        sweep.send_signal(signal.SIGKILL)
        sweep.wait()
        killed = time.monotonic()
        while ours(place):
            assert time.monotonic() - killed < 90, ours(place)
            time.sleep(1)
        print(f"no process was left {time.monotonic() - killed:.0f} s after the kill")
        assert list(place.glob("rd-*"))
        planned = [str(command), "plan", *options[:-2], "--store", str(store)]
        subprocess.run(planned, env=environment, check=True, capture_output=True)
        assert not list(place.glob("rd-*"))
        assert not [path for path in store.rglob("*") if "own-" in path.name]
    finally:
        shutil.rmtree(place, ignore_errors=True)


# ---- advice ------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    given = ["--nimg", "64", "--trials", "2", "--seconds-per-image", "0.01", *SETTINGS, *options]
    monkeypatch.setattr(sys, "argv", ["raydistill", "sweep", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a finished sweep."""
    folder = tmp_path_factory.mktemp("advice")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        without_ray(monkeypatch, [Node("here", 2)])
        assert run(monkeypatch) == 0
    return folder


def by_role(sweep: Path, role: str) -> Path:
    return next(sweep / "trials" / trial.trial_id for trial in read_trials(sweep) if trial.role == role)


DAMAGES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], bool]] = {
    "result cut": (lambda trial: trial / "result.json", lambda file: os.truncate(file, 50), True),
    "trial cut": (lambda trial: trial / "trial.json", lambda file: os.truncate(file, 50), True),
    "weights cut": (
        *(lambda trial: trial / "network/weights.safetensors", lambda file: os.truncate(file, 50), False),
    ),
    "trial gone": (lambda trial: trial / "trial.json", lambda file: file.unlink(), True),
}
"""What -> the file, what happens to it, and whether a resume refuses it with advice."""


@pytest.mark.parametrize("role", ["search", "uniform", "no_teacher", "teacher", "recheck"])
@pytest.mark.parametrize("what", DAMAGES)
def test_a_sweep_goes_on_after_the_advice_is_followed_and_loses_no_other_result(
    what: str,
    role: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if (what, role) == ("weights cut", "teacher"):
        pytest.skip("the teacher's network is in the cache: tests/test_damage.py")
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    without_ray(monkeypatch, [Node("here", 2)])
    sweep = tmp_path / "work/runs/sweeps/default-001"
    trial = by_role(sweep, role)
    before = {path.name: (path / "result.json").read_bytes() for path in (sweep / "trials").iterdir()}
    roles = sorted(each.role for each in read_trials(sweep))
    file_of, damage, is_refused = DAMAGES[what]
    damage(file_of(trial))
    removed, refusals = {trial.name}, 0
    while (code := run(monkeypatch, "--resume")) == 2:
        refusals += 1
        assert refusals < 3
        (named,) = re.findall(r"emove (\S+): ", capsys.readouterr().err)
        assert str(trial) in named or what in ("trial cut", "trial gone")  # then a recheck of it goes, too
        removed.add(Path(named).relative_to(sweep / "trials").parts[0])
        shutil.rmtree(named) if Path(named).is_dir() else Path(named).unlink()
    assert code == 0 and bool(refusals) == is_refused
    trials = read_trials(sweep)
    assert sorted(each.role for each in trials) == roles and all(each.result for each in trials)
    after = {path.name: (path / "result.json").read_bytes() for path in (sweep / "trials").iterdir()}
    for name in set(before) - removed:
        assert _without_test(after[name]) == _without_test(before[name])
    if what == "weights cut":
        assert after == before
        assert "the network is missing or damaged; it is made again" in capsys.readouterr().err


def _without_test(result: bytes) -> dict[str, Any]:
    """A result without its scores on the test split: another front has other members, which get them."""
    return {name: value for name, value in json.loads(result).items() if not name.startswith("test")}
