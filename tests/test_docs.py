"""The documents: links lead somewhere, generated pages are current, and what stands in blocks runs or is
valid.

In tutorials and how-to pages a comment before each block says how it is checked.
"""

import glob
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cookbook
import pytest
import typer
from ray.scripts.scripts import cli as ray_command

from raydistill.commands import cli
from raydistill.commands.cli import main
from raydistill.commands.cli.options import options_from
from raydistill.commands.reference import PAGES
from raydistill.commands.reference.markdown import REWRITE

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES_ON_DISK = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])
GUIDES = sorted([*(DOCS / "tutorial").glob("*.md"), *(DOCS / "how-to").glob("*.md")])
CHECKED_BY = {"plug-ins.md": "test_cookbook.py", "published-experiments.md": "test_experiments.py"}
"""Guide -> the test file that runs its blocks."""
LONGEST_LINE = 120
RUNS, RUNS_SLOWLY, OPTIONS_ONLY = "runs: in a test", "runs: in a slow test", "options only: "
SHELL = {
    "cd",
    "cp",
    "docker",
    "export",
    "kubectl",
    "mkdir",
    "mlflow",
    "optuna-dashboard",
    "pip",
    "sbatch",
    "source",
}
"""Programs that guides use beside make, ray and raydistill."""


class Block(NamedTuple):
    how: str
    """The comment before it; "" where there is none."""
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines without comments; `a; b` is taken apart, lines that end in a backslash together."""
        text = self.text.replace("\\\n", " ") if self.language in ("sh", "bash") else ""
        lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines()]
        return [
            part.strip() for line in lines for part in re.split(r"; (?=raydistill)|&&", line) if part.strip()
        ]


def blocks(page: Path) -> list[Block]:
    found = re.findall(
        r"(?:^<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return [Block(*each) for each in found]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings as GitHub and the site spell them, and its anchors."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


# ---- pages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES_ON_DISK, ids=name_of)
def test_every_link_of_a_page_leads_to_a_file_and_to_a_place_in_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such place"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_the_one_that_the_code_gives(name: str) -> None:
    assert (DOCS / "reference" / name).read_text() == PAGES[name](), f"write it again: {REWRITE}"


@pytest.mark.parametrize("page", PAGES_ON_DISK, ids=name_of)
def test_lines_of_prose_are_short(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith(("|", "#", "!["))]
    assert [line for line in prose if len(line) > LONGEST_LINE and " " in line.strip("* ")] == []


# ---- blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in GUIDES if page.name not in CHECKED_BY], ids=name_of)
def test_every_block_of_a_guide_says_how_it_is_checked(page: Path) -> None:
    for block in blocks(page):
        file = re.fullmatch(r"runs: in tests/(\w+\.py)", block.how)
        known = block.how.startswith((RUNS, RUNS_SLOWLY, OPTIONS_ONLY))
        assert known or (file and (ROOT / "tests" / file[1]).is_file()), (block.how, block.text)


@pytest.mark.parametrize("page", PAGES_ON_DISK, ids=name_of)
def test_every_command_of_a_page_has_the_options_that_it_names(page: Path) -> None:
    for command in (command for block in blocks(page) for command in block.commands):
        if page.name == "plug-ins.md" and "$" in command:
            continue
        program, *words = shlex.split(command.split(" > ")[0].replace(".venv/bin/", "").replace("...", ""))
        if program == "ray" and words[0] == "submit":
            program, words = "raydistill", ["sweep", *words[words.index("--") + 1 :]]
        if program == "raydistill":
            assert_valid(words)
        elif program == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif program == "ray":
            assert words[0] in ray_command.commands, command
        elif program == "python":
            assert words[0] == "-m" or (ROOT / words[0]).is_file() or words[0] in cookbook.FILES, command
        elif page in GUIDES:
            assert program in SHELL or "/" in program or "=" in program, command


def assert_valid(words: list[str]) -> None:
    """Whether the command line understands the words, up to what their files and folders hold."""
    command: Any = typer.main.get_command(cli.app)
    if words[:1] == ["--version"]:
        return
    names = []
    while hasattr(command, "commands"):
        names.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    if words == ["--help"]:
        return
    model = next(each.options for each in cli.COMMANDS if each.name == " ".join(names))
    numbers = [re.sub(r"^N$", "8", word) for word in words]
    options_from(model, command.make_context(" ".join(names), numbers).params)


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if any(block.how == RUNS for block in blocks(page))], ids=name_of
)
def test_the_cheap_blocks_of_a_guide_run_in_order_from_an_empty_folder(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(**options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("raydistill.cluster.runtime.start_ray", never)
    for block in (block for block in blocks(page) if block.how == RUNS):
        if block.language == "python":
            (name,) = re.findall(r"\A# (\S+\.py)\n", block.text)
            (tmp_path / name).write_text(block.text)
        for command in block.commands:
            monkeypatch.setattr(sys, "argv", shlex.split(command))
            with pytest.raises(SystemExit) as ended:
                main()
            printed = capsys.readouterr()
            assert ended.value.code == 0 and printed.out, printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in GUIDES if any(block.how.startswith(RUNS_SLOWLY) for block in blocks(page))],
    ids=name_of,
)
def test_the_other_blocks_of_a_guide_run_in_order_from_an_empty_folder(page: Path, tmp_path: Path) -> None:
    for block in (block for block in blocks(page) if block.how.startswith(RUNS_SLOWLY)):
        if block.how.endswith("with the files of plug-ins.md"):
            cookbook.written(tmp_path, *cookbook.FILES)
        if file := re.match(r"# (\S+\.py)\n", block.text):
            (tmp_path / file[1]).write_text(block.text)
        calls = [["-c", block.text]] if block.language == "python" and not file else []
        calls += [["-m", *shlex.split(command.removeprefix("python -m "))] for command in block.commands]
        for call in calls:
            if call[0] == "-m":  # a shell expands a * when it comes to the command
                named = [
                    sorted(glob.glob(word, root_dir=tmp_path)) if "*" in word else [word] for word in call
                ]
                call = [word for part in named for word in part]
            done = subprocess.run([sys.executable, "-P", *call], cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, f"{call}\n{done.stdout}\n{done.stderr}"
