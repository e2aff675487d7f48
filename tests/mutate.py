"""Changes the code in one place at a time and says whether the tests notice it.

    python tests/mutate.py [LIST.toml] [--only WORD] [--table FILE.md] [--limit-sec 180]

LIST.toml (tests/mutations.toml) has entries [[mutation]] with `what` (the behaviour, in words), `file`, `old`
(a text that occurs once in that file), `new` (what replaces it) and `tests` (test files, or single tests of
them). An entry that changes nothing that matters says in `harmless` why.

Each change is made alone, in a temporary copy of the tree, where the named tests run with `-x` in a process
of their own. It is forked from this one, which has loaded the large libraries but nothing of raydistill: so a
run takes hardly longer than its tests. First the tests run in the unchanged copy, where all of them must
pass. Exit code 1: a mutation was missed, or its entry does not fit the code.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
LARGE = ("torch", "pandas", "scipy.optimize", "scipy.stats", "optuna", "pydantic", "moocore", "torchmetrics")
"""Loaded before a process is forked for each mutation."""
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", ".venv", "runs", "build", "*.egg-info")
PASSED, FAILED, BROKEN_OFF = 0, 1, 2
"""Exit codes of pytest. Broken off: a test file could not be imported, which is noticed, too."""


class Mutation(NamedTuple):
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    harmless: str = ""
    """Why it need not be noticed; "": it must be."""


class Outcome(NamedTuple):
    mutation: Mutation
    verdict: str
    """noticed, noticed by time, missed, harmless, or what is wrong with the entry."""
    sec: float

    @property
    def is_fine(self) -> bool:
        return self.verdict.startswith("noticed") or self.verdict == "harmless"


def read(path: Path) -> list[Mutation]:
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutation"]
    return [Mutation(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def run_tests(tree: Path, tests: Iterable[str], limit_sec: float, log: Path) -> int | None:
    """pytest's exit code; None: not done within the limit."""
    if (child := os.fork()) == 0:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [str(tree), *(place for place in sys.path if not place.startswith(str(ROOT)))]
        sys.dont_write_bytecode = True
        os._exit(int(pytest.main(["-x", "-q", "-m", "not slow and not gpu", *tests])))
    ends = time.monotonic() + limit_sec
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def tried(mutation: Mutation, tree: Path, limit_sec: float, log: Path) -> Outcome:
    """Makes the change, runs the tests, takes the change back."""
    path, started = tree / mutation.file, time.monotonic()
    before = path.read_text(encoding="utf-8")
    if (count := before.count(mutation.old)) != 1:
        return Outcome(mutation, f"stale: the old text occurs {count} times", 0.0)
    path.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        code = run_tests(tree, mutation.tests, limit_sec, log)
    finally:
        path.write_text(before, encoding="utf-8")
    missed = "harmless" if mutation.harmless else "missed"
    verdicts = {None: "noticed by time", PASSED: missed, FAILED: "noticed", BROKEN_OFF: "noticed"}
    return Outcome(
        mutation, verdicts.get(code, f"pytest ended with {code}: see the tests"), time.monotonic() - started
    )


def table(outcomes: Iterable[Outcome]) -> str:
    lines = ["| file | behaviour | old | new | outcome |", "|---|---|---|---|---|"]
    for mutation, verdict, _ in outcomes:
        cells = (mutation.file, mutation.what, f"`{mutation.old}`", f"`{mutation.new}`", verdict)
        cells = (*cells[:-1], f"{verdict}: {mutation.harmless}") if verdict == "harmless" else cells
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation tests: see the docstring of this file.")
    parser.add_argument("list", type=Path, nargs="?", default=ROOT / "tests/mutations.toml")
    parser.add_argument("--only", default="", help="entries with this word in `what` or `file`")
    parser.add_argument("--table", type=Path, help="a Markdown table of the outcomes")
    parser.add_argument("--limit-sec", type=float, default=180.0, help="for the tests of one mutation")
    given = parser.parse_args()
    chosen = [each for each in read(given.list) if given.only in f"{each.what} {each.file}"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in LARGE:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="mutate-") as temporary:
        tree, log = Path(temporary) / "tree", Path(temporary) / "log"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        if (real := ROOT.parent / "shared").exists():
            (tree.parent / real.name).symlink_to(real)  # real pictures lie beside the project
        for tests in dict.fromkeys(each.tests for each in chosen):
            print(f"unchanged: {' '.join(tests)}", flush=True)
            if (code := run_tests(tree, tests, 10 * given.limit_sec, log)) != PASSED:
                sys.exit(f"{log.read_text()}\n{' '.join(tests)}: exit code {code} in the unchanged tree")
        outcomes = []
        for each in chosen:
            outcomes.append(tried(each, tree, given.limit_sec, log))
            _, verdict, sec = outcomes[-1]
            print(f"{verdict:10} {sec:5.1f} s  {each.file}: {each.what}", flush=True)
    wrong = sum(not outcome.is_fine for outcome in outcomes)
    print(f"{len(outcomes) - wrong} of {len(outcomes)} noticed or harmless")
    if given.table:
        given.table.write_text(table(outcomes), encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
