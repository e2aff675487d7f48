"""The README's commands, names and numbers exist; its blocks run or are checked by tests/test_docs.py."""

import re
from pathlib import Path

import raydistill
from raydistill.commands.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines() if line]
MOST_COMMANDS = 10


def test_the_readme_is_a_screen_and_a_half_and_has_few_commands() -> None:
    commands = [line for line in LINES if line.startswith("raydistill")]
    assert len(README.splitlines()) <= 80 and 1 <= len(commands) <= MOST_COMMANDS


def test_every_command_of_the_readme_is_make_or_raydistill() -> None:
    assert {line.split()[0] for line in LINES} == {"make", "raydistill"}
    names = {command.name for command in COMMANDS}
    given = [line.split()[1:3] for line in LINES if line.startswith("raydistill")]
    assert all(words[0] in names or " ".join(words) in names for words in given)


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {line.split()[1] for line in LINES if line.startswith("make")}
    assert targets == {"sweep", "test"} and all(
        re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets
    )


def test_every_name_that_the_readme_imports_is_public() -> None:
    (text,) = [text for language, text in BLOCKS if language == "python"]
    compile(text, "README.md", "exec")
    (names,) = re.findall(r"^from raydistill import (.*)$", text, re.MULTILINE)
    assert set(names.split(", ")) <= set(raydistill.__all__)


def test_the_readme_names_the_command_of_its_picture_and_says_that_there_is_no_licence() -> None:
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size < 150_000
    assert "*Made by `make sweep`" in README and "No licence has been chosen" in README
