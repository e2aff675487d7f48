"""Networks. `GENERATORS` registers each generator family: how it is built, and its layers as a table for costs."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from raydistill.config import ResnetGenerator
from raydistill.cost import Layer
from raydistill.models import resnet


class Family(NamedTuple):
    build: Callable[[ResnetGenerator, int], nn.Module]
    """(config, in_channels) -> module"""
    layers: Callable[[ResnetGenerator, int, int, int], list[Layer]]
    """(config, in_channels, height, width) -> layer table"""


GENERATORS: dict[str, Family] = {"resnet": Family(resnet.build, resnet.layers)}
