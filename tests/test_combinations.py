"""Spaces as combinations: what the config refuses together is never proposed, and is counted; depth costs."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill import search
from raydistill.config.configurations import values_of
from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS, shapes32, stylegan2
from raydistill.config.space import SearchSpace, load_space
from raydistill.config.space_checks import check_space, combinations
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import BudgetError, ConfigError, NoticeWarning, SpaceError
from raydistill.models import GENERATORS, cost
from raydistill.planning import checks
from raydistill.planning.plan import Plan
from raydistill.space import Choice, Float, Int, Objective, When

BLOCKS, INIT = "student.generator.num_blocks", "student.init"
MIOU = Objective(name="val/miou", direction="max", reference=0.0)
MACS, PARAMS = (Objective(name=f"cost/{name}", direction="min") for name in ("macs", "params"))
STYLEGAN = {f"student.generator.widths.at{side}": Int(low=8, high=24, step=8) for side in (4, 8, 16, 32, 64)}


def space(parameters: dict[str, Any], **fields: Any) -> SearchSpace:
    given = {"preset": "shapes32", "objectives": (MIOU, MACS), "uniform": (4,), "parameters": parameters}
    return SearchSpace(**(given | fields))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Plan]:
    def plan(chosen: SearchSpace, *assignments: str, **options: Any) -> Plan:
        monkeypatch.setattr(checks.space, "load_space", lambda name: chosen)
        small = ("data.num_train=64", "data.num_val=8", "data.num_test=8", *assignments)
        return checks.check(SweepOptions(store=str(tmp_path), set=small, **options))

    return plan


# ---- together ----------------------------------------------------------------------------------------------


def test_combinations_are_both_ends_and_each_option_beside_them() -> None:
    given = {"a": Choice(options={"x": 1, "y": 2}), "b": Int(low=1, high=3), "c": Float(low=0.0, high=1.0)}
    found = list(combinations(space(given, when={"b": When(parameter="a", keys=("y",))})))
    assert {"a": "x", "c": 0.0} in found and {"a": "y", "b": 3, "c": 1.0} in found
    assert {"a": "y", "b": 1, "c": 0.0} in found  # the key under which b exists
    assert {"a": "y", "b": 1, "c": 1.0} in found and {"a": "y", "b": 3, "c": 0.0} in found


def test_widths_that_go_only_together_can_be_searched() -> None:
    """StyleGAN2 has no width at 64 pixels without one at 32: alone, each of them is refused."""
    preset = stylegan2()
    with pytest.raises(ConfigError, match="a width is None below one"):
        with_values(preset, {"student.generator.widths.at128": 8}, where="t")
    wide = {**STYLEGAN, "student.generator.widths.at128": Int(low=8, high=16, step=8)}
    kd = Objective(name="val/kd_evaluator", direction="min", reference=1.0)
    fields = {"preset": "stylegan2", "objectives": (kd, MACS), "uniform": (1,)}
    check_space(space(wide, **fields), preset, "mine")
    del wide["student.generator.widths.at64"]
    with pytest.raises(ConfigError, match=r"at128|a width is None"):
        check_space(space(wide, **fields), preset, "mine")


def test_a_combination_of_both_ends_that_the_config_refuses_is_an_error() -> None:
    given = {
        "student.terms.mi.start": Choice(options={"noise": "noise", "replay": "replay"}),
        "student.terms.mi.replay_size": Choice(options={"8": 8, "16": 16}),
    }
    with pytest.raises(ConfigError, match=r"all lowest together: .*replay_size 8 is for start 'replay'"):
        check_space(space(given), shapes32(), "mine")


def test_fixed_values_are_applied_and_set_overrules_them(planned: Any) -> None:
    chosen = space({BLOCKS: Int(low=1, high=3)}, fixed={"student.optimizer.learning_rate": 7e-4})
    assert planned(chosen).experiment.student.optimizer.learning_rate == 7e-4
    overruled = planned(chosen, "student.optimizer.learning_rate=0.5")
    assert overruled.experiment.student.optimizer.learning_rate == 0.5
    with pytest.raises(ConfigError, match=r"fixed: there is no config path 'student.optimiser.rate'"):
        planned(space({BLOCKS: Int(low=1, high=3)}, fixed={"student.optimiser.rate": 1}))


def test_what_cannot_start_from_its_teacher_is_counted_and_never_proposed(planned: Any) -> None:
    chosen = space(
        {
            INIT: Choice(options={"random": "random", "teacher": "teacher"}),
            BLOCKS: Int(low=2, high=4),
            "student.generator.widths.stem": Choice(options={"4": 4, "32": 32}),
        },
    )
    says = "5 of all 12 configurations are refused, so the search never proposes them"
    with pytest.warns(NoticeWarning, match=says):  # the teacher has 3 blocks and a stem of 16
        plan = planned(chosen, trials=8)
    refused = {"student.generator.num_blocks": 2, INIT: "teacher", "student.generator.widths.stem": "4"}
    assert "num_blocks: 2, but the teacher it starts from has 3" in str(plan.refusals.of(refused))
    history: list[search.Observation] = []
    for number in range(7):
        configuration = search.propose(plan.problem, history, number)
        assert plan.refusals.of(configuration) is None
        history.append(search.Observation(configuration, "FAIL", None))
    with pytest.raises(BudgetError):
        search.propose(plan.problem, history, 7)


def test_a_space_of_which_everything_is_refused_is_an_error(planned: Any) -> None:
    chosen = space({BLOCKS: Int(low=4, high=6)})
    with pytest.raises((SpaceError, ConfigError), match="num_blocks"):
        planned(chosen, "student.init=teacher")


def test_what_the_config_takes_in_every_way_is_not_asked_about_in_lists(planned: Any) -> None:
    problem = planned(load_space("default")).problem
    assert not problem.refuses_some and not problem.is_refused(search.propose(problem, [], 0))


# ---- depth -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "path", "values"),
    [
        ("shapes32", "num_blocks", (1, 3, 6)),
        ("mobile", "num_blocks", (1, 3, 6)),
        ("unet", "num_levels", (4, 5)),
        ("enhance", "num_blocks", (1, 4, 8)),
        ("stylegan2", "num_mapping_layers", (1, 4)),
    ],
)
def test_costs_as_a_function_of_the_config_know_depth(preset: str, path: str, values: Any) -> None:
    generator = PRESETS[preset]().student.generator
    family, found = GENERATORS[generator.family], []
    for value in values:
        config = generator.model_copy(update={path: value})
        table = family.layers(config, 3, 32, 32)
        assert cost.params(table) == cost.module_params(family.build(config, 3))
        found.append((cost.params(table), cost.macs(table)))
    assert found == sorted(found) and len({params for params, _ in found}) == len(values)


def test_a_proposals_costs_are_those_of_its_depth(planned: Any) -> None:
    plan = planned(space({BLOCKS: Int(low=1, high=3)}, objectives=(MIOU, MACS, PARAMS)))
    costs = [plan.costs_of_configuration({BLOCKS: depth}) for depth in (1, 2, 3)]
    steps = [after["cost/macs"] - before["cost/macs"] for before, after in itertools.pairwise(costs)]
    assert steps[0] == steps[1] > 0
    student = plan.student_of({BLOCKS: 2})
    assert student.generator.num_blocks == 2 and plan.costs_of(student) == costs[1]  # type: ignore[attr-defined]


def test_a_conditional_depth_and_every_number_of_a_student_can_be_searched(planned: Any) -> None:
    given = {
        "student.base.kind": Choice(options={"plain": "plain", "gan": "gan"}),
        "student.base.l1_weight": Float(low=1.0, high=100.0, log=True),
        "student.base.gan_weight": Float(low=0.1, high=10.0, log=True),
        BLOCKS: Int(low=1, high=3),
        "student.optimizer.learning_rate": Float(low=1e-4, high=1e-2, log=True),
        "student.terms.mi.weight": Choice(options={"0": 0.0, "0.1": 0.1}),
        "student.terms.mi.start": Choice(options={"student": "student", "other": "other"}),
        "student.terms.mi.num_steps": Int(low=1, high=4),
        "student.terms.mi.step_size": Float(low=0.1, high=10.0, log=True),
    }
    when = {
        "student.base.gan_weight": When(parameter="student.base.kind", keys=("gan",)),
        BLOCKS: When(parameter="student.base.kind", keys=("plain",)),
    }
    when |= {
        f"student.terms.mi.{name}": When(parameter="student.terms.mi.weight", keys=("0.1",))
        for name in ("start", "num_steps", "step_size")
    }
    chosen = space(given, when=when, objectives=(MIOU, MACS, PARAMS))
    plan, history = planned(chosen), list[search.Observation]()
    for number in range(8):
        configuration = search.propose(plan.problem, history, number)
        student = plan.student_of(configuration)
        assert (BLOCKS in configuration) == (student.base.kind == "plain")
        with_values(plan.experiment, values_of(chosen, configuration), where="t")
        costs = plan.costs_of_configuration(configuration)
        values = [0.1 * (number % 5), costs["cost/macs"], costs["cost/params"]]
        history.append(search.Observation(configuration, "COMPLETE", values))
