"""Which pixels a training image shows: the order of the pictures, mirroring, random crops and degradation.

A training shows images 0, 1, 2, ...; with N pictures, images 0 to N - 1 are its first pass over them.
Everything here is a function of the training's seed, the picture and the pass alone. So it does not depend on
the batch size, on the number of workers, or on where a training was interrupted.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.data import Degradation
from raydistill.data import noise

# ---- order and flips ---------------------------------------------------------------------------------------


class SampleIndex(NamedTuple):
    """Which pictures the images of a minibatch show. All tensors have the shape (B,) and lie with the
    pictures.
    """

    indices: Tensor
    """int64: index of the picture in its split, 0 to N - 1."""
    flips: Tensor
    """bool: whether the picture is mirrored left to right."""
    positions: Tensor
    """int64: number of the image in the whole training, from 0."""

    def part(self, images: slice) -> "SampleIndex":
        """Of these images alone; views."""
        return SampleIndex(*(each[images] for each in self))


class Order:
    """Which of `count` pictures the images of a training show, and which of them are mirrored.

    Each pass shows all pictures once, in a random order of its own, which is drawn once a pass.

    Args:
        count: how many pictures there are, which is the length of a pass.
        seed: seed of the training.
        flip: whether pictures are mirrored, each with probability 1/2 in each pass. If False, none is.
        device: where the pictures lie.
        domain: ends the names of the random streams. "" is for targets and for the inputs that belong to
            them. The inputs of unpaired data have "/inputs", and thus an order of their own.
    """

    def __init__(
        self, count: int, *, seed: int, flip: bool, device: str | torch.device = "cpu", domain: str = ""
    ):
        self.count, self.seed, self.flip, self.domain = count, seed, flip, domain
        self.device = torch.device(device)
        self._pass: tuple[int, Tensor, Tensor] | None = None

    def at(self, images: range) -> SampleIndex:
        """What the images of these numbers in the whole training show."""
        positions = torch.arange(images.start, images.stop, device=self.device)
        parts, first = [], images.start
        while first < images.stop:
            number, start = divmod(first, self.count)
            stop = min(self.count, start + images.stop - first)
            _, order, flips = self._of_pass(number)
            parts.append((order[start:stop], flips[start:stop]))
            first += stop - start
        if not parts:
            return SampleIndex(positions, positions.bool(), positions)
        indices, flips = parts[0] if len(parts) == 1 else map(torch.cat, zip(*parts))
        return SampleIndex(indices, flips, positions)

    def _of_pass(self, number: int) -> tuple[int, Tensor, Tensor]:
        """The pass of this number, from 0, in its order: indices, and whether each is mirrored."""
        if self._pass is None or self._pass[0] != number:
            this = range(number, number + 1)
            (key,) = noise.image_keys(self.seed, f"order{self.domain}", this, self.device)
            order = noise.order(key, self.count)
            flips = torch.zeros(self.count, dtype=torch.bool, device=self.device)
            if self.flip:
                passes = order.new_full((), number)
                flips = noise.uniform(_keys(self.seed, f"flip{self.domain}", order, passes)) < 0.5
            self._pass = (number, order, flips)
        return self._pass


def _keys(seed: int, purpose: str, indices: Tensor, passes: Tensor) -> Tensor:
    """Keys of pictures in passes: a picture has other numbers in another pass."""
    return noise.keyed(noise.image_keys(seed, purpose, indices), passes)


def pass_numbers(positions: Tensor, count: int) -> Tensor:
    """(B,) int64: in which pass over `count` pictures the images at `positions` are shown, from 1.

    Pass 0 never occurs in a training; it stands for evaluation.
    """
    return 1 + positions // count


# ---- crops -------------------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """A window of one size in each picture of a minibatch."""

    tops: Tensor
    """(B,) int64: first row of each window."""
    lefts: Tensor
    """(B,) int64: first column of each."""
    height: int
    width: int


def random_crop(
    loaded: tuple[int, int], shown: tuple[int, int], seed: int, indices: Tensor, passes: Tensor
) -> Crop:
    """A random window of each picture; every position of the window is equally likely.

    Args:
        loaded: (height, width) of the pictures on disk.
        shown: (height, width) of the windows, at most those of `loaded`.
        seed: seed of the training.
        indices: (B,) int64, which pictures of the split they are.
        passes: (B,) int64, in which pass each is shown. A picture has another window in another pass.
    """
    tops, lefts = (
        noise.integers(_keys(seed, f"crop/{side}", indices, passes), have - need + 1)
        for side, have, need in zip(("top", "left"), loaded, shown)
    )
    return Crop(tops, lefts, *shown)


def pixels(array: Tensor, indices: Tensor | slice, flips: Tensor | None, crop: Crop | None) -> Tensor:
    """A copy of `array[indices]`, (B, H, W, ...), cropped and then mirrored.

    Args:
        array: (N, H, W, ...), pictures or label maps of a split.
        indices: which of them, (B,) int64 or a slice.
        flips: (B,) bool, which are mirrored left to right; None: none.
        crop: window of each; None: all of it.
    """
    if crop is None:
        values = array[indices].clone() if isinstance(indices, slice) else array.index_select(0, indices)
    else:
        assert isinstance(indices, Tensor)
        rows = crop.tops[:, None] + torch.arange(crop.height, device=array.device)
        columns = crop.lefts[:, None] + torch.arange(crop.width, device=array.device)
        values = array[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
    if flips is not None:
        assert flips.shape == values.shape[:1] and flips.dtype == torch.bool, (flips.shape, flips.dtype)
        values = torch.where(flips.view(-1, *[1] * (values.dim() - 1)), values.flip(2), values)
    return values


# ---- degradation -------------------------------------------------------------------------------------------


def degradation_keys(config: Degradation, seed: int, indices: Tensor, passes: Tensor) -> Tensor | None:
    """The keys (B,) of the noise that `degrade` adds to pictures at `indices` (B,); None: it adds none.

    Args:
        passes: (B,) int64, in which pass each is shown. A picture has other noise in another pass.
        seed: seed of the training.
    """
    return _keys(seed, "degrade", indices, passes) if config.is_on and config.noise_std else None


def degrade(pictures: Tensor, config: Degradation, keys: Tensor | None) -> Tensor:
    """Inputs for image enhancement: pictures made smaller and noisy.

    Each input pixel is the mean of `scale` x `scale` pixels plus normal noise, rounded to 8 bits.

    Args:
        pictures: uint8 (B, 3, H, W).
        config: scale, and standard deviation of the noise in steps of 8-bit values.
        keys: (B,) int64 of the noise, see `degradation_keys`; None: no noise is added.

    Returns:
        uint8 (B, 3, H / scale, W / scale).
    """
    small = F.avg_pool2d(pictures.float(), config.scale)
    if keys is not None:
        small = small + config.noise_std * noise.normal(keys, small.shape[1:])
    return small.round().clamp(0, 255).to(torch.uint8)
