"""Which pixels an image shows: order, mirroring, windows and degradation, by random numbers of their own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.config.data import Degradation
from raydistill.data import mapped, noise
from raydistill.data.augment import (
    Crop,
    Order,
    degradation_keys,
    degrade,
    pass_numbers,
    pixels,
    random_crop,
)

PICTURES = torch.randint(0, 256, (3, 3, 8, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
INDICES, PASSES = torch.tensor([7, 0, 7]), torch.tensor([1, 1, 2])


def key_of(purpose: str, index: int, number: int, seed: int = 5) -> Tensor:
    """The key (1,) of one picture in one pass."""
    return noise.keyed(noise.image_keys(seed, purpose, range(index, index + 1)), torch.tensor(number))


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("noise_std", [0.0, 90.0])
def test_a_degraded_picture_is_means_of_squares_plus_noise_rounded(scale: int, noise_std: float) -> None:
    config = Degradation(scale=scale, noise_std=noise_std)
    keys = degradation_keys(config, 5, INDICES, PASSES)
    assert (keys is None) == (not noise_std), "where no noise is added, none is keyed"
    found = degrade(PICTURES, config, keys)
    assert found.dtype == torch.uint8 and found.shape == (3, 3, 8 // scale, 12 // scale)
    for row, picture, index, number in zip(found, PICTURES, INDICES.tolist(), PASSES.tolist()):
        means = picture.double().view(3, 8 // scale, scale, 12 // scale, scale).mean((2, 4)).float()
        drawn = noise.normal(key_of("degrade", index, number), means.shape)[0]
        expected = (means + noise_std * drawn).round().clamp(0, 255).to(torch.uint8)
        assert torch.equal(row, expected)
    if noise_std:
        assert found.min() == 0 and found.max() == 255, "some are clamped"


def test_a_part_is_drawn_by_seed_picture_and_pass_from_all_places() -> None:
    crop = random_crop((9, 14), (8, 12), 5, INDICES, PASSES)
    assert (crop.height, crop.width) == (8, 12)
    for top, left, index, number in zip(crop.tops, crop.lefts, INDICES.tolist(), PASSES.tolist()):
        assert top == noise.integers(key_of("crop/top", index, number), 2)
        assert left == noise.integers(key_of("crop/left", index, number), 3)
    many = random_crop((9, 14), (8, 12), 0, torch.arange(200), torch.ones(200, dtype=torch.int64))
    places = set(zip(many.tops.tolist(), many.lefts.tolist()))
    assert places == {(top, left) for top in (0, 1) for left in (0, 1, 2)}
    whole = random_crop((8, 12), (8, 12), 0, INDICES, PASSES)
    assert not whole.tops.any() and not whole.lefts.any()


def test_a_part_begins_at_its_row_and_column() -> None:
    rows, columns = np.mgrid[:5, :7]
    pictures = np.stack([np.stack([100 * number + rows, columns], 2) for number in range(2)])
    crop = Crop(torch.tensor([1, 2]), torch.tensor([2, 0]), 3, 4)
    parts = pixels(torch.from_numpy(pictures), torch.arange(2), None, crop)
    assert parts.shape == (2, 3, 4, 2)
    assert parts[0, 0, 0].tolist() == [1, 2] and parts[0, -1, -1].tolist() == [3, 5]
    assert parts[1, 0, 0].tolist() == [102, 0] and parts[1, -1, -1].tolist() == [104, 3]


def test_windows_and_mirrors_are_of_the_pictures_that_are_asked_for() -> None:
    """A window is cut out first, then mirrored left to right."""
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    held = torch.from_numpy(array)
    crop = Crop(torch.tensor([1, 0]), torch.tensor([2, 1]), 2, 3)
    flips = torch.tensor([True, False])
    found = pixels(held, torch.tensor([2, 0]), flips, crop)
    assert found.tolist() == [array[2, 1:3, 2:5][:, ::-1].tolist(), array[0, 0:2, 1:4].tolist()]
    whole = pixels(held, slice(1, 3), flips, None)
    assert whole.tolist() == [array[1, :, ::-1].tolist(), array[2].tolist()]
    for indices in (torch.tensor([0]), slice(0, 1)):
        pixels(held, indices, None, None).fill_(-1)
    assert array.min() == 0, "the data is left alone"


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("domain", ["", "/inputs"])
def test_images_come_in_the_order_of_a_permutation_for_each_pass(flip: bool, domain: str) -> None:
    """Ten pictures; images 5 to 24 lie in three passes."""
    images = range(5, 25)
    found = Order(10, seed=3, flip=flip, domain=domain).at(images)
    for index, mirrored, position in zip(found.indices.tolist(), found.flips.tolist(), images):
        number, place = divmod(position, 10)
        (key,) = noise.image_keys(3, f"order{domain}", range(number, number + 1))
        assert index == noise.order(key, 10)[place]
        uniform = noise.uniform(key_of(f"flip{domain}", index, number, seed=3)).item()
        assert mirrored == (flip and uniform < 0.5)
    assert found.positions.tolist() == list(images)
    assert sorted(found.indices[5:15].tolist()) == list(range(10)), "a pass shows every picture once"
    assert not flip or 0 < found.flips.sum() < 20
    assert pass_numbers(torch.tensor([0, 9, 10, 19, 20]), 10).tolist() == [1, 1, 2, 2, 3]


def test_an_order_is_the_same_whatever_the_minibatches_and_where_a_training_begins() -> None:
    """Of 1, 3, 7 and 40 images, of which some span four passes; and after a jump back."""
    whole = Order(10, seed=3, flip=True).at(range(40))
    for size in (1, 3, 7, 40):
        order = Order(10, seed=3, flip=True)
        parts = [order.at(range(start, min(start + size, 40))) for start in range(0, 40, size)]
        for each, expected in zip(zip(*parts), whole):
            assert torch.equal(torch.cat(each), expected), size
    order = Order(10, seed=3, flip=True)
    order.at(range(33, 36))
    assert torch.equal(order.at(range(4, 9)).indices, whole.indices[4:9])
    assert torch.equal(whole.part(slice(4, 9)).flips, whole.flips[4:9])
    assert all(len(each) == 0 for each in order.at(range(7, 7)))


def test_a_pass_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight minibatches of 3 images lie in three passes over 10 pictures."""
    drawn, original = [], noise.order

    def counted(key: Tensor, count: int) -> Tensor:
        drawn.append(count)
        return original(key, count)

    monkeypatch.setattr(noise, "order", counted)
    order = Order(10, seed=3, flip=True)
    for first in range(0, 24, 3):
        order.at(range(first, first + 3))
    assert drawn == [10, 10, 10]


@pytest.mark.parametrize("seed", [0, 1])
def test_half_of_the_pictures_are_mirrored_and_in_another_pass_others(seed: int) -> None:
    order = Order(4000, seed=seed, flip=True)
    passes = []
    for first in (0, 4000):
        shown = order.at(range(first, first + 4000))
        passes.append(torch.empty(4000, dtype=torch.bool).scatter_(0, shown.indices, shown.flips))
    for flips in (*passes, passes[0] ^ passes[1]):
        assert abs(int(flips.sum()) - 2000) < 5 * 31.7


def test_an_evaluation_sees_the_middle_which_is_rounded_towards_the_first_row_and_column() -> None:
    rows, columns = np.mgrid[:5, :7]
    pictures = np.stack([rows, columns], 2)[None]
    for height, width, first in ((3, 3, [1, 2]), (4, 4, [0, 1]), (2, 6, [1, 0]), (5, 7, [0, 0])):
        part = mapped.middle(pictures, SimpleNamespace(height=height, width=width))
        assert part.shape == (1, height, width, 2) and part[0, 0, 0].tolist() == first
        assert np.shares_memory(part, pictures)
