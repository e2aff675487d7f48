"""One small and any number of random configs of each generator family, for the tests that hold for all of
them."""

from typing import Any

import numpy as np

from raydistill.config.paths import validated
from raydistill.models import GENERATORS
from raydistill.testing import GeneratorCase as Case


def case(family: str, values: dict[str, Any], in_channels: int, height: int, width: int) -> Case:
    return Case(validated(GENERATORS[family].config, values, where=family), in_channels, height, width)


_UNET = {"down1": 4, "down2": 6, "down3": 8, "deep": 10, "up3": 9, "up2": 7, "up1": 5}
_STYLEGAN = {"at4": 8, "at8": 6, "at16": 4}
CASES: dict[str, Case] = {
    "resnet": case(
        "resnet",
        {"widths": {"stem": 4, "down": 6, "trunk": 8, "hidden": 5, "up": 7, "head": 3}, "num_blocks": 2},
        5,
        16,
        24,
    ),
    "resnet-batch": case(
        "resnet",
        {
            "widths": {"stem": 4, "down": 6, "trunk": 8, "hidden": 5, "up": 7, "head": 3},
            "num_blocks": 2,
            "norm": "batch",
        },
        3,
        16,
        16,
    ),
    "mobile_resnet": case(
        "mobile_resnet",
        {
            "widths": {
                "stem": 4,
                "down": 6,
                "trunk": 8,
                "hidden1": 5,
                "hidden2": 9,
                "hidden3": 7,
                "up": 6,
                "head": 3,
            },
            "num_blocks": 4,
        },
        3,
        16,
        16,
    ),
    "unet": case("unet", {"widths": _UNET, "num_levels": 4}, 3, 32, 48),
    "unet-deep": case(
        "unet", {"widths": _UNET, "num_levels": 4, "blocks_per_level": 1, "norm": "instance"}, 4, 64, 32
    ),
    "enhance": case(
        "enhance", {"widths": {"trunk": 6, "hidden": 4, "up": 5}, "num_blocks": 2, "scale": 1}, 3, 16, 20
    ),
    "enhance-x4": case(
        "enhance", {"widths": {"trunk": 6, "hidden": 4, "up": 5}, "num_blocks": 2, "scale": 4}, 3, 8, 12
    ),
    "sagan": case("sagan", {"widths": {"at4": 6, "at8": 9, "at16": 17, "at32": 10}, "latent": 7}, 3, 64, 64),
    "stylegan2": case("stylegan2", {"widths": _STYLEGAN, "style": 12, "num_mapping_layers": 2}, 3, 16, 16),
}


def plug_in_case() -> Case:
    """Of docs/how-to/plug-ins.md's family, where that plug-in is loaded."""
    return case("plain", {"widths": {"first": 5, "second": 7}}, 4, 16, 20)


def random_case(family: str, rng: np.random.Generator) -> Case:
    """A config of random widths and structure with a picture size that it takes."""

    def number(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    def norm() -> str:
        return str(rng.choice(["instance", "batch"]))

    config = GENERATORS[family].config
    widths: dict[str, int] = {}
    height, width, channels = 4 * number(2, 20), 4 * number(2, 20), number(1, 12)
    values: dict[str, Any] = {}
    if family == "stylegan2":
        height = width = 8 * 2 ** number(0, 3)
        widths = {f"at{side}": number(1, 40) for side in (4, 8, 16, 32, 64) if side <= height}
        values = {"style": number(1, 40), "num_mapping_layers": number(1, 4)}
    else:
        widths = {name: number(8, 60) for name in config.model_fields["widths"].default.model_dump()}
    if family in ("resnet", "mobile_resnet"):
        values = {"num_blocks": number(1, 10), "norm": norm()}
    elif family == "unet":
        values = {"num_levels": number(4, 6), "norm": norm(), "blocks_per_level": number(0, 2)}
        height, width = (2 ** values["num_levels"] * number(1, 3) for _ in range(2))
    elif family == "enhance":
        channels, values = 3, {"scale": 2 ** number(0, 2), "num_blocks": number(1, 6)}
    elif family == "sagan":
        height, width, values = 64, 64, {"latent": number(1, 64)}
    return case(family, {"widths": widths, **values}, channels, height, width)
