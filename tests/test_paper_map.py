"""docs/explanation/method.md names code that exists."""

import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "docs" / "explanation" / "method.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:method|models|training|config)(?:\.\w+)+)`", TEXT)))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_paper_map_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(f"raydistill.{module}"), attribute)


def test_the_paper_map_names_the_equations_functions() -> None:
    assert {
        "method.vem.energy_gap",
        "method.vem.ebm_loss",
        "method.vem.student_mi_loss",
        "method.langevin.langevin",
        "method.truth.bounds.log_q_bracket",
    } <= set(NAMES)
