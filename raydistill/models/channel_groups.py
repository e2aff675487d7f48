"""Groups of channels that are pruned together: `Family.channels` gives those of a generator.

A group is a set of channels that several layers share: the one that puts them out, norms, layers that take
them in, and other layers whose outputs are added to them. To prune a channel is to cut it out of every tensor
of its group. A width of a config is the number of channels of one group or of several; a group is named after
its width where it is the only one.
"""

from typing import NamedTuple


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
