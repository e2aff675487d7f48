"""`benchmarks/gpu.py`: all of it at tiny sizes with every other package refused; how its runner goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_checks
import pytest
import torch

from raydistill.errors import InputError

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import gpu

ALLOWED = (
    *("torch", "pydantic", "numpy", "scipy", "PIL", "safetensors", "torchmetrics"),
    *("functorch", "torchgen", "triton", "nvidia", "sympy", "mpmath", "networkx", "jinja2", "markupsafe"),
    *("filelock", "fsspec", "typing_extensions", "pydantic_core", "annotated_types", "typing_inspection"),
    *("lightning_utilities", "packaging", "setuptools", "pkg_resources", "_distutils_hack"),
)
"""What the benchmark may import: the packages that it says it needs, and what these demand."""
OWN = ("raydistill", "gpu", "gpu_parts", "gpu_machine", "gpu_checks", "step", "reference_vem")
REFUSING = """
import sys

class Refusing:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ALLOWED or top in sys.stdlib_module_names or top.startswith("__"):
            return self.finder.find_spec(name, path, target)
        return None

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Refusing(finder) for finder in sys.meta_path]
"""
"""Of a `sitecustomize`, so that every process has it: what is not allowed is not there, installed or not."""


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, str(gpu.ROOT / "benchmarks/gpu.py"), "--out", str(out), *options]


def environment(folder: Path) -> dict[str, str]:
    """Of a process that refuses other packages."""
    (folder / "sitecustomize.py").write_text(f"ALLOWED = {(*ALLOWED, *OWN)!r}\n{REFUSING}")
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


# ---- all of it ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("tiny")
    out = folder / "gpu.json"
    done = subprocess.run(
        command(out, "--device", "cpu", "--tiny", "--minutes", "3"),
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, json.loads(out.read_text())


@pytest.mark.parametrize("package", ["pytest", "ray", "optuna", "pandas", "rich"])
def test_the_finder_refuses_what_is_installed_and_not_allowed(tmp_path: Path, package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {package}"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and f"No module named '{package}'" in done.stderr


@pytest.mark.slow  # of every run: single parts, their failures and their files
def test_every_part_is_done_with_every_other_package_refused(tiny: tuple) -> None:
    _, record = tiny
    assert list(record["parts"]) == list(gpu.WEIGHTS)
    for part, found in record["parts"].items():
        assert found["done"] and found["units"], part
        assert not any(unit["failed"] for unit in found["units"].values()), part


@pytest.mark.slow
def test_it_says_what_was_measured_and_what_means_nothing_on_a_cpu(tiny: tuple) -> None:
    done, record = tiny
    lines = [unit["line"] for found in record["parts"].values() for unit in found["units"].values()]
    assert all(line in done.stdout for line in lines)
    of_a_card = [line for line in lines if "images/s" in line or "TMAC/s" in line or "MiB of" in line]
    assert len(of_a_card) == 11 and all("nothing of a card" in line for line in of_a_card)
    assert "all parts are done" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_the_figures_of_the_file_fit_together(tiny: tuple) -> None:
    parts = {
        part: {name: unit["figures"] for name, unit in found["units"].items()}
        for part, found in tiny[1]["parts"].items()
    }
    settings = parts["environment"]["environment"]
    assert settings["card"] is None and set(settings["tf32"]) >= {"products", "convolutions"}
    for case in ("64px", "unet256"):
        assert all(
            0 <= share <= unit["most"]
            for unit in parts[f"parity {case}"].values()
            for share in unit["shares"].values()
        )
        speed = parts[f"speed {case}"]
        assert speed["same"]["difference"] < 1e-9 and speed["published"]["times_published"] == 1
        assert speed["published"]["gmac"] > speed["float32"]["gmac"] == speed["bfloat16"]["gmac"] > 0
        for way in ("published", "float32", "bfloat16"):
            figures = speed[way]
            middle = sum(figures["sec"]) / 2  # of two turns
            assert figures["images_per_sec"] == pytest.approx(4 / middle)
            share = figures["gmac"] * 1e9 / middle / speed["peak"][figures["peak"]]
            assert figures["share_of_peak"] == pytest.approx(share)
            assert 0.9 < figures["host_share"] <= 1  # a CPU has done all that was asked of it
        mib = parts[f"memory {case}"][case]["mib"]
        assert 0 < mib["predicted"] < mib["predicted_with_context"] and mib["resident"] > 0
    trials = parts["two trials"]["64px"]
    assert trials["times"] == pytest.approx(sum(trials["at_once"]) / trials["alone"]) and trials["times"] > 0


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: its own tests run them")
def test_the_checks_of_a_gpu_hold_on_a_cpu(tmp_path: Path) -> None:
    """All but the compiled one, which takes minutes: three of them are in every run, see above."""
    kit = gpu_checks.Kit(tmp_path, "cpu")
    for name, check in gpu_checks.CHECKS.items():
        if "compile" not in name:
            print(f"{name}: {check(kit)}")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_what_it_had_measured(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    first = subprocess.Popen(command(out, "--device", "cpu", "--tiny"), stdout=subprocess.DEVNULL)
    while not (out.exists() and "64px" in str(json.loads(out.read_text())["parts"].keys())):
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = json.loads(out.read_text())["parts"]
    assert before["checks"]["done"] and "compile" not in before
    done = subprocess.run(command(out, "--device", "cpu", "--tiny"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads(out.read_text())["parts"]
    assert after["checks"] == before["checks"] and all(found["done"] for found in after.values())
    assert done.stdout.count("checks, from an earlier run") == len(before["checks"]["units"])


# ---- the runner, with parts that take no time --------------------------------------------------------------

STUB = """
import json, os, time
from pathlib import Path
from gpu import Unit

def units(given):
    told = json.loads(Path(__file__).with_name("told.json").read_text())
    if given.part == "environment":
        yield Unit("environment", "here", {"card": told.get("card"), "torch": "1", "python": "3"})
        return
    behaviour = told.get(given.part, "")
    for name in ("a", "b"):
        if name in given.known:
            continue
        if name == "b" and behaviour == "raises":
            raise ValueError("no b")
        if name == "b" and behaviour == "dies":
            os._exit(7)
        if name == "b" and behaviour == "hangs":
            time.sleep(600)
        is_bad = behaviour == "is bad" and name == "b"
        yield Unit(name, f"{name} of {given.part}", {"value": float("nan")}, is_bad)
        if behaviour == "is late":
            time.sleep(max(0, given.until - time.time()) + 0.01)
            given.require_time()
"""


class Runs:
    """Calls of the command in this process, with `STUB` in place of the parts."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture):
        self.folder, self.out, self.capsys = folder, folder / "gpu.json", capsys
        (folder / "stub_parts.py").write_text(STUB)

    def __call__(self, *options: str, **told: str) -> tuple[int, str]:
        """Exit code and all that was printed. `told`: a part -> what its second unit does; or the card."""
        (self.folder / "told.json").write_text(json.dumps(told))
        code = gpu.main(["--out", str(self.out), "--device", "cpu", *options])
        printed = self.capsys.readouterr()
        return code, printed.out + printed.err

    @property
    def parts(self) -> dict[str, Any]:
        return json.loads(self.out.read_text())["parts"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Runs:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(gpu, "PARTS_MODULE", "stub_parts")
    monkeypatch.setattr(gpu, "PRELOADED", ())
    return Runs(tmp_path, capsys)


@pytest.mark.parametrize(
    ("behaviour", "ended"),
    [("raises", "failed: ValueError: no b"), ("dies", "failed: its process ended with code 7")],
)
def test_a_part_that_fails_keeps_what_it_measured_and_is_taken_up_there(
    runs: Runs, behaviour: str, ended: str
) -> None:
    code, printed = runs(checks=behaviour)
    assert code == 1 and f"checks: {ended}" in printed and "not done: checks;" in printed
    assert list(runs.parts["checks"]["units"]) == ["a"]
    assert all(found["done"] for part, found in runs.parts.items() if part != "checks")
    code, printed = runs()
    assert code == 0 and "a of checks" not in printed and "b of checks" in printed
    assert "speed 64px, from an earlier run: b of speed 64px" in printed


def test_a_unit_that_is_not_as_it_has_to_be_fails_the_run_and_alone_is_measured_again(runs: Runs) -> None:
    code, printed = runs(checks="is bad")
    assert code == 1 and "checks: FAILED: b of checks" in printed and "failed: checks: b" in printed
    code, printed = runs()
    assert code == 0 and "a of checks" not in printed and "b of checks" in printed


def test_a_part_that_hangs_is_ended_at_twice_its_share_and_a_later_run_goes_on(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each minute, here .4 s, a line says where the run is."""
    monkeypatch.setattr(gpu, "WEIGHTS", {"environment": 1.0, "checks": 0.1, "compile": 1.0})
    monkeypatch.setattr(gpu, "MINUTE_SEC", 0.4)
    code, printed = runs("--minutes", "0.2", checks="hangs")
    assert code == 0 and "checks: time is up" in printed and "not done: checks;" in printed
    said = [line for line in printed.splitlines() if "-- 1 of 3 parts done; in checks, 1 measured" in line]
    assert len(said) >= 2 and "b of compile" in printed
    code, printed = runs()
    assert code == 0 and "a of checks" not in printed and "b of checks" in printed
    assert "all parts are done" in printed


def test_nothing_goes_on_beyond_the_minutes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "WEIGHTS", {"environment": 1.0, "checks": 1.0, "compile": 1.0})
    began = time.monotonic()
    code, printed = runs("--minutes", "0.02", checks="hangs", compile="hangs")
    assert time.monotonic() - began < 4
    assert code == 0 and "checks, compile; the same command" in printed


def test_a_part_that_is_late_leaves_its_rest_to_a_later_run_and_the_others_their_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "WEIGHTS", {"environment": 1.0, "checks": 0.1, "compile": 1.0})
    code, printed = runs("--minutes", "0.1", checks="is late")
    assert code == 0 and "a of checks" in printed and "b of checks" not in printed
    assert "b of compile" in printed and "not done: checks;" in printed


def test_a_number_that_is_none_is_null_in_the_file(runs: Runs) -> None:
    runs()
    assert runs.parts["checks"]["units"]["a"]["figures"] == {"value": None}


def test_a_file_of_another_card_or_of_other_options_is_refused(runs: Runs) -> None:
    assert runs()[0] == 0
    before = runs.out.read_text()
    code, printed = runs(card="another")
    assert code == 2 and "the file is of card None, and this is another; give another --out" in printed
    code, printed = runs("--tiny")
    assert code == 2 and "was made with {'device': 'cpu', 'tiny': False}" in printed
    assert runs.out.read_text() == before


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2, "parts": {}}', '{"version": 1, "parts": 3}']
)
def test_a_file_that_is_none_of_its_own_is_refused_and_stays(runs: Runs, text: str) -> None:
    runs.out.write_text(text)
    code, printed = runs()
    assert code == 2 and f"--out {runs.out}: not a file of this command" in printed
    assert runs.out.read_text() == text


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "x"])
def test_minutes_that_are_none_are_refused(runs: Runs, minutes: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        runs("--minutes", minutes)
    assert not runs.out.exists()


def test_without_a_gpu_it_says_what_needs_none(runs: Runs) -> None:
    code, printed = runs("--device", "cuda")
    assert code == 2
    assert "torch 1 finds no CUDA GPU here; `--device cpu --tiny` needs none" in printed
    assert "checks" not in printed


def test_infinity_is_null_wherever_it_stands() -> None:
    given = {"a": [1.0, float("inf")], "b": {"c": float("nan")}, "d": "inf"}
    assert gpu.finite(given) == {"a": [1.0, None], "b": {"c": None}, "d": "inf"}


def test_only_the_environment_of_the_same_machine_is_taken_over() -> None:
    record: dict[str, Any] = {"parts": {}}
    gpu.add(record, "environment", gpu.Unit("environment", "", {"card": {"name": "x"}, "torch": "1"}))
    with pytest.raises(InputError, match="torch 1, and this is 2"):
        gpu.add(record, "environment", gpu.Unit("environment", "", {"card": {"name": "x"}, "torch": "2"}))
