"""A trained generator as a function of pictures: 8-bit in, 8-bit out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.config.architectures import Generator
from raydistill.config.base import Stored
from raydistill.data import load_split, read_info, to_float, to_uint8
from raydistill.errors import CheckpointError, ConfigError, InputError, StoreError
from raydistill.exchange.generator_file import open_generator
from raydistill.models import check
from raydistill.models.inputs import evaluation_batch, latent_size, minibatches, num_inputs


@dataclass(frozen=True, eq=False)
class Student:
    """A trial's network with what is done before and after it: arrays of pictures in, arrays of pictures out.

    `student(inputs)` takes, by `takes`:

    * pictures: uint8 (N, H, W, 3), RGB; x / 127.5 - 1 is what the network gets.
    * label maps: uint8 (N, H, W), classes from 0 to `num_labels` - 1; the network gets one channel for each
      class, 1 where a pixel is of it and -1 elsewhere.
    * noise: float32 (N, latent), standard normal.

    It gives uint8 (N, H', W', 3), RGB: the network's output y, clamped to [-1, 1], as (y + 1) * 127.5,
    rounded. One input without the axis N gives one picture without it.
    """

    trial_id: str
    """The trial that trained it."""
    module: nn.Module
    """The network itself, in eval mode and without gradients: float32 in [-1, 1], (B, C, H, W). It is on the
    CPU; `module.to("cuda")` moves it, and calls run where it is."""
    config: Generator
    """Its architecture."""
    takes: Literal["pictures", "label maps", "noise"]
    num_labels: int | None
    """Values of a label map, ignored pixels counted as one; None: it takes no label maps."""
    in_channels: int
    """Channels of what the network gets; 3 where it takes noise."""
    data: Stored
    """The prepared data that it was trained on."""

    def __call__(self, inputs: NDArray[Any]) -> NDArray[np.uint8]:
        """The pictures that the network makes of `inputs`, see `Student`. Minibatches are of 64 images.

        Raises:
            ConfigError: the array has another type, shape or values than it takes.
        """
        array = np.asarray(inputs)
        rank = {"pictures": 4, "label maps": 3, "noise": 2}[self.takes]
        if is_one := array.ndim == rank - 1:
            array = array[None]
        self._require(array, rank)
        device = next(self.module.parameters()).device
        parts = []
        with torch.no_grad():
            for positions in minibatches(slice(0, len(array))):
                made = self.module(self._prepared(torch.from_numpy(array[positions]).to(device)))
                parts.append(to_uint8(made).permute(0, 2, 3, 1).cpu().numpy())
        pictures = np.concatenate(parts)
        return pictures[0] if is_one else pictures

    def inputs(self, num: int = 8) -> NDArray[Any]:
        """Inputs of the val split of its data, spread evenly, as `student(...)` takes them; for noise those
        of an evaluation.

        Args:
            num: how many, at most all.

        Raises:
            StoreError: the prepared data are not in the store.
        """
        try:
            split = load_split(self.data, "val")
        except (OSError, InputError) as error:
            raise StoreError(f"trial {self.trial_id}: its data are not here: {error}") from None
        latent = latent_size(self.config)
        total = num_inputs(split, latent)
        indices = np.linspace(0, total - 1, min(num, total)).astype(int)
        given = evaluation_batch(split, latent, indices, torch.device("cpu")).inputs
        if self.takes == "noise":
            return given.numpy()
        if self.takes == "label maps":
            return given.argmax(1).to(torch.uint8).numpy()
        return to_uint8(given).permute(0, 2, 3, 1).numpy()

    def _prepared(self, batch: Tensor) -> Tensor:
        """What the network gets for a minibatch of inputs."""
        if self.takes == "noise":
            return batch.float()
        if self.takes == "pictures":
            return to_float(batch.permute(0, 3, 1, 2).contiguous())
        channels = torch.arange(self.in_channels, device=batch.device)
        return (batch[:, None] == channels[:, None, None]).float() * 2 - 1

    def _require(self, array: NDArray[Any], rank: int) -> None:
        """Raises ConfigError where an array is nothing that the network takes."""
        where = f"student {self.trial_id}"
        is_noise = self.takes == "noise"
        latent = latent_size(self.config)
        wanted = {
            "pictures": "uint8 (N, H, W, 3)",
            "label maps": f"uint8 (N, H, W) below {self.num_labels}",
            "noise": f"floats (N, {latent})",
        }[self.takes]
        has_type = array.dtype.kind == "f" if is_noise else array.dtype == np.uint8
        has_shape = array.ndim == rank and len(array) > 0
        if has_shape and self.takes != "label maps":
            has_shape = array.shape[-1] == (latent if is_noise else 3)
        if not has_type or not has_shape:
            raise ConfigError(f"{where}: takes {self.takes}, {wanted}; given: {array.dtype} {array.shape}")
        if self.num_labels is not None and int(array.max()) >= self.num_labels:
            raise ConfigError(f"{where}: takes {self.takes}, {wanted}; given: values up to {array.max()}")
        if not is_noise:
            height, width = array.shape[1:3]
            check(self.config, self.in_channels, height, width, where)


def load_student(folder: Path, trial_id: str) -> Student:
    """The student in a trial's folder.

    Raises:
        StoreError: the trial has no network, or what it needs is gone or damaged.
    """
    try:
        found = open_generator(folder)
        assert found.job is not None
        info = read_info(found.job.data)
    except (CheckpointError, InputError) as error:
        raise StoreError(f"trial {trial_id}: {error}") from None
    takes: Literal["pictures", "label maps", "noise"] = "pictures"
    if latent_size(found.config) is not None:
        takes = "noise"
    elif info.inputs_are_labels:
        takes = "label maps"
    labels = info.input_channels if takes == "label maps" else None
    data = found.job.data
    return Student(trial_id, found.module, found.config, takes, labels, found.in_channels, data)
