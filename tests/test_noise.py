"""The counter-based random numbers: known answers, their distribution, and that no two keys share
anything.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from raydistill.data import noise
from raydistill.errors import ConfigError
from raydistill.seeds import stream_key

MANY = 2**18


def keys(seed: int = 0, purpose: str = "test", first: int = 0, count: int = 4) -> Tensor:
    return noise.image_keys(seed, purpose, range(first, first + count))


def unsigned(numbers: Tensor) -> list[int]:
    return [int(number) % 2**64 for number in numbers.flatten()]


def plain_hash(state: int) -> int:
    """SplitMix64 as it is written down, in whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % 2**64
    return state ^ (state >> 31)


def plain_output(key: int, counter: int) -> int:
    return plain_hash((key + (counter + 1) * 0x9E3779B97F4A7C15) % 2**64)


def test_outputs_are_those_that_are_published_of_splitmix64() -> None:
    """The first five of the generator that 1234567 seeds."""
    found = noise.keyed(torch.tensor(1234567), torch.arange(5))
    assert unsigned(found) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_follow_from_seed_purpose_image_step_and_element_as_the_formula_says() -> None:
    found = noise.normal(keys(7, "langevin", first=12, count=2), (3, 5), steps=2)
    assert found.shape == (2, 2, 3, 5)
    for step in range(2):
        for image in range(2):
            image_key = plain_output(stream_key(7, "langevin"), 12 + image)
            step_key = plain_output(image_key, step)
            bits = [plain_output(step_key, element) for element in range(8)]
            radius = [math.sqrt(-2 * math.log(((each >> 24) + 1) / 2**40)) for each in bits]
            angle = [2 * math.pi * (each % 2**24) / 2**24 for each in bits]
            expected = [r * math.cos(a) for r, a in zip(radius, angle)]
            expected += [r * math.sin(a) for r, a in zip(radius, angle)]
            np.testing.assert_allclose(found[step, image].flatten(), expected[:15], rtol=1e-5, atol=1e-6)


def test_known_numbers_stay_what_they_are() -> None:
    """A change of them changes every training: then the job version rises, too."""
    own = noise.image_keys(0, "langevin", range(2))
    assert unsigned(own) == [14955962013497445206, 11745677931722912820]
    drawn = noise.normal(own, (2,), steps=1).flatten().tolist()
    assert drawn == pytest.approx([-0.8975521, 1.1827861, -0.4215858, 2.6918740], abs=1e-6)
    assert noise.integers(own, 10).tolist() == [8, 5]
    assert noise.uniform(own).tolist() == pytest.approx([0.1096304, 0.9748275], abs=1e-7)
    assert noise.order(own[0], 6).tolist() == [5, 3, 0, 2, 4, 1]


def normals(count: int = MANY) -> Tensor:
    return noise.normal(keys(count=8), (count // 8,)).flatten()


def test_normals_have_the_moments_of_the_normal_distribution() -> None:
    """Mean, variance, skewness and kurtosis within 4 standard errors, each half of the elements alone,
    too.
    """
    drawn = noise.normal(keys(count=8), (MANY // 8,))
    for part in (drawn, drawn[:, : MANY // 16], drawn[:, MANY // 16 :]):
        values, number = part.flatten().double(), part.numel()
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs(float((values**power).mean()) - moment) < 4 * math.sqrt(variance / number), power
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3


def test_tails_are_as_heavy_as_those_of_the_normal_distribution() -> None:
    """Counts beyond 2, 3 and 4 standard deviations, on both sides, within 4 standard errors."""
    drawn = normals(2**22).numpy()
    for limit in (2, 3, 4):
        expected = len(drawn) * stats.norm.sf(limit)
        for beyond in ((drawn > limit).sum(), (drawn < -limit).sum()):
            assert abs(beyond - expected) < 4 * math.sqrt(expected), limit
    assert np.abs(drawn).max() < 7.5 and np.isfinite(drawn).all()


def test_the_smallest_and_largest_outputs_give_finite_numbers() -> None:
    """A radius bit pattern of 0 gives the longest radius, one of all ones a radius of 0."""
    assert math.sqrt(-2 * math.log(2.0**-40)) < 7.5
    for bits in (0, -1, 2**63 - 1, -(2**63)):
        out = torch.empty(1, 2, 1)
        original = noise.mixed
        noise.mixed = lambda states: states  # type: ignore[assignment]
        try:
            noise._box_muller(torch.tensor([[bits]]), out)
        finally:
            noise.mixed = original
        assert torch.isfinite(out).all() and out.abs().max() < 7.5


def of_image(seed: int = 0, purpose: str = "test", first: int = 0, steps: int | None = None) -> Tensor:
    """`MANY` numbers of one image; with `steps`, of its last step."""
    own = keys(seed, purpose, first, count=1)
    drawn = noise.normal(own, (MANY,), steps)
    return drawn[0] if steps is None else drawn[-1, 0]


NEIGHBOURS: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "elements": lambda: (normals()[:-1], normals()[1:]),
    "cosine and sine": lambda: (of_image()[: MANY // 2], of_image()[MANY // 2 :]),
    "images": lambda: (of_image(first=5), of_image(first=6)),
    "steps": lambda: (of_image(steps=1), of_image(steps=2)),
    "seeds": lambda: (of_image(), of_image(seed=1)),
    "purposes": lambda: (of_image(), of_image(purpose="other")),
    "an image and its first step": lambda: (of_image(), of_image(steps=1)),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_numbers_of_neighbouring_keys_are_independent(name: str) -> None:
    """Values and squares are uncorrelated within 4 standard errors."""
    a, b = (each.double() for each in NEIGHBOURS[name]())
    for first, second in ((a, b), (a**2, b**2), (a, b**2)):
        correlation = float(np.corrcoef(first, second)[0, 1])
        assert abs(correlation) < 4 / math.sqrt(len(a)), correlation


def test_no_two_streams_share_an_output() -> None:
    """Seeds, purposes, images and steps: 64 of their keys, and 1,000 outputs of each."""
    own = torch.cat([keys(seed, purpose) for seed in (0, 1) for purpose in ("a", "b")])
    steps = noise.keyed(own, torch.arange(4)[:, None]).flatten()
    outputs = noise.keyed(steps[:, None], torch.arange(1000))
    assert len(torch.cat([own, steps, outputs.flatten()]).unique()) == 16 + 64 + 64_000


def test_one_number_of_each_of_many_images_is_as_random_as_many_of_one() -> None:
    """As crops, turns and mixings are drawn: along the images, not along the elements."""
    own = keys(count=MANY)
    uniform = noise.uniform(own).numpy()
    assert uniform.min() >= 0 and uniform.max() < 1 and stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(uniform[:-1], uniform[1:])[0, 1]) < 4 / math.sqrt(MANY)
    counts = torch.bincount(noise.integers(own, 7), minlength=7).double().numpy()
    assert len(counts) == 7 and stats.chisquare(counts).pvalue > 1e-3
    first = noise.normal(own, (1,)).flatten().numpy()
    assert stats.kstest(first, "norm").pvalue > 1e-3


def test_every_bit_of_an_output_is_as_often_0_as_1_and_flips_with_any_bit_of_the_key() -> None:
    own = keys(count=2**14)
    bits = (own[:, None] >> torch.arange(64)) & 1
    assert float((bits.double().mean(0) - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(len(own))
    zero = torch.zeros((), dtype=torch.int64)
    for place in (0, 1, 31, 62, 63):
        flipped = noise.keyed(own ^ (1 << place if place < 63 else -(2**63)), zero) ^ noise.keyed(own, zero)
        changed = ((flipped[:, None] >> torch.arange(64)) & 1).double().mean()
        assert abs(float(changed) - 0.5) < 5 * 0.5 / math.sqrt(64 * len(own))


def test_orders_are_permutations_of_which_every_place_is_equally_likely() -> None:
    orders = torch.stack([noise.order(key, 5) for key in keys(count=4000)])
    assert (orders.sort(1).values == torch.arange(5)).all()
    for place in range(5):
        assert stats.chisquare(torch.bincount(orders[:, place], minlength=5).numpy()).pvalue > 1e-4


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_an_image_has_its_numbers_whatever_else_is_drawn_beside_it(count: int) -> None:
    """Whatever the minibatch, the part of it, how many steps there are, or how much a CPU makes at a time."""
    whole = noise.normal(keys(count=6), (count,), steps=3)
    assert torch.equal(whole[:, 2:4], noise.normal(keys(first=2, count=2), (count,), steps=3))
    assert torch.equal(whole[:2], noise.normal(keys(count=6), (count,), steps=2))
    assert torch.equal(whole[1], noise.normal(keys(count=6), (count,), steps=3)[1])


def test_the_parts_that_a_cpu_makes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noise.normal(keys(), (3, 7, 5), steps=3)
    for chunk in (1, 10, 53, 64):
        monkeypatch.setattr(noise, "_CHUNK", chunk)
        assert torch.equal(noise.normal(keys(), (3, 7, 5), steps=3), whole), chunk


def test_what_has_no_numbers_is_drawn_as_nothing() -> None:
    assert noise.normal(keys(count=0), (3,), steps=2).shape == (2, 0, 3)
    assert noise.normal(keys(), (0,)).shape == (4, 0)
    assert noise.normal(keys(), (3,), steps=0).shape == (0, 4, 3)


@pytest.mark.parametrize("images", [range(-1, 3), range(2**62 - 1, 2**62 + 1)])
def test_an_image_beyond_the_range_of_keys_is_refused(images: range) -> None:
    with pytest.raises(ConfigError, match="allowed are 0 to 4611686018427387903"):
        noise.image_keys(0, "test", images)


def test_more_numbers_than_there_are_keys_for_are_refused_before_they_are_made() -> None:
    with pytest.raises(ConfigError, match="allowed are less than"):
        noise.normal(keys(), (2**31, 2**31))
    with pytest.raises(ConfigError, match="allowed are less than"):
        noise.normal(keys(), (1,), steps=2**62)


def test_on_the_meta_device_shapes_are_made_and_no_numbers() -> None:
    own = noise.image_keys(0, "test", range(3), torch.device("meta"))
    assert own.is_meta and noise.normal(own, (2, 5), steps=4).shape == (4, 3, 2, 5)
    assert noise.order(own[0], 9).shape == (9,) and noise.integers(own, 3).shape == (3,)
