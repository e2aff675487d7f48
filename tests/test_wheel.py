"""What `ray submit` needs: sweep.py alone in an empty folder, and nothing but the installed wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the content of the wheel."""
    zipfile.ZipFile(wheel).extractall(wheel.parent / "site")
    return wheel.parent / "site"


def test_the_wheel_has_the_three_packages_and_their_files_and_nothing_else(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "raydistill",
        "search_spaces",
        "analysis",
    }
    for name in (
        "raydistill/data/shapes.py",
        "search_spaces/camvid.py",
        "search_spaces/published/enhance_x2.py",
        "analysis/assets/page.html",
        "analysis/assets/main.js",
    ):
        assert (installed / name).is_file()
    launch = installed / "raydistill/launch"
    names = {
        "cluster.yaml",
        "aws.yaml",
        "rayjob.yaml",
        "slurm.sh",
        "Dockerfile",
        "constraints.txt",
        "sweep.py",
    }
    assert {path.name for path in launch.iterdir()} == names
    for name in ("cluster.yaml", "constraints.txt", "sweep.py"):  # in a checkout they are also at the top
        assert (launch / name).read_text() == (ROOT / name).read_text()


@pytest.mark.slow
def test_sweep_py_alone_finds_the_installed_package_and_its_spaces(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "sweep.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "sweep.py", "--space", "camvid"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "data.root is empty" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
