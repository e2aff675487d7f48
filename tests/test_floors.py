"""Imports point down only, and each framework is known to its own files alone."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import raydistill

PACKAGE = Path(raydistill.__file__).parent


class Floor(NamedTuple):
    """Packages and single files of one height: they import nothing of each other, and of others only what
    stands below."""

    packages: tuple[str, ...]
    frameworks: tuple[str, ...] = ()
    """The frameworks of `FRAMEWORKS` that they may import; what a lower floor may is not inherited."""


FRAMEWORKS = ("torch", "ray", "optuna", "mlflow", "typer", "rich")
FLOORS = (
    Floor(("errors", "reading")),
    Floor(("moved",)),
    Floor(("",)),
    Floor(("seeds",), ("torch",)),
    Floor(("config",)),
    Floor(("records",)),
    Floor(("search",), ("optuna",)),
    Floor(("terminal",), ("rich",)),
    Floor(("data", "distributed"), ("torch",)),
    Floor(("models",), ("torch",)),
    Floor(("method", "evaluation"), ("torch",)),
    Floor(("training",), ("torch",)),
    Floor(("space", "plugins", "exchange"), ("torch",)),
    Floor(("planning",), ("torch",)),
    Floor(("trials", "testing"), ("torch",)),
    Floor(("cluster",), ("torch", "ray")),
    Floor(("sweep",), ("torch", "mlflow")),
    Floor(("commands",), ("torch", "typer")),
    Floor(("launch", "__main__")),
)
"""From the lowest to the highest. A new package, or a new file beside the packages, needs a place here."""
CONFINED = {
    "optuna": {"search.optuna_samplers", "search.optuna_study", "search.study_sampler"},
    "mlflow": {
        "sweep.registry",
        "sweep.tracking",
        "sweep.tracking_models",
        "sweep.tracking_parts",
        "sweep.tracking_store",
    },
    "torch.distributed": {"distributed"},
    "typer": {"commands.cli", "commands.cli.options"},
    "ray": {
        "cluster.causes",
        "cluster.join",
        "cluster.nodes",
        "cluster.places",
        "cluster.ray_train",
        "cluster.ray_tune",
        "cluster.runtime",
    },
}
"""Framework -> the only modules that import it."""
NO_TORCH = ("config", "records", "search", "seeds", "errors", "space")
"""Importing them loads no torch and no Ray, whatever they import."""
REFUSED = ("torchvision", "yaml")
LATE = ("torchmetrics", "scipy.stats", "analysis")
"""Seconds to import, and few processes need them: imported where they are used, never at the top of a
file."""
MOST_FLAT_FILES = 10
HEIGHT = {package: height for height, floor in enumerate(FLOORS) for package in floor.packages}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> list[str]:
    """Every dotted name that a file imports, wherever in the file; `from a import b` gives a.b.

    The public face names its parts to type checkers alone: see `test_public_face`.
    """
    tree = parsed(path)
    if path == MODULES[""]:
        tree = ast.Module([node for node in tree.body if not is_for_type_checkers(node)], [])
    return list(imported_by(tree))


def is_for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported_by(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{node.module}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """The module of raydistill that an imported name means; None for other packages."""
    if name.split(".")[0] != "raydistill":
        return None
    inner = name.removeprefix("raydistill").lstrip(".")
    while inner not in MODULES:
        inner = inner.rpartition(".")[0]
    return inner


def is_part(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def package_of(module: str) -> str:
    """The package below raydistill that a module belongs to, or its own name where it lies beside the
    packages."""
    return module.partition(".")[0]


def uses(module: str) -> set[str]:
    """The packages of raydistill that a module imports, without its own."""
    targets = {target for name in imported(MODULES[module]) if (target := own(name)) is not None}
    return {package_of(target) for target in targets} - {package_of(module)}


def test_every_package_has_a_floor_and_few_files_lie_flat() -> None:
    assert {package_of(module) for module in MODULES} == set(HEIGHT)
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FLAT_FILES


@pytest.mark.parametrize("package", HEIGHT)
def test_imports_point_to_lower_floors_alone(package: str) -> None:
    """So no package imports itself through others, either."""
    modules = [module for module in MODULES if package_of(module) == package]
    used = {(module, other) for module in modules for other in uses(module)}
    assert (
        modules and {(module, other) for module, other in used if HEIGHT[other] >= HEIGHT[package]} == set()
    )


@pytest.mark.parametrize("package", HEIGHT)
def test_a_package_names_its_own_frameworks_alone(package: str) -> None:
    paths = [path for module, path in MODULES.items() if package_of(module) == package]
    used = {name.split(".")[0] for path in paths for name in imported(path)}
    assert {name for name in used if name in FRAMEWORKS} <= set(FLOORS[HEIGHT[package]].frameworks)
    assert used.isdisjoint(REFUSED)


@pytest.mark.parametrize("package", NO_TORCH)
def test_torch_is_not_loaded_by_what_needs_none(package: str) -> None:
    code = (
        f"import sys, raydistill.{package}; print(*sorted({{'torch', 'ray', 'mlflow'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", MODULES)
def test_what_takes_seconds_to_import_is_imported_where_it_is_used(module: str) -> None:
    top = ast.Module(
        [node for node in parsed(MODULES[module]).body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    assert [name for name in imported_by(top) for package in LATE if is_part(name, package)] == []


@pytest.mark.parametrize("package", CONFINED)
def test_a_framework_is_imported_by_its_own_files_only(package: str) -> None:
    users = {
        module for module, path in MODULES.items() if any(is_part(name, package) for name in imported(path))
    }
    assert users <= CONFINED[package]


def test_no_module_imports_itself_through_others() -> None:
    used = {
        module: {own(name) for name in imported(path)} - {None, module} for module, path in MODULES.items()
    }
    left = dict(used)
    while free := {module for module, targets in left.items() if not targets & set(left)}:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert set(left) == set()


def test_the_training_loop_names_no_framework_and_no_model() -> None:
    source = MODULES["training.loop"].read_text().lower()
    frameworks = ("ray.", "mlflow", "optuna")
    models = ("resnet", "patchgan", "energy", "langevin", "teacher", "student", "discriminator", "generator")
    assert [word for word in (*frameworks, *models) if word in source] == []


@pytest.mark.parametrize("folder", ["search_spaces", "analysis"])
def test_spaces_and_analysis_import_what_needs_no_torch(folder: str) -> None:
    files = list((PACKAGE.parent / folder).glob("*.py"))
    used = {
        package_of(target) for path in files for name in imported(path) if (target := own(name)) is not None
    }
    assert files and used <= {"", "space", "config", "records", "errors"}


def test_only_the_report_scores_on_the_test_split() -> None:
    """Nothing else passes "test" to a function that opens or scores a split; `prepare` writes it and
    never scores."""
    readers = {"load_split", "Scorer", "EvaluatorScorer", "score_network", "score_real", "score_pictures"}
    found = set()
    for module, path in MODULES.items():
        for node in ast.walk(parsed(path)):
            name = getattr(
                getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", "")
            )
            if isinstance(node, ast.Call) and name in readers:
                values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                if "test" in values:
                    found.add(module)
    assert found == {"sweep.report"}


def test_an_import_of_the_package_sets_no_environment_variable_and_no_mode() -> None:
    """Ray and MLflow read theirs when they are imported, so `cluster` and `sweep` alone set some."""
    script = """
import os, signal
import torch
before = dict(os.environ), torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
import raydistill.exchange.export, raydistill.planning.plan, raydistill.search, raydistill.training.loop
after = dict(os.environ), torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
print([name for name, *pair in zip(("environment", "threads", "signals"), before, after)
    if pair[0] != pair[1]])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.stdout == "[]\n", done.stdout + done.stderr
