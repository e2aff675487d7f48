"""Networks and their costs: published counts to the digit, the layer table, ranges, spectral norms."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.architectures import (
    EnergyNetwork,
    EvaluatorNetwork,
    PatchDiscriminator,
    ResnetGenerator,
    ResnetWidths,
)
from raydistill.data import DataInfo
from raydistill.models import cost, networks, patchgan, resnet
from raydistill.models.energy import EnergyModel, SpectralConv, normalised_weights
from raydistill.models.evaluator import PixelEvaluator

PICTURE = (1, 3, 256, 256)
INFO = DataInfo(
    layout="aligned",
    height=16,
    width=16,
    num_classes=None,
    class_names=(),
    palette=(),
    ignore_index=None,
    counts={},
    split_rule="",
)


def uniform(ngf: int, norm: str = "instance", num_blocks: int = 9) -> ResnetGenerator:
    return ResnetGenerator.model_validate(
        {"widths": ResnetWidths.uniform(ngf), "norm": norm, "num_blocks": num_blocks}
    )


# ---- published counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "height", "width", "params"),
    [(32, 256, 256, 1_708_609), (8, 256, 256, 107_473), (32, 128, 96, 1_118_273)],
)
def test_the_energy_network_has_the_published_number_of_parameters(
    channels: int, height: int, width: int, params: int
) -> None:
    with torch.device("meta"):
        assert cost.module_params(EnergyModel(EnergyNetwork(channels=channels), height, width)) == params


# ---- the layer table ---------------------------------------------------------------------------------------


def test_macs_of_a_layer_are_counted_where_its_arithmetic_happens() -> None:
    conv, transposed = nn.Conv2d(3, 5, 3, 2, 1), nn.ConvTranspose2d(3, 5, 3, 2, 1, 1)
    assert cost.module_macs(conv, (1, 3, 8, 8)) == 3 * 5 * 9 * 4 * 4
    assert cost.module_macs(transposed, (1, 3, 8, 8)) == 3 * 5 * 9 * 8 * 8
    assert cost.module_macs(nn.Linear(6, 7), (1, 6)) == 42


def test_counting_leaves_a_network_where_and_as_it_is() -> None:
    module = nn.Conv2d(3, 5, 3)
    before = module.weight.detach().clone()
    cost.module_macs(module, (1, 3, 8, 8))
    assert module.weight.device.type == "cpu" and torch.equal(module.weight, before)


# ---- shapes and ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_generator_gives_pictures_in_range_for_any_channels_and_size(norm: str) -> None:
    for channels, height, width in ((3, 8, 8), (9, 16, 24)):
        module = resnet.build(uniform(4, norm, 2), channels)
        output = module(100 * torch.randn(2, channels, height, width))
        assert output.shape == (2, 3, height, width) and bool((output.abs() <= 1).all())


def test_a_discriminator_gives_a_score_a_patch() -> None:
    module = patchgan.build(PatchDiscriminator(width=4, num_layers=3), 6)
    assert module(torch.randn(2, 6, 64, 64)).shape == (2, 1, 6, 6)


def test_the_evaluator_gives_a_prediction_a_pixel_and_one_row_of_features() -> None:
    prediction, features = PixelEvaluator(EvaluatorNetwork(width=6, feature_width=10), 8)(
        torch.randn(2, 3, 16, 24)
    )
    assert prediction.shape == (2, 8, 16, 24) and features.shape == (2, 10)


@pytest.mark.parametrize(
    ("height", "width", "num_blocks"), [(256, 256, 7), (128, 96, 5), (32, 32, 4), (16, 24, 3)]
)
def test_the_energy_network_has_as_many_blocks_as_the_picture_can_be_halved(
    height: int, width: int, num_blocks: int
) -> None:
    with torch.device("meta"):
        energy = EnergyModel(EnergyNetwork(channels=2), height, width)
        assert len(energy.blocks) == num_blocks
        assert energy(torch.empty(2, 3, height, width), torch.empty(2, 3, height, width)).shape == (2,)


def test_networks_of_one_seed_are_equal_and_of_two_seeds_are_not() -> None:
    built = {
        "generator": lambda seed: networks.generator(uniform(4), INFO, seed),
        "discriminator": lambda seed: networks.discriminator(
            PatchDiscriminator(width=4, num_layers=1), INFO, seed
        ),
        "energy": lambda seed: networks.energy(EnergyNetwork(channels=2), INFO, seed),
        "evaluator": lambda seed: networks.evaluator(EvaluatorNetwork(width=4, feature_width=4), INFO, seed),
    }
    for build in built.values():
        torch.manual_seed(3)
        first = torch.cat([value.flatten() for value in build(0).state_dict().values()])
        expected = torch.get_rng_state()
        again, other = (
            torch.cat([value.flatten() for value in build(seed).state_dict().values()]) for seed in (0, 1)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), expected)


# ---- spectral norms ----------------------------------------------------------------------------------------


def applied_by(layer: SpectralConv) -> Tensor:
    """W / sigma of one convolution."""
    (weight,) = normalised_weights([layer])
    return weight


def norm_after(layer: SpectralConv, iterations: int = 300) -> float:
    """Largest singular value (by SVD) of the weight that is applied, after so many forwards in training
    mode."""
    layer.train()
    for _ in range(iterations):
        applied_by(layer)
    return float(torch.linalg.matrix_norm(applied_by(layer).detach().flatten(1).double(), 2))


def conv_of_norm(norm: float, lower_bounded: bool) -> SpectralConv:
    torch.manual_seed(0)
    layer = SpectralConv(6, 8, 3, lower_bounded=lower_bounded)
    with torch.no_grad():
        layer.weight.mul_(norm / torch.linalg.matrix_norm(layer.weight.flatten(1), 2))
    return layer


@pytest.mark.parametrize("norm", [0.1, 0.9, 1.1, 40.0])
def test_a_spectral_norm_is_forced_to_one(norm: float) -> None:
    assert norm_after(conv_of_norm(norm, lower_bounded=False)) == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize(("norm", "applied"), [(0.1, 0.1), (0.9, 0.9), (1.1, 1.0), (40.0, 1.0)])
def test_a_lower_bounded_spectral_norm_is_capped_at_one_and_left_alone_below(
    norm: float, applied: float
) -> None:
    layer = conv_of_norm(norm, lower_bounded=True)
    assert norm_after(layer) == pytest.approx(applied, rel=1e-5)
    if norm < 1:
        torch.testing.assert_close(applied_by(layer), layer.weight)


def test_no_gradient_runs_through_the_spectral_norm() -> None:
    layer = conv_of_norm(3.0, lower_bounded=False).eval()
    scale = (applied_by(layer) / layer.weight).detach()
    upstream = torch.randn_like(layer.weight)
    (gradient,) = torch.autograd.grad((applied_by(layer) * upstream).sum(), layer.weight)
    torch.testing.assert_close(gradient, scale * upstream)


def test_the_spectral_norms_of_many_convolutions_are_those_of_each_alone() -> None:
    """Plain and lower bounded ones of other shapes, in training and in eval mode."""
    torch.manual_seed(0)
    layers = [
        SpectralConv(6, 8, 3),
        SpectralConv(8, 4, 3, std=0.01, lower_bounded=True, halves=True),
        SpectralConv(4, 1, 1),
        SpectralConv(3, 5, 3, lower_bounded=True),
    ]
    alone = copy.deepcopy(layers)
    for mode in (True, False):
        for layer in (*layers, *alone):
            layer.train(mode)
        for weight, own, layer in zip(normalised_weights(layers), layers, alone):
            torch.testing.assert_close(weight, applied_by(layer), rtol=1e-6, atol=1e-12)
            torch.testing.assert_close(own.u, layer.u, rtol=1e-6, atol=1e-7)


def test_the_power_iteration_moves_in_training_mode_only() -> None:
    torch.manual_seed(0)
    energy = EnergyModel(EnergyNetwork(channels=4), 16, 16)
    t, s = torch.randn(2, 2, 3, 16, 16)
    before = copy.deepcopy(dict(energy.named_buffers()))
    first, second = energy.eval()(t, s), energy(t, s)
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in energy.named_buffers())
    energy.train()(t, s)
    assert not any(
        torch.equal(value, before[name])
        for name, value in energy.named_buffers()
        if not name.startswith("head.")
    )


def test_the_energy_networks_residual_branches_start_at_zero() -> None:
    torch.manual_seed(0)
    energy = EnergyModel(EnergyNetwork(channels=4), 16, 16).eval()
    t, s = torch.rand(2, 4, 3, 16, 16) * 2 - 1

    def conv(h: Tensor, layer: SpectralConv) -> Tensor:
        """As it was published: where it halves, the mean of 2x2 pixels follows."""
        h = F.conv2d(h, applied_by(layer), layer.bias, padding=layer.weight.shape[2] // 2)
        return F.avg_pool2d(h, 2) if layer.halves else h

    def without_branches() -> Tensor:
        h = torch.cat([F.avg_pool2d(t, 3, 2, 1), F.avg_pool2d(s, 3, 2, 1)], 1)
        h = F.leaky_relu(conv(h, energy.stem), 0.01)
        for block in energy.blocks:
            h = F.leaky_relu(F.avg_pool2d(h, 2) if block.shortcut is None else conv(h, block.shortcut), 0.01)
        return conv(F.relu(h).mean((2, 3), keepdim=True), energy.head).flatten()

    for block in energy.blocks:
        h = torch.randn(1, block.first.weight.shape[1], 8, 8)
        assert float(conv(F.leaky_relu(conv(h, block.first), 0.01), block.second).detach().abs().max()) < 1e-7
    torch.testing.assert_close(energy(t, s), without_branches(), rtol=1e-6, atol=1e-7)


def test_the_energy_of_a_pair_does_not_depend_on_the_others_in_the_batch() -> None:
    torch.manual_seed(0)
    energy = EnergyModel(EnergyNetwork(channels=4), 16, 16).eval()
    t, s = torch.randn(2, 5, 3, 16, 16)
    torch.testing.assert_close(energy(t, s)[2:3], energy(t[2:3], s[2:3]), rtol=1e-5, atol=1e-7)
