"""StyleGAN2's layers against plain loops: equalised weights, demodulation, blurs, noise, deviation."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import StyleganDiscriminator, StyleganGenerator, StyleganWidths
from raydistill.models import stylegan2
from raydistill.models.stylegan2 import EqualConv, EqualLinear, Halving, StyledConv, ToRgb

BINOMIAL = torch.tensor([1.0, 3.0, 3.0, 1.0]).double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def without_zeros(module: nn.Module) -> nn.Module:
    """In float64, with biases and noise strengths that matter."""
    for index, (name, value) in enumerate(module.named_parameters()):
        if name.endswith(("bias", "noise_strength")):
            value.data += 0.5 * torch.randn(value.shape, generator=torch.Generator().manual_seed(index))
    return module.double()


def activated(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def convolved(x: Tensor, kernel: Tensor, padding: int, stride: int = 1) -> Tensor:
    """(C, H, W) by (out, C, k, k), one output value after the other."""
    size = kernel.shape[-1]
    x = F.pad(x, (padding,) * 4)
    tops, lefts = (range(0, length - size + 1, stride) for length in x.shape[1:])
    values = [
        [[(x[:, top : top + size, left : left + size] * one).sum() for left in lefts] for top in tops]
        for one in kernel
    ]
    return torch.stack([torch.stack([torch.stack(row) for row in rows]) for rows in values])


def blurred(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Each channel alone by the outer product of 1, 3, 3, 1 with itself, which sums to `gain`."""
    kernel = torch.outer(BINOMIAL, BINOMIAL) / 64 * gain
    return torch.cat([convolved(channel[None], kernel[None, None], padding) for channel in x])


def with_gaps(x: Tensor) -> Tensor:
    """A zero between every two neighbours: (C, H, W) -> (C, 2 H - 1, 2 W - 1)."""
    out = torch.zeros(len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1, dtype=x.dtype)
    out[:, ::2, ::2] = x
    return out


def each(function, x: Tensor, *others: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """One picture after the other."""
    return torch.stack([function(*row) for row in zip(x, *others, strict=True)])


# ---- layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_an_equalised_linear_layer_scales_weights_by_the_fan_in_and_all_by_its_rate(rate: float) -> None:
    torch.manual_seed(0)
    layer = EqualLinear(400, 300, bias=1.5, rate=rate)
    assert layer.weight.shape == (300, 400) and layer.weight.std().item() == pytest.approx(1 / rate, rel=0.02)
    assert layer.bias.tolist() == [1.5] * 300
    layer, x = without_zeros(EqualLinear(5, 3, bias=1.5, rate=rate)), drawn(2, 5)
    expected = [
        [
            sum(layer.weight[o, i] * rate / math.sqrt(5) * row[i] for i in range(5)) + rate * layer.bias[o]
            for o in range(3)
        ]
        for row in x
    ]
    torch.testing.assert_close(layer(x), torch.stack([torch.stack(row) for row in expected]))


def test_an_equalised_convolution_scales_weights_by_the_fan_in_and_keeps_the_side() -> None:
    torch.manual_seed(0)
    assert EqualConv(40, 30, 3).weight.std().item() == pytest.approx(1, rel=0.05)
    for kernel, stride, padding in ((3, 1, None), (1, 1, None), (3, 2, 0), (1, 2, None)):
        layer, x = without_zeros(EqualConv(4, 3, kernel)), drawn(2, 4, 7, 6)
        weight = layer.weight / math.sqrt(4 * kernel**2)
        used = kernel // 2 if padding is None else padding
        expected = torch.stack([convolved(one, weight, used, stride) for one in x])
        expected = expected + layer.bias[:, None, None]
        torch.testing.assert_close(layer(x, stride=stride, padding=padding), expected)
    assert EqualConv(4, 3, 1, bias=False).bias is None


def styled(layer: StyledConv, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
    """One picture: kernels scaled by the style and brought to norm 1, noise, bias, activation."""
    scales = layer.affine(style[None])[0]
    kernel = layer.weight * scales[None, :, None, None] / math.sqrt(layer.weight[0].numel())
    kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    if layer.doubles:
        h = blurred(convolved(with_gaps(x), kernel.flip(2, 3), padding=2), padding=1, gain=4)
    else:
        h = convolved(x, kernel, padding=1)
    return activated(h + layer.noise_strength * noise + layer.bias[:, None, None])


@pytest.mark.parametrize("doubles", [False, True])
def test_a_styled_convolution_modulates_demodulates_adds_noise_and_bias(doubles: bool) -> None:
    torch.manual_seed(0)
    side = 10 if doubles else 5
    layer = without_zeros(StyledConv(4, 3, 6, side, doubles=doubles))
    x, style, noise = drawn(2, 4, 5, 5), drawn(2, 6, seed=1), drawn(2, 1, side, side, seed=2)
    found = layer(x, style, noise)
    assert found.shape == (2, 3, side, side)
    expected = each(lambda *row: styled(layer, *row), x, style, noise)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    own = each(lambda *row: styled(layer, *row, layer.noise[0]), x, style)
    torch.testing.assert_close(layer(x, style), own, rtol=1e-6, atol=1e-8)


def test_a_styled_convolution_starts_without_noise_and_with_scales_around_one() -> None:
    torch.manual_seed(0)
    layer = StyledConv(64, 32, 48, 8)
    assert layer.noise_strength.item() == 0 and not layer.bias.any() and layer.noise.shape == (1, 1, 8, 8)
    assert layer.affine.bias.tolist() == [1.0] * 64 and layer.affine.weight.std().item() == pytest.approx(
        1, rel=0.05
    )
    assert layer.weight.std().item() == pytest.approx(1, rel=0.02)


def test_a_picture_layer_is_modulated_and_not_demodulated() -> None:
    torch.manual_seed(0)
    layer = without_zeros(ToRgb(4, 6))
    x, style = drawn(2, 4, 3, 3), drawn(2, 6, seed=1)

    def picture(one: Tensor, style: Tensor) -> Tensor:
        kernel = layer.weight * layer.affine(style[None])[0][None, :, None, None] / math.sqrt(4)
        return convolved(one, kernel, 0) + layer.bias[:, None, None]

    torch.testing.assert_close(layer(x, style), each(picture, x, style))
    assert ToRgb(4, 6).affine.bias.tolist() == [1.0] * 4 and not ToRgb(4, 6).bias.any()


def test_pictures_are_doubled_by_zeros_between_pixels_and_a_blur() -> None:
    """The blur's weights add up to 4: one pixel in four is not zero."""
    x = drawn(2, 3, 3, 4)
    expected = each(lambda one: blurred(with_gaps(one), padding=2, gain=4), x)
    torch.testing.assert_close(stylegan2._double(x), expected)
    assert expected.shape == (2, 3, 6, 8)


def test_a_halving_adds_two_convolutions_and_a_shortcut_over_the_root_of_two() -> None:
    torch.manual_seed(0)
    layer, x = without_zeros(Halving(4, 3)), drawn(2, 4, 6, 6)

    def halved(one: Tensor) -> Tensor:
        first, second, shortcut = (
            part.weight / math.sqrt(part.weight[0].numel())
            for part in (layer.first, layer.second, layer.shortcut)
        )
        h = activated(convolved(one, first, 1) + layer.first.bias[:, None, None])
        h = convolved(blurred(h, padding=2), second, 0, 2) + layer.second.bias[:, None, None]
        return (activated(h) + convolved(blurred(one, padding=1), shortcut, 0, 2)) / math.sqrt(2)

    found = layer(x)
    assert found.shape == (2, 3, 3, 3)
    torch.testing.assert_close(found, each(halved, x))


@pytest.mark.parametrize("number", [1, 3, 4, 8])
def test_the_minibatch_deviation_is_that_of_four_neighbours(number: int) -> None:
    x = drawn(number, 2, 3, 5)
    size = min(4, number)
    found = stylegan2._deviation(x)
    assert found.shape == (number, 1, 3, 5)
    for start in range(0, number, size):
        group = x[start : start + size]
        values = []
        for place in itertools.product(range(2), range(3), range(5)):
            column = [float(one[place]) for one in group]
            mean = sum(column) / size
            values.append(math.sqrt(sum((value - mean) ** 2 for value in column) / size + 1e-8))
        expected = torch.full((size, 1, 3, 5), sum(values) / len(values)).double()
        torch.testing.assert_close(found[start : start + size], expected, rtol=1e-6, atol=1e-9)


# ---- networks ----------------------------------------------------------------------------------------------


@pytest.fixture
def generator() -> stylegan2.Generator:
    torch.manual_seed(0)
    widths = StyleganWidths(at4=5, at8=4, at16=3)
    config = StyleganGenerator(widths=widths, style=6, num_mapping_layers=3, truncation=0.25)
    module = without_zeros(stylegan2.Generator(config))
    assert isinstance(module, stylegan2.Generator)
    return module


def test_a_style_is_the_normalised_latent_after_slow_layers(generator: stylegan2.Generator) -> None:
    z = drawn(3, 6)
    w = torch.stack([row / math.sqrt(sum(value**2 for value in row.tolist()) / 6 + 1e-8) for row in z])
    for layer in generator.mapping:
        w = activated(w @ (layer.weight * 0.01 / math.sqrt(6)).T + 0.01 * layer.bias)
    torch.testing.assert_close(generator.styles(z), w)
    assert len(generator.mapping) == 3


def test_every_layer_has_a_style_and_a_noise_of_its_own_and_pictures_are_added_up(
    generator: stylegan2.Generator,
) -> None:
    """Each resolution: two convolutions (one at 4x4), then a picture by the style of the next convolution."""
    assert generator.noise_sides == [4, 8, 8, 16, 16] and generator.num_styles == 6
    styles = [drawn(2, 6, seed=index) for index in range(6)]
    noise = [drawn(2, 1, side, side, seed=side + index) for index, side in enumerate(generator.noise_sides)]
    h = generator.convs[0](generator.constant.repeat(2, 1, 1, 1), styles[0], noise[0])
    picture = generator.rgbs[0](h, styles[1])
    h = generator.convs[2](generator.convs[1](h, styles[1], noise[1]), styles[2], noise[2])
    picture = generator.rgbs[1](h, styles[3]) + stylegan2._double(picture)
    h = generator.convs[4](generator.convs[3](h, styles[3], noise[3]), styles[4], noise[4])
    picture = generator.rgbs[2](h, styles[5]) + stylegan2._double(picture)
    torch.testing.assert_close(generator.synthesis(styles, noise), picture)


def test_truncation_is_a_share_of_the_way_from_the_mean_style(generator: stylegan2.Generator) -> None:
    z, mean = drawn(2, 6), drawn(6, seed=1)
    generator.mean_style.copy_(mean)
    styles = generator.styles(z)
    for share, given in ((0.25, None), (0.5, 0.5), (1.0, 1.0), (0.0, 0.0)):
        truncated = mean + share * (styles - mean)
        expected = generator.synthesis([truncated] * 6)
        torch.testing.assert_close(generator.eval()(z, given), expected)
    torch.testing.assert_close(generator.train()(z), generator.synthesis([styles] * 6))


def test_the_discriminator_is_its_layers_one_after_the_other() -> None:
    torch.manual_seed(0)
    config = StyleganDiscriminator(widths=StyleganWidths(at4=5, at8=4, at16=3))
    module, pictures = without_zeros(stylegan2.Discriminator(config)), drawn(8, 3, 16, 16)
    h = activated(module.stem(pictures))
    for block in module.blocks:
        h = block(h)
    assert h.shape == (8, 5, 4, 4) and [len(block.second.weight) for block in module.blocks] == [4, 5]
    h = activated(module.last(torch.cat([h, stylegan2._deviation(h)], 1))).reshape(8, -1)
    expected = module.head(activated(module.linear(h)))[:, 0]
    torch.testing.assert_close(module(pictures), expected)
