"""The tensors of a checkpoint file while they get new names; all conversions of key layouts use it."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.paths import validated
from raydistill.errors import DataError
from raydistill.models import GENERATORS

State = dict[str, Tensor]
"""Parameters and buffers by name."""


class Keys:
    """The tensors of a file, each taken once. What is left over at the end was not understood."""

    def __init__(self, state: State):
        self.state = state
        self.left = set(state)
        """Names that were neither taken nor dropped yet."""
        self.dropped = list[str]()
        """Names that mean nothing in an eval network."""

    def take(self, name: str) -> Tensor:
        """The tensor of this name. Raises DataError where there is none."""
        if name not in self.state:
            raise DataError(f"{name} is missing")
        self.left.discard(name)
        return self.state[name]

    def has(self, name: str) -> bool:
        """Whether the file has a tensor of this name."""
        return name in self.state

    def drop(self, pattern: str) -> None:
        """Leaves out all tensors whose names match the regular expression."""
        names = sorted(name for name in self.left if re.fullmatch(pattern, name))
        self.left -= set(names)
        self.dropped += names

    def numbers(self, pattern: str) -> list[int]:
        """The numbers that the one group of the regular expression has in names of the file, rising."""
        return sorted({int(match[1]) for name in self.state if (match := re.fullmatch(pattern, name))})

    def layer(self, source: str, target: str) -> State:
        """Weight and, if there is one, bias of the file's layer `source`, under the name `target`."""
        state = {f"{target}.weight": self.take(f"{source}.weight")}
        if self.has(f"{source}.bias"):
            state[f"{target}.bias"] = self.take(f"{source}.bias")
        return state

    def norm(self, source: str, target: str, batch: bool) -> State:
        """The five tensors of a batch norm; old files have no count of batches.

        Nothing for an instance norm, which has no tensors; statistics that old files have for it are dropped.
        """
        if not batch:
            self.drop(re.escape(source) + r"\.(running_mean|running_var|num_batches_tracked)")
            return {}
        if self.has(f"{source}.weight") and not self.has(f"{source}.running_mean"):
            raise DataError(
                f"{source} has weights and no running_mean: an instance, group or layer norm. This family "
                "has batch norms, or instance norms without weights"
            )
        state = {
            f"{target}.{part}": self.take(f"{source}.{part}")
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        count = f"{source}.num_batches_tracked"
        state[f"{target}.num_batches_tracked"] = self.take(count) if self.has(count) else torch.tensor(0)
        return state


def require_rgb(name: str, num_channels: int) -> None:
    """Raises DataError where the last layer, which the file calls `name`, puts out no RGB pictures."""
    if num_channels != 3:
        raise DataError(
            f"{name} puts out {num_channels} channel{'s' * (num_channels != 1)}, and pictures have 3: train "
            "a teacher of RGB pictures, also for grey ones"
        )


def only_value(values: Iterable[int], what: str) -> int:
    """The value that all of `values` have. Raises DataError, which calls them `what`, where they differ."""
    if len(distinct := set(values)) != 1:
        raise DataError(f"{what} differ ({sorted(distinct)}); this family has one width there")
    return distinct.pop()


def generator_config(family: str, values: dict[str, Any]) -> Generator:
    """A generator's config. Raises ConfigError where a value is out of range."""
    config: Generator = validated(GENERATORS[family].config, values, where="its widths")
    return config
