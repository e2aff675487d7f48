"""The pages of docs/explanation/ name code that exists; the tree of the architecture has every module."""

import importlib
import re
from pathlib import Path

import pytest

import raydistill

PAGES = Path(__file__).parent.parent / "docs" / "explanation"
PACKAGE = Path(raydistill.__file__).parent
PACKAGES = sorted(path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir())
NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")
NO_CODE = {"sweep.py"}
"""What looks like a name of code and is a file."""


def names(*pages: str) -> set[str]:
    return {name for page in pages for name in NAME.findall((PAGES / page).read_text())}


NAMES = sorted(names("method.md", "architecture.md", "glossary.md", "a-step.md") - NO_CODE)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_explanations_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(f"raydistill.{name}")
    except ModuleNotFoundError:
        assert hasattr(importlib.import_module(f"raydistill.{module}"), attribute)


def test_the_page_of_the_method_names_the_equations_functions() -> None:
    assert {
        "method.vem.energy_gap",
        "method.vem.ebm_loss",
        "method.vem.student_mi_loss",
        "method.langevin.langevin",
        "method.truth.bounds.log_q_bracket",
    } <= names("method.md")


def test_the_tree_of_the_architecture_has_every_module() -> None:
    tree = (PAGES / "architecture.md").read_text().split("```")[1]
    words = set(re.findall(r"\w+", tree))
    modules = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert modules - words == set()
