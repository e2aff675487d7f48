"""The contract kits as an author of a plug-in meets them: a package of its own, installed, tested by them."""

import os
import re
import subprocess
import sys
from pathlib import Path

from cookbook import FILES

ROOT = Path(__file__).parent.parent
PLUGINS = ("plain", "laplace", "edges", "alignment", "lsgan", "dots", "nearest", "means")
INIT = """\
from example_plugin.alignment import BASES
from example_plugin.dots import DATA, DotsData
from example_plugin.edges import TERMS as EDGES
from example_plugin.laplace import TERMS as LAPLACE
from example_plugin.lsgan import RECIPES
from example_plugin.means import EXTRACTORS
from example_plugin.nearest import SAMPLERS
from example_plugin.plain import GENERATORS, PlainGenerator, PlainWidths

TERMS = EDGES | LAPLACE
"""


def test_the_cookbooks_plug_ins_pass_the_contracts_as_a_package_of_their_own(tmp_path: Path) -> None:
    """Nothing of this tree but `raydistill` can be imported there."""
    source, site = tmp_path / "source", tmp_path / "site"
    package = source / "example_plugin"
    package.mkdir(parents=True)
    example = ROOT / "tests/fixtures/example_plugin"
    (source / "pyproject.toml").write_text((example / "pyproject.toml").read_text())
    (package / "__init__.py").write_text(INIT)
    for name in PLUGINS:
        (package / f"{name}.py").write_text(FILES[f"{name}.py"])
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True)
    assert list(site.glob("example_plugin-*.dist-info")), "it is installed"

    (tmp_path / "raydistill").symlink_to(ROOT / "raydistill")
    for name in ("conftest.py", "test_contracts.py"):
        (tmp_path / name).write_text((example / name).read_text())
    path = os.pathsep.join((str(site), str(tmp_path)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:warnings", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), "test_contracts.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (passed,) = re.findall(r"^(\d+) passed in", done.stdout, re.MULTILINE)
    assert int(passed) == 8 + 3 + 8 + 7 + 6 + 9 + 4, "generator, data, base, term, recipe, sampler, extractor"
