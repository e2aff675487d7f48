"""Which pixels an image shows: order, mirroring, windows and degradation, by streams of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from raydistill.config.data import Degradation
from raydistill.data import prepared
from raydistill.data.augment import (
    Crop,
    degrade,
    order_and_flips,
    pass_numbers,
    pixels,
    random_crop,
)
from raydistill.seeds import numpy_stream, torch_stream

PICTURES = torch.randint(0, 256, (3, 3, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
INDICES, PASSES = np.array([7, 0, 7]), np.array([1, 1, 2])


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("noise_std", [0.0, 90.0])
def test_a_degraded_picture_is_means_of_squares_plus_noise_rounded(scale: int, noise_std: float) -> None:
    found = degrade(PICTURES, Degradation(scale=scale, noise_std=noise_std), INDICES, PASSES, seed=5)
    assert found.dtype == torch.uint8 and found.shape == (3, 3, 8 // scale, 12 // scale)
    for row, picture, index, number in zip(found, PICTURES, INDICES, PASSES):
        means = picture.double().view(3, 8 // scale, scale, 12 // scale, scale).mean((2, 4)).float()
        noise = torch.randn(means.shape, generator=torch_stream(5, f"degrade/{index}", int(number)))
        expected = (means + noise_std * noise).round().clamp(0, 255).to(torch.uint8)
        assert torch.equal(row, expected)
    if noise_std:
        assert found.min() == 0 and found.max() == 255, "some are clamped"


def test_a_part_is_drawn_by_seed_picture_and_pass_from_all_places() -> None:
    crop = random_crop((9, 14), (8, 12), 5, INDICES, PASSES)
    assert (crop.height, crop.width) == (8, 12)
    for start, index, number in zip(crop.starts, INDICES, PASSES):
        assert start.tolist() == numpy_stream(5, f"crop/{index}", int(number)).integers(0, [2, 3]).tolist()
    many = random_crop((9, 14), (8, 12), 0, np.arange(200), np.ones(200, int)).starts
    assert {tuple(start) for start in many.tolist()} == {(top, left) for top in (0, 1) for left in (0, 1, 2)}
    whole = random_crop((8, 12), (8, 12), 0, INDICES, PASSES)
    assert (whole.starts == 0).all()


def test_a_part_begins_at_its_row_and_column() -> None:
    rows, columns = np.mgrid[:5, :7]
    pictures = np.stack([np.stack([100 * number + rows, columns], 2) for number in range(2)])
    parts = Crop(np.array([[1, 2], [2, 0]]), 3, 4).of(pictures)
    assert parts.shape == (2, 3, 4, 2)
    assert parts[0, 0, 0].tolist() == [1, 2] and parts[0, -1, -1].tolist() == [3, 5]
    assert parts[1, 0, 0].tolist() == [102, 0] and parts[1, -1, -1].tolist() == [104, 3]


def test_windows_and_mirrors_are_of_the_pictures_that_are_asked_for() -> None:
    """A window is cut out first, then mirrored left to right."""
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    crop = Crop(np.array([[1, 2], [0, 1]]), 2, 3)
    flips = np.array([True, False])
    found = pixels(array, np.array([2, 0]), flips, crop)
    assert found.tolist() == [array[2, 1:3, 2:5][:, ::-1].tolist(), array[0, 0:2, 1:4].tolist()]
    whole = pixels(array, slice(1, 3), flips, None)
    assert whole.tolist() == [array[1, :, ::-1].tolist(), array[2].tolist()]
    copy = pixels(array, np.array([0]), None, None)
    copy[:] = -1
    assert array.min() == 0, "the data is left alone"


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("domain", ["", "/inputs"])
def test_images_come_in_the_order_of_a_permutation_for_each_pass(flip: bool, domain: str) -> None:
    """Ten pictures; positions 5 to 24 lie in three passes."""
    positions = np.arange(5, 25)
    found = order_and_flips(positions, 10, seed=3, flip=flip, domain=domain)
    for index, mirrored, position in zip(found.indices, found.flips, positions):
        first = position // 10 * 10
        assert index == numpy_stream(3, f"order{domain}", int(first)).permutation(10)[position - first]
        uniform = numpy_stream(3, f"flip{domain}", int(first)).random(10)[index]
        assert mirrored == (flip and uniform < 0.5)
    assert (found.positions == positions).all()
    assert pass_numbers(np.array([0, 9, 10, 19, 20]), 10).tolist() == [1, 1, 2, 2, 3]


def test_an_evaluation_sees_the_middle_which_is_rounded_towards_the_first_row_and_column() -> None:
    rows, columns = np.mgrid[:5, :7]
    pictures = np.stack([rows, columns], 2)[None]
    for height, width, first in ((3, 3, [1, 2]), (4, 4, [0, 1]), (2, 6, [1, 0]), (5, 7, [0, 0])):
        part = prepared._middle(pictures, SimpleNamespace(height=height, width=width))
        assert part.shape == (1, height, width, 2) and part[0, 0, 0].tolist() == first
        assert np.shares_memory(part, pictures)
