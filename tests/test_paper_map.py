"""docs/paper-map.md names code that exists."""

import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "docs" / "paper-map.md").read_text()
NAMES = sorted(set(re.findall(r"`((?:truth|models|vem|langevin|recipes|config)(?:\.\w+)+)`", TEXT)))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_the_paper_map_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(f"raydistill.{module}"), attribute)


def test_the_paper_map_names_the_equations_functions() -> None:
    assert {
        "vem.energy_gap",
        "vem.ebm_loss",
        "vem.student_mi_loss",
        "langevin.langevin",
        "truth.bounds.log_q_bracket",
    } <= set(NAMES)
