"""Places and what is printed there: home folders, long names, odd folders, terminals, pipes, locks, and what
dead processes leave."""

import errno
import fcntl
import io
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ray.job_config import JobConfig
from sqlalchemy import create_engine, text

from raydistill.cluster import places
from raydistill.commands.cli import main, output
from raydistill.config.batch import Batch, Method
from raydistill.config.data import FolderData
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import NoticeWarning, RunError, StoreError
from raydistill.records import locks, mirror, owners, store
from raydistill.records.files import write_json_atomic
from raydistill.sweep import tracking_store

LONG = "x" * 5000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which is not the working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line in which a command refuses its input."""
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "" and said.err.count("\n") == 1, said
    return said.err.strip()


# ---- the home folder, and long names -----------------------------------------------------------------------

COMMANDS = {
    "frontier ~/x": "/x: no sweep here",
    "batch ~/x.py": "/x.py: no such batch file",
    "plan --plugin ~/x.py": "--plugin HOME/x.py: no such file",
    "plan --space ~/x.py": "--space HOME/x.py: no such search space",
    "plan --teacher ~/x": "--teacher HOME/x: no network there",
    "plan --space aligned --data ~/x": "HOME/x",
    "plan --space aligned --set data.root=~/x": "HOME/x",
    "export ~/x --out ~/y": "HOME/x: no generator here",
    "evaluate ~/x": "HOME/x",
    "evaluate . --real ~/x": "HOME/x",
    "data inspect ~/x": "HOME/x",
    "teacher import ~/x.pth": "HOME/x.pth",
    "latency ~/x": "HOME/x",
    "retrain ~/x --trial 1 --nimg 8": "HOME/x",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_tilde_is_the_home_folder_in_every_command(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(monkeypatch, capsys, *command.split())
    assert COMMANDS[command].replace("HOME", str(home)) in said and "~" not in said
    assert not list(home.iterdir()) and not (home.parent / "work/~").exists()


EMPTY = {
    "plan --store": "--store: an empty path was given. Give a path, or leave the option out.",
    "plan --data": "--data: an empty path was given",
    "plan --config": "--config: an empty path was given",
    "plan --warm-start": "--warm-start: an empty path was given",
    "plan --teacher": "--teacher: an empty path was given",
    "evaluate x --real": "--real: an empty path was given",
    "plan --experiment": "experiment: String should have at least 1 character (given: '')",
    "plan --name": "name: String should have at least 1 character (given: '')",
    "plan --space": "--space: an empty path was given",
    "plan --sampler": "--sampler : known: known-cost",
}


@pytest.mark.parametrize("command", EMPTY)
def test_an_empty_text_is_no_path_and_no_name(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert EMPTY[command] in refusal(monkeypatch, capsys, *command.split(), "")
    assert not list((home.parent / "work").iterdir())


def test_a_tilde_is_the_home_folder_in_files_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Batch(
        name="b",
        spaces=("~/s.py",),
        methods=(Method(name="m"),),
        seeds=(0,),
        data={"~/s.py": "~/pictures"},
        store="~/runs",
    )
    assert batch.spaces == (f"{home}/s.py",) and batch.data == {f"{home}/s.py": f"{home}/pictures"}
    assert (
        batch.store == f"{home}/runs"
        and FolderData(root="~/pictures", height=8, width=8).root == f"{home}/pictures"
    )
    options = SweepOptions(store="~/runs", teacher="~/t", warm_start=("~/a", "b"), data="~", space="default")
    assert (options.store, options.teacher, options.data) == (f"{home}/runs", f"{home}/t", str(home))
    assert options.warm_start == (f"{home}/a", "b") and options.space == "default"
    monkeypatch.setenv(mirror.FOLDER, "~/copies")
    assert mirror.folder_of("s3://bucket/prefix").parent == home / "copies"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("plan", "--store", LONG),
            "--store x{100}... .*: a path of 5,000 bytes|--store .* a path of 5,000 bytes",
        ),
        (
            ("plan", "--store", "a/" * 2500),
            "a path of 5,000 bytes with names of up to 1; allowed are 4,000 and 250",
        ),
        (("plan", "--space", LONG), "--space .* a path of 5,000 bytes"),
        (("plan", "--name", LONG), "name: String should have at most 200 characters"),
        (("plan", "--experiment", LONG), "experiment: String should have at most 256 characters"),
        (("plan", "--sampler", LONG), "--sampler .* known: known-cost"),
        (("frontier", LONG), "SWEEP .* a path of 5,000 bytes"),
        (("evaluate", "a", LONG), "GIVEN .* a path of 5,000 bytes"),
        (("evaluate", "a", "--extractor", f"inception={LONG}"), "--extractor .* a path of 5,000 bytes"),
        (("data", "fetch", LONG), "there is no set .* Known: facades"),
        (
            ("plan", "--teacher", "~nobody-of-this-name/x"),
            "there is no such user; for a folder of that name give",
        ),
    ],
)
def test_names_of_thousands_of_letters_and_unknown_users_are_one_short_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(monkeypatch, capsys, *arguments)
    assert len(line) < 700
    assert re.search(said, line), line


def test_a_long_name_that_only_the_system_refuses_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    deep = "/".join(["y" * 250] * 15)  # short enough by itself, and too long below the working folder
    monkeypatch.setattr("raydistill.config.base._LONGEST_PATH", 10_000)
    assert "File name too long" in refusal(monkeypatch, capsys, "frontier", f"{deep}/{deep}")


@pytest.mark.parametrize("name", ["a b", "../a", ".a", "x" * 201, "é" * 101, ""])
def test_a_name_that_no_sweep_can_have_is_refused(name: str, tmp_path: Path) -> None:
    for use in (
        lambda: store.create_sweep(tmp_path, name, "default", {}),
        lambda: store.find_sweep(tmp_path, name, "definition"),
    ):
        with pytest.raises(StoreError, match=r"--name .*(use letters|bytes; allowed are 200)"):
            use()


# ---- odd folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a b", "100%", "a%20b", "what?", "c#1", "it's", 'say "x"', "a&b=c", "[x]", "ü木"]
)
def test_the_tracking_file_lies_in_the_store_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    uri = tracking_store.default_uri(tmp_path / name)
    with create_engine(uri).connect() as connection:  # as MLflow does
        connection.execute(text("CREATE TABLE a (b)"))
    assert tracking_store.sqlite_file(uri) == tmp_path / name / "mlflow.db"
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [name, f"{name}/mlflow.db"]


def test_ray_gets_a_short_folder_and_a_line_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * 70)
    long.mkdir()
    monkeypatch.delenv(places.TEMPORARY, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.warns(
        NoticeWarning, match=r"TMPDIR=.*t{70} cannot be written, or is too long for Ray's sockets: "
    ):
        own = places.make_folder()
    assert len(str(own)) + len(places._SOCKET) - len("rd-12345678") <= 107
    monkeypatch.setenv(places.TEMPORARY, str(long))
    monkeypatch.setattr(owners, "SHORT_FOLDERS", ())
    with pytest.raises(
        RunError, match=r"RAY_TMPDIR=.*: cannot be written, or too long .*; set RAY_TMPDIR to a folder"
    ):
        places.make_folder()
    # what a dead process has left beside it goes, and what a living one has stays
    left = Path(tempfile.mkdtemp(prefix="rd-", dir="/tmp"))
    (left / "owner").write_text(mark_of(dead_process()))
    monkeypatch.undo()
    store.open_store(tmp_path / "store")
    assert own.exists() and not left.exists()
    owners.remove(own)


def test_a_job_of_ray_sends_no_folder_of_the_driver_to_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for job, expected in ((places.Job(), []), (JobConfig(), [str(tmp_path)])):
        job._py_driver_sys_path.append(str(tmp_path))  # as Ray does where it connects
        job._serialize()
        assert list(job._get_proto_job_config().py_driver_sys_path) == expected


def test_modules_of_the_working_folder_do_not_shadow_with_python_m(tmp_path: Path) -> None:
    for name in ("optuna", "random", "typer", "pydantic"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('of the working folder')")
    assert "raydistill" in ran("--version", tmp_path).stdout


def ran(argument: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(store.__file__).parents[2])
    command = [sys.executable, "-m", "raydistill", *argument.split()]
    env = os.environ | {"PYTHONPATH": root} | environment
    env.pop("PYTHONSAFEPATH", None)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="replace")


# ---- what is printed ---------------------------------------------------------------------------------------


def test_letters_that_a_terminal_does_not_know_are_written_as_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    output.make_safe()
    print("Straße 木 \udcff", flush=True)
    assert written.buffer.getvalue() == rb"Stra\xdfe \u6728 \udcff" + b"\n"  # type: ignore[attr-defined]


def test_in_a_locale_without_utf8_files_are_utf8_all_the_same(tmp_path: Path) -> None:
    """The command starts once more, in Python's UTF-8 mode."""
    (tmp_path / "größe.py").write_text("raise ValueError('Straße')", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text("")
    said = ran("config --space größe.py", tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert said.returncode == 2 and r"gr\xf6\xdfe.py: ValueError: Stra\xdfe" in said.stderr, said


@pytest.mark.parametrize("arguments", [["config"], ["--help"], ["--version"], ["sweep", "--help"]])
def test_a_reader_that_goes_away_ends_a_command_quietly(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()  # as Python does at its end
    assert ended.value.code == output.CLOSED


# ---- locks, and what the dead have left --------------------------------------------------------------------


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(locks, "_SETTLE_SEC", 0.0)


def test_without_flock_a_file_says_who_holds_the_lock(no_flock: None, tmp_path: Path) -> None:
    lock, owner = tmp_path / "lock", tmp_path / ".lock.owner"
    with locks.locked(lock, what="sweep a", wait=False):
        with (
            pytest.raises(
                StoreError,
                match=rf"sweep a is being run .* \(process {os.getpid()} on .*remove .*lock.owner",
            ),
            locks.locked(lock, what="sweep a", wait=False),
        ):
            pass
        assert owner.exists()
    assert not owner.exists()
    owner.write_text(mark_of(dead_process()))
    with locks.locked(lock, what="sweep a", wait=True):
        assert f"process {os.getpid()} " in owner.read_text()
    owner.write_text("process 7 on another, own-00000000-7-00000000")
    with pytest.raises(StoreError, match="process 7 on another"), locks.locked(lock, what="x", wait=False):
        pass


def test_a_lock_where_nothing_can_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be locked: (Not a directory|File exists)"):
        locks.locked(tmp_path / "file" / "lock", what="x", wait=False).__enter__()


def dead_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def mark_of(pid: int, host: str | None = None) -> str:
    return (
        owners.mark().replace(owners._host(), host or owners._host()).replace(f"-{os.getpid()}-", f"-{pid}-")
    )


def test_what_the_dead_of_this_host_have_left_in_a_store_goes_and_all_else_stays(tmp_path: Path) -> None:
    folder = store.open_store(tmp_path / "store")
    dead, alive, elsewhere = (
        mark_of(dead_process()),
        mark_of(os.getpid()),
        mark_of(dead_process(), "0a0b0c0d"),
    )
    trial, ended = folder / "sweeps/a/trials/0001", folder / "sweeps/b/trials/0001"
    for place in (
        folder,
        folder / "cache/data",
        folder / "sweeps",
        trial,
        folder / "cache/teacher/abc/network",
    ):
        place.mkdir(parents=True, exist_ok=True)
        for who in (dead, alive, elsewhere):
            (place / f".probe-{who}").write_text("")
            (place / f"tmp-checkpoint-000000000016-{who}").mkdir()
            (place / f"tmp-checkpoint-000000000016-{who}" / "meta.json").write_text("")
    (trial / "checkpoint-000000000016").mkdir()
    (trial / "own-work.txt").write_text("")
    ended.mkdir(parents=True)
    (folder / "sweeps/b/trials.parquet").write_text("")
    before = {path for path in folder.rglob("*") if dead not in str(path)}
    store.open_store(folder)
    assert set(folder.rglob("*")) == before


def test_every_temporary_name_says_who_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(self.name), real(self, to))[1])
    write_json_atomic(tmp_path / "result.json", {})
    (name,) = seen
    assert name.startswith(".result.own-") and name.endswith(".json") and not owners.is_left(name)
    with owners.temporary_folder(tmp_path, prefix=".preparing-") as folder:
        assert owners._MARK.search(folder.name) and folder.is_dir()
    assert not folder.exists()
    assert not owners.is_left(
        f"own-{owners._host()}-{random.randrange(2**70, 2**71)}"
    )  # no mark: nothing random
    assert owners.is_left(f"own-{owners._host()}-{2**70}-00000000")
