"""Whether a training has diverged: the first step and condition, whatever comes after it."""

from collections.abc import Sequence

import pytest
import torch

from raydistill.errors import DivergenceError
from raydistill.training.divergence import Divergence

CPU = torch.device("cpu")
WHAT = ("it is large; lower the rate", "the gradient is not finite; lower its rate")


def of_three() -> Divergence:
    return Divergence(["energy", "r1", "generator"], CPU)


def note(found: Divergence, number: int, image: int, failed: Sequence[bool]) -> None:
    found.note(number, image, WHAT, ~torch.tensor(failed))


def test_without_a_failure_nothing_is_found_and_nothing_is_raised() -> None:
    found = of_three()
    assert found.found.item() == 0
    found.require_none()
    for image in (0, 4, 10**12):
        note(found, 1, image, (False, False))
    assert found.found.item() == 0 and found.found.dtype == torch.float32
    found.require_none()


@pytest.mark.parametrize("image", [0, 7, 2**31, 10**12])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("condition", [0, 1])
def test_phase_image_and_condition_are_named(image: int, number: int, condition: int) -> None:
    found = of_three()
    note(found, number, image, [place == condition for place in range(2)])
    assert found.found.item() == 1
    phase, (what, _, advice) = ("energy", "r1", "generator")[number], WHAT[condition].partition("; ")
    with pytest.raises(DivergenceError) as caught:
        found.require_none()
    assert str(caught.value) == f"phase {phase}: {what} at image {image}; {advice}"


def message(*noted: tuple[int, int, Sequence[bool]]) -> str:
    found = of_three()
    for each in noted:
        note(found, *each)
    with pytest.raises(DivergenceError) as caught:
        found.require_none()
    return str(caught.value)


BAD, LARGE, GOOD = (False, True), (True, False), (False, False)


def test_of_two_bad_steps_the_first_is_named_in_whatever_order_they_are_noted() -> None:
    first = "phase r1: the gradient is not finite at image 8; lower its rate"
    assert message((1, 8, BAD), (0, 12, LARGE), (1, 16, BAD), (2, 20, GOOD)) == first
    assert message((0, 12, LARGE), (1, 8, BAD)) == first


def test_of_two_phases_of_a_step_the_earlier_and_of_two_conditions_the_first_is_named() -> None:
    assert message((0, 8, LARGE), (2, 8, BAD)) == "phase energy: it is large at image 8; lower the rate"
    assert message((2, 8, (True, True))) == "phase generator: it is large at image 8; lower the rate"


def test_what_is_found_masks_every_step_from_then_on() -> None:
    """As the `found_inf` of a fused Adam, which leaves weights, moments and the count of steps alone."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([weight], lr=torch.tensor(0.1), fused=True)
    found = of_three()
    for image, failed in ((0, GOOD), (4, BAD), (8, GOOD)):
        before = weight.detach().clone()
        weight.grad = torch.full((3,), float("nan") if image == 4 else 1.0)
        note(found, 0, image, failed)
        optimizer.found_inf = found.found  # type: ignore[attr-defined]
        optimizer.step()
        assert torch.equal(weight, before) == (image > 0)
    state = optimizer.state[weight]
    assert state["step"].item() == 1 and torch.isfinite(state["exp_avg"]).all()


def test_a_failure_on_the_meta_device_asks_for_no_value() -> None:
    """As a note on a GPU, which must not wait for it."""
    found = Divergence(["energy"], torch.device("meta"))
    found.note(0, 4, WHAT, torch.ones(2, dtype=torch.bool, device="meta"))
    assert found.found.is_meta


def test_more_phases_or_conditions_than_there_is_room_for_are_no_silent_mix_up() -> None:
    Divergence([str(number) for number in range(16)], CPU)
    with pytest.raises(AssertionError):
        Divergence([str(number) for number in range(17)], CPU)
    found, last = of_three(), torch.arange(16) != 15
    found.note(2, 3, [f"{number}; no" for number in range(16)], last)
    with pytest.raises(DivergenceError, match=r"^phase generator: 15 at image 3; no$"):
        found.require_none()
    with pytest.raises(AssertionError):
        found.note(0, 3, WHAT * 9, torch.ones(18, dtype=torch.bool))
