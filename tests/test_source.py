"""Which code ran: two copies of one version are told apart by their sources, a trial by its commit."""

import subprocess
from pathlib import Path

import pytest

import raydistill
from raydistill.cluster import nodes
from raydistill.trials import run_job

PACKAGE = Path(raydistill.__file__).parent


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small package in a repository of its own, looked at instead of raydistill."""
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "models/net.py").write_text("WIDTH = 8\n")
    monkeypatch.setattr(nodes, "_SOURCE", package)
    monkeypatch.setattr(run_job, "_SOURCE", package)
    author = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    for arguments in (("init", "-q"), ("add", "-A"), (*author, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    return package


def test_the_whole_package_is_looked_at():
    assert nodes._SOURCE == run_job._SOURCE == PACKAGE


def test_a_change_in_any_folder_of_the_package_changes_the_digest_of_the_code(copy):
    before = nodes.code_digest()
    assert len(before) == 8 and before == nodes.code_digest()
    (copy / "models/net.py").write_text("WIDTH = 9\n")
    assert nodes.code_digest() != before


def test_a_change_in_any_folder_of_the_package_marks_the_revision(copy):
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=copy, capture_output=True, text=True
    ).stdout.strip()
    assert run_job.git_revision.__wrapped__() == commit
    (copy / "models/net.py").write_text("WIDTH = 9\n")
    assert run_job.git_revision.__wrapped__() == f"{commit}+"


def test_a_package_outside_a_checkout_has_no_revision(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(run_job, "_SOURCE", tmp_path)
    assert run_job.git_revision.__wrapped__() == ""
