"""The README's blocks run, or name what exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.commands.cli import main
from raydistill.config.space import SearchSpace, preset_of
from raydistill.config.space_checks import check_space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(<!-- runs: in a test, in order -->\n)?```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for _, language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line.strip()
]
RUN = [line for runs, language, text in BLOCKS if runs and language == "sh" for line in text.splitlines()]


def run(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    _, *arguments = shlex.split(command)
    return subprocess.run(
        [sys.executable, "-m", "raydistill", *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", RUN)
def test_a_block_that_says_it_runs_runs_in_an_empty_folder(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


def test_every_command_of_the_readme_is_make_or_raydistill() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"make", "raydistill"}


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make")}
    assert targets == {"sweep", "test"} and all(
        re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets
    )


def test_every_option_of_the_readme_is_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [command.split()[1:] for command in COMMANDS if command.startswith("raydistill")]
    for command in {" ".join(words[: 2 if words[0] in ("data", "evaluator") else 1]) for words in given}:
        monkeypatch.setattr(sys, "argv", ["raydistill", *command.split(), "--help"])
        with pytest.raises(SystemExit):
            main()
        text = capsys.readouterr().out
        options = {
            word
            for line in COMMANDS
            if line.startswith(f"raydistill {command}")
            for word in line.split()
            if word.startswith("--")
        }
        assert {option for option in options if option not in text} == set(), command


def test_the_search_space_of_the_readme_fits_its_preset() -> None:
    (text,) = [text for _, language, text in BLOCKS if language == "python"]
    names: dict[str, object] = {}
    exec(text, names)
    space = names["SPACE"]
    assert isinstance(space, SearchSpace)
    check_space(space, preset_of(space, "README"), "README")


def test_every_linked_document_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links and all((ROOT / link).is_file() for link in links)
