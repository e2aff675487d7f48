"""Key layouts of published code: how the tensors of a checkpoint file tell what generator they are.

A layout is recognised by the names of the tensors. Its conversion reads the config off their shapes and gives
the tensors the names that they have here. Where the same function needs other numbers, the conversion says
so.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from raydistill.config.architectures import Generator
from raydistill.errors import CheckpointError, ConfigError, DataError
from raydistill.exchange.checkpoint_keys import Keys, State
from raydistill.exchange.noise_layouts import convert_nvlabs, convert_rosinality, convert_sagan
from raydistill.exchange.picture_layouts import convert_mobile_resnet, convert_resnet, convert_unet
from raydistill.models.saved import with_weights


class ConvertedGenerator(NamedTuple):
    """A generator whose layout was recognised."""

    layout: str
    """Name of the layout."""
    config: Generator
    state: State
    """Its tensors, by their names here."""
    dropped: tuple[str, ...]
    """Names in the file that mean nothing in an eval network."""


class Layout(NamedTuple):
    """A key layout."""

    name: str
    signature: tuple[str, ...]
    """Names that every file of this layout has, with N for numbers."""
    convert: Callable[[Keys], tuple[Generator, State]]
    """The tensors of a file -> config and renamed tensors. Raises DataError or ConfigError."""


LAYOUTS = (
    Layout(
        "mobile ResNet (GAN Compression, OMGD)",
        ("model.N.weight", "model.N.conv_block.N.conv.N.weight"),
        convert_mobile_resnet,
    ),
    Layout(
        "U-Net (pix2pix, GAN Compression, OMGD)",
        ("model.model.N.weight", "model.model.*.N.weight"),
        convert_unet,
    ),
    Layout(
        "ResNet (CycleGAN, pix2pix, GAN Compression)",
        ("model.N.weight", "model.N.conv_block.N.weight"),
        convert_resnet,
    ),
    Layout(
        "SAGAN (heykeetae, GCC)",
        (
            "lN.N.module.weight_bar",
            "lN.N.running_mean",
            "attnN.query_conv.weight",
            "attnN.gamma",
            "last.N.weight",
        ),
        convert_sagan,
    ),
    Layout(
        "StyleGAN2 (rosinality, CAGC)",
        (
            "style.N.weight",
            "input.input",
            "convN.conv.weight",
            "convs.N.conv.modulation.weight",
            "to_rgbs.N.conv.weight",
        ),
        convert_rosinality,
    ),
    Layout(
        "StyleGAN2 (NVlabs)",
        (
            "mapping.fcN.weight",
            "mapping.w_avg",
            "synthesis.bN.const",
            "synthesis.bN.convN.noise_strength",
            "synthesis.bN.torgb.weight",
        ),
        convert_nvlabs,
    ),
)
"""All layouts of generators. The first one whose signature a file has is taken."""
DISCRIMINATORS = {
    "StyleGAN2, rosinality": ("convs.N.conv1.N.weight", "final_conv.N.weight", "final_linear.N.weight"),
    "StyleGAN2, NVlabs": ("bN.conv0.weight", "bN.fc.weight"),
    "SAGAN": ("lN.N.module.weight_bar", "last.N.weight"),
    "PatchGAN": ("model.N.weight", "model.N.bias"),
}
"""Name -> signature of a layout of discriminators, to say what such a file is."""


def recognise(state: State) -> ConvertedGenerator:
    """The generator of any known layout that has these tensors.

    Raises:
        DataError: no layout is known, and the message names the nearest one; or tensors of a known layout are
            missing, left over, or of widths that it cannot have.
    """
    patterns = {_pattern(name) for name in state}
    if (layout := _layout_of(patterns)) is not None:
        return _convert(layout, state)
    for name, signature in DISCRIMINATORS.items():
        if set(signature) <= patterns:
            raise DataError(f"this is a discriminator ({name}); give the file of its generator")
    near = max(LAYOUTS, key=lambda layout: len(set(layout.signature) & patterns) / len(set(layout.signature)))
    missing = sorted(set(near.signature) - patterns)
    names = "; ".join(layout.name for layout in LAYOUTS)
    raise DataError(
        f"no known layout: {len(state)} tensors, such as {_some(sorted(state))}. Known: {names}. "
        f"Nearest: {near.name}, which also has {_some(missing)}."
    )


def looks_like_a_generator(state: State) -> bool:
    """Whether the names of the tensors are those of a known layout."""
    return _layout_of({_pattern(name) for name in state}) is not None


def _layout_of(patterns: set[str]) -> Layout | None:
    return next((layout for layout in LAYOUTS if set(layout.signature) <= patterns), None)


def _convert(layout: Layout, state: State) -> ConvertedGenerator:
    keys = Keys(state)
    try:
        config, converted = layout.convert(keys)
        with_weights(config, converted, "its shapes")
    except (CheckpointError, ConfigError, DataError) as error:
        raise DataError(f"looks like {layout.name}, but: {error}") from None
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"looks like {layout.name}, but its tensors have other shapes ({type(error).__name__}: {error})"
        ) from None
    if keys.left:
        raise DataError(
            f"looks like {layout.name}, but {len(keys.left)} tensors are not understood: "
            f"{_some(sorted(keys.left))}"
        )
    return ConvertedGenerator(layout.name, config, converted, tuple(keys.dropped))


def _pattern(name: str) -> str:
    """The name with N for numbers, and with one star for the nested levels of a U-Net."""
    return re.sub(r"^(model\.model\.)(N\.model\.)+", r"\1*.", re.sub(r"\d+", "N", name))


def _some(names: Iterable[str]) -> str:
    """The first four names in words, and how many others there are."""
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
