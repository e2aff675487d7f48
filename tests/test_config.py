"""Configs: digests, dotted paths and what is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from raydistill.config.architectures import UnetGenerator, UnetWidths
from raydistill.config.base import Stored, canonical, digest
from raydistill.config.data import FolderData, ShapesData
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import leaves, parse_assignments, validated, with_unchecked_values, with_values
from raydistill.config.presets import PRESETS, shapes32
from raydistill.config.space import SearchSpace
from raydistill.config.terms import VariationalInformation
from raydistill.config.training import GeneratorTraining
from raydistill.errors import ConfigError

FIXED = (
    "data.kind",
    "evaluator.recipe",
    "teacher.recipe",
    "student.recipe",
    "student.generator.family",
    "teacher.generator.family",
    "teacher.start",
    "given_teacher",
    "other_bases",
    "features.recipe",
    "given_features",
)
OTHERS: dict[str, Any] = {
    "hinge": "vanilla",
    "instance": "batch",
    "l1": "content",
    "plain": "gan",
    "random": "teacher",
    "auto": "random",
    "float32": "bfloat16",
    "data_parallel": "fsdp",
    "teacher": "target",
    "vem": "vid",
    "one_hot": "colors",
    "replay": "noise",
    (0.9, 0.999): [0.8, 0.999],
    (0.5, 0.999): [0.4, 0.999],
    (0.0, 0.999): [0.1, 0.999],
}
"""Another valid value for those that are neither number nor switch."""


def another(value: Any, path: str = "") -> Any:
    """Another valid value of the option at a path."""
    if path == "teacher.outputs":
        return "uint8"
    if path == "other_bases":
        return [{"kind": "gan"}]
    if isinstance(value, bool):
        return not value
    if value is None:
        return 2
    if isinstance(value, int):
        return value + 1
    return value / 2 + 0.1 if isinstance(value, float) else OTHERS[value]


EVERYTHING = with_values(
    shapes32(), {"student.terms.mi.kind": "vem", "student.terms.mi.start": "replay"}, where="test"
)
"""A config in which every field may be set."""
EXECUTION = [path for path in leaves(EVERYTHING) if ".execution." in path]


@pytest.mark.parametrize("path", [path for path in leaves(EVERYTHING) if path not in (*FIXED, *EXECUTION)])
def test_the_digest_changes_with_every_leaf(path: str) -> None:
    preset = EVERYTHING
    changed = with_values(preset, {path: another(leaves(preset)[path], path)}, where="test")
    assert leaves(changed)[path] != leaves(preset)[path]
    assert digest(changed) != digest(preset)


@pytest.mark.parametrize("path", EXECUTION)
def test_how_a_training_is_carried_out_can_be_set_and_is_not_part_of_the_digest(path: str) -> None:
    preset = shapes32()
    changed = with_values(preset, {path: another(leaves(preset)[path], path)}, where="test")
    assert leaves(changed)[path] != leaves(preset)[path] and changed != preset
    assert digest(changed) == digest(preset)
    job = Job(training=changed.student, data=Stored(path="a", digest="1"))
    assert Job.model_validate_json(job.model_dump_json()) == job


def test_the_digest_is_the_same_for_the_same_values_in_any_order_of_keys() -> None:
    preset = shapes32()
    turned = Experiment.model_validate(dict(reversed(preset.model_dump(mode="json").items())))
    assert digest(turned) == digest(preset)
    assert digest({"a": 1, "b": [2, 3]}) == digest({"b": (2, 3), "a": 1})


def test_an_integer_given_for_a_float_gives_the_digest_of_the_float() -> None:
    given = [with_values(shapes32(), {"student.base.l1_weight": value}, where="test") for value in (3, 3.0)]
    assert digest(given[0]) == digest(given[1])


def test_where_things_lie_is_not_part_of_a_digest_but_what_they_hold_is() -> None:
    here, there = (FolderData(root=root, height=8, width=8) for root in ("a", "b"))
    assert digest(here) == digest(there) and "root" not in canonical(here)
    training = shapes32().evaluator
    keys = [
        Job(training=training, data=Stored(path=path, digest=content)).key
        for path, content in (("a", "1"), ("b", "1"), ("a", "2"))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_the_key_of_a_job_changes_with_evaluator_and_teacher_and_seed() -> None:
    student, place = shapes32().student, Stored(path="a", digest="1")
    jobs = [
        Job(training=student, data=place),
        Job(training=student, data=place, evaluator=place),
        Job(training=student, data=place, teacher=place),
        Job(training=student.model_copy(update={"seed": 1}), data=place),
    ]
    assert len({job.key for job in jobs}) == 4


def test_a_number_that_json_does_not_have_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"a": float("nan")})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_equal_to_what_its_json_reads_back(name: str) -> None:
    preset = PRESETS[name]()
    again = Experiment.model_validate_json(preset.model_dump_json())
    assert again == preset and digest(again) == digest(preset)
    assert json.loads(json.dumps(canonical(preset))) == canonical(preset)


def test_a_job_is_equal_to_what_its_json_reads_back() -> None:
    preset = shapes32()
    for training in (preset.evaluator, preset.teacher, preset.student):
        job = Job(
            training=training, data=Stored(path="a", digest="1"), evaluator=Stored(path="b", digest="2")
        )
        assert Job.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("student.terms.mi.wieght", "student.terms.mi.weight"),
        ("student.generator.width.stem", "student.generator.widths.stem"),
        ("teacher.optimizer.lr_learning_rate", "teacher.optimizer.learning_rate"),
        ("data.heigth", "data.height"),
    ],
)
def test_an_unknown_path_is_refused_with_the_nearest_valid_one(given: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_values(shapes32(), {given: 1}, where="--set")
    there = {
        "data": " where data.kind is 'shapes'",
        "student.terms.mi": " where student.terms.mi.kind is 'vem'",
    }.get(given.rpartition(".")[0], "")
    assert (
        str(caught.value)
        == f"--set: there is no config path {given!r}{there}. The nearest valid path is {meant!r}."
    )


def test_a_group_of_values_is_no_path() -> None:
    with pytest.raises(
        ConfigError,
        match=r"'student\.terms\.mi' is a whole section; give its fields, such as 'student\.terms\.mi\.kind'",
    ):
        with_values(shapes32(), {"student.terms.mi": {"weight": 1.0}}, where="--set")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("student.terms.mi.weight", -1),
        ("student.terms.mi.weight", "much"),
        ("student.optimizer.betas", [0.5, 1.0]),
        ("student.generator.widths.stem", 0),
        ("student.generator.norm", "layer"),
        ("teacher.budget_nimg", 1.5),
        ("data.height", 0),
        ("data.num_val", 1),
    ],
)
def test_a_refused_value_is_named_with_its_path_and_what_was_given(path: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        with_values(shapes32(), {path: value}, where="--set")
    message = str(caught.value)
    named = message.removeprefix("--set: ").partition(": ")[0]
    assert named == path or named.startswith(f"{path}."), message
    assert f"(given: {value[1] if isinstance(value, list) else value!r})" in message


def test_every_refused_value_of_one_call_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        with_values(shapes32(), {"student.batch_size": 0, "teacher.batch_size": -3}, where="--set")
    for part in ("student.batch_size: ", "(given: 0)", "teacher.batch_size: ", "(given: -3)"):
        assert part in str(caught.value)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_refused(text: str) -> None:
    values = parse_assignments([f"student.base.l1_weight={text}"])
    with pytest.raises(ConfigError, match=r"student\.base\.l1_weight: "):
        with_values(shapes32(), values, where="--set")


def test_a_config_cannot_be_changed() -> None:
    preset = shapes32()
    with pytest.raises(ValidationError, match="frozen"):
        preset.student.terms["mi"].weight = 1.0  # type: ignore[misc]


def test_with_values_leaves_the_given_config_as_it_was() -> None:
    preset = shapes32()
    assert (
        with_values(preset, {"student.terms.mi.weight": 0.7}, where="test").student.terms["mi"].weight == 0.7
    )
    assert preset == shapes32()


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data: heigth: .*\(given: 8\)"):
        validated(ShapesData, {"heigth": 8}, where="data")


def test_values_given_as_text_are_json_or_else_text() -> None:
    given = ["a.b=0.1", "c=true", "d=[0.5, 0.9]", "e=batch", "f=x=y", "g=", 'h="1"', "i=null"]
    expected = {
        "a.b": 0.1,
        "c": True,
        "d": [0.5, 0.9],
        "e": "batch",
        "f": "x=y",
        "g": "",
        "h": "1",
        "i": None,
    }
    assert parse_assignments(given) == expected


@pytest.mark.parametrize("given", ["student.terms.mi.weight", "=1", ""])
def test_text_that_is_no_assignment_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments([given])
    assert (
        str(caught.value)
        == f"--set {given}: give it as dotted.path=value, for example --set student.terms.mi.weight=0.1"
    )


def test_a_kind_that_stays_leaves_the_other_fields_of_its_section_alone() -> None:
    given = {
        "student.terms.mi.weight": 0.7,
        "student.terms.mi.optimizer.learning_rate": 0.3,
        "student.generator.num_blocks": 5,
    }
    changed = with_values(shapes32(), given, where="test")
    same = {"student.terms.mi.kind": changed.student.terms["mi"].kind, "student.generator.family": "resnet"}
    assert with_values(changed, same, where="test") == changed
    other = with_values(changed, {"student.terms.mi.kind": "vid"}, where="test")
    assert (
        other.student.terms["mi"] == VariationalInformation()
        and other.student.generator == changed.student.generator
    )


def test_values_checked_before_are_set_as_if_they_were_checked() -> None:
    """Several of one section and of sections inside of it, and one beside them."""
    values: dict[str, Any] = {
        "student.terms.mi.optimizer.learning_rate": 0.3,
        "student.terms.mi.optimizer.decay_start": 0.5,
        "student.terms.mi.weight": 0.7,
        "student.terms.mi.energy.channels": 3,
        "student.base.l1_weight": 2.0,
        "student.generator.widths.stem": 5,
        "student.generator.widths.head": 6,
        "data.num_train": 99,
    }
    preset = shapes32()
    assert (
        with_unchecked_values(preset, values)
        == with_values(preset, values, where="test")
        != preset
        == shapes32()
    )
    assert with_unchecked_values(preset.student, {"seed": 4}).seed == 4


def test_a_message_names_the_path_without_the_kind_of_a_union() -> None:
    data = {
        "preset": "p",
        "parameters": {"student.seed": {"kind": "int", "low": 1, "high": "x"}},
        "objectives": [],
        "uniform": [4],
    }
    with pytest.raises(ConfigError) as caught:
        validated(SearchSpace, data, where="here")
    assert str(caught.value).startswith("here: parameters.student.seed.high: Input should be a valid integer")
    with pytest.raises(ConfigError, match=r"here: objectives\.1\.direction: "):
        validated(
            SearchSpace,
            data | {"parameters": {}, "objectives": [MACS, MACS | {"direction": "down"}]},
            where="here",
        )
    with pytest.raises(ConfigError, match=r"here: \(whole config\): "):
        validated(SearchSpace, 3, where="here")


MACS = {"name": "cost/macs", "direction": "min"}


def test_the_leaves_of_a_config_rebuild_it() -> None:
    preset = shapes32()
    values = {path: json.loads(json.dumps(value)) for path, value in leaves(preset).items()}
    assert with_values(preset, values, where="test") == preset


def test_another_generator_family_starts_at_its_published_widths() -> None:
    values = {
        "student.generator.family": "unet",
        "student.generator.num_levels": 4,
        "student.generator.widths.deep": 9,
    }
    generator = with_values(shapes32(), values, where="test").student.generator
    assert generator == UnetGenerator(
        widths=UnetWidths.uniform(64).model_copy(update={"deep": 9}), num_levels=4
    )
    with pytest.raises(
        ConfigError, match=r"there is no 'sagan'. Known: resnet, mobile_resnet, unet, enhance"
    ):
        with_values(shapes32(), {"teacher.generator.family": "sagan"}, where="test")


def test_what_a_teacher_starts_from_is_part_of_its_digest_and_where_it_lies_is_not() -> None:
    teacher = shapes32().teacher
    given = [
        teacher.model_copy(update={"start": Stored(path=path, digest=content)})
        for path, content in (("a", "1"), ("b", "1"), ("a", "2"))
    ]
    assert digest(teacher) != digest(given[0]) == digest(given[1]) != digest(given[2])
    with pytest.raises(ConfigError, match=r"teacher\.budget_nimg: Input should be greater than 0"):
        with_values(shapes32(), {"teacher.budget_nimg": 0}, where="test")


def test_a_given_teacher_is_part_of_the_digest_and_where_it_lies_is_not() -> None:
    given = [
        shapes32().model_copy(update={"given_teacher": Stored(path=path, digest=content)})
        for path, content in (("a", "1"), ("b", "1"), ("a", "2"))
    ]
    assert digest(shapes32()) != digest(given[0]) == digest(given[1]) != digest(given[2])


def test_a_training_of_no_images_of_an_earlier_version_is_a_given_teacher() -> None:
    training = shapes32().teacher.model_dump(mode="json")
    start = {"path": "there", "digest": "1"}
    old = {"version": 2, "training": training | {"budget_nimg": 0, "start": start}, "data": start}
    job = Job.model_validate(old)
    assert job.is_given and job.teacher == Stored(path="there", digest="1")
    assert isinstance(job.training, GeneratorTraining) and job.training.start is None
    trained = Job.model_validate(old | {"training": training | {"start": start}})
    assert not trained.is_given and trained.teacher is None


def test_another_kind_keeps_what_has_no_default_and_is_of_the_same_type_in_both() -> None:
    before = shapes32()
    after = with_values(before, {"teacher.recipe": "enhance", "teacher.batch_size": 8}, where="test").teacher
    assert after.recipe == "enhance" and after.batch_size == 8
    assert (after.generator, after.optimizer, after.budget_nimg) == (
        before.teacher.generator,
        before.teacher.optimizer,
        before.teacher.budget_nimg,
    )
    assert after.ema_nimg == 0.0 != before.teacher.ema_nimg  # it has a default
    narrow = {"teacher.recipe": "enhance", "teacher.generator.widths.stem": 9}
    assert with_values(before, narrow, where="test").teacher.generator.widths.stem == 9
    with pytest.raises(ConfigError, match=r"teacher\.generator: Field required"):  # of another type
        with_values(before, {"teacher.recipe": "sagan"}, where="test")
    with pytest.raises(ConfigError, match=r"there is no config path 'teacher\.discriminator\.width'"):
        with_values(before, {"teacher.recipe": "enhance", "teacher.discriminator.width": 4}, where="test")
