"""Checkpoint files with wrappers, several networks and odd values: read, or refused with the true reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import CASES
from test_import import as_resnet, as_rosinality, as_sagan, as_unet, put, shaken
from torch import Tensor
from torch.nn.utils import prune

from raydistill.errors import DataError
from raydistill.exchange.import_teacher import ImportReport, import_file
from raydistill.models import saved

State = dict[str, Tensor]
CASE = CASES["resnet-batch"]


def resnet(shift: float = 0.0) -> State:
    state = as_resnet(shaken(CASE).state_dict())
    return {name: value + shift if value.is_floating_point() else value for name, value in state.items()}


def under(place: str, state: State) -> State:
    return {f"{place}.{name}": value for name, value in state.items()}


CRITIC = {"model.0.weight": torch.randn(8, 3, 4, 4), "model.0.bias": torch.zeros(8)}
VGG = {"features.0.weight": torch.randn(8, 3, 3, 3), "features.0.bias": torch.zeros(8)}


def imported(tmp_path: Path, content: Any, network: str | None = None) -> tuple[ImportReport, State]:
    file = put(tmp_path / "net.pth", content)
    report = import_file(file, tmp_path / "out", (16, 16), network)
    found = saved.stored(tmp_path / "out", kind="generator")
    return report, saved.load_generator(found)[1]


def refusal(tmp_path: Path, content: Any, network: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        imported(tmp_path, content, network)
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "network"),
    [
        (lambda g: {"state_dict": under("netG", g) | under("netD", CRITIC) | under("vgg", VGG)}, "netG"),
        (
            lambda g: {"state_dict": under("model.generator", g) | under("model.critic", CRITIC)},
            "model.generator",
        ),
        (lambda g: under("_forward_module.module.netG._orig_mod", g), "_forward_module.netG"),
        (lambda g: {"epoch": 1, "gen": g, "disc": CRITIC, "opt": {"state": {0: {"exp_avg": VGG}}}}, "gen"),
        (lambda g: {"model": {"gan": {"G_main": under("module", g)}}, "step": 3}, "gan.G_main"),
        (lambda g: {"state_dict": under("G", resnet(1)) | under("G_ema", g) | under("D", CRITIC)}, "G_ema"),
        (lambda g: {"net": under("module", resnet(1)), "ema": {"module": under("module", g)}}, None),
        (
            lambda g: {
                name.replace("conv_block.", "conv_block._orig_mod."): each for name, each in g.items()
            },
            None,
        ),
    ],
)
def test_the_generator_is_found_wherever_it_stands(
    tmp_path: Path, content: Callable[[State], Any], network: str | None
) -> None:
    report, state = imported(tmp_path, content(resnet()))
    (tmp_path / "plain").mkdir()
    _, expected = imported(tmp_path / "plain", resnet())
    assert report.network == network
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


@pytest.mark.parametrize("as_theirs", [as_unet, as_sagan, as_rosinality])
def test_other_families_are_found_behind_wrappers_too(
    tmp_path: Path, as_theirs: Callable[..., State]
) -> None:
    name = {as_unet: "unet", as_sagan: "sagan", as_rosinality: "stylegan2"}[as_theirs]
    module, levels = shaken(CASES[name]), (4,) if name == "unet" else ()
    state = under("ddp.module.G", as_theirs(module.state_dict(), *levels))
    file = put(tmp_path / "net.pth", {"state_dict": state | under("ddp.module.D", CRITIC)})
    size = (CASES[name].height, CASES[name].width)
    report = import_file(file, tmp_path / "out", size if name == "unet" else None)
    assert (report.family, report.network) == (CASES[name].config.family, "ddp.G")


def test_several_generators_are_refused_and_each_can_be_named(tmp_path: Path) -> None:
    content = {
        "state_dict": under("cyc.A2B", resnet()) | under("cyc.B2A", resnet(1)) | under("cyc.D", CRITIC)
    }
    assert "several networks: cyc.A2B, cyc.B2A. Name one of them: --network NAME" in refusal(
        tmp_path, content
    )
    assert imported(tmp_path, content, "cyc.B2A")[0].network == "cyc.B2A"
    (tmp_path / "b").mkdir()
    assert "holds no network 'cyc.C'" in refusal(tmp_path / "b", content, "cyc.C")


def renamed(old: str, new: str) -> State:
    return {name.replace(old, new): value for name, value in resnet().items()}


def changed(**values: Any) -> State:
    return resnet() | {name.replace("__", "."): value for name, value in values.items()}


@pytest.mark.parametrize(
    ("state", "parts"),
    [
        (
            lambda: changed(model__1__weight=torch.full((4, 3, 7, 7), float("inf"))),
            ("model.1.weight", "infinite"),
        ),
        (
            lambda: changed(model__4__weight=torch.zeros(4, 4, 3, 3, dtype=torch.cfloat)),
            ("model.4", "complex64"),
        ),
        (
            lambda: changed(model__4__weight=torch.ones(4, 4, 3, 3, dtype=torch.int8)),
            ("model.4.weight", "int8"),
        ),
        (
            lambda: changed(model__4__weight=torch.ones(4, 4, 3, 3).to_sparse()),
            ("model.4.weight", "not dense"),
        ),
        (
            lambda: changed(model__4__weight=torch.ones(4, 4)),
            ("looks like ResNet", "size mismatch for 4.weight", "[4, 4, 3, 3]"),
        ),
        (lambda: changed(model__2__running_var=-torch.ones(4)), ("model.2.running_var", "negative")),
        (
            lambda: {name: value for name, value in resnet().items() if "running" not in name},
            ("model.2 has weights and no running_mean", "batch norms"),
        ),
        (
            lambda: renamed("conv_block.1.", "conv_block.0."),
            ("conv_block.0.weight", "zero padding"),
        ),
        (
            lambda: renamed("1.weight", "1.weight_orig"),
            ("weight_orig", "spectral or weight norm"),
        ),
        (lambda: CRITIC, ("PatchGAN", "generator")),
    ],
)
def test_what_is_wrong_is_named_by_its_key(
    tmp_path: Path, state: Callable[[], State], parts: tuple[str, ...]
) -> None:
    message = refusal(tmp_path, state())
    assert all(part in message for part in parts), message


_HEADS = {
    "resnet": r"model\.(1[89]|2\d)\.weight",
    "unet": r"model\.model\.3\.weight",
    "sagan": r"last\.0\.weight",
    "stylegan2": r"to_rgb.*\.conv\.weight",
}
"""Family -> the last layers of its published code."""


@pytest.mark.parametrize("name", _HEADS)
def test_a_network_of_grey_pictures_is_refused_as_that(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    rename: dict[str, Callable[[State], State]] = {
        "resnet": as_resnet,
        "unet": lambda state: as_unet(state, 4),
        "sagan": as_sagan,
        "stylegan2": as_rosinality,
    }
    state = rename[name](shaken(case).state_dict())
    heads = [key for key in state if re.fullmatch(_HEADS[name], key)]
    for key in heads:
        axis = state[key].shape.index(3)
        state[key] = state[key].narrow(axis, 0, 1).clone()
    assert "puts out 1 channel, and pictures have 3" in refusal(tmp_path, state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in resnet().items()
    }
    assert all(value.dtype != dtype for value in imported(tmp_path, state)[1].values())


def test_masks_of_pruning_are_applied(tmp_path: Path) -> None:
    module = shaken(CASE)
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", amount=0.5)
    pruned = as_resnet(module.state_dict())
    assert any(name.endswith("weight_mask") for name in pruned)
    _, state = imported(tmp_path, pruned)
    for layer in layers:
        prune.remove(layer, "weight")
    expected = module.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
