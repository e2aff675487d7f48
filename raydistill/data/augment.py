"""Which pixels a training image shows: the order of the pictures, mirroring, random crops and degradation.

A training shows images 0, 1, 2, ...; with N pictures, images 0 to N - 1 are its first pass over them.
Everything here is a function of the training's seed, the picture and the pass alone. So it does not depend on
the batch size, on the number of workers, or on where a training was interrupted.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.data import Degradation
from raydistill.data.prepared import Split
from raydistill.seeds import numpy_stream, torch_stream

# ---- order and flips ---------------------------------------------------------------------------------------


class SampleIndex(NamedTuple):
    """Which pictures the images of a minibatch show. All arrays have shape (B,)."""

    indices: np.ndarray
    """int: index of the picture in its split, 0 to N - 1."""
    flips: np.ndarray
    """bool: whether the picture is mirrored left to right."""
    positions: np.ndarray
    """int: number of the image in the whole training, from 0."""


def order_and_flips(
    positions: np.ndarray, count: int, *, seed: int, flip: bool, domain: str = ""
) -> SampleIndex:
    """Which of `count` pictures the images at `positions` show, and which of them are mirrored.

    Each pass shows all pictures once, in a random order of its own.

    Args:
        positions: (B,) int, numbers of the images in the whole training, from 0.
        count: how many pictures there are, which is the length of a pass.
        seed: seed of the training.
        flip: whether pictures are mirrored, each with probability 1/2 in each pass. If False, none is.
        domain: ends the names of the random streams. "" is for targets and for the inputs that belong to
            them. The inputs of unpaired data have "/inputs", and thus an order of their own.
    """
    indices = np.empty(len(positions), int)
    flips = np.zeros(len(positions), bool)
    for number in np.unique(positions // count):
        first_image = int(number) * count
        in_pass = positions // count == number
        order = numpy_stream(seed, f"order{domain}", first_image).permutation(count)
        indices[in_pass] = order[positions[in_pass] - first_image]
        if flip:
            uniform = numpy_stream(seed, f"flip{domain}", first_image).random(count)
            flips[in_pass] = uniform[indices[in_pass]] < 0.5
    return SampleIndex(indices, flips, positions)


def pass_numbers(positions: np.ndarray, count: int) -> np.ndarray:
    """(B,) int: in which pass over `count` pictures the images at `positions` are shown, from 1.

    Pass 0 never occurs in a training; it stands for evaluation.
    """
    return 1 + positions // count


# ---- crops -------------------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """A window of one size in each picture of a minibatch."""

    starts: np.ndarray
    """(B, 2) int: first row and first column of each window."""
    height: int
    width: int

    def of(self, pictures: np.ndarray) -> np.ndarray:
        """The windows, (B, height, width, ...), of pictures (B, h, w, ...)."""
        windows = [
            picture[top : top + self.height, left : left + self.width]
            for picture, (top, left) in zip(pictures, self.starts)
        ]
        return np.stack(windows)


def random_crop(
    loaded: tuple[int, int], shown: tuple[int, int], seed: int, indices: np.ndarray, passes: np.ndarray
) -> Crop:
    """A random window of each picture; every position of the window is equally likely.

    Args:
        loaded: (height, width) of the pictures on disk.
        shown: (height, width) of the windows, at most those of `loaded`.
        seed: seed of the training.
        indices: (B,) int, which pictures of the split they are.
        passes: (B,) int, in which pass each is shown. A picture has another window in another pass.
    """
    num_starts = [have - need + 1 for have, need in zip(loaded, shown)]
    starts = [
        numpy_stream(seed, f"crop/{index}", int(number)).integers(0, num_starts)
        for index, number in zip(indices, passes, strict=True)
    ]
    return Crop(np.array(starts), *shown)


def training_crop(
    split: Split, indices: np.ndarray | slice, passes: np.ndarray | None, seed: int
) -> tuple[Split, Crop | None]:
    """Where the pictures at `indices` are read from, and which window of each is shown.

    Returns `split` itself and no crop where pictures are shown whole, or where `passes` is None: then they
    are shown as in an evaluation, by their middle. Otherwise returns the split at its size on disk and random
    windows.
    """
    info = split.info
    if split.loaded is None or passes is None or info.load_size is None:
        return split, None
    num_pictures = max(len(split), 0 if split.inputs is None else len(split.inputs))
    chosen = np.arange(num_pictures)[indices]
    return split.loaded, random_crop(info.load_size, (info.height, info.width), seed, chosen, passes)


def pixels(
    array: np.ndarray, indices: np.ndarray | slice, flips: np.ndarray | None, crop: Crop | None
) -> np.ndarray:
    """A copy of `array[indices]`, (B, H, W, ...), cropped and then mirrored.

    Args:
        array: (N, H, W, ...), pictures or label maps of a split.
        indices: which of them, (B,) int or a slice.
        flips: (B,) bool, which are mirrored left to right; None: none.
        crop: window of each; None: all of it.
    """
    values = np.array(array[indices]) if crop is None else crop.of(array[indices])
    if flips is not None:
        assert flips.shape == values.shape[:1] and flips.dtype == bool, (flips.shape, flips.dtype)
        values[flips] = values[flips, :, ::-1]
    return values


# ---- degradation -------------------------------------------------------------------------------------------


def degrade(
    pictures: Tensor, config: Degradation, indices: np.ndarray, passes: np.ndarray, seed: int
) -> Tensor:
    """Inputs for image enhancement: pictures made smaller and noisy.

    Each input pixel is the mean of `scale` x `scale` pixels plus normal noise, rounded to 8 bits.

    Args:
        pictures: uint8 (B, 3, H, W).
        config: scale, and standard deviation of the noise in steps of 8-bit values.
        indices: (B,) int, which pictures of the split they are.
        passes: (B,) int, in which pass each is shown. A picture has other noise in another pass.
        seed: seed of the training.

    Returns:
        uint8 (B, 3, H / scale, W / scale).
    """
    small = F.avg_pool2d(pictures.float(), config.scale)
    if config.noise_std:
        streams = [
            torch_stream(seed, f"degrade/{index}", int(number))
            for index, number in zip(indices, passes, strict=True)
        ]
        noise = torch.stack([torch.randn(small.shape[1:], generator=stream) for stream in streams])
        small = small + config.noise_std * noise.to(small.device)
    return small.round().clamp(0, 255).to(torch.uint8)
