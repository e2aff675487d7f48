"""The public face: what can be imported from `raydistill`, what that loads, and what a user's script does."""

import ast
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import raydistill
from raydistill import method

ROOT = Path(raydistill.__file__).parent.parent
DOCUMENTED = {
    "search space": ("SearchSpace", "Int", "Float", "Choice", "When", "Window", "Objective", "presets"),
    "sweep": ("SweepOptions", "plan_sweep", "run_sweep", "load_sweep", "PlanReport", "SweepResult"),
    "networks": ("load_generator", "import_teacher", "export", "score", "ImportReport", "ExportReport"),
    "plug-ins": ("Family", "TermKind", "DataKind", "RecipeKind"),
}
"""Part of the face -> its names. The reference page has them in this order."""
FUNCTIONS = ("plan_sweep", "run_sweep", "load_sweep", "load_generator", "import_teacher", "export", "score")
LIGHT = (*DOCUMENTED["search space"], "SweepOptions", "load_sweep", "SweepResult")
"""Names that need no framework."""
HEAVY = "{'torch', 'ray', 'mlflow', 'optuna'}"


def python(code: str, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_those_that_are_documented() -> None:
    names = [name for part in DOCUMENTED.values() for name in part]
    assert sorted(names) == sorted(raydistill.__all__) and set(names) <= set(dir(raydistill))
    assert method.__all__ == ["ebm_loss", "langevin", "student_mi_loss"]
    with pytest.raises(AttributeError, match="no attribute 'SearchSpaces'"):
        raydistill.SearchSpaces  # noqa: B018


def test_type_checkers_see_what_is_imported() -> None:
    """The names under TYPE_CHECKING are those that `__getattr__` finds, from the same modules."""
    tree = ast.parse(Path(raydistill.__file__).read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {
        alias.name: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.pop("presets") == "raydistill.config"
    homes = {name: f"raydistill.{home}" for home, names in raydistill._HOMES.items() for name in names}
    assert seen == homes


@pytest.mark.parametrize("names", [LIGHT, *((name,) for name in LIGHT)], ids=lambda names: "-".join(names))
def test_a_name_that_needs_no_framework_loads_none(names: tuple[str, ...]) -> None:
    code = f"import sys; from raydistill import {', '.join(names)}; print({HEAVY} & set(sys.modules))"
    assert python(code) == "set()"


def test_an_import_of_the_package_alone_loads_next_to_nothing() -> None:
    code = f"import sys, raydistill; print(({HEAVY} | {{'pandas', 'numpy', 'pydantic'}}) & set(sys.modules))"
    assert python(code) == "set()"


@pytest.mark.parametrize("name", [*raydistill.__all__, *method.__all__])
def test_a_name_has_a_docstring(name: str) -> None:
    """A function's names all that it takes and says what it raises; a class's, or its fields', each field."""
    value = getattr(raydistill if name in raydistill.__all__ else method, name)
    text = inspect.getdoc(value) or ""
    assert text and text.split("\n\n")[0].endswith((".", ":"))
    assert not text.startswith(f"{name}("), "the docstring is the one that Python makes"
    if inspect.isfunction(value):
        assert typing.get_type_hints(value).get("return"), "no type of what is returned"
        given = inspect.signature(value).parameters
        assert [each for each in given if not re.search(rf"\b{each}\b", text)] == []
    if inspect.isclass(value):
        assert undocumented(value, text) == []
    if name in FUNCTIONS:
        assert "Raises:\n" in text


def undocumented(kind: type, text: str) -> list[str]:
    """The fields of a class that neither its docstring names, nor a string below them or a description
    explains. What is fixed, as the `kind` of a distribution, needs none."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    out = []
    for node, following in zip(body.body, [*body.body[1:], ast.Pass()]):
        if not isinstance(node, ast.AnnAssign):
            continue
        name, said = ast.unparse(node.target), ast.unparse(node.annotation)
        has_string = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        is_fixed = said.startswith("Literal") and node.value is not None
        if not (has_string or is_fixed or "description=" in said or re.search(rf"\b{name}\b", text)):
            out.append(name)
    return out
