"""Imports point down only, and each framework is known to its own files alone."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import raydistill

PACKAGE = Path(raydistill.__file__).parent
FLOORS: dict[str, int] = {
    **dict.fromkeys(
        (
            "",
            "errors",
            "architectures",
            "config",
            "presets",
            "space",
            "batch",
            "mirror",
            "store",
            "results",
            "frontier",
            "dotted",
            "kinds",
            "limits",
            "options",
        ),
        0,
    ),
    **dict.fromkeys(("seeds", "cost", "live", "losses", "metrics", "bootstrap", "langevin", "vem", "vid"), 1),
    **dict.fromkeys(
        ("models", "models.energy", "models.evaluator", "models.patchgan", "models.resnet", "models.unet"), 1
    ),
    **dict.fromkeys(("models.enhance", "models.sagan", "models.stylegan2"), 1),
    **dict.fromkeys(
        ("extractors", "segmenters", "models.drn", "models.inception", "models.squeezenet", "models.vgg"), 1
    ),
    **dict.fromkeys(("truth", "truth.pairs", "truth.bounds", "truth.fit", "truth.temperature"), 1),
    **dict.fromkeys(
        ("data", "data.classes", "data.fetch", "data.files", "data.folders", "data.inspect", "data.layouts"),
        1,
    ),
    **dict.fromkeys(("data.degrade", "data.outputs", "data.prepare", "data.shapes"), 1),
    **dict.fromkeys(("data.arrays", "data.crops", "data.found", "data.source"), 1),
    **dict.fromkeys(
        ("parallel", "networks", "recipes", "terms", "checkpoint", "evaluate", "pictures", "scoring"), 2
    ),
    **dict.fromkeys(
        (
            "feed",
            *(
                f"recipes.{name}"
                for name in (
                    "parts",
                    "pix2pix",
                    "cyclegan",
                    "sagan",
                    "stylegan2",
                    "enhance",
                    "distill",
                    "evaluator",
                )
            ),
        ),
        2,
    ),
    **dict.fromkeys(("search.problem", "search.encoding", "search.surrogate", "search.acquisition"), 2),
    **dict.fromkeys(("search.known_cost", "search.replicates", "search.stopping"), 2),
    **dict.fromkeys(("foreign", "layouts", "inherit"), 2),
    "memory": 3,
    "rehearsal": 3,
    "plugins": 3,
    "train": 3,
    **dict.fromkeys(
        (
            "perform",
            "doctor",
            "run_batch",
            "run_evaluate",
            "run_evaluator",
            "join",
            "trial",
            "tuning",
            "place",
            "nodes",
            "search",
            "search.optuna_samplers",
            "simulate",
            "plan",
            "forecast",
            "price",
            "ledger",
            "track",
            "progress",
            "report",
            "retrain",
            "sweep",
            "warm",
        ),
        4,
    ),
    **dict.fromkeys(("finished", "run_export", "run_import", "run_latency"), 4),
    **dict.fromkeys(("cli", "__main__", "launch.sweep"), 5),
}
"""Module below raydistill -> its floor. A new module needs a line here."""
LOWEST = {
    "torch": 1,
    "safetensors": 1,
    "torchmetrics": 1,
    "ray": 4,
    "optuna": 4,
    "mlflow": 4,
    "rich": 4,
    "analysis": 4,
    "typer": 5,
}
"""Outside package -> the lowest floor that may import it."""
CONFINED = {
    "ray": {"trial", "tuning", "place", "nodes", "join"},
    "mlflow": {"track"},
    "optuna": {"search.optuna_samplers"},
    "torch.distributed": {"parallel"},
    "typer": {"cli"},
}
"""Package -> the only modules that import it."""
REFUSED = ("torchvision", "yaml")
LATE = ("torchmetrics", "scipy.stats", "analysis")
"""Seconds to import, and few processes need them: imported where they are used, never at the top of a file."""
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported(path: Path) -> list[str]:
    """Every dotted name that a file imports, wherever in the file; `from a import b` gives a.b."""
    return list(imported_by(parsed(path)))


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


def test_every_module_has_a_floor() -> None:
    assert set(MODULES) - set(FLOORS) == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_from_a_higher_floor(module: str) -> None:
    used = {target for name in imported(MODULES[module]) if (target := own(name)) is not None}
    assert {target for target in used if FLOORS[target] > FLOORS[module]} == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_no_package_that_belongs_higher_up(module: str) -> None:
    used = {name.split(".")[0] for name in imported(MODULES[module])}
    assert {package for package in used if LOWEST.get(package, 0) > FLOORS[module]} == set()
    assert used.isdisjoint(REFUSED)


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
    uses = {
        module: {own(name) for name in imported(path)} - {None, module} for module, path in MODULES.items()
    }
    left = dict(uses)
    while free := {module for module, used in left.items() if not used & set(left)}:
        left = {module: used for module, used in left.items() if module not in free}
    assert set(left) == set()


def test_the_training_loop_names_no_framework_and_no_model() -> None:
    source = MODULES["train"].read_text().lower()
    words = (
        "ray.",
        "mlflow",
        "optuna",
        "resnet",
        "patchgan",
        "energy",
        "langevin",
        "teacher",
        "student",
        "discriminator",
        "generator",
    )
    assert [word for word in words if word in source] == []


def test_the_lowest_floor_needs_no_torch() -> None:
    lowest = [path for module, path in MODULES.items() if FLOORS[module] == 0]
    assert not any(is_part(name, "torch") for path in lowest for name in imported(path))


@pytest.mark.parametrize("folder", ["search_spaces", "analysis"])
def test_spaces_and_analysis_import_nothing_above_the_lowest_floor(folder: str) -> None:
    files = list((PACKAGE.parent / folder).glob("*.py"))
    used = {target for path in files for name in imported(path) if (target := own(name)) is not None}
    assert files and {target for target in used if FLOORS[target] > 0} == set()


def test_only_the_report_scores_on_the_test_split() -> None:
    """Nothing else passes "test" to a function that opens or scores a split; `prepare` writes it and never scores."""
    readers = {"load_split", "Evaluator", "score_network", "score_real", "score_pictures"}
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
    assert found == {"report"}
