"""Groups of channels that are pruned together, for each family of generators.

A group is a set of channels that several layers share: the one that puts them out, norms, layers that take
them in, and other layers whose outputs are added to them. To prune a channel is to cut it out of every tensor
of its group. A width of a config is the number of channels of one group or of several; a group is named after
its width where it is the only one.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from raydistill.config.architectures import (
    EnhanceGenerator,
    Generator,
    MobileResnetGenerator,
    ResnetGenerator,
    SaganGenerator,
    StyleganGenerator,
    UnetGenerator,
)


class LayerChannels(NamedTuple):
    """A layer, and the groups whose channels the dimensions of its tensors count."""

    name: str
    """Its name in the network; its tensors are NAME.weight, NAME.bias and so on."""
    outputs: str | tuple[str, ...] | None
    """The group of its output channels, or several, one after the other; None: outputs are never pruned.

    They are the first dimension of its tensors, or the second one for the weight of a transposed convolution.
    """
    inputs: tuple[str, ...] | None = ()
    """The groups of its input channels, one after the other; None: inputs are never pruned.

    They are the other dimension of its weight. Empty if every channel is computed by itself, as in norms.
    """
    transposed: bool = False
    """Whether it is a transposed convolution."""
    per_channel: int = 1
    """How many outputs of the layer are one channel of the group: 4 before a pixel shuffle, else 1."""
    equalised: bool = False
    """Whether its weight is divided by the root of its fan-in when used: fewer inputs make it louder."""

    @property
    def output_groups(self) -> tuple[str, ...]:
        """`outputs` as a tuple; empty if they are never pruned."""
        if self.outputs is None:
            return ()
        return (self.outputs,) if isinstance(self.outputs, str) else self.outputs


def _resnet(config: Generator) -> Iterator[LayerChannels]:
    assert isinstance(config, (ResnetGenerator, MobileResnetGenerator))
    number = config.num_blocks
    yield LayerChannels("1", "stem", None)
    yield LayerChannels("2", "stem")
    yield LayerChannels("4", "down", ("stem",))
    yield LayerChannels("5", "down")
    yield LayerChannels("7", "trunk", ("down",))
    yield LayerChannels("8", "trunk")
    for block in range(10, 10 + number):
        hidden = f"hidden{block}"
        first, second = f"{block}.conv_block.1", f"{block}.conv_block.5"
        if isinstance(config, MobileResnetGenerator):
            yield LayerChannels(f"{first}.conv.0", "trunk")
            yield LayerChannels(f"{second}.conv.0", hidden)
            first, second = f"{first}.conv.2", f"{second}.conv.2"
        yield LayerChannels(first, hidden, ("trunk",))
        yield LayerChannels(f"{block}.conv_block.2", hidden)
        yield LayerChannels(second, "trunk", (hidden,))
        yield LayerChannels(f"{block}.conv_block.6", "trunk")
    yield LayerChannels(f"{10 + number}", "up", ("trunk",), transposed=True)
    yield LayerChannels(f"{11 + number}", "up")
    yield LayerChannels(f"{13 + number}", "head", ("up",), transposed=True)
    yield LayerChannels(f"{14 + number}", "head")
    yield LayerChannels(f"{17 + number}", None, ("head",))


def _unet(config: Generator) -> Iterator[LayerChannels]:
    assert isinstance(config, UnetGenerator)
    last = config.num_levels - 1
    for level in range(last + 1):
        down, up = f"downs.{level}", f"ups.{last - level}"
        blocks = range(0 if level == last else config.blocks_per_level)
        # what the layer that doubles gets: the shortcut, and what comes from the level below
        below = (f"down{level}",) if level == last else (f"down{level}", f"up{level}")
        yield LayerChannels(f"{down}.0", f"down{level}", (f"down{level - 1}",) if level else None)
        if 0 < level < last:
            yield LayerChannels(f"{down}.1", f"down{level}")
        for index in blocks:
            yield from _bottleneck(f"{down}.{index + (2 if level else 1)}", (f"down{level}",))
        if level == 0:
            yield LayerChannels(f"{up}.{len(blocks) + 1}", None, below, transposed=True)
            for index in blocks:
                yield from _bottleneck(f"{up}.{index}", below)
        else:
            yield LayerChannels(f"{up}.1", f"up{level - 1}", below, transposed=True)
            yield LayerChannels(f"{up}.2", f"up{level - 1}")
            for index in blocks:
                yield from _bottleneck(f"{up}.{index + 3}", (f"up{level - 1}",))


def _bottleneck(name: str, groups: tuple[str, ...]) -> Iterator[LayerChannels]:
    """Its shortcut adds what goes in to what comes out, so both are the same groups."""
    convolutions = {1: groups, 4: (f"{name}.first",), 7: (f"{name}.second",), 11: (f"{name}.third",)}
    outputs_of_each = (*list(convolutions.values())[1:], groups)
    for (index, inputs), outputs in zip(convolutions.items(), outputs_of_each):
        group = outputs[0] if len(outputs) == 1 else outputs
        yield LayerChannels(f"{name}.conv_block.{index}", group, inputs)
        yield LayerChannels(f"{name}.conv_block.{index + 1}", group)


def _enhance(config: Generator) -> Iterator[LayerChannels]:
    assert isinstance(config, EnhanceGenerator)
    yield LayerChannels("stem", "trunk", None)
    yield LayerChannels("fuse", "trunk", ("trunk",))
    for index in range(config.num_blocks):
        yield LayerChannels(f"blocks.{index}.first", f"hidden{index}", ("trunk",))
        yield LayerChannels(f"blocks.{index}.second", "trunk", (f"hidden{index}",))
    before = "trunk"
    for index in range({1: 0, 2: 1, 4: 2}[config.scale]):
        yield LayerChannels(f"doublings.{index}.0", f"up{index}", (before,), per_channel=4)
        before = f"up{index}"
    yield LayerChannels("head", None, (before,))


def _sagan(config: Generator) -> Iterator[LayerChannels]:
    groups = (None, "at4", "at8", "at16", "at32")
    for index, (before, after) in enumerate(itertools.pairwise(groups)):
        inputs = None if before is None else (before,)
        yield LayerChannels(f"layers.{index}.0", after, inputs, transposed=True)
        yield LayerChannels(f"layers.{index}.1", after)
    for side in (16, 32):
        yield from _attention(f"attention{side}", f"at{side}")
    yield LayerChannels("head", None, ("at32",), transposed=True)


def _attention(name: str, group: str) -> Iterator[LayerChannels]:
    """Keys and queries are multiplied channel by channel, so their channels are one group."""
    yield LayerChannels(f"{name}.query", f"{name}.pairs", (group,))
    yield LayerChannels(f"{name}.key", f"{name}.pairs", (group,))
    yield LayerChannels(f"{name}.value", group, (group,))


def _stylegan(config: Generator) -> Iterator[LayerChannels]:
    """An affine layer's outputs scale the input channels of its convolution."""
    assert isinstance(config, StyleganGenerator)
    yield LayerChannels("constant", "at4", transposed=True)
    index = 0
    for number, side in enumerate(config.widths.sides):
        here, before = f"at{side}", f"at{max(4, side // 2)}"
        for inputs in [here] if side == 4 else [before, here]:
            yield LayerChannels(f"convs.{index}", here, (inputs,), equalised=True)
            yield LayerChannels(f"convs.{index}.affine", inputs, None)
            index += 1
        yield LayerChannels(f"rgbs.{number}", None, (here,), equalised=True)
        yield LayerChannels(f"rgbs.{number}.affine", here, None)


LAYER_CHANNELS: dict[type, Callable[[Generator], Iterator[LayerChannels]]] = {
    ResnetGenerator: _resnet,
    MobileResnetGenerator: _resnet,
    UnetGenerator: _unet,
    EnhanceGenerator: _enhance,
    SaganGenerator: _sagan,
    StyleganGenerator: _stylegan,
}
"""Class of a generator's config -> a function from the config to all layers that pruning touches.

A family that is not here, such as a plug-in's, cannot be pruned.
"""
