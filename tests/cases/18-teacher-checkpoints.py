"""Checkpoints of teachers as people have them, written here as state dicts of public key layouts.

Right: read, or refused with the true reason.
"""

from collections.abc import Mapping
from typing import Any

import torch
from kit import WORK, end, raydistill, refused, require

State = dict[str, torch.Tensor]
torch.manual_seed(0)


def resnet(blocks: int = 6, width: int = 8, outputs: int = 3, at: tuple[int, int] = (1, 5)) -> State:
    state: State = {}

    def put(name: str, *shape: int, num_biases: int) -> None:
        state[f"{name}.weight"] = torch.randn(*shape) * 0.02
        state[f"{name}.bias"] = torch.zeros(num_biases)

    trunk = 4 * width
    for index, given, out, side in ((1, 3, width, 7), (4, width, 2 * width, 3), (7, 2 * width, trunk, 3)):
        put(f"model.{index}", out, given, side, side, num_biases=out)
    for block in range(10, 10 + blocks):
        for place in at:
            put(f"model.{block}.conv_block.{place}", trunk, trunk, 3, 3, num_biases=trunk)
    for index, given, out in ((10 + blocks, trunk, 2 * width), (13 + blocks, 2 * width, width)):
        put(f"model.{index}", given, out, 3, 3, num_biases=out)
    put(f"model.{17 + blocks}", outputs, width, 7, 7, num_biases=outputs)
    return state


def under(place: str, state: State) -> State:
    return {f"{place}.{name}": value for name, value in state.items()}


critic = {"model.0.weight": torch.randn(8, 3, 4, 4), "model.0.bias": torch.zeros(8)}
lightning = {
    "epoch": 3,
    "state_dict": under("netG", resnet()) | under("netD", critic),
    "optimizer_states": [],
}
broken = resnet()
broken["model.4.weight"][0, 0, 0, 0] = float("nan")
files: Mapping[str, tuple[Any, tuple[str, ...]]] = {
    "resnet": (resnet(), ()),
    "data-parallel": (under("module", resnet()), ()),
    "lightning": (lightning, ()),
    "wrapped": ({"state_dict": under("model.module.generator.module", resnet())}, ()),
    "half": ({name: value.half() for name, value in resnet().items()}, ()),
    "one-channel": (resnet(outputs=1), ("model.23.weight puts out 1 channel", "RGB")),
    "two": ({"netG_A": resnet(), "netG_B": resnet(), "netD_A": critic}, ("netG_A, netG_B", "--network")),
    "zero-padding": (resnet(at=(0, 3)), ("model.10.conv_block.0.weight", "zero padding")),
    "nan": (broken, ("model.4.weight has 1 of", "NaN")),
}
for name, (content, reasons) in files.items():
    torch.save(content, WORK / f"{name}.pth")
    out = WORK / f"{name}-imported"
    done = raydistill("teacher", "import", WORK / f"{name}.pth", "--out", out)
    if reasons:
        refused(done, *reasons)
        require("nothing is left", not out.exists())
    else:
        require(f"{name} is read", done.code == 0 and "family resnet" in done.out)
end()
