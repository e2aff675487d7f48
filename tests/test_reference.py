"""The mutual-information term against the plain implementation in `reference_vem.py`: same weights, same
noise, u frozen."""

import copy
from collections.abc import Callable, Iterable

import pytest
import reference_vem as reference
import torch
from torch import Tensor, nn

from raydistill.config.architectures import EnergyNetwork
from raydistill.config.terms import MutualInformation
from raydistill.method.vem import draw_negatives, ebm_loss, pair_energies, student_mi_loss
from raydistill.models import cost
from raydistill.models.energy import EnergyModel

POWER_ITERATIONS = 50
DTYPES = [(torch.float64, 1e-11), (torch.float32, 1e-5)]
"""Precision, and the largest allowed difference as a share of the norm."""


def twins(
    height: int, width: int, dtype: torch.dtype, channels: int = 4
) -> tuple[EnergyModel, reference.ReferenceEnergy]:
    """An energy whose branches take part, as after some training, and the reference with the same
    parameters and u."""
    torch.manual_seed(0)
    ours = EnergyModel(EnergyNetwork(channels=channels), height, width).to(dtype)
    for block in ours.blocks:
        nn.init.normal_(block.second.weight, 0.0, 0.1)
        nn.init.normal_(block.second.bias, 0.0, 0.1)
        nn.init.normal_(block.first.bias, 0.0, 0.1)
    for _ in range(POWER_ITERATIONS):
        ours.train()(*torch.rand(2, 1, 3, height, width, dtype=dtype))
    theirs = reference.ReferenceEnergy(channels, len(ours.blocks)).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    theirs.iterate(False)
    return ours.eval(), theirs


def pictures(height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    t, s = (
        torch.rand(2, 4, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        * 2
        - 1
    )
    return t.to(dtype), s.to(dtype)


def noise(like: Tensor) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(2)
    return lambda: torch.randn(like.shape, dtype=torch.float64, generator=generator).to(like.dtype)


def difference(ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> float:
    """||ours - theirs|| / ||theirs||, over all of them together."""
    pairs = [
        (a.detach().double().flatten(), b.detach().double().flatten())
        for a, b in zip(ours, theirs, strict=True)
    ]
    a, b = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    assert float(b.norm()) > 0
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 24), (21, 35)])
@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
def test_energies_and_their_gradients_in_both_pictures_are_the_references(
    height: int, width: int, dtype: torch.dtype, limit: float
) -> None:
    ours, theirs = twins(height, width, dtype)
    found = []
    for energy in (ours, theirs):
        t, s = (picture.requires_grad_(True) for picture in pictures(height, width, dtype))
        energies = energy(t, s)
        found.append((energies, *torch.autograd.grad((energies**2).sum(), (t, s))))
    for a, b in zip(*found, strict=True):
        assert difference([a], [b]) < limit


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
def test_the_negatives_are_the_references(dtype: torch.dtype, limit: float) -> None:
    ours, theirs = twins(16, 16, dtype)
    _, s = pictures(16, 16, dtype)
    config = MutualInformation(num_steps=10, step_size=100.0, noise_std=0.005)
    expected = reference.draw_negatives(theirs, s, noise(s), 10, 100.0, 0.005)
    assert float((expected - s).norm() / s.norm()) > 0.01
    assert difference([draw_negatives(ours, s, config, noise(s)).samples], [expected]) < limit


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
def test_losses_and_gradients_of_a_step_are_the_references(dtype: torch.dtype, limit: float) -> None:
    """Negatives, the energy's loss and gradient, then the student's with the energy that the step left."""
    ours, theirs = twins(16, 16, dtype)
    t, x = pictures(16, 16, dtype)
    torch.manual_seed(3)
    student = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()).to(dtype)
    s = student(x)
    negatives = draw_negatives(ours, s, MutualInformation(step_size=100.0), noise(s)).samples
    positive, negative = pair_energies(ours, t, negatives, s.detach())
    loss = ebm_loss(positive, negative, 0.05)
    loss.backward()  # type: ignore[no-untyped-call]

    expected_negatives = reference.draw_negatives(theirs, s, noise(s), 10, 100.0, 0.005)
    expected, _ = reference.energy_loss(theirs, t, expected_negatives, s, 0.05)
    expected.backward()  # type: ignore[no-untyped-call]
    scale = float(positive.detach().abs().mean())  # the losses are differences of energies, so smaller
    assert abs(float(loss.detach() - expected.detach())) < limit * scale
    by_name = dict(theirs.named_parameters())
    gradients = [(parameter.grad, by_name[name].grad) for name, parameter in ours.named_parameters()]
    assert (
        difference([a for a, _ in gradients if a is not None], [b for _, b in gradients if b is not None])
        < limit
    )

    for energy in (ours, theirs):
        torch.optim.SGD(energy.parameters(), lr=1e-2).step()
    term, wanted = (
        student_mi_loss(ours, t, negatives, s),
        reference.student_term(theirs, t, expected_negatives, s),
    )
    assert abs(float(term.detach() - wanted.detach())) < limit * scale
    inputs = [s, *student.parameters()]
    found = torch.autograd.grad(term, inputs, retain_graph=True)
    assert difference(found, torch.autograd.grad(wanted, inputs)) < limit


def test_both_move_u_alike() -> None:
    ours, theirs = twins(16, 16, torch.float64)
    theirs.iterate(True)
    before = copy.deepcopy(ours.state_dict())
    t, s = pictures(16, 16, torch.float64)
    assert difference([ours.train()(t, s)], [theirs(t, s)]) < 1e-11
    names = [name for name in before if name.endswith(".u")]
    assert (
        difference([ours.state_dict()[name] for name in names], [theirs.state_dict()[name] for name in names])
        < 1e-11
    )
    assert any(not torch.equal(before[name], ours.state_dict()[name]) for name in names)


@pytest.mark.parametrize(
    ("channels", "published_macs", "macs"), [(32, 1_940_521_088, 1_157_693_568), (8, 126_591_008, 77_664_288)]
)
def test_at_256_pixels_the_same_energy_takes_fewer_macs_than_published(
    channels: int, published_macs: int, macs: int
) -> None:
    shape = (1, 3, 256, 256)
    with torch.device("meta"):
        published = reference.ReferenceEnergy(channels, 7)
        ours = EnergyModel(EnergyNetwork(channels=channels), 256, 256)
    assert cost.module_macs(published, shape, shape) == published_macs
    assert cost.module_macs(ours, shape, shape) == macs
