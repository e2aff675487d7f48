"""Search spaces: the shipped ones fit their presets, and every mistake in one is refused by name."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import search_spaces
from raydistill.config.configurations import (
    active_parameters,
    depth,
    extreme_configuration,
    value_in,
    values_of,
)
from raydistill.config.experiment import Experiment
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.space import (
    Choice,
    Float,
    Int,
    Objective,
    SearchSpace,
    When,
    Window,
    is_affordable,
    known_spaces,
    load_space,
    preset_of,
    without_unmet_needs,
)
from raydistill.config.space_checks import check_space
from raydistill.errors import ConfigError, SpaceError
from raydistill.models import GENERATORS, cost
from raydistill.search import random_configuration

SHIPPED = known_spaces()
FURTHER: dict[str, Any] = {"val/fid": "min", "val/miou_drn105": "max"}
"""What networks from files measure, and shipped spaces search by."""
WEIGHT, STEP = "student.terms.mi.weight", "student.terms.mi.step_size"
QUALITY = Objective(name="val/miou", direction="max", reference=0.0)
MACS = Objective(name="cost/macs", direction="min")


def space(**fields: Any) -> SearchSpace:
    """A good space with some fields replaced."""
    given: dict[str, Any] = {
        "preset": "shapes32",
        "parameters": {
            "student.generator.widths.stem": Int(low=4, high=12, step=4),
            WEIGHT: Choice(options={"off": 0.0, "on": 0.1}),
            STEP: Float(low=0.1, high=10.0, log=True),
        },
        "when": {STEP: When(parameter=WEIGHT, keys=("on",))},
        "objectives": (QUALITY, MACS),
        "uniform": (4,),
    }
    return SearchSpace(**(given | fields))


def refused(*parts: str, error: type[Exception] = SpaceError, **fields: Any) -> None:
    with pytest.raises(error) as caught:
        check_space(space(**fields), shapes32(), "--space mine")
    assert str(caught.value).startswith("--space mine: ")
    for part in parts:
        assert part in str(caught.value)


def costs(experiment: Experiment, chosen: SearchSpace, configuration: dict[str, Any]) -> tuple[int, int]:
    generator = with_values(experiment, values_of(chosen, configuration), where="test").student.generator
    layers = GENERATORS[generator.family].layers(generator, 3, 256, 256)
    return cost.macs(layers), cost.params(layers)


# ---- the shipped spaces ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_space_loads_by_name_and_fits_its_preset(name: str) -> None:
    loaded = load_space(name)
    check_space(loaded, preset_of(loaded, name), name, FURTHER)
    assert loaded == load_space(f"{search_spaces.__path__[0]}/{name}.py")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_draw_from_a_shipped_space_gives_a_valid_config(name: str) -> None:
    loaded = load_space(name)
    preset, rng = preset_of(loaded, name), np.random.default_rng(0)
    for _ in range(50):
        with_values(preset, values_of(loaded, random_configuration(loaded, rng)), where=name)


@pytest.mark.parametrize("name", SHIPPED)
def test_no_draw_from_a_shipped_space_costs_less_than_one_corner_or_more_than_the_other(name: str) -> None:
    loaded = load_space(name)
    preset, rng = preset_of(loaded, name), np.random.default_rng(1)
    drawn = np.array([costs(preset, loaded, random_configuration(loaded, rng)) for _ in range(100)])
    assert (drawn >= costs(preset, loaded, extreme_configuration(loaded, highest=False))).all()
    assert (drawn <= costs(preset, loaded, extreme_configuration(loaded, highest=True))).all()


def test_a_space_cannot_be_changed_and_has_no_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        space().preset = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="wehn"):
        space(wehn={})


def test_a_good_space_passes_the_check() -> None:
    assert check_space(space(constraints=(Window(cost="cost/params", high=1e6),)), shapes32(), "mine") is None


# ---- what is refused ---------------------------------------------------------------------------------------


def test_a_typo_in_a_parameters_path_is_refused_with_the_nearest_path() -> None:
    parameters = {"student.generator.widths.stemm": Int(low=4, high=8)}
    parts = ("'student.generator.widths.stemm'", "nearest valid path is 'student.generator.widths.stem'")
    refused(*parts, error=ConfigError, parameters=parameters, when={})


@pytest.mark.parametrize(
    ("distribution", "given"),
    [
        (Int(low=0, high=8), "0"),
        (Int(low=4, high=9000), "9000"),
        (Choice(options={"a": 8, "b": "wide"}), "'wide'"),
    ],
)
def test_a_value_that_the_config_refuses_is_refused_before_any_cost(distribution: Any, given: str) -> None:
    parameters = {"student.generator.widths.stem": distribution}
    refused(
        "student.generator.widths.stem: ",
        f"(given: {given})",
        error=ConfigError,
        parameters=parameters,
        when={},
    )


def test_a_continuous_range_for_a_whole_number_is_refused() -> None:
    with pytest.raises((SpaceError, ConfigError), match=r"student\.generator\.widths\.stem"):
        check_space(
            space(parameters={"student.generator.widths.stem": Float(low=4.0, high=8.0)}, when={}),
            shapes32(),
            "--space mine",
        )


def test_how_a_training_is_carried_out_cannot_be_searched() -> None:
    parameters = {"student.execution.microbatch": Int(low=1, high=8)}
    refused(
        "'student.execution.microbatch' cannot be searched: it changes no result; give it by --set",
        parameters=parameters,
        when={},
    )


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    known = (
        "Known: cost/macs, cost/params, cost/memory_gb, val/miou, val/kd_evaluator, val/fd_evaluator, "
        "val/psnr, val/ssim. Nearest: 'val/miou'."
    )
    refused(
        "no objective 'val/mio'", known, objectives=(QUALITY.model_copy(update={"name": "val/mio"}), MACS)
    )


def test_a_quality_without_a_reference_is_refused() -> None:
    refused(
        "objective val/miou needs a reference",
        objectives=(QUALITY.model_copy(update={"reference": None}), MACS),
    )


def test_objectives_without_a_quality_are_refused() -> None:
    refused(
        "objectives name no quality",
        "val/miou, val/kd_evaluator, val/fd_evaluator",
        objectives=(MACS, Objective(name="cost/params", direction="min")),
    )


def test_fewer_than_two_objectives_or_one_twice_are_refused() -> None:
    refused("two or more different objectives", "cost/macs", objectives=(MACS,))
    refused("two or more different objectives", "cost/macs, cost/macs", objectives=(MACS, MACS))


def test_an_objective_in_the_wrong_direction_is_refused() -> None:
    refused(
        "better towards max",
        "val/miou",
        objectives=(Objective(name="val/miou", direction="min", reference=0.0), MACS),
    )


def test_a_float_range_for_an_integer_field_is_refused() -> None:
    parameters = {"student.generator.widths.stem": Float(low=2.0, high=8.0)}
    refused("student.generator.widths.stem", error=ConfigError, parameters=parameters, when={})


def test_a_constraint_on_anything_but_a_cost_is_refused() -> None:
    refused(
        "constraint on 'val/miou'", "cost/macs, cost/params", constraints=(Window(cost="val/miou", high=1.0),)
    )


def test_a_condition_of_no_parameter_is_refused_with_the_nearest_parameter() -> None:
    refused(
        "when['student.terms.mi.step'] is no parameter",
        f"Nearest: {STEP!r}",
        when={"student.terms.mi.step": When(parameter=WEIGHT, keys=("on",))},
    )


@pytest.mark.parametrize("controller", ["student.generator.widths.stem", "student.terms.mi.wieght"])
def test_a_condition_on_what_is_no_choice_is_refused(controller: str) -> None:
    refused(
        f"when[{STEP!r}].parameter is {controller!r}, which is no Choice",
        when={STEP: When(parameter=controller, keys=("on",))},
    )


def test_a_condition_on_an_unknown_key_is_refused_with_the_options() -> None:
    refused(
        "['onn'] are no options. Options: ['off', 'on']",
        when={STEP: When(parameter=WEIGHT, keys=("on", "onn"))},
    )


@pytest.mark.parametrize(
    ("distribution", "part"),
    [
        (Choice(options={}), "a Choice without options"),
        (Float(low=0.0, high=1.0, log=True), "a log range needs low > 0, given 0.0"),
        (Float(low=-1.0, high=1.0, log=True), "a log range needs low > 0, given -1.0"),
        (Float(low=2.0, high=1.0), "low 2.0 is above high 1.0"),
        (Int(low=1, high=4, step=2), "high 4 is not low 1 plus a multiple of step 2"),
        (Int(low=3, high=1), "low 3 is above high 1"),
    ],
)
def test_an_impossible_range_is_refused_with_its_path(distribution: Any, part: str) -> None:
    refused(f"{STEP}: {part}", parameters={STEP: distribution}, when={})


def test_an_unknown_fidelity_is_refused_with_the_nearest_path() -> None:
    refused("fidelity 'student.budget_img'", "Nearest: 'student.budget_nimg'", fidelity="student.budget_img")


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        SpaceError, match=r"--space mine: no preset 'shape32'\. Known: .*shapes32.* Nearest: 'shapes32'"
    ):
        preset_of(space(preset="shape32"), "--space mine")


# ---- files -------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(SpaceError) as caught:
        load_space("defualt")
    assert "--space defualt: no such search space. Known: " in str(
        caught.value
    ) and "Nearest: 'default'." in str(caught.value)
    assert all(name in str(caught.value) for name in SHIPPED)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"absent\.py: no such search space"):
        load_space(str(tmp_path / "absent.py"))


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import absent_module", "ModuleNotFoundError: No module named 'absent_module'"),
        ("SPACE = (", "SyntaxError: "),
        ("from raydistill.config.space import Int\nInt(low=1)", "high: Field required (given: {'low': 1})"),
        ("OTHER = 1", "must define SPACE = SearchSpace(...), found NoneType"),
        ("SPACE = {}", "must define SPACE = SearchSpace(...), found dict"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_its_path_and_the_cause(
    tmp_path: Path, source: str, part: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(SpaceError) as caught:
        load_space(str(path))
    assert str(caught.value).startswith(f"{path}: {part}")


def test_a_name_is_found_in_the_current_folder_before_the_installed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "search_spaces").mkdir()
    source = Path(search_spaces.__path__[0], "default.py").read_text()
    (tmp_path / "search_spaces" / "default.py").write_text(
        source + "\nSPACE = SPACE.model_copy(update={'uniform': (5,)})\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_space("default").uniform == (5,)


# ---- conditions, values, corners ---------------------------------------------------------------------------


def test_an_inactive_parameter_is_removed_and_an_active_one_kept() -> None:
    configuration = {"student.generator.widths.stem": 4, WEIGHT: "off", STEP: 1.0}
    assert active_parameters(space(), configuration) == {"student.generator.widths.stem": 4, WEIGHT: "off"}
    assert active_parameters(space(), configuration | {WEIGHT: "on"}) == configuration | {WEIGHT: "on"}


def test_a_parameter_is_inactive_where_the_parameter_that_controls_it_is() -> None:
    positive = "student.terms.mi.positive"
    chained = space(
        parameters={
            STEP: Float(low=0.1, high=10.0),
            positive: Choice(options={"t": "teacher", "x": "target"}),
            WEIGHT: Choice(options={"off": 0.0, "on": 0.1}),
        },
        when={STEP: When(parameter=positive, keys=("t",)), positive: When(parameter=WEIGHT, keys=("on",))},
    )
    assert active_parameters(chained, {STEP: 1.0, positive: "t", WEIGHT: "off"}) == {WEIGHT: "off"}


def test_a_parameter_that_the_config_has_no_use_for_is_dropped_with_its_condition() -> None:
    """`step_size` is VEM's; the weight that it depends on stays."""
    needs = {STEP: When(parameter="student.terms.mi.kind", keys=("vem",))}
    given = space(needs=needs)
    kept = without_unmet_needs(given, shapes32(), "test")
    assert kept.parameters == given.parameters and kept.when == given.when and kept.needs == {}
    vid = with_values(shapes32(), {"student.terms.mi.kind": "vid"}, where="test")
    dropped = without_unmet_needs(given, vid, "test")
    assert list(dropped.parameters) == ["student.generator.widths.stem", WEIGHT]
    assert dropped.when == {} and dropped.needs == {}


def test_a_value_of_a_table_is_a_key_an_option_or_a_number_in_its_range() -> None:
    chosen = space(
        parameters={
            "stem": Int(low=2, high=10, step=4),
            "rate": Float(low=0.5, high=2.0),
            "kind": Choice(options={"off": 0.0, "1": 3, "betas": [0.5, 0.9]}),
        },
        when={},
    )
    for value in (2, 6, 10, 6.0, "10"):
        found = value_in(chosen, "stem", value)
        assert found == int(value) and isinstance(found, int)
    for value in (0, 4, 8, 12, 6.5, "x", math.nan, None):
        with pytest.raises(SpaceError, match=r"stem = .* lies outside 2 to 10 in steps of 4"):
            value_in(chosen, "stem", value)
    assert [value_in(chosen, "rate", value) for value in (0.5, 1, 2.0)] == [0.5, 1.0, 2.0]
    for value in (0.49, 2.01):
        with pytest.raises(SpaceError, match=r"rate = .* lies outside 0\.5 to 2\.0$"):
            value_in(chosen, "rate", value)
    given = {"off": "off", 0.0: "off", "0.0": "off", "1": "1", 1: "1", 3: "1", "[0.5, 0.9]": "betas"}
    assert {value: value_in(chosen, "kind", value) for value in given} == given
    for value in ("1", "off"):
        with pytest.raises(SpaceError, match=f"kind = '{value}' is no option. Options: off, 1, betas"):
            value_in(chosen, "kind", value, by_option=True)
    assert value_in(chosen, "kind", 3, by_option=True) == "1"


def test_costs_are_affordable_from_one_end_of_every_window_to_the_other() -> None:
    chosen = space(constraints=(Window(cost="cost/macs", low=5, high=9), Window(cost="cost/params", high=3)))
    for macs, params, expected in ((5, 3, True), (9, 0, True), (4, 3, False), (10, 3, False), (7, 4, False)):
        assert is_affordable(chosen, {"cost/macs": macs, "cost/params": params}) is expected


def test_a_parameter_is_as_deep_as_conditions_stand_above_it() -> None:
    chained = {"a": When(parameter="b", keys=("x",)), "b": When(parameter="c", keys=("x",))}
    assert [depth(space(when=chained), path) for path in "abc"] == [2, 1, 0]


def test_the_keys_of_choices_become_their_options() -> None:
    assert values_of(space(), {WEIGHT: "on", STEP: 2.0}) == {WEIGHT: 0.1, STEP: 2.0}


def test_the_corners_are_the_ends_of_every_range_without_what_is_inactive_there() -> None:
    assert extreme_configuration(space(), highest=False) == {
        "student.generator.widths.stem": 4,
        WEIGHT: "off",
    }
    assert extreme_configuration(space(), highest=True) == {
        "student.generator.widths.stem": 12,
        WEIGHT: "on",
        STEP: 10.0,
    }


def test_the_corners_go_by_the_options_and_not_by_their_keys() -> None:
    widths = Choice(options={"z": 2, "a": 16, "m": 8.0})
    chosen = space(parameters={"student.generator.widths.stem": widths}, when={})
    assert [
        extreme_configuration(chosen, highest)["student.generator.widths.stem"] for highest in (False, True)
    ] == [
        "z",
        "a",
    ]


def test_a_space_is_equal_to_what_its_json_reads_back() -> None:
    assert SearchSpace.model_validate_json(space().model_dump_json()) == space()
