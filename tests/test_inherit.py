"""Students cut out of their teachers: at full width they are the teacher, below it they keep the channels
that matter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import CASES, Case, random_case
from test_import import shaken
from torch import Tensor, nn

from raydistill.config.architectures import Generator, StyleganGenerator
from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.presets import shapes32
from raydistill.config.training import DistillTraining
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, input_shape, pruning, saved
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.pruning import (
    content_scores,
    l1_scores,
    require_narrower,
    require_score,
    student_state,
)
from raydistill.models.saved import with_weights
from raydistill.seeds import torch_stream
from raydistill.training.teacher import start_at_teacher

all_kinds = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def inputs(case: Case) -> Tensor:
    return torch.randn(2, *input_shape(*case), generator=torch.Generator().manual_seed(2)).clamp(-1, 1)


def narrower(config: Any, by: int = 1) -> Any:
    widths = {name: None if value is None else max(1, value - by) for name, value in config.widths}
    return config.model_copy(update={"widths": type(config.widths)(**widths)})


def student(case: Case, config: Generator, module: nn.Module) -> nn.Module:
    return with_weights(
        config, student_state(case.config, module.state_dict(), config, "student.generator"), "student"
    )


@all_kinds
def test_a_student_of_full_width_is_its_teacher(case: Case) -> None:
    teacher = shaken(case)
    with torch.no_grad():
        assert torch.equal(student(case, case.config, teacher)(inputs(case)), teacher(inputs(case)))


@pytest.mark.parametrize("family", GENERATORS)
def test_a_student_of_any_smaller_widths_is_whole_and_puts_out_pictures(family: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(3):
        case = random_case(family, rng)
        low = 8 if family == "sagan" else 1
        widths = {name: value and int(rng.integers(low, value + 1)) for name, value in case.config.widths}
        config = case.config.model_copy(update={"widths": type(case.config.widths)(**widths)})
        with torch.no_grad():
            pictures = student(case, config, shaken(case))(inputs(case))
        assert bool(pictures.isfinite().all())


def silent(layer: LayerChannels, full: dict[str, int], lost: dict[str, int]) -> list[int]:
    """Indices of the first channels of each group that a layer puts out, as many as the narrower student
    lacks."""
    indices, start = list[int](), 0
    for group in layer.output_groups:
        indices += range(start * layer.per_channel, (start + lost[group]) * layer.per_channel)
        start += full[group]
    return indices


@pytest.mark.parametrize(
    "case",
    [case for name, case in CASES.items() if name != "sagan"],
    ids=[name for name in CASES if name != "sagan"],
)
def test_channels_that_do_nothing_are_the_ones_that_go(case: Case) -> None:
    """A teacher whose every group has one channel without weights loses just these: the student puts out the
    same.

    Not so for SAGAN: what is left of a weight has a spectral norm of its own.
    """
    teacher = shaken(case)
    state, config = teacher.state_dict(), narrower(case.config)
    layers = pruning.layer_channels(case.config)
    full = pruning._group_sizes(layers, state)
    narrow = GENERATORS[config.family].build(config, case.in_channels).state_dict()
    sizes = pruning._group_sizes(layers, narrow)
    lost = {group: full[group] - sizes[group] for group in full}
    with torch.no_grad():
        for layer in layers:
            for leaf in ("weight", "bias", "running_mean", "parametrizations.weight.original"):
                value = state.get(f"{layer.name}.{leaf}")
                if layer.outputs is not None and value is not None and not layer.name.endswith("affine"):
                    gone = silent(layer, full, lost)
                    value[(slice(None), gone) if layer.transposed and value.ndim > 1 else gone] = 0
        for layer in layers if "constant" in state else ():
            # StyleGAN2's demodulation sees the weights that take a channel in, even where the channel is
            # silent
            if layer.equalised:
                state[f"{layer.name}.weight"][:, 0] = 0
        for name, value in state.items():
            if name.endswith("noise_strength"):
                value.zero_()
    with torch.no_grad():
        expected, found = teacher(inputs(case)), student(case, config, teacher)(inputs(case))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_score_of_a_group_adds_up_what_makes_it() -> None:
    case = CASES["resnet"]
    state = shaken(case).state_dict()
    scores = l1_scores(case.config, state)
    expected = sum(
        state[f"{name}.weight"].abs().sum((1, 2, 3)) for name in ("7", "10.conv_block.5", "11.conv_block.5")
    )
    torch.testing.assert_close(scores["trunk"], expected)
    torch.testing.assert_close(scores["up"], state["12.weight"].abs().sum((0, 2, 3)))
    assert set(scores) == {"stem", "down", "trunk", "hidden10", "hidden11", "up", "head"}


def test_the_content_score_of_a_channel_that_the_picture_does_not_depend_on_is_zero() -> None:
    case = CASES["stylegan2"]
    assert isinstance(case.config, StyleganGenerator)
    state = shaken(case).state_dict()
    for name in ("convs.4", "rgbs.2"):  # what takes the channels at 16 in
        state[f"{name}.affine.weight"][1] = 0
        state[f"{name}.affine.bias"][1] = 0
    seeded = torch.Generator().manual_seed(0)
    scores = content_scores(case.config, state, seeded, number=4)
    assert {group: len(score) for group, score in scores.items()} == {"at4": 8, "at8": 6, "at16": 4}
    assert scores["at16"][1] == 0 and bool((scores["at16"][[0, 2, 3]] > 0).all())
    config = narrower(case.config)
    found = student_state(case.config, state, config, "student", scores)
    torch.testing.assert_close(found["rgbs.2.weight"], state["rgbs.2.weight"][:, [0, 2, 3]] * (3 / 4) ** 0.5)
    nothing = content_scores(
        case.config, state, seeded, mask=lambda pictures: torch.zeros_like(pictures[:, :1]), number=2
    )
    assert all(bool((score == 0).all()) for score in nothing.values())


def test_a_content_score_is_the_mean_gradient_of_what_takes_a_channel_in() -> None:
    """Of the sum of |picture - noise| over the places of the content that noise of -1 and 1 replaces."""
    case = CASES["stylegan2"]
    assert isinstance(case.config, StyleganGenerator)
    module = shaken(case)

    def bright(pictures: Tensor) -> Tensor:
        return (pictures.mean(1, keepdim=True) > 0).float()

    scores = content_scores(
        case.config, module.state_dict(), torch.Generator().manual_seed(3), bright, number=5, density=0.3
    )
    seeded = torch.Generator().manual_seed(3)
    module.requires_grad_(True)
    pictures = module(torch.randn(5, 12, generator=seeded))
    hit = (torch.rand(5, 1, 16, 16, generator=seeded) < 0.3) & (pictures.mean(1, keepdim=True) > 0)
    noise = torch.randint(0, 2, (5, 1, 16, 16), generator=seeded).float() * 2 - 1
    changed = torch.where(hit, noise, pictures)
    (changed.detach() - pictures).abs().sum().backward()
    taken_in = {
        "at4": ("convs.0", "convs.1", "rgbs.0"),
        "at8": ("convs.2", "convs.3", "rgbs.1"),
        "at16": ("convs.4", "rgbs.2"),
    }
    for group, names in taken_in.items():
        parts = [module.get_parameter(f"{name}.weight").grad for name in names]
        expected = sum(part.abs().mean((0, 2, 3)) for part in parts)
        torch.testing.assert_close(scores[group], expected, rtol=1e-3, atol=1e-6)


def test_a_score_that_a_family_has_not_is_refused_and_l1_is_every_familys() -> None:
    for name, case in CASES.items():
        require_score(case.config, "l1", "student.init_score")
        if name == "stylegan2":
            require_score(case.config, "content", "student.init_score")
            continue
        with pytest.raises(ConfigError) as error:
            require_score(case.config, "content", "student.init_score")
        assert str(error.value) == (
            "student.init_score: 'content', which families stylegan2 have, but the teacher is a "
            f"'{case.config.family}'; use 'l1'"
        )
    with pytest.raises(ConfigError, match=r"student\.init_score: 'l2'; use one of l1, content"):
        require_score(CASES["stylegan2"].config, "l2", "student.init_score")


class Scored(DistillTraining):
    """A student whose channels a score chooses."""

    init_score: str = "l1"


@pytest.mark.parametrize("score", ["l1", "content"])
def test_a_student_starts_from_the_channels_of_the_score_that_its_config_names(
    score: str, tmp_path: Path
) -> None:
    """The content's numbers come from the training's seed, so that every worker has the same."""
    case = CASES["stylegan2"]
    module = shaken(case)
    stored = saved.save(tmp_path, "generator", module, case.config)
    student = shapes32().student.model_dump()
    values = student | {"init": "teacher", "seed": 3, "generator": narrower(case.config, by=2)}
    training = Scored.model_validate(values | {"init_score": score})
    job = Job(training=shapes32().teacher, data=Stored(path="none", digest="none"), teacher=stored)
    job = job.model_copy(update={"training": training})
    starts = []
    for seed in (0, 1):  # of the process, which has no say
        torch.manual_seed(seed)
        started = GENERATORS["stylegan2"].build(training.generator, 3)
        start_at_teacher(started, job)
        starts.append(started.state_dict())
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())
    weights = module.state_dict()
    content = content_scores(case.config, weights, torch_stream(3, "init/content_score"))
    expected = {
        name: student_state(case.config, weights, training.generator, "student", scores)
        for name, scores in (("l1", None), ("content", content))
    }
    assert all(torch.equal(value, starts[0][name]) for name, value in expected[score].items())
    assert not all(torch.equal(value, expected["l1"][name]) for name, value in expected["content"].items())


def test_channels_stay_in_their_order() -> None:
    case = CASES["resnet"]
    state = shaken(case).state_dict()
    widths = case.config.widths.model_copy(update={"stem": 2})
    config = case.config.model_copy(update={"widths": widths})
    scores = {
        group: torch.arange(float(len(score))) for group, score in l1_scores(case.config, state).items()
    }
    scores["stem"] = torch.tensor([3.0, 0.0, 9.0, 1.0])
    found = student_state(case.config, state, config, "student", scores)
    assert torch.equal(found["1.weight"], state["1.weight"][[0, 2]])
    assert torch.equal(found["4.weight"], state["4.weight"][:, [0, 2]])
    assert torch.equal(found["7.weight"], state["7.weight"])


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        (
            "resnet",
            {"num_blocks": 3},
            "student.generator.num_blocks: 3, but the teacher it starts from has 2",
        ),
        (
            "resnet",
            {"norm": "batch"},
            "student.generator.norm: batch, but the teacher it starts from has instance",
        ),
        (
            "resnet",
            {"widths": {"trunk": 9}},
            "student.generator.widths.trunk: 9, but the teacher it starts from has 8; give at most that",
        ),
        (
            "stylegan2",
            {"widths": {"at16": None}},
            "student.generator.widths.at16: None, but the teacher it starts from has 4",
        ),
        (
            "unet-deep",
            {"blocks_per_level": 2},
            "student.generator.blocks_per_level: 2, but the teacher it starts from has 1",
        ),
    ],
)
def test_what_is_no_narrower_copy_is_refused(name: str, values: dict[str, Any], says: str) -> None:
    teacher: Any = CASES[name].config
    changed = {
        key: teacher.widths.model_copy(update=value) if key == "widths" else value
        for key, value in values.items()
    }
    with pytest.raises(ConfigError) as error:
        require_narrower(teacher, teacher.model_copy(update=changed), "student.generator")
    assert says in str(error.value)


def test_another_family_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"student\.generator\.family: 'unet', but the teacher it starts from is a 'resnet'"
    ):
        require_narrower(CASES["resnet"].config, CASES["unet"].config, "student.generator")
