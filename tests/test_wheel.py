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
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the content of the wheel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("raydistill", "search_spaces", "analysis"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "benchmarks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def test_the_wheel_has_the_three_packages_and_their_files_and_nothing_else(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {
        "raydistill",
        "search_spaces",
        "analysis",
    }
    for name in ("raydistill/data/shapes.py", "search_spaces/camvid.py", "analysis/page.html", "analysis/page.js"):
        assert (installed / name).is_file()


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
