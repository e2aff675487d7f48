"""Tables fit the terminal: every number stands whole, no column is lost, and a pipe gets one wide table."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from raydistill import terminal
from raydistill.commands import evaluate, latency
from raydistill.evaluation.scoring import Score
from raydistill.records import tables
from raydistill.records.trials import Trial, TrialResult
from raydistill.terminal import Column, Terminal, split_columns, wrapped

WIDTHS = (80, 100, 140)
OBJECTIVES = [("val/miou", "max"), ("cost/macs", "min")]
TRIALS = (
    # role, label, MACs, parameters, mIoU, MI weight, step size
    ("teacher", "teacher", 36_536_320, 145_219, 0.9312, None, None),
    ("no_teacher", "no teacher 8", 2_432_512, 9_891, 0.6421, None, None),
    ("uniform", "uniform 4", 1_398_784, 2_803, 0.5143, 0.0, None),
    ("search", "MI 0.1", 4_316_160, 17_355, 0.7531, 0.1, 12.599210498948732),
    ("search", "no MI", 9_134_080, 40_899, 0.8064, 0.0, None),
    ("replicate", "0003 again, seed 1", 4_316_160, 17_355, 0.7487, 0.1, 12.599210498948732),
    ("recheck", "0003 again, 2 workers", 4_316_160, 17_355, 0.7533, 0.1, 12.599210498948732),
)


def trial(number: int) -> Trial:
    """A trial of a sweep of the space `default`, as `read_trials` returns it; scored on test."""
    role, label, macs, params, miou, weight, step_size = TRIALS[number]
    scores = {"miou": miou, "kd_evaluator": 0.0123 + miou / 100, "fd_evaluator": 1.5 - miou}
    searched = {"student.terms.mi.weight": weight, "student.terms.mi.step_size": step_size}
    context: dict[str, Any] = {"extractor": "evaluator", "num_samples": 1024, "biased": False}
    context |= {"split": "val", "resize": "none", "real_statistics": "5d1a0c2f9e8b7a64"}
    result = {
        "trial_key": f"{number:016x}",
        "budget_nimg": 1280,
        "hardware": "",
        "git_revision": "",
        "status": "COMPLETE",
        "reason": "",
        "nimg": 1280,
        "metrics": {f"val/{name}": value for name, value in scores.items()},
        "evaluations": [],
        "wall_sec": 12.4 + number,
        "gpu_sec": 0.0,
        "context": context,
        "test": {f"test/{name}": value - 0.001 for name, value in scores.items()},
        "test_context": context | {"split": "test"},
    }
    content = {
        "number": number,
        "trial_id": f"{number:04d}",
        "trial_key": f"{number:016x}",
        "role": role,
        "label": label,
        "seed": 0,
        "replicate_of": "0003" if role == "replicate" else None,
        "recheck_of": "0003" if role == "recheck" else None,
        "digests": {"teacher": "12345678", "data": "aa11bb22", "evaluator": "0e1f2a3b"},
        "costs": {"macs": macs, "params": params, "macs_convention": "true"},
        "params": {path: value for path, value in searched.items() if value is not None},
        "job": {},
    }
    return Trial.model_validate(content).with_result(TrialResult.model_validate(result))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep, as far as `frontier` reads it."""
    folder = tmp_path_factory.mktemp("sweep")
    table = tables.trial_table([trial(number) for number in range(len(TRIALS))], sweep_id="default-001")
    table = tables.with_front(table, OBJECTIVES, [0.0, 9_134_080.0])  # type: ignore[arg-type]
    tables.write_tables(folder, table, tables.evaluation_table([], sweep_id="default-001"))
    return folder


def numbers_of(table: pd.DataFrame) -> Counter[str]:
    """Every number that a table of trials shows, in its format."""
    formats: dict[str, Callable[[Any], str]] = {
        **dict.fromkeys(["cost.macs", "cost.params", "num_samples"], lambda value: f"{int(value):,}"),
        **dict.fromkeys(
            ["param.student.terms.mi.weight", "param.student.terms.mi.step_size"],
            lambda value: f"{value:.3g}",
        ),
        "wall_sec": lambda value: f"{value:.0f}",
        "trial_id": str,
    }
    names = ("miou", "kd_evaluator", "fd_evaluator")
    shown = [*(f"metric.val/{name}" for name in names), *(f"se.val/{name}" for name in names)]
    shown += ["metric.test/miou", "metric.test/kd_evaluator"]
    formats |= dict.fromkeys([*shown, "front.probability", "front.seeds"], lambda value: f"{value:.4f}")
    return Counter(
        form(value) for name, form in formats.items() if name in table for value in table[name].dropna()
    )


def printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int | None,
    call: Callable[[], object],
) -> str:
    monkeypatch.setattr(terminal, "columns_of_terminal", lambda: width)
    call()
    return capsys.readouterr().out


def require_fit(narrow: str, wide: str, width: int) -> None:
    """No line is too long; what has a digit in the wide table stands in the narrow one, at least as often."""
    assert max(map(len, narrow.splitlines())) <= width
    lacking = Counter(word for word in wide.split() if re.search(r"\d", word)) - Counter(narrow.split())
    assert lacking == Counter()
    assert "…" not in narrow + wide


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweeps_table_fits_and_keeps_every_number(sweep, monkeypatch, capsys, width):
    table = tables.read_table(sweep / "trials.parquet")
    narrow, wide = (
        printed(monkeypatch, capsys, each, lambda: Terminal().table("Pareto front of default-001", table))
        for each in (width, None)
    )
    require_fit(narrow, wide, width)
    assert numbers_of(table) - Counter(wide.split()) == Counter()
    assert len(wide.splitlines()) == 2 + len(table)  # title, heads, a line a trial
    heads = [line for line in narrow.splitlines() if line.startswith("trial ")]
    assert len(heads) > 1 and sorted(" ".join(heads).split()) == sorted(
        [*wide.splitlines()[1].split(), *["trial"] * (len(heads) - 1)]
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_evaluates_table_fits_and_keeps_every_number(monkeypatch, capsys, width):
    common = {"num_samples": 1024, "num_real": 1024, "split": "val", "real_statistics": "5d1a0c2f9e8b7a64"}
    extractor = {"extractor": "inception, TF-2015", "extractor_digest": "6726825d" * 8}
    extractor |= {"resize": "tf_bilinear"}
    scores = {
        f"runs/sweeps/default-001/trials/{number:04d}": [
            Score(name="val/miou", value=0.7531234, interval=(0.7412347, 0.7698767), ceiling=0.96, **common),
            Score(name="val/kid", value=-1.234567e-5, interval=(-2.3e-5, 1.1e-5), **common, **extractor),
            Score(name="val/fid", value=123.4567, interval=None, biased=True, **common, **extractor),
            Score(name="val/psnr", value=None, interval=None, **common),
        ]
        for number in (3, 4)
    }  # fmt: skip
    narrow, wide = (
        printed(monkeypatch, capsys, each, lambda: evaluate._print(evaluate._short(scores)))
        for each in (width, None)
    )
    require_fit(narrow, wide, width)
    for number in ("0.753123", "0.741235", "0.769877", "-1.23457e-05", "123.457", "6726825d" * 8):
        assert number in wide.split()
    for text in ("biased: n <= features", "infinite", "tf_bilinear", "0003"):
        assert text in wide


@pytest.mark.parametrize("width", WIDTHS)
def test_latencys_table_fits_and_keeps_every_number(monkeypatch, capsys, width):
    rows = {
        ("runs/sweeps/default-001/trials/0003", batch_size): {
            "network": "runs/sweeps/default-001/trials/0003",
            "size": "1024x2048",
            "batch_size": batch_size,
            "cost/latency_ms_p50": 12.345678 * batch_size,
            "cost/latency_ms_p95": 1234.5678 * batch_size,
            "peak_mib": None if batch_size == 1 else 345.678,
            "cost/macs": 4_316_160_000,
            "cost/params": 17_355_123,
        }
        for batch_size in (1, 16)
    }
    generator = SimpleNamespace(input_shape=(3, 64, 64))
    monkeypatch.setattr(latency, "open_generator", lambda path, size: generator)
    monkeypatch.setattr(latency.own_process, "call", lambda of, given, size, options: rows[given, size])
    options = latency.LatencyOptions(given=("runs/sweeps/default-001/trials/0003",), batch_sizes=(1, 16))
    narrow, wide = (
        printed(monkeypatch, capsys, each, lambda: latency.run(options)) for each in (width, None)
    )
    narrow, wide = (text.partition("The machine was not idle")[0] for text in (narrow, wide))
    require_fit(narrow, wide, width)
    for number in ("12.3457", "197.531", "1234.57", "19753.1", "345.678", "4316160000", "17355123"):
        assert number in wide.split() and number in narrow.split()


@pytest.mark.parametrize("width", WIDTHS)
def test_frontier_on_a_real_terminal_fits_it_and_a_pipe_gets_one_wide_table(sweep, width):
    command = [sys.executable, "-m", "raydistill", "frontier", str(sweep)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    driver, terminal_of_command = pty.openpty()
    fcntl.ioctl(terminal_of_command, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    with subprocess.Popen(
        command, stdin=terminal_of_command, stdout=terminal_of_command, env=environment | {"TERM": "dumb"}
    ) as process:
        os.close(terminal_of_command)
        parts = []
        try:
            while part := os.read(driver, 65_536):
                parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(driver)
    piped = subprocess.run(
        command, env=environment | {"COLUMNS": str(width)}, capture_output=True, text=True
    ).stdout
    assert process.returncode == 0
    require_fit(b"".join(parts).decode().replace("\r\n", "\n"), piped, width)
    assert piped.count("trial  what") == 2 and piped.count("\ntrial ") == 2  # two tables, each in one piece


# ---- the layout --------------------------------------------------------------------------------------------


def shapes(columns: list[Column], width: int | None) -> list[list[str]]:
    return [[each.head for each in table] for table in split_columns(columns, width)]


KEY, TEXT = Column("id", ["0001"], is_key=True), Column("label", ["one two three four"], wraps=True)
COUNT, SHARE = Column("count", ["1,234,567"], justify="right"), Column("share", ["0.1234"], justify="right")


def test_a_table_that_fits_stays_whole_in_the_order_of_its_columns():
    assert shapes([TEXT, KEY, COUNT], 60) == shapes([TEXT, KEY, COUNT], None) == [["label", "id", "count"]]


def test_texts_wrap_before_a_table_is_split():
    ((_, text, count),) = split_columns([KEY, TEXT, COUNT], 24)
    assert text.cells == ["one two\nthree\nfour"] and count == COUNT


def test_a_split_table_repeats_the_keys_and_loses_no_column():
    assert shapes([COUNT, KEY, SHARE, TEXT], 20) == [["id", "count"], ["id", "share", "label"]]


def test_a_number_wider_than_the_terminal_stays_whole():
    assert [table[-1].cells for table in split_columns([KEY, COUNT], 8)] == [["1,234,567"]]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("trial 7 of 12", ["trial 7", "of 12"]),
        ("runs/sweeps/a/0003", ["runs/", "sweeps/a/", "0003"]),
        ("abcdefghijkl mn", ["abcdefghi", "jkl mn"]),
    ],
)
def test_a_text_is_broken_at_spaces_then_behind_slashes_then_anywhere(text, lines):
    assert wrapped(text, 9) == lines


def test_an_entry_wraps_beside_its_lead_and_only_on_a_terminal(monkeypatch, capsys):
    text = "mount one shared folder at the same path on every node"
    call = lambda: Terminal().entry("fail  storage   ", text)  # noqa: E731
    assert printed(monkeypatch, capsys, None, call) == f"fail  storage   {text}\n"
    assert printed(monkeypatch, capsys, 40, call) == (
        "fail  storage   mount one shared folder\n"
        "                at the same path on\n"
        "                every node\n"
    )


def test_a_reader_that_goes_away_is_an_error_of_the_system_and_no_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command line knows it, and ends quietly; what rich does by itself looked like a plug-in's exit."""
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    with pytest.raises(BrokenPipeError):
        Terminal().say("nobody reads this")
    monkeypatch.undo()
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.fileno())  # what is left goes there
    pipe.close()
