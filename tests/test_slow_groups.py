"""The table of slow tests: what a run writes into it, and when a group is run again."""

import importlib
import subprocess
from pathlib import Path

import pytest
import slow_groups
from slow_groups import FURTHER_CASES, GROUPS, Counts, Row, after, counts, groups_of, is_done, read, write

TESTS = Path(__file__).parent


def test_every_group_names_files_that_exist_and_the_page_has_every_group() -> None:
    files = {place.split("::")[0] for group in GROUPS.values() for place in group.places}
    assert [name for name in files if not (TESTS / name).is_file()] == []
    assert read(TESTS.parent / slow_groups.TABLE).keys() == GROUPS.keys()


def test_every_test_with_slow_cases_exists() -> None:
    for test in FURTHER_CASES:
        file, _, name = test.partition("::")
        found = importlib.import_module(file.removesuffix(".py"))
        for part in name.split("::"):
            found = getattr(found, part)
        assert callable(found), test


@pytest.mark.parametrize(
    ("test", "groups"),
    [
        ("test_sweep.py::test_a", ["sweeps"]),
        (f"{slow_groups.FAMILIES}[sagan]", ["sagan"]),
        ("test_sweep_more.py::test_a", []),
        ("test_nodes.py::test_without_a_spare_the_sweep_says_so_and_ends_and_resumes[inline]", ["nodes"]),
    ],
)
def test_a_test_belongs_to_the_group_that_names_its_file_or_the_test(test: str, groups: list[str]) -> None:
    assert groups_of(test) == groups


def test_a_row_is_written_and_read_and_a_failure_keeps_the_last_pass(tmp_path: Path) -> None:
    table = tmp_path / "slow-tests.md"
    rows = read(table)
    assert {row.passed for row in rows.values()} == {"never"}
    passed = after(rows["sweeps"]._replace(what="whole sweeps"), Counts(5, 0, 1), 123.4, "abc", "2026-01-02")
    assert passed == Row("sweeps", "whole sweeps", "2026-01-02", "abc", "123", "5 passed, 1 skipped", "")
    failed = after(passed, Counts(4, 1, 0), 99.0, "def", "2026-01-03")
    assert failed == passed._replace(failed="2026-01-03, def: 4 passed, 1 failed")
    nothing = after(passed, Counts(0, 0, 2), 1.0, "def", "2026-01-03")
    assert nothing.failed == "2026-01-03, def: 2 skipped" and nothing.passed == "2026-01-02"
    write(table, rows | {"sweeps": failed})
    assert read(table) == rows | {"sweeps": failed._replace(what=GROUPS["sweeps"].what)}
    assert " | never | | | | |" in table.read_text()
    assert after(failed, Counts(6, 0, 0), 100.0, "fed", "2026-01-04").failed == ""


def test_a_report_is_counted(tmp_path: Path) -> None:
    suite = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    (tmp_path / "report.xml").write_text(suite)
    assert counts(tmp_path / "report.xml") == Counts(passed=3, failed=3, skipped=3)


def test_a_group_is_done_while_nothing_but_the_page_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", *names, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(path: str, text: str) -> str:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", "a change")
        return git("rev-parse", "--short=12", "HEAD")

    monkeypatch.setattr(slow_groups, "ROOT", tmp_path)
    git("init", "-q")
    row = Row("sweeps", "whole sweeps", "2026-01-02", commit("code.py", "1"), "9", "1 passed")
    assert is_done(row) and not is_done(Row("sweeps", ""))
    assert not is_done(row._replace(failed="2026-01-03, abc: 1 failed"))
    assert not is_done(row._replace(commit=f"{row.commit}+"))
    assert not is_done(row._replace(commit="0123456789ab"))  # of another clone
    commit(str(slow_groups.TABLE), "a table")
    assert is_done(row)
    (tmp_path / "new.py").write_text("")
    assert not is_done(row)
    (tmp_path / "new.py").unlink()
    (tmp_path / "code.py").write_text("2")
    assert not is_done(row)
    commit("code.py", "3")
    assert not is_done(row)


def test_an_unknown_group_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert slow_groups.main(["swepes"]) == 2
    assert "no group swepes; there are: parts, truth, sweeps" in capsys.readouterr().err
