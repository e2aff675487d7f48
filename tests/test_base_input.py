"""What cannot be trained by a base distillation, or is no term, ends before any cost and says what to do."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.config import presets
from raydistill.config.space import Choice, Float, SearchSpace, When, load_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.terms import VariationalInformation
from raydistill.errors import ConfigError, DataError, InputError, NoticeWarning
from raydistill.models import networks, saved
from raydistill.planning import checks
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan

FEW = ("data.num_train=48", "data.num_val=16", "data.num_test=16")
BY_NAME = ("student.terms.mi=recommended",)
"""A whole term, of which the default space searches nothing."""
NO_WEIGHTS = tuple(f"student.base.{name}_weight=0" for name in ("ssim", "style", "content", "tv", "channel"))
Planned = Callable[..., Plan]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, with unpaired pictures beside it."""
    folder, rng = tmp_path_factory.mktemp("input"), np.random.default_rng(0)
    for name, count in (("trainA", 18), ("trainB", 19), ("valA", 4), ("valB", 5), ("testA", 2), ("testB", 3)):
        (folder / "unpaired" / name).mkdir(parents=True)
        for index in range(count):
            picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            picture.save(folder / "unpaired" / name / f"{index}.png")
    return folder


@pytest.fixture
def planned(root: Path, monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Checks a sweep with these values of --set; nothing may be trained."""

    def never(**options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raydistill.cluster.runtime.start_ray", never)

    def run(*given: str, on: str = "pairs", **options: Any) -> Plan:
        data: dict[str, Any] = {
            "pairs": {},
            "unpaired": {"space": "cyclegan", "data": str(root / "unpaired")},
            "noise": {"space": "sagan", "data": str(root / "unpaired" / "trainA")},
        }[on]
        first = {"pairs": FEW, "unpaired": ("data.height=16", "data.width=16"), "noise": ()}[on]
        return check(SweepOptions(store=str(root / "store"), set=(*first, *given), **data | options))

    return run


def base(kind: str, *others: str) -> tuple[str, ...]:
    return (f"student.base.kind={kind}", *(f"student.{each}" for each in others))


# ---- what goes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "kind"),
    [
        ("pairs", "gan"),
        ("pairs", "omgd"),
        ("unpaired", "gan"),
        ("unpaired", "omgd_cyclegan"),
        ("noise", "plain"),
    ],
)
def test_each_base_goes_with_its_kind_of_data(planned: Planned, on: str, kind: str) -> None:
    assert planned(*base(kind), on=on).experiment.student.base.kind == kind


def test_a_whole_term_of_another_name_is_a_second_term(planned: Planned) -> None:
    plan = planned("student.terms.vid=recommended")
    assert {name: term.kind for name, term in plan.experiment.student.terms.items()} == {
        "mi": "vem",
        "vid": "vid",
    }
    assert plan.experiment.student.terms["vid"] == VariationalInformation(weight=0.3)
    assert "student.terms.mi.weight" in plan.space.parameters


def test_a_whole_term_ends_the_search_inside_of_it_and_says_so(planned: Planned) -> None:
    with pytest.warns(NoticeWarning) as said:
        plan = planned("student.terms.mi=published_cyclegan")
    assert str(said[0].message) == (
        "--set student.terms.mi=published_cyclegan is whole, so the space does not search "
        "student.terms.mi.weight, student.terms.mi.step_size"
    )
    assert not [path for path in plan.space.parameters if "terms" in path]
    assert plan.experiment.student.terms["mi"].weight == 0.1


@pytest.mark.parametrize("given", ["published_foo", "3", "none"])
def test_a_whole_term_that_there_is_not_says_nothing_of_the_search(planned: Planned, given: str) -> None:
    with warnings.catch_warnings(record=True) as said, pytest.raises(ConfigError, match="there is no term"):
        warnings.simplefilter("always")
        planned(f"student.terms.mi={given}")
    assert not said


def test_without_a_base_the_uniform_baselines_keep_their_terms(planned: Planned) -> None:
    """They would have no loss else; with a base they have that alone."""
    without = planned(*base("none"), *BY_NAME)
    assert {name: term.weight for name, term in without.uniform(3).active_terms.items()} == {"mi": 0.3}
    assert not planned(*base("plain"), *BY_NAME).uniform(3).active_terms


# ---- what does not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "kind", "says"),
    [
        (
            "unpaired",
            "omgd",
            "'omgd' is for pairs, these data are unpaired pictures; use one of none, plain, gan",
        ),
        (
            "pairs",
            "omgd_cyclegan",
            "is for unpaired pictures, these data are pairs; use one of none, plain, gan",
        ),
        ("noise", "gan", "is for pairs or unpaired pictures, these data are pictures from noise; use one of"),
        ("noise", "omgd", "these data are pictures from noise; use one of none, plain"),
        ("noise", "omgd_cyclegan", "these data are pictures from noise; use one of none, plain"),
    ],
)
def test_a_base_for_another_kind_of_data_names_those_that_go(
    planned: Planned, on: str, kind: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=f"^student.base.kind: .*{says}"):
        planned(*base(kind), on=on)


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a tap that the family lacks": (
        base("gan", 'base.taps=["block99"]'),
        "student.base.taps: 'block99' is no layer of this resnet; use some of down, block1",
    ),
    "no tap at all": (base("omgd", "base.taps=[]"), "student.base.taps: empty; name some of down"),
    "a tap twice": (base("gan", 'base.taps=["down","down"]'), "student.base.taps: 'down' is given twice"),
    "no base and a term of weight 0": (
        base("none", *("terms.mi=recommended", "terms.mi.weight=0")),
        "student.base.kind: 'none' without a weight above 0, in the base or of a term, learns nothing",
    ),
    "no base and a weight that is searched down to 0": (
        base("none"),
        "'none' without a weight above 0, .* give a weight that stays above 0, for example",
    ),
    "omgd with all weights 0": (
        (*base("omgd", "terms.mi=recommended", "terms.mi.weight=0"), *NO_WEIGHTS),
        "'omgd' without a weight above 0, in the base or of a term, learns nothing",
    ),
    "compile": (
        base("gan", "execution.compile=true"),
        "student.execution.compile: base 'gan' sees activations inside of the networks; leave it out",
    ),
    "activation checkpointing": (
        base("omgd", "execution.activation_checkpointing=true"),
        "student.execution.activation_checkpointing: base 'omgd' sees activations",
    ),
    "microbatch": (
        base("omgd", "execution.microbatch=4"),
        "student.execution.microbatch: base 'omgd' takes its teachers' pictures of a whole minibatch",
    ),
    "gan's discriminator of another width": (
        base("gan", 'base.discriminator={"width":7}'),
        "student.base.discriminator.width: 7, but the teacher's discriminator that it starts from has 24; "
        "give the same, or start at random",
    ),
    "a field of a discriminator that is none": (
        base("gan", "base.discriminator.width=7"),
        r"'student.base.discriminator' is none, so it has no fields; give it whole, as JSON: "
        r"'student.base.discriminator=\{\.\.\.\}'",
    ),
    "a discriminator too deep": (
        base("gan", "base.discriminator_start=random", 'base.discriminator={"num_layers":6}'),
        "student.base.discriminator.num_layers: 6 layers leave nothing of pictures of 32x32; lower it",
    ),
    "a teacher of OMGD that does not take the pictures": (
        base("omgd", 'base.wide={"family":"unet"}'),
        "student.base.wide: unet needs heights and widths divisible by 256",
    ),
    "a deep teacher that is not used": (
        base("omgd", "base.num_teachers=1", 'base.deep={"family":"resnet"}'),
        "deep: given, but num_teachers is 1; leave one of the two out",
    ),
    "an unknown base": (
        base("ogmd"),
        "student.base.kind: there is no 'ogmd'. Known: none, plain, gan, omgd, .* Nearest: 'omgd'",
    ),
    "a weight of another base": (
        base("omgd", "l1_weight=5"),
        "there is no config path 'student.base.l1_weight' where student.base.kind is 'omgd'",
    ),
    "a base as a whole": (
        ("student.base=gan",),
        "'student.base' is a whole section; give its fields, such as 'student.base.kind' .none, plain, ",
    ),
    "an unknown term": (
        ("student.terms.second.kind=vedm",),
        "student.terms.second.kind: there is no 'vedm'. Known: vem, vid, critic",
    ),
    "an unknown whole term": (
        ("student.terms.vid=recommended_vm",),
        "student.terms.vid: there is no term 'recommended_vm'. Known: .* Nearest: 'recommended_vem'",
    ),
    "a new term without its kind": (
        ("student.terms.second.weight=0.1",),
        "there is no student.terms.second; to add one, give its kind, too: 'student.terms.second.kind'",
    ),
    "a name that is none": (
        ("student.terms.My-Term.kind=vid",),
        "student.terms.My-Term: the name of a term is a small letter, then small letters, digits and _",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_with_what_to_do(planned: Planned, name: str) -> None:
    given, says = REFUSED[name]
    with pytest.raises(ConfigError, match=says):
        planned(*given)


def test_the_batch_norms_of_adaptors_refuse_microbatches(planned: Planned) -> None:
    with pytest.raises(
        ConfigError, match="microbatch: the adaptors of base 'omgd_cyclegan' have batch norms"
    ):
        planned(*base("omgd_cyclegan", "batch_size=4", "execution.microbatch=2"), on="unpaired")
    planned(
        *base("omgd_cyclegan", "batch_size=4", "execution.microbatch=2", "base.channel_weight=0"),
        on="unpaired",
    )


def test_an_enhancers_teacher_has_no_discriminator_for_gan(planned: Planned, root: Path) -> None:
    with pytest.raises(
        ConfigError, match="base 'gan' has it from the teacher, and the recipe 'enhance' has no"
    ):
        planned(*base("gan"), on="noise", space="enhance")


def test_a_target_that_belongs_to_no_input_is_refused_for_any_term(planned: Planned) -> None:
    with pytest.raises(
        ConfigError, match=r"student.terms.second.positive: 'target' needs pictures that belong"
    ):
        planned("student.terms.second.kind=vid", "student.terms.second.positive=target", on="unpaired")


def test_a_searched_base_is_checked_like_the_one_that_is_set(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any training: a trial with it would fail."""
    space = load_space("default")

    def searching(*kinds: str) -> SearchSpace:
        found = Choice(options={kind: kind for kind in kinds})
        return space.model_copy(update={"parameters": space.parameters | {"student.base.kind": found}})

    monkeypatch.setattr(checks.space, "load_space", lambda given: searching("plain", "gan"))
    assert [each.kind for each in planned().experiment.bases] == ["plain", "gan"]
    monkeypatch.setattr(checks.space, "load_space", lambda given: searching("plain", "omgd_cyclegan"))
    with pytest.raises(ConfigError, match="'omgd_cyclegan' is for unpaired pictures, these data are pairs"):
        planned()
    monkeypatch.setattr(checks.space, "load_space", lambda given: searching("plain", "none"))
    with pytest.raises(ConfigError, match="'none' without a weight above 0"):
        planned()


def test_each_kind_of_a_searched_base_has_weights_of_its_own(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is that of the kind that needs most of it."""
    space, kind = load_space("default"), "student.base.kind"
    own = {
        kind: Choice(options={"g": "gan", "o": "omgd", "p": "plain"}),
        "student.base.gan_weight": Float(low=0.1, high=10.0),
        "student.base.l1_weight": Float(low=1.0, high=100.0),
        "student.base.channel_weight": Choice(options={"0": 0.0, "10": 10.0}),
    }
    keys = {"gan_weight": ("g",), "l1_weight": ("g", "p"), "channel_weight": ("o",)}
    when = {f"student.base.{name}": When(parameter=kind, keys=each) for name, each in keys.items()}
    changes = {"parameters": space.parameters | own, "when": space.when | when}
    monkeypatch.setattr(checks.space, "load_space", lambda given: space.model_copy(update=changes))
    plan = planned()
    assert {each.base.kind for each, _ in plan.students} == {"gan", "omgd", "plain"}
    wrong = when | {"student.base.gan_weight": When(parameter=kind, keys=("g", "p"))}
    changed = space.model_copy(update=changes | {"when": space.when | wrong})
    monkeypatch.setattr(checks.space, "load_space", lambda given: changed)
    says = "no config path 'student.base.gan_weight' where student.base.kind is 'plain'"
    with pytest.raises(ConfigError, match=says):
        planned()
    of_kinds = {each.base.kind: plan.memory_of(each) for each in plan.extreme_students(highest=True)}
    assert list(of_kinds) == ["gan", "omgd", "plain"]
    assert plan.trial_bytes == max(of_kinds.values()) > of_kinds["plain"]


# ---- files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given_teacher(root: Path) -> str:
    """The folder of a generator like the default's teacher."""
    info = check(SweepOptions(store=str(root / "store"), set=FEW)).info
    config = presets.shapes32().teacher.generator
    return saved.save(root / "teacher", "generator", networks.generator(config, info, 0), config).path


def test_a_given_teacher_has_neither_a_training_to_follow_nor_a_discriminator(
    planned: Planned, given_teacher: str
) -> None:
    with pytest.raises(
        ConfigError, match="base 'omgd' trains teachers beside the student, and --teacher gives"
    ):
        planned(*base("omgd"), teacher=given_teacher)
    says = (
        "student.base.discriminator_start: base 'gan' starts from the teacher's discriminator, and --teacher "
        "gives a generator alone; use --set student.base.discriminator_start=random"
    )
    with pytest.raises(ConfigError, match=says):
        planned(*base("gan"), teacher=given_teacher)
    planned(*base("gan", "base.discriminator_start=random"), teacher=given_teacher)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"none\.pth: cannot be read: No such file.* Give the path of a file of weights"),
        (b"abc", "these are not the weights of VGG16: not a whole PyTorch file"),
    ],
)
def test_a_file_of_features_that_is_none_is_refused(
    planned: Planned, tmp_path: Path, content: bytes | None, says: str
) -> None:
    file = tmp_path / "none.pth"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=says):
        planned(*base("omgd"), features=str(file))
    with pytest.raises(InputError, match="no loss of the students looks at features; leave it out"):
        planned(*base("gan"), features=str(file))
