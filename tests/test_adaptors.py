"""Adaptors: 1x1 convolutions from a student's activations to the widths of its teacher's."""

from typing import Any, get_args

import pytest
import torch
from families import CASES, Case, case
from torch import nn

from raydistill import distributed
from raydistill.config.presets import shapes32
from raydistill.distributed import ALONE, CrossRankBatchNorm, pretended
from raydistill.errors import ConfigError
from raydistill.models import networks, taps
from raydistill.models.adaptors import AdaptorKind, Adaptors
from raydistill.testing.generators import built, info_of, inputs

WHERE = "student.base.taps"
all_kinds = pytest.mark.parametrize("kind", get_args(AdaptorKind))


def narrow(case: Case) -> Case:
    """The same network, each width one less."""
    widths = {name: value and max(1, value - 1) for name, value in case.config.widths}
    return case._replace(config=case.config.model_copy(update={"widths": type(case.config.widths)(**widths)}))


def made(kind: AdaptorKind, teacher: Case, names: tuple[str, ...] | None = None, seed: int = 0) -> Adaptors:
    config = narrow(teacher).config
    return networks.adaptors(kind, config, teacher.config, names, info_of(teacher), seed, WHERE)


@all_kinds
@pytest.mark.parametrize("name", ["resnet", "mobile_resnet", "unet", "enhance-x4", "sagan", "stylegan2"])
def test_a_students_activations_get_the_teachers_shapes(name: str, kind: AdaptorKind) -> None:
    teacher = CASES[name]
    if name == "sagan":
        teacher = case(
            "sagan", {"widths": dict.fromkeys(("at4", "at8", "at16", "at32"), 9), "latent": 4}, 3, 64, 64
        )
    student, adaptors, found = narrow(teacher), made(kind, teacher), []
    for network, of in ((built(student), student), (built(teacher), teacher)):
        with torch.no_grad(), taps.tapped(network, taps.module_paths(of.config, None, WHERE)) as outputs:
            network(inputs(of))
        found.append(outputs)
    assert any(found[0][tap].shape != found[1][tap].shape for tap in found[0])
    adapted = adaptors(found[0])
    assert {tap: value.shape for tap, value in adapted.items()} == {
        tap: value.shape for tap, value in found[1].items()
    }


def test_a_linear_adaptor_is_a_weighted_sum_of_channels_at_each_pixel() -> None:
    adaptors = Adaptors("linear", {"down": (3, 2)})
    x = torch.randn(2, 3, 4, 5)
    weight, bias = (dict(adaptors.named_parameters())[f"of_down.{leaf}"] for leaf in ("weight", "bias"))
    expected = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x) + bias[:, None, None]
    torch.testing.assert_close(adaptors({"down": x, "other": x})["down"], expected)
    with pytest.raises(KeyError, match="down"):
        adaptors({"other": x})


def test_the_other_kind_normalises_over_the_batch_and_cuts_at_zero() -> None:
    adaptors = Adaptors("conv_norm_relu", {"down": (3, 2)})
    x = torch.randn(4, 3, 4, 5)
    weight = dict(adaptors.named_parameters())["of_down.0.weight"]
    h = torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x)
    mean, variance = h.mean((0, 2, 3), keepdim=True), h.var((0, 2, 3), unbiased=False, keepdim=True)
    expected = ((h - mean) / (variance + 1e-5).sqrt()).relu()
    torch.testing.assert_close(adaptors({"down": x})["down"], expected, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in adaptors.named_parameters()} == {
        "of_down.0.weight",
        "of_down.1.weight",
        "of_down.1.bias",
    }


@all_kinds
def test_weights_come_from_the_seed_alone_and_are_those_of_published_networks(kind: AdaptorKind) -> None:
    teacher = case("unet", {"num_levels": 5}, 3, 32, 32)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (made(kind, teacher, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    flat = [nn.utils.parameters_to_vector(each.parameters()) for each in (first, again, other)]
    assert torch.equal(flat[0], flat[1]) and not torch.equal(flat[0], flat[2])
    convs = [layer for layer in first.modules() if isinstance(layer, nn.Conv2d)]
    assert len(convs) == 4
    for conv in convs:
        assert abs(float(conv.weight.detach().std()) / 0.02 - 1) < 0.1
        assert conv.bias is None or not conv.bias.any()


def test_a_tap_may_have_any_name() -> None:
    """Also one that a module has already."""
    adaptors = Adaptors("linear", {"forward": (2, 3), "train": (2, 3)})
    assert list(adaptors({"forward": torch.ones(1, 2, 1, 1), "train": torch.ones(1, 2, 1, 1)})) == [
        "forward",
        "train",
    ]


def test_several_workers_share_the_batchs_statistics_and_bfloat16_gives_float32() -> None:
    training = shapes32().student
    with pretended(2) as workers:
        shared = {"adaptors": Adaptors("conv_norm_relu", {"down": (3, 2)})}
        distributed.prepare(shared, training, torch.device("cpu"), workers)
    norms = [layer for layer in shared["adaptors"].modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [type(norm) for norm in norms] == [CrossRankBatchNorm]
    half = {"adaptors": Adaptors("linear", {"down": (3, 2)})}
    x = torch.randn(2, 3, 4, 4)
    whole = half["adaptors"]({"down": x})["down"]
    halved = training.model_copy(update={"precision": "bfloat16"})
    distributed.prepare(half, halved, torch.device("cpu"), ALONE)
    found = half["adaptors"]({"down": x})["down"]
    assert found.dtype == torch.float32 and not torch.equal(found, whole)
    torch.testing.assert_close(found, whole, rtol=0.05, atol=0.05)


def test_they_run_on_the_meta_device() -> None:
    teacher = CASES["resnet"]
    with torch.device("meta"):
        adaptors = made("conv_norm_relu", teacher, ("down",))
    found = adaptors({"down": torch.empty(2, 7, 4, 6, device="meta")})
    assert found["down"].is_meta and found["down"].shape == (2, 8, 4, 6)


# ---- what is refused ---------------------------------------------------------------------------------------


def test_taps_of_another_size_are_refused_with_both_shapes() -> None:
    teacher, info = CASES["enhance"].config, info_of(CASES["enhance"])
    student: Any = case("resnet", {"num_blocks": 2}, 3, 16, 20).config
    with pytest.raises(ConfigError) as error:
        networks.tap_widths(student, teacher, ("block1",), info, WHERE)
    assert str(error.value) == (
        "student.base.taps: 'block1' has 256 channels of 4x5 in the student, and 6 channels of 16x20 in the "
        "teacher; name taps of one height and width"
    )


def test_default_taps_that_differ_are_refused_and_may_be_named() -> None:
    teacher, info = case("resnet", {"num_blocks": 9}, 3, 16, 16).config, info_of(CASES["mobile_resnet"])
    student = CASES["mobile_resnet"].config
    with pytest.raises(ConfigError) as error:
        networks.adaptors("linear", student, teacher, None, info, 0, WHERE)
    assert str(error.value) == (
        "student.base.taps: the default taps of the student are down, block2, block3, block4, those of the "
        "teacher down, block3, block6, block9; name some that both have"
    )
    assert networks.tap_widths(student, teacher, ("down", "block4"), info, WHERE) == {
        "down": (8, 256),
        "block4": (8, 256),
    }
    with pytest.raises(ConfigError, match=r"'block9' is no layer of this mobile_resnet"):
        networks.tap_widths(student, teacher, ("block9",), info, WHERE)
