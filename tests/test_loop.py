"""The loop's parts on networks of a few numbers: steps, averages, reports, workers' shares."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Stages, numbers, quiet
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.architectures import UnetGenerator
from raydistill.config.base import Optimizer
from raydistill.config.experiment import Job
from raydistill.config.training import Training
from raydistill.data import Batch
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers, average_gradients, gradient_norm, mean_numbers, move_average
from raydistill.errors import ConfigError, DivergenceError
from raydistill.training import loop
from raydistill.training.assembly import Assembly
from raydistill.training.divergence import Divergence
from raydistill.training.loop import TrainingResult
from raydistill.training.minibatches import Minibatches, is_report_due
from raydistill.training.recipes import Phase, RecipeKind, Step
from raydistill.training.terms import Check

ALONE = Workers(0, 1)


def training(**values: Any) -> Training:
    given = {"recipe": "r", "budget_nimg": 100, "report_every_nimg": 10, "batch_size": 4}
    optimizer = Optimizer(learning_rate=0.1, betas=(0.0, 0.9))
    return Training(**({**given, "optimizer": optimizer} | values))


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay_start", [0.0, 0.25, 0.5, 0.999])
def test_the_learning_rate_falls_along_a_line_from_the_start_of_its_decay(decay_start: float) -> None:
    config = Optimizer(learning_rate=3.0, betas=(0.0, 0.9), decay_start=decay_start)
    for nimg in range(0, 1001, 50):
        share = nimg / 1000
        expected = 3.0 if share <= decay_start else 3.0 * (1 - share) / (1 - decay_start)
        assert loop.learning_rate(config, nimg, 1000) == pytest.approx(expected, abs=1e-12)
    constant = config.model_copy(update={"decay_start": 1.0})
    assert [loop.learning_rate(constant, nimg, 1000) for nimg in (0, 999, 1000)] == [3.0] * 3


def test_the_learning_rate_rises_to_the_end_of_its_warm_up_then_stays_then_falls() -> None:
    config = Optimizer(learning_rate=2.0, betas=(0.0, 0.9), warmup_end=0.2, decay_start=0.5)
    found = [loop.learning_rate(config, nimg, 100) for nimg in (0, 10, 20, 50, 75, 100)]
    assert found == pytest.approx([0, 1, 2, 2, 1, 0])


def test_a_warm_up_that_ends_after_the_fall_begins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup_end 0\.6: the learning rate falls from 0\.5 of"):
        Optimizer(learning_rate=2.0, betas=(0.0, 0.9), warmup_end=0.6, decay_start=0.5)


def test_no_warm_up_and_norms_at_one_are_not_in_a_digest() -> None:
    assert "warmup_end" not in Optimizer(learning_rate=1.0, betas=(0.0, 0.9)).model_dump_json()
    assert "norm_std" not in UnetGenerator().model_dump_json()


def test_an_average_moves_by_a_share_and_takes_buffers_as_they_are() -> None:
    average, network = (nn.BatchNorm1d(2) for _ in range(2))
    for module, value in ((average, 1.0), (network, 5.0)):
        for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
            tensor.fill_(value)
    network.num_batches_tracked += 7
    move_average(average, network, 0.75)
    assert average.weight.tolist() == [2.0, 2.0] and average.bias.tolist() == [2.0, 2.0]
    assert average.running_mean.tolist() == [5.0, 5.0] and int(average.num_batches_tracked) == 7
    assert network.weight.tolist() == [5.0, 5.0]


def test_a_report_is_due_where_a_multiple_was_passed_and_at_the_end() -> None:
    """Batches of 4, a report every 10 images: after 12, 20, 32, 40, ..., and after 100."""
    given = training()
    due = [nimg for nimg in range(4, 101, 4) if is_report_due(nimg, given)]
    assert due == [12, 20, 32, 40, 52, 60, 72, 80, 92, 100]
    rare = training(report_every_nimg=1000)
    assert [nimg for nimg in range(4, 109, 4) if is_report_due(nimg, rare)] == [100, 104, 108]
    often = training(report_every_nimg=1)
    assert all(is_report_due(nimg, often) for nimg in range(4, 101, 4))


def test_logged_numbers_are_means_over_the_steps_that_had_them() -> None:
    """In whatever order the steps name them; a step that logs nothing counts for none."""
    seen = [
        {"a": torch.tensor(1.0, requires_grad=True)},
        {"a": torch.tensor(2.0), "b": torch.tensor(8.0)},
        {},
        {"b": torch.tensor(4.0), "a": torch.tensor(3.0)},
        {"a": torch.tensor(6.0)},
    ]
    logged = loop.Means()
    for step in seen:
        logged.add(step)
    assert logged.over(ALONE) == {"a": 3.0, "b": 6.0} == logged.over(ALONE)
    assert loop.Means().over(ALONE) == {}


def test_the_mean_of_many_small_numbers_loses_nothing_to_a_large_one() -> None:
    """Sums are float64: in float32, 2^25 + 1 is 2^25."""
    logged = loop.Means()
    for value in (2.0**25, *([1.0] * 7)):
        logged.add({"a": torch.tensor(value)})
    assert logged.over(ALONE) == {"a": (2.0**25 + 7) / 8}


# ---- parts of a minibatch ----------------------------------------------------------------------------------


def step_of(count: int, nimg: int = 20, offset: int = 0) -> Step:
    x = torch.arange(float(count))[:, None]
    here = torch.arange(count)
    sample = SampleIndex(here + 100, here % 2 == 0, here + nimg + offset)
    return Step(Batch(x, 2 * x, here, None), sample, nimg, offset, is_reported=True)


def test_a_minibatch_is_cut_into_parts_in_order() -> None:
    step = step_of(7, offset=3)
    assert step.images == range(23, 30) and len(step) == 7
    for size in (None, 7, 8):
        assert loop.microbatches(step, size) == [step]
    parts = loop.microbatches(step, 3)
    assert [part.images for part in parts] == [range(23, 26), range(26, 29), range(29, 30)]
    assert {(part.nimg, part.is_reported) for part in parts} == {(20, True)}
    for each, expected in zip(zip(*(part.sample for part in parts)), step.sample):
        assert torch.equal(torch.cat(each), expected)
    assert torch.equal(torch.cat([part.batch.inputs for part in parts]), step.batch.inputs)
    assert torch.equal(torch.cat([part.batch.labels for part in parts]), step.batch.labels)
    assert {part.stored for part in parts} == {None}
    stored = dataclasses.replace(step, stored=torch.arange(7.0)[:, None, None, None])
    found = [part.stored.flatten().tolist() for part in loop.microbatches(stored, 3)]
    assert found == [[0, 1, 2], [3, 4, 5], [6]]


class Line(nn.Module):
    """k x, and a count of its forwards."""

    def __init__(self, k: float):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.k * x


def recipe_of(
    loss: Callable[[Step, dict[str, nn.Module]], Any], learning_rate: float = 0.1, **changes: Any
) -> Assembly:
    """Networks `line` (3 x) and `other` (5 x); one phase of plain gradient descent that moves `line`."""
    networks: dict[str, nn.Module] = {"line": Line(3.0), "other": Line(5.0)}
    config = Optimizer(learning_rate=learning_rate, betas=(0.0, 0.9), decay_start=0.5)
    optimizer = torch.optim.SGD(networks["line"].parameters(), lr=torch.tensor(99.0), fused=True)
    phase = Phase("line", ("line",), config, lambda step: loss(step, networks))._replace(**changes)

    def forward(step: Step) -> None:
        step.output = networks["line"](step.batch.inputs)

    nothing: Any = None
    kind = RecipeKind(nothing, nothing, nothing, network="line")  # type: ignore[arg-type]
    divergence = Divergence(["line"], torch.device("cpu"))
    running = ({"line": optimizer}, nothing, divergence, nothing, nothing, nothing, {}, nothing, None)
    return Assembly(kind, networks, forward, (phase,), *running)


def squares(step: Step, networks: dict[str, nn.Module]) -> Any:
    loss = (step.output + networks["other"](step.batch.inputs)).square().mean()
    return loss, {"train/loss": loss, "train/last": step.batch.inputs[-1].mean()}


@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_a_step_of_a_phase_descends_the_mean_over_the_batch_whatever_its_parts(size: int | None) -> None:
    """mean (8 x)^2 over x = 0, 1, 2, 3 is 64 * 3.5, its derivative 16 * 3.5; the rate is .1 * .8 at 60 %."""
    recipe, step = recipe_of(squares), step_of(4, nimg=60)
    for network in recipe.networks.values():
        network.k.grad = torch.tensor(1e9)
    parts = loop.microbatches(step, size)
    if size is None:
        recipe.forward(step)
    numbers = loop.advance(recipe.phases[0], recipe, parts, training(), ALONE)
    line, other = recipe.networks["line"], recipe.networks["other"]
    assert line.k.item() == pytest.approx(3.0 - 0.1 * 0.8 * 16 * 3.5) and other.k.item() == 5.0
    assert other.k.grad == 1e9 and not other.k.requires_grad and line.k.requires_grad
    assert numbers["train/loss"].item() == pytest.approx(64 * 3.5) and not numbers["train/loss"].requires_grad
    lasts = {None: 3.0, 1: 1.5, 2: 2.0, 3: (2 * 3 + 3 * 1) / 4}
    assert numbers["train/last"].item() == pytest.approx(lasts[size])
    assert line.count == 1, "of several parts each starts from the same buffers"


def test_networks_that_move_together_both_get_gradients() -> None:
    recipe, step = recipe_of(squares, moves=("line", "other")), step_of(4)
    recipe.forward(step)
    loop.advance(recipe.phases[0], recipe, [step], training(), ALONE)
    assert recipe.networks["other"].k.grad.item() == pytest.approx(16 * 3.5)


def advance(recipe: Assembly, step: Step) -> None:
    recipe.forward(step)
    loop.advance(recipe.phases[0], recipe, [step], training(), ALONE)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_from_a_gradient_that_is_not_finite_on_nothing_moves(value: float) -> None:
    """The loss of image 24 is bad, those before and after it are good."""

    def loss(step: Step, networks: dict[str, nn.Module]) -> Any:
        return step.output.mean() * (value if step.nimg == 24 else 1.0), {}

    recipe = recipe_of(loss)
    places = []
    for nimg in (20, 24, 28):
        advance(recipe, step_of(4, nimg=nimg))
        places.append(recipe.networks["line"].k.item())
        if nimg == 20:
            recipe.divergence.require_none()
    assert places[0] == pytest.approx(3.0 - 0.1 * 1.5) and places == [places[0]] * 3
    for _ in range(2):
        with pytest.raises(
            DivergenceError,
            match=r"^phase line: the gradient is not finite at image 24; lower its learning rate$",
        ):
            recipe.divergence.require_none()


def test_a_training_that_diverges_ends_at_the_next_report_and_no_checkpoint_has_it(
    stages: Stages, whole: Callable[[Job], TrainingResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images 16 and 20 are bad, and reports follow after 12 and 24. Without them it goes on from 12."""
    job = stages.student_job(mi__weight=0.0, batch_size=4, budget_nimg=24, report_every_nimg=12)
    taken: list[int] = []
    original = Minibatches.step

    def spoiled(source: Minibatches, nimg: int) -> Step:
        taken.append(nimg)
        step = original(source, nimg)
        if nimg in (16, 20):
            step.batch.inputs.fill_(float("nan"))
        return step

    with monkeypatch.context() as patch:
        patch.setattr(Minibatches, "step", spoiled)
        with pytest.raises(
            DivergenceError,
            match=r"^phase generator: the gradient is not finite at image 16; lower its learning rate$",
        ):
            quiet(job, tmp_path)
    assert taken == [0, 4, 8, 12, 16, 20]
    (only,) = tmp_path.glob("checkpoint-*")
    assert int(only.name.removeprefix("checkpoint-")) == 12
    resumed, reference = quiet(job, tmp_path), whole(job)
    assert resumed.network.digest == reference.network.digest and numbers(resumed) == numbers(reference)


def test_a_check_that_does_not_hold_is_named_before_the_gradient_that_it_spoils() -> None:
    """Of a step its checks come first, in their order. Of many parts, as of one, each is told apart once."""

    def loss(step: Step, networks: dict[str, nn.Module]) -> Any:
        is_good = torch.tensor(2 not in step.images)
        step.checks += [Check(torch.tensor(True), "never; no"), Check(is_good, "it is bad; make it good")]
        return step.output.mean() * (1.0 if is_good else float("nan")), {}

    for values in ({}, {"execution": {"microbatch": 1}}):
        recipe = recipe_of(loss)
        loop.take_step(recipe, step_of(40, nimg=40), training(**values), ALONE)
        recipe.divergence.require_none()
        before = recipe.networks["line"].k.item()
        loop.take_step(recipe, step_of(40, nimg=0), training(**values), ALONE)
        assert recipe.networks["line"].k.item() == before != 3.0
        with pytest.raises(DivergenceError, match=r"^phase line: it is bad at image 0; make it good$"):
            recipe.divergence.require_none()


def test_a_phase_takes_part_in_every_so_many_th_minibatch() -> None:
    recipe = recipe_of(squares, every=3)
    took_part = [
        bool(loop.take_step(recipe, step_of(4, nimg=nimg), training(), ALONE)) for nimg in range(0, 28, 4)
    ]
    assert took_part == [True, False, False, True, False, False, True]


# ---- workers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_the_workers_shares_follow_each_other_and_differ_by_one_at_most(number: int) -> None:
    for total in (0, 1, 5, 6, 20, 21):
        parts = [Workers(rank, number).slice(total) for rank in range(number)]
        assert [index for part in parts for index in range(total)[part]] == list(range(total))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 0
    assert [Workers(rank, 2).is_main for rank in range(2)] == [True, False]


def test_the_norm_of_all_gradients_leaves_out_those_that_are_absent() -> None:
    a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, -4.0])
    assert gradient_norm([a, b, c]).item() == 5.0
    average_gradients([a, b, c], ALONE)
    assert a.grad.tolist() == [3.0, 0.0] and c.grad is None
    assert mean_numbers({"x": torch.tensor(0.5), "y": torch.tensor(2)}, ALONE) == {"x": 0.5, "y": 2.0}


def test_a_precision_that_a_gpu_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    half = training().model_copy(update={"precision": "bfloat16"})
    with pytest.raises(ConfigError, match="bfloat16, which an old card does not know; use float32"):
        distributed.prepare({}, half, torch.device("cuda"), ALONE)
    distributed.prepare({}, half, torch.device("cpu"), ALONE)
