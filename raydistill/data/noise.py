"""Random numbers of images, made where they are used: a counter-based hash in plain tensor operations.

A number is a function of (seed, purpose, image, step, element) alone, so it depends neither on other
images, nor on the worker or the device. SplitMix64 (Steele et al. 2014) is the hash: an image's key is an
output of the generator that the stream (seed, purpose) seeds, a step's key is one of the generator that the
image's key seeds, and the elements are the outputs of the generator that the step's key seeds. Integers are
the same on every device, normal numbers to an ulp of its logarithm, root, sine and cosine. Nothing here
waits for a device or is copied to it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.errors import ConfigError
from raydistill.seeds import stream_key

LARGEST = 2**62
"""Numbers of images, steps and elements are below it."""
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
"""What SplitMix64 adds for each output, as a signed number of 64 bits."""
_MIXES = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
"""SplitMix64's shifts, and the factors that follow them."""
_RADIUS_BITS, _ANGLE_BITS = 40, 24
"""Of one output for Box and Muller's radius, whose largest is 7.4 then, and for the angle."""
_CHUNK = 2**16
"""Pairs of normal numbers that a CPU makes at a time: they stay in its cache."""


def mixed(states: Tensor) -> Tensor:
    """SplitMix64's output for each state, int64 of any shape; in place. The product wraps at 64 bits."""
    for shift, factor in _MIXES:
        states.bitwise_xor_(_shifted(states, shift)).mul_(factor)
    return states.bitwise_xor_(_shifted(states, 31))


def _shifted(states: Tensor, shift: int) -> Tensor:
    """The logical shift to the right: torch's own copies the sign."""
    return states.bitwise_right_shift(shift).bitwise_and_((1 << (64 - shift)) - 1)


def keyed(keys: Tensor, counters: Tensor) -> Tensor:
    """Output number `counters` of the generators that `keys` seed, int64 of their common shape."""
    return mixed(keys + (counters + 1) * _GAMMA)


def image_keys(seed: int, purpose: str, images: range | Tensor, device: torch.device | None = None) -> Tensor:
    """The key of each image, (B,) int64.

    Args:
        purpose: what the numbers are for; other purposes have other numbers.
        images: numbers of the images, from 0: of a training, or of a split. A tensor (B,) int64 is not
            looked at.
        device: where the keys are made; None: where `images` are.

    Raises:
        ConfigError: a number of a range is negative, or not below `LARGEST`.
    """
    if isinstance(images, range):
        if len(images) and not 0 <= images[0] <= images[-1] < LARGEST:
            raise ConfigError(f"images {images.start} to {images.stop - 1}: allowed are 0 to {LARGEST - 1}")
        images = torch.arange(images.start, images.stop, device=device)
    return keyed(images.new_full((), stream_key(seed, purpose)), images)


def integers(keys: Tensor, high: int) -> Tensor:
    """A whole number for each key, 0 to `high` - 1, int64 of the shape of `keys`.

    The remainder of 62 bits: for `high` below 2^31 no number is likelier than another by more than 2^-31.
    """
    return _shifted(keyed(keys, torch.zeros_like(keys)), 2).remainder_(high)


def uniform(keys: Tensor) -> Tensor:
    """A number in [0, 1) for each key, float32 of the shape of `keys`; a multiple of 2^-24."""
    return _shifted(keyed(keys, torch.zeros_like(keys)), 40).float().mul_(2.0**-24)


def order(key: Tensor, count: int) -> Tensor:
    """A random order of 0 to `count` - 1, (count,) int64: the ranks of as many outputs. `key`: no
    dimensions.
    """
    return torch.argsort(keyed(key, torch.arange(count, device=key.device)), stable=True)


def normal(keys: Tensor, shape: Sequence[int], steps: int | None = None) -> Tensor:
    """N(0, 1), (B, *shape) float32, or with `steps` (steps, B, *shape): in one call for a whole Langevin
    chain.

    Args:
        keys: of the images, (B,) int64; see `image_keys`.
        shape: of one image's numbers in one step.

    Source: Box and Muller 1958. One output gives the radius and the angle of two numbers: element i, and
    element i + half of all.

    Raises:
        ConfigError: an image has more numbers than there are keys for.
    """
    count = math.prod(shape)
    if count >= LARGEST or (steps or 0) >= LARGEST:
        raise ConfigError(f"{count} numbers in {steps} steps: allowed are less than {LARGEST} of each")
    rows = keys if steps is None else keyed(keys, torch.arange(steps, device=keys.device)[:, None]).flatten()
    half = -(-count // 2)
    states = (torch.arange(half, device=keys.device) + 1) * _GAMMA
    out = torch.empty(len(rows), 2, half, device=keys.device)
    # all at once where kernels are launched, but in parts that stay in the cache of a CPU
    part = half if keys.device.type != "cpu" else min(half, _CHUNK)
    together = len(rows) if keys.device.type != "cpu" else max(1, _CHUNK // max(1, half))
    for row in range(0, len(rows), max(1, together)):
        for start in range(0, half, max(1, part)):
            some, these = slice(row, row + together), slice(start, start + part)
            _box_muller(rows[some, None] + states[these], out[some, :, these])
    flat = out.view(len(rows), 2 * half)[:, :count]
    return flat.reshape(*([] if steps is None else [steps]), len(keys), *shape)


def _box_muller(states: Tensor, out: Tensor) -> None:
    """Fills in `out` (N, 2, M), two numbers for each state (N, M); overwrites the states."""
    bits = mixed(states)
    radius = _shifted(bits, 64 - _RADIUS_BITS).float().add_(1).mul_(2.0**-_RADIUS_BITS)
    radius = radius.log_().mul_(-2).sqrt_()
    angle = bits.bitwise_and_((1 << _ANGLE_BITS) - 1).float().mul_(2 * math.pi / 2**_ANGLE_BITS)
    torch.mul(radius, angle.cos(), out=out[:, 0])
    torch.mul(radius, angle.sin_(), out=out[:, 1])
