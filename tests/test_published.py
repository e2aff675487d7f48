"""The published experiments as search spaces: networks and counts, lengths, windows, and their scales."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from test_models import INFO
from torch import nn

from raydistill.config.architectures import UnetWidths
from raydistill.config.base import digest
from raydistill.config.configurations import extreme_configuration, values_of
from raydistill.config.experiment import Experiment
from raydistill.config.lengths import Length, Lengths, with_lengths
from raydistill.config.paths import leaves, validated, with_values
from raydistill.config.presets import PRESETS
from raydistill.config.published import PUBLISHED
from raydistill.config.space import (
    SearchSpace,
    known_spaces,
    load_space,
    preset_of,
    uniform_names,
    uniform_values,
)
from raydistill.config.space_checks import check_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, SpaceError
from raydistill.models import GENERATORS, cost, discriminator, networks, saved
from raydistill.planning.checks import check
from raydistill.planning.plan import recheck_workers, stage_workers
from raydistill.planning.scale import SCALES, scaled
from raydistill.planning.space_options import with_options

FURTHER: dict[str, Any] = {"val/fid": "min", "val/miou_drn105": "max"}


class Count(NamedTuple):
    """Of one picture: parameters, and MACs by two conventions; None: not published."""

    params: int
    conv_out: int | None = None
    true: int | None = None


UNET = {
    "teacher": Count(54_413_955, 18_140_364_800, 6_048_186_368),
    16: Count(3_404_451, 1_218_707_456, 406_323_200),
    12: Count(1_915_899, 706_756_608, 235_634_688),
    8: Count(852_307, 332_988_416, 111_017_984),
}
MOBILE = {
    "teacher": Count(1_987_075, 18_314_428_416, 11_066_671_104),
    16: Count(137_347, 1_407_713_280, 954_728_448),
    12: Count(80_547, 857_604_096, 602_800_128),
    8: Count(38_723, 439_615_488, 326_369_280),
}
GENERATOR_COUNTS: dict[str, dict[Any, Count]] = {
    "pix2pix_edges2shoes_unet": UNET,
    "pix2pix_edges2shoes_resnet": MOBILE,
    "pix2pix_cityscapes_unet": UNET,
    "pix2pix_cityscapes_resnet": MOBILE,
    "cyclegan_horse2zebra": MOBILE,
    "cyclegan_summer2winter": MOBILE,
    "sagan_celeba64": {
        "teacher": Count(3_832_885, 442_499_072, 200_278_016),
        48: Count(2_353_769, 254_410_752, 129_368_064),
    },
    "stylegan2_ffhq256": {"teacher": Count(30_034_338), "30 %": Count(5_573_364)},
    "enhance_x2": {},
}
"""Experiment -> teacher and uniform students, as measured from the published code's own modules."""
DISCRIMINATOR_COUNTS = {
    "pix2pix_edges2shoes_unet": (6, 11_042_433, 12_572_491_776),
    "pix2pix_edges2shoes_resnet": (6, 11_040_641, 12_572_491_776),
    "pix2pix_cityscapes_unet": (6, 11_042_433, 12_572_491_776),
    "pix2pix_cityscapes_resnet": (6, 11_040_641, 12_572_491_776),
    "cyclegan_horse2zebra": (3, 2_764_737, 3_146_809_344),
    "cyclegan_summer2winter": (3, 2_764_737, 3_146_809_344),
    "sagan_celeba64": (3, 3_175_299, 115_630_080),
    "stylegan2_ffhq256": (3, 28_864_129, None),
}
"""Experiment -> input channels, parameters, and MACs by the convention true, where they were measured."""


def of(name: str) -> tuple[SearchSpace, Experiment]:
    space = load_space(f"published/{name}")
    return space, preset_of(space, name)


def generator_of(name: str, which: Any) -> Any:
    space, experiment = of(name)
    if which == "teacher":
        return experiment.teacher.generator
    generator = experiment.student.generator
    widths = type(generator.widths)(**uniform_values(space, generator.widths, which))
    return generator.model_copy(update={"widths": widths})


# ---- networks ----------------------------------------------------------------------------------------------


def test_there_is_a_space_of_every_preset_and_each_counts() -> None:
    published = {name for name in known_spaces() if name.startswith("published/")}
    tables = {name for name in published if name.startswith("published/omgd_")}
    assert published - tables == {f"published/{name}" for name in PUBLISHED} and len(PUBLISHED) == 9
    assert len(tables) == 5
    assert set(GENERATOR_COUNTS) == set(PUBLISHED) and set(PUBLISHED) <= set(PRESETS)


@pytest.mark.parametrize(
    ("name", "which"), [(name, which) for name, counts in GENERATOR_COUNTS.items() for which in counts]
)
def test_a_generator_has_the_published_count_to_the_digit(name: str, which: Any) -> None:
    config, side = generator_of(name, which), 64 if name.startswith("sagan") else 256
    table, published = GENERATORS[config.family].layers(config, 3, side, side), GENERATOR_COUNTS[name][which]
    assert cost.params(table) == published.params
    for convention in ("conv_out", "true"):
        if (count := getattr(published, convention)) is not None:
            assert cost.macs(table, convention) == count, convention


@pytest.mark.parametrize("name", DISCRIMINATOR_COUNTS)
def test_a_discriminator_has_the_published_count_to_the_digit(name: str) -> None:
    channels, params, macs = DISCRIMINATOR_COUNTS[name]
    config: Any = of(name)[1].teacher
    network = discriminator(config.discriminator, channels)
    assert cost.module_params(network) == params
    if macs is not None:
        side = config.discriminator is not None and (64 if name.startswith("sagan") else 256)
        assert cost.module_macs(network, (1, channels, side, side)) == macs


def test_cagc_counts_of_stylegan2_are_the_published_ones() -> None:
    for which, macs in (("teacher", 45_124_673_536), ("30 %", 4_123_578_080)):
        config = generator_of("stylegan2_ffhq256", which)
        assert cost.macs(GENERATORS["stylegan2"].layers(config, 3, 256, 256), "cagc") == macs


# ---- spaces ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_space_fits_its_preset_and_its_window_holds_a_published_student(name: str) -> None:
    space, experiment = of(name)
    check_space(space, experiment, name, FURTHER)
    for window in space.constraints:
        generator = generator_of(name, uniform_names(space)[0])
        side = experiment.data.height
        table = GENERATORS[generator.family].layers(generator, 3, side, side)
        assert cost.macs(table, window.convention) <= window.high
    assert space.lengths is not None and space.lengths.search_share < 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_search_may_vary_can_be_searched_in_every_published_space(name: str) -> None:
    """Learning rate, weight and kind of the base, weight, start, steps and step size of the term, depth."""
    from raydistill.space import Choice, Float, Int, When

    space, experiment = of(name)
    noise = GENERATORS[experiment.student.generator.family].takes == "noise"
    kinds = {"plain": "plain"} if noise else {experiment.student.base.kind: experiment.student.base.kind}
    kinds |= {"plain": "plain"}
    further: dict[str, Any] = {
        "student.optimizer.learning_rate": Float(low=1e-5, high=1e-2, log=True),
        "student.base.kind": Choice(options=kinds),
        "student.base.l1_weight": Float(low=1.0, high=100.0, log=True),
        "student.terms.mi.start": Choice(options={"student": "student", "other": "other"}),
        "student.terms.mi.num_steps": Int(low=1, high=10),
    }
    generator = experiment.student.generator
    for depth, (low, high) in {"num_blocks": (2, 9), "num_mapping_layers": (2, 8)}.items():
        if hasattr(generator, depth):
            further[f"student.generator.{depth}"] = Int(low=low, high=high)
    if hasattr(generator, "num_levels"):
        further["student.generator.num_levels"] = Int(low=6, high=8)
    when = {**space.when, "student.base.l1_weight": When(parameter="student.base.kind", keys=("plain",))}
    wider = space.model_copy(update={"parameters": {**space.parameters, **further}, "when": when})
    if experiment.student.init == "teacher":
        experiment = with_values(
            experiment, {"student.init": "random", "student.init_score": "l1"}, where="t"
        )
    check_space(wider, experiment, name, FURTHER)


def test_the_term_has_published_and_recommended_settings_by_name() -> None:
    from raydistill.config.term_presets import NAMED_TERMS, with_named_terms

    for name in PUBLISHED:
        term = of(name)[1].student.terms["mi"]
        assert any(make() == term for make in NAMED_TERMS.values()), name
        with_values(of(name)[1], with_named_terms({"student.terms.mi": "recommended"}, "--set"), where="t")


# ---- lengths -----------------------------------------------------------------------------------------------


def test_epochs_become_images_by_the_count_of_the_data() -> None:
    space, experiment = of("cyclegan_horse2zebra")
    full = with_lengths(experiment, space.lengths, 100, "full")
    assert (full.teacher.budget_nimg, full.teacher.report_every_nimg) == (20_000, 1_000)
    assert (full.student.budget_nimg, full.student.report_every_nimg) == (80_000, 4_000)
    search = with_lengths(experiment, space.lengths, 100, "search")
    assert search.teacher == full.teacher and search.student.budget_nimg == 8_000
    assert with_lengths(experiment, space.lengths, 1_334, "full") == experiment  # as the preset says


def test_a_length_that_is_given_by_hand_stays_and_its_reports_are_spread_over_it() -> None:
    space, experiment = of("pix2pix_edges2shoes_unet")
    given = with_values(experiment, {"student.budget_nimg": 1_000}, where="t")
    found = with_lengths(given, space.lengths, 50, "search", frozenset({"student.budget_nimg"}))
    assert (found.student.budget_nimg, found.student.report_every_nimg) == (1_000, 100)
    assert found.teacher.budget_nimg == 10_000


@pytest.mark.parametrize("values", [{}, {"epochs": 2, "nimg": 3}])
def test_a_length_has_one_unit(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give one of epochs and nimg"):
        validated(Length, values, where="t")


def test_a_space_without_the_new_fields_has_the_digest_that_it_had() -> None:
    """Of a space of before; a space with a length has another."""
    old = load_space("default")
    assert not {"fixed", "lengths", "uniform_widths"} & set(old.model_dump())
    assert digest(old) != digest(old.model_copy(update={"lengths": Lengths(student=Length(nimg=5))}))


# ---- scales ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_keeps_what_is_no_width_length_or_count(name: str, scale: str) -> None:
    space, experiment = of(name)
    less, small = scaled(space, experiment, scale)
    before, after = leaves(experiment), leaves(small)
    changed = {path for path in before if before[path] != after[path]}
    ends = (".budget_nimg", ".report_every_nimg", "width", ".channels", ".style")
    assert changed and all(path.endswith(ends) or ".widths." in path for path in changed), changed
    validated(Experiment, small.model_dump(mode="json"), where="t")
    check_space(less, small, name, FURTHER)
    assert set(less.parameters) == set(space.parameters) and less.objectives == space.objectives
    divisor = SCALES[scale].divisor
    assert len(less.constraints) == len(space.constraints) and len(less.uniform_widths) >= 1
    widest = extreme_configuration(space, highest=True), extreme_configuration(less, highest=True)
    for path, value in values_of(less, widest[1]).items():
        if ".widths." in path:
            assert value <= max(8, round(values_of(space, widest[0])[path] / divisor))


@pytest.mark.parametrize("name", [name for name in PUBLISHED if load_space(f"published/{name}").constraints])
def test_a_window_keeps_its_ratio_to_the_widest_baseline(name: str) -> None:
    space, experiment = of(name)
    less, small = scaled(space, experiment, "smoke")
    costs = []
    for each, config in ((space, experiment), (less, small)):
        generator = config.student.generator
        first = uniform_names(each)[0]
        widths = type(generator.widths)(**uniform_values(each, generator.widths, first))
        table = GENERATORS[generator.family].layers(
            generator.model_copy(update={"widths": widths}), 3, config.data.height, config.data.height
        )
        costs.append(cost.macs(table, each.constraints[0].convention))
    before, after = space.constraints[0].high, less.constraints[0].high
    assert after / costs[1] == pytest.approx(before / costs[0], rel=1e-5) and after >= costs[1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"nimg": 64}, "--nimg"),
        ({"set": ("teacher.budget_nimg=64",)}, "--set teacher.budget_nimg"),
        ({"set": ("student.report_every_nimg=64",)}, "--set student.report_every_nimg"),
    ],
)
def test_a_scale_beside_a_length_by_hand_is_refused(given: Any, says: str, tmp_path: Path) -> None:
    options = SweepOptions(scale="smoke", store=str(tmp_path / "runs"), **given)
    with pytest.raises(ConfigError, match=f"--scale smoke: it says how long trainings are.*{says}"):
        check(options)
    assert not (tmp_path / "runs").exists()


# ---- conventions -------------------------------------------------------------------------------------------


def test_a_budget_may_be_given_in_a_published_convention() -> None:
    options = SweepOptions(max_macs="2.6e9:conv_out+norm", min_macs=5.0)
    windows = with_options(load_space("default"), options).constraints
    assert {(each.name, each.low, each.high) for each in windows} == {
        ("cost/macs", 5.0, 1e30),
        ("cost/macs:conv_out+norm", 0.0, 2.6e9),
    }
    both = with_options(load_space("default"), SweepOptions(max_macs="9:cagc", min_macs="5:cagc"))
    assert [(each.name, each.low, each.high) for each in both.constraints] == [("cost/macs:cagc", 5.0, 9.0)]


def test_a_convention_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_macs: .*no convention 'thop'.*known: true, conv_out"):
        validated(SweepOptions, {"max_macs": "2.6e9:thop"}, where="command line")
    with pytest.raises(ConfigError, match="convention 'cagc' is for cost/macs"):
        from raydistill.config.space import Window

        validated(Window, {"cost": "cost/params", "high": 5, "convention": "cagc"}, where="t")


def test_an_unknown_published_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpaceError, match="Nearest: 'published/enhance_x2'"):
        load_space("published/enhance_2x")


# ---- workers, teachers -------------------------------------------------------------------------------------


def test_batches_of_one_are_trained_by_one_worker_and_larger_ones_by_two() -> None:
    alone, shared = of("cyclegan_horse2zebra")[1], of("pix2pix_edges2shoes_unet")[1]
    default, skipped = SweepOptions(), SweepOptions(skip_recheck=True)
    assert (stage_workers(default, alone), recheck_workers(default, alone)) == (1, 1)
    assert (stage_workers(default, shared), recheck_workers(default, shared)) == (2, 2)
    assert recheck_workers(skipped, shared) == 1
    assert stage_workers(SweepOptions(teacher_workers=4), shared) == 4


@pytest.mark.parametrize(("name", "says"), [("sagan_celeba64", "resnet takes pictures"), ("enhance_x2", "")])
def test_a_teacher_of_another_kind_than_the_spaces_is_refused_before_any_cost(
    name: str, says: str, tmp_path: Path
) -> None:
    family = "sagan" if name == "enhance_x2" else "resnet"
    config: Any = PRESETS["sagan" if family == "sagan" else "shapes32"]().student.generator
    saved.save(tmp_path / "network", "generator", GENERATORS[family].build(config, 3), config)
    options = SweepOptions(
        space=f"published/{name}", teacher=str(tmp_path / "network"), store=str(tmp_path / "runs")
    )
    with pytest.raises(ConfigError, match=says or "sagan takes noise; give one that takes pictures"):
        check(options)
    assert not list((tmp_path / "runs").rglob("*.npy"))


def test_a_stylegan2_is_no_teacher_of_sagans(tmp_path: Path) -> None:
    config: Any = PRESETS["stylegan2"]().student.generator
    saved.save(tmp_path / "network", "generator", GENERATORS["stylegan2"].build(config, 3), config)
    options = SweepOptions(
        space="published/sagan_celeba64", teacher=str(tmp_path / "network"), store=str(tmp_path / "runs")
    )
    with pytest.raises(ConfigError, match=r"--teacher .*generator"):
        check(options)


def test_batch_norms_of_the_published_u_nets_start_as_published_and_others_at_one() -> None:
    teacher = of("pix2pix_edges2shoes_unet")[1].teacher
    spread = teacher.generator.model_copy(update={"widths": UnetWidths.uniform(8)})
    for config, std in ((spread, 0.02), (spread.model_copy(update={"norm_std": 0.0}), 0.0)):
        made = networks.generator(config, INFO, 3)
        norms = [each for each in made.modules() if isinstance(each, nn.BatchNorm2d)]
        weights = torch.cat([each.weight.detach() for each in norms])
        assert float(weights.std()) == pytest.approx(std, rel=0.1)
        assert float(weights.mean()) == pytest.approx(1.0, abs=0.005)
    critic = networks.discriminator(teacher.discriminator, INFO, 3)
    norms = [each for each in critic.modules() if isinstance(each, nn.BatchNorm2d)]
    assert float(torch.cat([each.weight.detach() for each in norms]).std()) == pytest.approx(0.02, rel=0.1)
