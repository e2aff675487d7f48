"""Every network written a second time, as a function of its tensors: layers, norms, slopes and shortcuts.

StyleGAN2's layers are in `test_stylegan2.py`, the energy network in `reference_vem.py`.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from families import CASES
from test_import import shaken
from torch import Tensor, nn

from raydistill.config.architectures import (
    EvaluatorNetwork,
    PatchDiscriminator,
    SaganDiscriminator,
    SaganDiscriminatorWidths,
)
from raydistill.models import patchgan, sagan
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator

State = dict[str, Tensor]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def without_zeros(module: nn.Module) -> nn.Module:
    """Biases, norms and gammas at random values, so that each matters; in eval mode."""
    generator = torch.Generator().manual_seed(6)
    for name, value in module.named_parameters():
        if name.endswith(("bias", "gamma")) or value.ndim == 1:
            value.data += 0.3 * torch.randn(value.shape, generator=generator)
    return module.eval()


def conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding, groups=groups)


def doubled(state: State, name: str, x: Tensor, padding: int, more: int) -> Tensor:
    """A transposed convolution of stride 2; `more`: output padding."""
    return F.conv_transpose2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), 2, padding, more)


def mirrored(x: Tensor, by: int) -> Tensor:
    return F.pad(x, (by, by, by, by), mode="reflect")


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """A batch norm of a finished network where there are statistics, else an instance norm."""
    if f"{name}.running_mean" not in state:
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()
    mean, variance, weight, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def slope(x: Tensor, share: float) -> Tensor:
    return torch.where(x > 0, x, share * x)


def assert_same(module: nn.Module, expected: Tensor, *inputs: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(module(*inputs), expected, rtol=1e-4, atol=1e-5)


# ---- generators --------------------------------------------------------------------------------------------


def resnet(state: State, config: Any, x: Tensor) -> Tensor:
    """c7s1-64, d128, d256, blocks, u128, u64, c7s1-3."""

    def inner(name: str, h: Tensor) -> Tensor:
        if config.family == "resnet":
            return conv(state, name, h)
        h = conv(state, f"{name}.conv.0", h, groups=h.shape[1])
        return conv(state, f"{name}.conv.2", norm(state, f"{name}.conv.1", h))

    h = norm(state, "2", conv(state, "1", mirrored(x, 3))).relu()
    h = norm(state, "5", conv(state, "4", h, 2, 1)).relu()
    h = norm(state, "8", conv(state, "7", h, 2, 1)).relu()
    for index in range(10, 10 + config.num_blocks):
        branch = norm(state, f"{index}.conv_block.2", inner(f"{index}.conv_block.1", mirrored(h, 1))).relu()
        h = h + norm(state, f"{index}.conv_block.6", inner(f"{index}.conv_block.5", mirrored(branch, 1)))
    last = 10 + config.num_blocks
    h = norm(state, f"{last + 1}", doubled(state, f"{last}", h, 1, 1)).relu()
    h = norm(state, f"{last + 4}", doubled(state, f"{last + 3}", h, 1, 1)).relu()
    return conv(state, f"{last + 7}", mirrored(h, 3)).tanh()


def unet(state: State, config: Any, x: Tensor) -> Tensor:
    """Halvings by LeakyReLU(.2), doublings by ReLU of (what the halving saw, what came up), then tanh."""

    def bottleneck(name: str, x: Tensor) -> Tensor:
        h = norm(state, f"{name}.2", conv(state, f"{name}.1", mirrored(x, 1))).relu()
        h = norm(state, f"{name}.5", conv(state, f"{name}.4", h)).relu()
        h = norm(state, f"{name}.8", conv(state, f"{name}.7", h)).relu()
        return x + norm(state, f"{name}.12", conv(state, f"{name}.11", mirrored(h, 1)))

    last, seen = config.num_levels - 1, list[Tensor]()
    for level in range(last + 1):
        h = conv(state, f"downs.{level}.0", slope(seen[-1], 0.2) if seen else x, 2, 1)
        if 0 < level < last:
            h = norm(state, f"downs.{level}.1", h)
        for index in range(config.blocks_per_level if level < last else 0):
            h = bottleneck(f"downs.{level}.{index + (2 if level else 1)}.conv_block", h)
        seen.append(h)
    for index, level in enumerate(range(last, -1, -1)):
        name, number = f"ups.{index}", config.blocks_per_level if level < last else 0
        given = h if level == last else torch.cat([slope(seen[level], 0.2), h], 1)
        if level == 0:
            for block in range(number):
                given = bottleneck(f"{name}.{block}.conv_block", given)
            return doubled(state, f"{name}.{number + 1}", given.relu(), 1, 0).tanh()
        h = norm(state, f"{name}.2", doubled(state, f"{name}.1", given.relu(), 1, 0))
        for block in range(number):
            h = bottleneck(f"{name}.{block + 3}.conv_block", h)
    raise AssertionError


def enhance(state: State, config: Any, x: Tensor) -> Tensor:
    first = h = conv(state, "stem", x, padding=1)
    for index in range(config.num_blocks):
        branch = conv(state, f"blocks.{index}.first", h, padding=1).relu()
        h = h + conv(state, f"blocks.{index}.second", branch, padding=1)
    h = first + conv(state, "fuse", h, padding=1)
    for index in range({1: 0, 2: 1, 4: 2}[config.scale]):
        h = conv(state, f"doublings.{index}.0", h, padding=1)
        count, (height, width) = h.shape[1] // 4, h.shape[2:]
        h = h.view(-1, count, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        h = h.reshape(-1, count, 2 * height, 2 * width).relu()
    size = [config.scale * side for side in x.shape[2:]]
    large = F.interpolate(x, size, mode="bilinear", align_corners=False)
    return (large + conv(state, "head", h, padding=1)).clamp(-1, 1)


def attention(state: State, name: str, x: Tensor) -> Tensor:
    """x + gamma * what each place takes of the values, by the softmax of its query with every key."""
    query, key, value = (conv(state, f"{name}.{part}", x).flatten(2) for part in ("query", "key", "value"))
    rows = []
    for q, k, v in zip(query, key, value):
        places = [(k.T @ look).softmax(0) @ v.T for look in q.T]
        rows.append(torch.stack(places, 1))
    return x + state[f"{name}.gamma"] * torch.stack(rows).view(x.shape)


def spectral(module: nn.Module) -> State:
    """The state of a finished network with its spectral norms taken out: each weight over u W v."""
    state = dict(module.state_dict())
    for name in [name for name in state if name.endswith(".parametrizations.weight.original")]:
        weight, short = state[name], name.removesuffix(".parametrizations.weight.original")
        u, v = (state[f"{short}.parametrizations.weight.0._{part}"] for part in "uv")
        state[f"{short}.weight"] = weight / (u @ weight.flatten(1) @ v)
    return state


@pytest.mark.parametrize(
    "name", ["resnet", "resnet-batch", "mobile_resnet", "unet", "unet-deep", "enhance", "enhance-x4"]
)
def test_a_generator_of_pictures_is_its_layers_one_after_the_other(name: str) -> None:
    case, module = CASES[name], shaken(CASES[name])
    x = drawn(2, case.in_channels, case.height, case.width).clamp(-1, 1)
    plain = {"resnet": resnet, "mobile_resnet": resnet, "unet": unet, "enhance": enhance}[case.config.family]
    expected = plain(module.state_dict(), case.config, x)
    assert float(expected.std()) > 0.05 and float((expected.abs() > 0.999).float().mean()) < 0.5
    assert_same(module, expected, x)


def test_sagans_generator_is_its_layers_one_after_the_other() -> None:
    module = shaken(CASES["sagan"])
    state, z = spectral(module), drawn(2, 7)
    h = z[:, :, None, None]
    for index in range(4):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        h = F.conv_transpose2d(
            h, state[f"layers.{index}.0.weight"], state[f"layers.{index}.0.bias"], stride, padding
        )
        h = norm(state, f"layers.{index}.1", h).relu()
        h = attention(state, f"attention{h.shape[2]}", h) if index >= 2 else h
    assert_same(module, doubled(state, "head", h, 1, 0).tanh(), z)


# ---- discriminators ----------------------------------------------------------------------------------------


def test_sagans_discriminator_is_its_layers_one_after_the_other() -> None:
    torch.manual_seed(0)
    widths = SaganDiscriminatorWidths(at32=4, at16=5, at8=9, at4=17)
    module = without_zeros(sagan.Discriminator(SaganDiscriminator(widths=widths)))
    state, pictures = spectral(module), drawn(2, 3, 64, 64)
    h = pictures
    for index in range(4):
        h = slope(conv(state, f"layers.{index}.0", h, 2, 1), 0.1)
        h = attention(state, f"attention{h.shape[2]}", h) if index >= 2 else h
    assert_same(module, conv(state, "head", h).flatten(), pictures)


@pytest.mark.parametrize("kind", ["instance", "batch"])
@pytest.mark.parametrize("num_layers", [0, 1, 3, 5])
def test_a_patch_discriminator_halves_all_but_its_last_layers(num_layers: int, kind: Any) -> None:
    """Widths double up to eight times the first; the first layer and the last have no norm."""
    torch.manual_seed(0)
    module = without_zeros(patchgan.build(PatchDiscriminator(width=2, num_layers=num_layers, norm=kind), 5))
    state, x = dict(module.state_dict()), drawn(2, 5, 160, 140)
    if num_layers == 0:
        h = slope(conv(state, "0", x), 0.2)
        assert_same(module, conv(state, "5", slope(norm(state, "3", conv(state, "2", h)), 0.2)), x)
        return
    h = slope(conv(state, "0", x, 2, 1), 0.2)
    for index in range(1, num_layers + 1):
        place = 2 + 3 * (index - 1)
        assert state[f"{place}.weight"].shape[0] == 2 * min(2**index, 8)
        h = conv(state, f"{place}", h, 1 if index == num_layers else 2, 1)
        h = slope(norm(state, f"{place + 1}", h), 0.2)
    assert_same(module, conv(state, f"{2 + 3 * num_layers}", h, 1, 1), x)


# ---- the evaluator -----------------------------------------------------------------------------------------


def group_norm(state: State, name: str, x: Tensor, groups: int) -> Tensor:
    parts = x.view(len(x), groups, -1)
    parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    weight, bias = (state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return parts.view(x.shape) * weight + bias


def evaluator_conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    h = conv(state, f"{name}.0", x, stride, 1)
    groups = max(count for count in (1, 2, 4, 8) if h.shape[1] % count == 0)
    return group_norm(state, f"{name}.1", h, groups).relu()


def encoded(state: State, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    full = evaluator_conv(state, "fine.1", evaluator_conv(state, "fine.0", picture))
    half = evaluator_conv(state, "middle.1", evaluator_conv(state, "middle.0", full, 2))
    quarter = evaluator_conv(state, "coarse.0", half, 2)
    for part in ("coarse.1", "coarse.2"):
        quarter = evaluator_conv(state, part, quarter)
    return full, half, quarter


@pytest.mark.parametrize("widths", [(6, 10), (8, 16), (3, 7)])
def test_an_evaluator_is_its_layers_and_its_features_are_the_means_of_the_bottleneck(
    widths: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    config, picture = EvaluatorNetwork(width=widths[0], feature_width=widths[1]), drawn(2, 3, 12, 16)
    pixels, whole = without_zeros(PixelEvaluator(config, 5)), without_zeros(PictureEvaluator(config, 4))
    state = dict(pixels.state_dict())
    full, half, quarter = encoded(state, picture)
    up = quarter.repeat_interleave(2, 2).repeat_interleave(2, 3)
    up = evaluator_conv(state, "merge_middle", torch.cat([up, half], 1))
    up = up.repeat_interleave(2, 2).repeat_interleave(2, 3)
    up = evaluator_conv(state, "merge_fine", torch.cat([up, full], 1))
    with torch.no_grad():
        prediction, features = pixels(picture)
    torch.testing.assert_close(features, quarter.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prediction, conv(state, "head", up), rtol=1e-4, atol=1e-4)
    state = dict(whole.state_dict())
    expected = encoded(state, picture)[2].mean((2, 3))
    with torch.no_grad():
        prediction, features = whole(picture)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        prediction, expected @ state["head.weight"].T + state["head.bias"], rtol=1e-4, atol=1e-5
    )
