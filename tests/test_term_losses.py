"""What each mutual-information term descends, by its formula; what it logs, and the replay buffer."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.architectures import EnergyNetwork, PatchDiscriminator
from raydistill.config.terms import MutualInformation, PairCritic, VariationalInformation
from raydistill.data import DataInfo, noise
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers
from raydistill.errors import ConfigError
from raydistill.method.langevin import langevin
from raydistill.training import terms
from raydistill.training.terms import Pairs, TermSetup

SIDE, COUNT = 8, 6
INFO = DataInfo(
    layout="aligned",
    height=SIDE,
    width=SIDE,
    num_classes=None,
    class_names=(),
    palette=(),
    ignore_index=None,
    counts={"train": COUNT, "val": 2, "test": 2},
    split_rule="",
)
VEM: dict[str, Any] = {
    "num_steps": 2,
    "step_size": 0.5,
    "noise_std": 0.1,
    "energy": EnergyNetwork(channels=2),
}
CRITIC = PairCritic(discriminator=PatchDiscriminator(width=4, num_layers=1))


def pictures(seed: int, number: int = 4) -> Tensor:
    return torch.rand(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def teacher(sample: SampleIndex, inputs: Tensor | None = None) -> Tensor:
    """A picture that says which image it is of, whether it is mirrored and at which position."""
    rows = torch.stack([each.float() for each in sample], 1)
    return rows[:, :, None, None].expand(-1, 3, SIDE, SIDE)


def setup_of(info: DataInfo = INFO) -> TermSetup:
    return TermSetup(3, info, torch.device("cpu"), Workers(0, 1), teacher)


def pairs_of(first_image: int = 8, is_reported: bool = True) -> Pairs:
    """t and what s is paired with differ, as where that is the target picture."""
    s = pictures(0).requires_grad_(True)
    flips, positions = (
        torch.tensor([True, False, False, True]),
        torch.arange(first_image, first_image + 4),
    )
    sample = SampleIndex(torch.tensor([0, 5, 2, 3]), flips, positions)
    seen = {"inputs": pictures(3), "target": pictures(2)}
    return Pairs(s, pictures(1), pictures(2), sample, first_image, is_reported, **seen)


def keys_of(purpose: str, images: range) -> Tensor:
    """The keys of images in a training of seed 3."""
    return noise.image_keys(3, purpose, images)


def to_s(loss: Tensor, pairs: Pairs) -> Tensor:
    return torch.autograd.grad(loss, pairs.s, retain_graph=True)[0]


# ---- VEM ---------------------------------------------------------------------------------------------------


def vem(**values: Any) -> terms.Vem:
    term = terms.build(MutualInformation(**VEM | values), setup_of())
    assert isinstance(term, terms.Vem)
    for block in term.energy.blocks:  # as after some training
        torch.nn.init.normal_(block.second.weight, 0.0, 0.1, generator=torch.Generator().manual_seed(1))
    return term


def test_the_energy_descends_the_gap_between_its_pairs_and_the_ends_of_its_chains_plus_l2() -> None:
    """Chains start at s; each image has noise of its own, keyed by its number in the training."""
    term, pairs = vem(l2_weight=0.3), pairs_of()
    loss, numbers, shared, _ = term.own_loss(pairs)
    twin = vem(l2_weight=0.3)
    # in the order of memory that the chains have: channels last
    drawn = (
        noise.normal(keys_of("langevin", range(8, 12)), (SIDE, SIDE, 3), 2).permute(0, 1, 4, 2, 3).unbind()
    )
    twin.energy.eval()
    chains = langevin(
        lambda t: twin.energy(t, pairs.s.detach()),
        pairs.s,
        num_steps=2,
        step_size=0.5,
        noise_std=0.1,
        normal=iter(drawn).__next__,
    )
    negatives = chains.samples.clamp(-1, 1)
    twin.energy.train()
    both = twin.energy(torch.cat([pairs.positive, negatives]), torch.cat([pairs.s, pairs.s])).detach()
    positive, negative = both[:4], both[4:]
    expected = positive.mean() - negative.mean() + 0.3 * (positive**2 + negative**2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(shared["negatives"], negatives, rtol=1e-5, atol=1e-6)

    def far(a: Tensor) -> Tensor:
        return (a - pairs.s.detach()).flatten(1).norm(dim=1)

    logged = {
        "pos": positive.mean(),
        "neg": negative.mean(),
        "gap": positive.mean() - negative.mean(),
        "grad_norm": chains.gradient.flatten(1).norm(dim=1).mean(),
        "displacement": (far(negatives) / far(pairs.t)).mean(),
        "clamped": (chains.samples.abs() > 1).float().mean(),
        "temperature": torch.tensor(0.1**2 / (2 * 0.5)),
    }
    assert {f"energy/{name}" for name in logged} == set(numbers)
    for name, value in logged.items():
        torch.testing.assert_close(numbers[f"energy/{name}"], value, rtol=1e-4, atol=1e-6, check_dtype=False)
    assert not torch.equal(term.energy.stem.u, vem().energy.stem.u), "its own loss moves the power iteration"
    dear = {"energy/displacement", "energy/temperature"}
    assert set(vem(l2_weight=0.3).own_loss(pairs_of(is_reported=False)).numbers) == set(numbers) - dear


def test_vems_student_descends_the_gap_of_the_same_pairs_and_negatives() -> None:
    term, pairs = vem(), pairs_of()
    pairs = dataclasses.replace(pairs, shared=term.own_loss(pairs).shared)
    found = term.student_loss(pairs)
    term.energy.eval()
    gap = term.energy(pairs.positive, pairs.s).mean() - term.energy(pairs.shared["negatives"], pairs.s).mean()
    torch.testing.assert_close(found, gap, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(to_s(found, pairs), to_s(gap, pairs), rtol=1e-4, atol=1e-8)


def test_another_samples_output_is_1_to_n_less_1_images_further_and_mirrored_alike() -> None:
    """Of the z of a later image, where inputs are noise: its position moves by as much."""
    seen = set()
    for first_image in range(0, 200, 4):
        pairs = pairs_of(first_image)
        start = terms.STARTS["other"](vem(start="other"), pairs)
        steps = 1 + noise.integers(keys_of("chain start/other", pairs.images), COUNT - 1)
        for row, index, flip, position, step in zip(start, *pairs.sample, steps):
            assert row[:, 0, 0].tolist() == [(index + step) % COUNT, float(flip), position + step]
            seen.add(int(step))
    assert seen == set(range(1, COUNT))


def test_noise_to_start_from_is_that_of_the_error_function_of_normal_numbers() -> None:
    pairs = pairs_of(20)
    found = terms.STARTS["noise"](vem(start="noise"), pairs)
    drawn = noise.normal(keys_of("chain start", range(20, 24)), (3, SIDE, SIDE))
    torch.testing.assert_close(found, torch.erf(drawn / 2**0.5))


def test_the_replay_buffer_is_a_ring_and_one_chain_in_twenty_starts_anew() -> None:
    term = vem(start="replay", replay_size=6)
    drawn = noise.normal(keys_of("replay", range(6)), (3, SIDE, SIDE))
    torch.testing.assert_close(term.buffer.pictures, torch.erf(drawn / 2**0.5))
    assert float(term.buffer.pictures.abs().max()) <= 1
    ends = [pictures(seed, 4) for seed in (5, 6)]
    for first, samples in zip((4, 8), ends):
        term.buffer.put(range(first, first + 4), samples, Workers(0, 1))
    expected = dict(zip([4, 5, 0, 1, 2, 3, 4, 5], torch.cat(ends)))
    for place, picture in expected.items():
        assert torch.equal(term.buffer.pictures[place], picture)
    pairs, fresh = pairs_of(60), torch.full((4, 3, SIDE, SIDE), 7.0)
    found, share = term.buffer.get(pairs, fresh), 0
    drawn = noise.uniform(keys_of("replay/fresh", range(60, 64))).tolist()
    for row, position, uniform in zip(found, range(60, 64), drawn):
        is_fresh = uniform < 0.05
        assert torch.equal(row, fresh[0] if is_fresh else term.buffer.pictures[position % 6])
    for first in range(0, 4000, 4):
        share += int((term.buffer.get(pairs_of(first), fresh)[:, 0, 0, 0] == 7).sum())
    assert 150 < share < 250


def test_the_replay_buffer_takes_in_every_chains_end() -> None:
    term, pairs = vem(start="replay", replay_size=8), pairs_of(8)
    before = term.buffer.pictures.clone()
    ends = term.own_loss(pairs).shared["negatives"]
    assert torch.equal(term.buffer.pictures[:4], ends)
    assert torch.equal(term.buffer.pictures[4:], before[4:])
    assert len(vem(start="replay").buffer.pictures) == 256 and set(term.setup.networks) == {
        "energy",
        "replay",
    }


# ---- VID and the critic ------------------------------------------------------------------------------------


def test_vid_is_a_gaussian_around_s_with_a_variance_a_channel() -> None:
    """Mean of (t - s)^2 / (2 v) + log(v) / 2: the variances learn it without s, the student without them."""
    term, pairs = terms.build(VariationalInformation(initial_variance=0.5), setup_of()), pairs_of()
    with torch.no_grad():
        term.variance.raw += torch.tensor([-0.5, 0.0, 1.0])
    v = (F.softplus(term.variance.raw) + 1e-5).detach()
    error = (pairs.positive - pairs.s.detach()) ** 2
    expected = torch.stack([error[:, c] / (2 * v[c]) + v[c].log() / 2 for c in range(3)]).mean()
    own, numbers, _, _ = term.own_loss(pairs)
    loss = term.student_loss(pairs)
    for found in (own, loss, numbers["train/vid_nll"]):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(numbers["train/vid_variance"], v.mean())
    assert torch.autograd.grad(own, pairs.s, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(loss, term.variance.raw, allow_unused=True, retain_graph=True) == (None,)
    (to_raw,) = torch.autograd.grad(own, term.variance.raw)
    assert float(to_raw.norm()) > 0
    scale = (pairs.s.detach() - pairs.positive) / v[None, :, None, None] / pairs.s.numel()
    torch.testing.assert_close(to_s(loss, pairs), scale)


def test_the_critic_tells_what_s_is_paired_with_from_s_itself() -> None:
    term, pairs = terms.build(CRITIC, setup_of()), pairs_of()
    s = pairs.s.detach()

    def scores(first: Tensor) -> Tensor:
        return term.critic(torch.cat([first, s], 1))

    loss, numbers, _, _ = term.own_loss(pairs)
    real, fake = scores(pairs.positive), scores(s)
    torch.testing.assert_close(loss, (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2)
    torch.testing.assert_close(numbers["train/critic_loss"], loss)
    torch.testing.assert_close(numbers["train/critic_gap"], real.mean() - fake.mean())
    assert torch.autograd.grad(loss, pairs.s, allow_unused=True, retain_graph=True) == (None,)
    student = term.student_loss(pairs)
    torch.testing.assert_close(student, -scores(pairs.s).mean())
    torch.testing.assert_close(to_s(student, pairs), to_s(-scores(pairs.s).mean(), pairs))


# ---- what is refused ---------------------------------------------------------------------------------------


def test_a_term_is_checked_where_it_has_a_weight() -> None:
    deep = MutualInformation(**VEM | {"energy": EnergyNetwork(num_blocks=9)})
    with pytest.raises(ConfigError, match=r"student\.terms\.mi\.energy\.num_blocks: 9 residual blocks"):
        terms.check(deep, SIDE, SIDE)
    terms.check(deep.model_copy(update={"weight": 0.0}), SIDE, SIDE)
    wide = PairCritic(discriminator=PatchDiscriminator(num_layers=6))
    with pytest.raises(ConfigError, match=r"student\.terms\.mi\.discriminator\.num_layers: 6 layers"):
        terms.check(wide, SIDE, SIDE)


def test_a_buffer_holds_a_batch_and_other_pictures_need_two() -> None:
    config = MutualInformation(**VEM | {"start": "replay", "replay_size": 8})
    terms.check(config, SIDE, SIDE, batch_size=8)
    with pytest.raises(ConfigError, match=r"replay_size: 8 is less than student\.batch_size 9"):
        terms.check(config, SIDE, SIDE, batch_size=9)
    usual = config.model_copy(update={"replay_size": None})
    terms.check(usual, SIDE, SIDE, batch_size=256)
    with pytest.raises(ConfigError, match=r"replay_size: 256 is less than student\.batch_size 257"):
        terms.check(usual, SIDE, SIDE, batch_size=257)
    other = MutualInformation(**VEM | {"start": "other"})
    for count, is_allowed in ((1, False), (2, True)):
        info = INFO.model_copy(update={"counts": {"train": count, "val": 2, "test": 2}})
        if is_allowed:
            terms.build(other, setup_of(info))
        else:
            with pytest.raises(ConfigError, match="'other' needs two or more training pictures"):
                terms.build(other, setup_of(info))
    inputs = INFO.model_copy(update={"input_counts": {"train": 9, "val": 1, "test": 1}})
    assert (terms.num_inputs(INFO), terms.num_inputs(inputs)) == (COUNT, 9)


def test_outputs_may_leave_their_range_by_rounding_alone() -> None:
    def refuses(low: float, high: float) -> bool:
        shown = torch.zeros(2, 3, 4, 4)
        shown[0, 0, 0, 0], shown[1, 2, 3, 3] = low, high
        try:
            terms.require_pictures(shown, (3, 4, 4), "here")
        except ConfigError:
            return True
        return False

    assert not refuses(-1, 1) and not refuses(-1 - 9e-7, 1 + 9e-7)
    assert refuses(-1 - 2e-6, 1) and refuses(-1, 1 + 2e-6) and refuses(0, float("nan"))
