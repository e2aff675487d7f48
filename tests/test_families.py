"""Every generator family: published counts to the digit, closed-form costs, and one contract kit for all."""

import copy
import time

import numpy as np
import published_counts
import pytest
import torch
from families import CASES, Case, random_case
from published_counts import ATTENTION, Published, PublishedCritic
from torch import Tensor, nn

from raydistill.config.architectures import (
    MobileResnetWidths,
    PatchDiscriminator,
    ResnetGenerator,
    SaganDiscriminator,
    StyleganDiscriminator,
    StyleganGenerator,
    StyleganWidths,
)
from raydistill.config.paths import validated
from raydistill.errors import ConfigError
from raydistill.models import (
    GENERATORS,
    check,
    cost,
    discriminator,
    input_shape,
    sagan,
    stylegan2,
)
from raydistill.testing.generators import GeneratorContract, built, inputs

# ---- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", published_counts.GENERATORS, ids=lambda published: published.name)
def test_a_generator_has_the_published_counts(published: Published) -> None:
    family, shape = GENERATORS[published.config.family], (3, published.side, published.side)
    table = family.layers(published.config, *shape)
    with torch.device("meta"):
        module = family.build(published.config, 3)
    assert cost.params(table) == cost.module_params(module) == published.params
    assert {convention: cost.macs(table, convention) for convention in published.macs} == published.macs
    assert cost.module_macs(module, (1, *input_shape(published.config, *shape))) == cost.macs(table)


@pytest.mark.parametrize("published", published_counts.DISCRIMINATORS, ids=lambda published: published.name)
def test_a_discriminator_has_the_published_counts(published: PublishedCritic) -> None:
    with torch.device("meta"):
        module = discriminator(published.config, published.channels)
    assert cost.module_params(module) == published.params
    if published.macs is not None:
        assert (
            cost.module_macs(module, (1, published.channels, published.side, published.side))
            == published.macs
        )


def test_the_products_of_an_attention_are_counted_by_the_true_convention_alone() -> None:
    tables = {
        row.name: GENERATORS["sagan"].layers(row.config, 3, 64, 64)
        for row in published_counts.GENERATORS
        if row.name in ATTENTION
    }
    tables["SAGAN D ndf 64"] = sagan.discriminator_layers(SaganDiscriminator())
    assert {
        name: sum(row.macs for row in table if isinstance(row, cost.Extra)) for name, table in tables.items()
    } == ATTENTION
    table = tables["SAGAN D ndf 64"]
    assert (cost.params(table), cost.macs(table), cost.macs(table, "conv_out")) == (
        3_175_299,
        115_630_080,
        114_302_976,
    )


def test_the_pixel_discriminator_has_the_parameters_of_three_1x1_convolutions() -> None:
    module = discriminator(PatchDiscriminator(width=64, num_layers=0), 6)
    assert cost.module_params(module) == (6 * 64 + 64) + (64 * 128 + 128) + (128 + 1)
    assert module(torch.randn(2, 6, 5, 7)).shape == (2, 1, 5, 7)


@pytest.mark.parametrize("number", [8, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", GENERATORS)
def test_the_closed_form_counts_what_the_module_counts_on_random_configs(family: str, number: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(number):
        case = random_case(family, rng)
        table = GENERATORS[family].layers(*case)
        with torch.device("meta"):
            module = GENERATORS[family].build(case.config, case.in_channels)
        assert cost.params(table) == cost.module_params(module)
        assert cost.macs(table) == cost.module_macs(module, (1, *input_shape(*case)))


@pytest.mark.parametrize("family", GENERATORS)
def test_a_count_is_fast_enough_for_a_search(family: str) -> None:
    rng = np.random.default_rng(0)
    cases = [random_case(family, rng) for _ in range(100)]
    best = 0.0
    for _ in range(5):
        started = time.process_time()
        for case in cases:
            table = GENERATORS[family].layers(*case)
            cost.macs(table), cost.params(table)
        best = max(best, len(cases) / (time.process_time() - started))
    assert best >= 5_000


# ---- the contract kit --------------------------------------------------------------------------------------


class TestEveryFamily(GeneratorContract):
    """The fixture `case` is that of `conftest`."""

    def unused_widths(self, case: Case) -> set[str]:
        return {"up"} if getattr(case.config, "scale", None) == 1 else set()


# ---- StyleGAN2 ---------------------------------------------------------------------------------------------


def modulated(x: Tensor, style: Tensor, layer: stylegan2.StyledConv) -> Tensor:
    """The published form: kernels scaled by styles and normalised, one convolution a picture."""
    scales = layer.affine(style)
    kernels = layer.weight[None] * scales[:, None, :, None, None] / (layer.weight[0].numel() ** 0.5)
    kernels = kernels * (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    return torch.cat([nn.functional.conv2d(one[None], kernel, padding=1) for one, kernel in zip(x, kernels)])


def test_modulating_the_input_is_the_same_as_modulating_the_kernel() -> None:
    torch.manual_seed(0)
    layer = stylegan2.StyledConv(5, 7, 6, 8).eval()
    x, style = torch.randn(3, 5, 8, 8), torch.randn(3, 6)
    torch.testing.assert_close(
        layer(x, style),
        nn.functional.leaky_relu(modulated(x, style, layer), 0.2) * 2**0.5,
        rtol=1e-5,
        atol=1e-5,
    )


def test_doubling_a_picture_keeps_a_constant_inside_and_its_mean() -> None:
    picture = torch.full((1, 3, 8, 8), 0.7)
    doubled = stylegan2._double(picture)
    assert doubled.shape == (1, 3, 16, 16)
    torch.testing.assert_close(doubled[:, :, 1:-1, 1:-1], torch.full((1, 3, 14, 14), 0.7))


def test_truncation_pulls_pictures_towards_that_of_the_mean_style() -> None:
    case = CASES["stylegan2"]
    module = built(case).eval()
    assert isinstance(module, stylegan2.Generator)
    z = inputs(case)
    module.mean_style.copy_(module.styles(torch.randn(64, 12)).mean(0).detach())
    with torch.no_grad():
        mean, half, full = (module(z, truncation) for truncation in (0.0, 0.5, 1.0))
    torch.testing.assert_close(mean[0], mean[1])
    assert bool((half - mean).norm() < (full - mean).norm())


def test_a_generators_noise_is_its_own_unless_other_is_given() -> None:
    module = built(CASES["stylegan2"])
    for name, parameter in module.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.ones_(parameter)
    z = inputs(CASES["stylegan2"])
    with torch.no_grad():
        own = module.eval()(z)
        assert torch.equal(module.train()(z), own)
        styles = [module.styles(z)] * module.num_styles
        other = [torch.randn(len(z), 1, side, side) for side in module.noise_sides]
        assert torch.equal(module.synthesis(styles), own) and not torch.equal(
            module.synthesis(styles, other), own
        )


def test_the_discriminators_score_each_picture() -> None:
    torch.manual_seed(0)
    pictures = torch.randn(4, 3, 16, 16)
    module = discriminator(StyleganDiscriminator(widths=StyleganWidths(at4=8, at8=6, at16=4)), 3)
    assert module(pictures).shape == (4,)
    assert discriminator(SaganDiscriminator(), 3)(torch.randn(2, 3, 64, 64)).shape == (2,)
    assert not torch.equal(module(pictures)[:1], module(pictures[:1]))  # it sees the spread of a group


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "height", "width", "says"),
    [
        (
            "resnet",
            18,
            16,
            "resnet needs heights and widths divisible by 4, 8 or more, given 3 channels of 18x16",
        ),
        ("resnet", 4, 4, "8 or more"),
        ("mobile_resnet", 16, 18, "divisible by 4"),
        ("unet", 24, 32, "divisible by 16 (2 ** num_levels)"),
        ("sagan", 32, 32, "pictures of 64x64"),
        ("stylegan2", 32, 32, "pictures of 16x16"),
    ],
)
def test_a_size_that_a_family_cannot_take_is_refused(name: str, height: int, width: int, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(CASES[name].config, 3, height, width, "student.generator")
    assert "student.generator" in str(error.value) and says in str(error.value)
    check(CASES[name].config, 3, CASES[name].height, CASES[name].width, "student.generator")


def test_pictures_of_other_than_3_channels_cannot_be_enhanced() -> None:
    with pytest.raises(ConfigError, match="pictures of 3 channels, given 5 channels"):
        check(CASES["enhance"].config, 5, 16, 16, "student.generator")


@pytest.mark.parametrize(
    ("family", "values", "says"),
    [
        ("resnet", {"widths": {"stem": 0}}, "widths.stem: Input should be greater than or equal to 1"),
        (
            "sagan",
            {"widths": {"at4": 8, "at8": 8, "at16": 7, "at32": 8}},
            "widths.at16: Input should be greater than or equal to 8",
        ),
        (
            "stylegan2",
            {"widths": {"at4": 8, "at8": 8, "at32": 8}},
            "give every width up to the network's size",
        ),
        ("unet", {"num_levels": 3}, "num_levels: Input should be greater than or equal to 4"),
        ("enhance", {"scale": 3}, "scale: Input should be 1, 2 or 4"),
    ],
)
def test_a_config_out_of_range_is_refused(family: str, values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        validated(GENERATORS[family].config, values, where="here")
    assert says in str(error.value)


@pytest.mark.parametrize("text", ["16_16_32", "16_16_32_16_32_32_16_x", "0_16_32_16_32_32_16_16", ""])
def test_a_width_string_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        MobileResnetWidths.parse(text)


def test_the_published_widths_are_the_defaults() -> None:
    assert ResnetGenerator().widths.trunk == 256
    assert StyleganGenerator().widths.sides == {4: 512, 8: 512, 16: 512, 32: 512, 64: 512}
    assert copy.deepcopy(StyleganWidths.published(1024).sides)[1024] == 32
