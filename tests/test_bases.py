"""One contract kit over all base distillations."""

import re
from pathlib import Path
from typing import Any

import pytest
from recipe_kit import begin as begin_recipe

from raydistill.config.experiment import Job
from raydistill.testing import BaseContract, begin, tiny_experiment
from raydistill.testing.terms import setup_of
from raydistill.training import assembly, bases, terms

ALONE = {"student.terms.mi.weight": 0.0, "student.seed": 1}
"""Of another seed than the teacher: where both are the same network, s is t."""
SMALL = {"student.base.taps": ["down", "block1"]}
NO_FEATURES = {"student.base.style_weight": 0.0, "student.base.content_weight": 0.0}
PAIRED: dict[str, dict[str, Any]] = {
    "none": {"student.base.kind": "none", "student.terms.mi.weight": 0.1},
    "plain": {"student.base.mse_weight": 2.0, "student.base.multiscale_weight": 1.0},
    "gan": {"student.base.kind": "gan", **SMALL},
    "gan-without-activations": {"student.base.kind": "gan", "student.base.activation_weight": 0.0},
    "omgd": {"student.base.kind": "omgd", **SMALL},
    "omgd-one-teacher": {
        "student.base.kind": "omgd",
        "student.base.num_teachers": 1,
        "student.base.channel_weight": 0.0,
        **NO_FEATURES,
    },
}
UNPAIRED: dict[str, dict[str, Any]] = {
    "gan-unpaired": {"base__kind": "gan", "base__taps": ["down", "block1"]},
    "omgd_cyclegan": {"base__kind": "omgd_cyclegan", "base__taps": ["down", "block1"]},
    "omgd_cyclegan-without-channels": {"base__kind": "omgd_cyclegan", "base__channel_weight": 0.0},
}


def job_of(folder: Path, name: str) -> Job:
    """The job of a student by a base alone, with networks of random weights in `folder`."""
    if name in UNPAIRED:
        return begin_recipe(
            folder, "cyclegan", "student", terms__mi__weight=0.0, seed=1, **UNPAIRED[name]
        ).job
    return begin(folder, tiny_experiment(ALONE | PAIRED[name]), "student").job


def test_the_kit_covers_every_base() -> None:
    assert {name.split("-")[0] for name in (*PAIRED, *UNPAIRED)} == set(bases.BASES)


def test_the_page_says_which_networks_each_phase_moves(tmp_path: Path) -> None:
    """That its loss reaches them and no other is in the kits of bases and terms."""
    page = (Path(__file__).parent.parent / "docs/explanation/base-distillations.md").read_text()
    section = page.split("## Which networks a gradient reaches")[1].split("\n## ")[0]
    said: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name, phase, moves in re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (.+) \|$", section, re.MULTILINE):
        said.setdefault(name, []).append((phase, tuple(re.findall(r"`([\w.]+)`", moves))))
    jobs = {name: job_of(tmp_path / name, name) for name in set(bases.BASES) - {"none"}}
    for kind in terms.TERMS:
        values = {"student.terms.mi.kind": kind}
        jobs[kind] = begin(tmp_path / kind, tiny_experiment(values), "student").job
    phases = {name: assembly.build(job, setup_of(job)).phases for name, job in jobs.items()}
    assert said == {name: [(each.name, each.moves) for each in found] for name, found in phases.items()}


class TestEachBase(BaseContract):
    @pytest.fixture(params=[name for name in (*PAIRED, *UNPAIRED) if name != "none"])
    def job(self, request: pytest.FixtureRequest, tmp_path: Path) -> Job:
        return job_of(tmp_path, request.param)
