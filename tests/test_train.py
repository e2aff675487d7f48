"""Training: replay after an interruption, seeds, refusals, what each phase moves and what is reported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, numbers, quiet
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.base import Optimizer, Stored
from raydistill.config.experiment import Job
from raydistill.distributed import Workers
from raydistill.errors import CheckpointError, DivergenceError, NoticeWarning, StoreError
from raydistill.method import vem
from raydistill.models import energy, networks
from raydistill.models.energy import EnergyModel
from raydistill.planning import rehearsal
from raydistill.training import assembly, checkpoint, loop
from raydistill.training.assembly import Assembly
from raydistill.training.loop import TrainingResult, train

RECIPES = ("evaluator", "pix2pix", "distill")
ENERGY_NAMES = {
    f"energy/{name}"
    for name in ("pos", "neg", "gap", "grad_norm", "temperature", "displacement", "clamped", "alignment")
}
Trained = Callable[..., TrainingResult]
Whole = Callable[[Job], TrainingResult]


class Stopped(Exception):
    pass


def job_of(stages: Stages, recipe: str, **values: Any) -> Job:
    return {"evaluator": stages.evaluator_job, "pix2pix": stages.teacher_job, "distill": stages.student_job}[
        recipe
    ](**values)


def stop_after_first_report(job: Job, folder: Path) -> None:
    def stop(numbers: dict[str, Any]) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=folder)


# ---- replay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("ema_nimg", [0, 16])
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped_bit_for_bit(
    stages: Stages, trained: Trained, whole: Whole, tmp_path: Path, recipe: str, ema_nimg: float
) -> None:
    job = job_of(stages, recipe, flip=True, ema_nimg=ema_nimg)
    stop_after_first_report(job, tmp_path / "stopped")
    resumed = trained(job, "stopped")
    assert resumed.network.digest == whole(job).network.digest
    assert [evaluation.nimg for evaluation in resumed.evaluations] == [16, 32]
    assert numbers(resumed) == numbers(whole(job))


def test_a_checkpoint_holds_all_that_moves(stages: Stages, tmp_path: Path) -> None:
    stop_after_first_report(stages.student_job(), tmp_path / "run")
    folder = max((tmp_path / "run").glob("checkpoint-*"))
    files = {"generator.safetensors", "average.safetensors", "mi.energy.safetensors", "optimizers.pt"}
    assert set(json.loads((folder / "meta.json").read_text())["sha256"]) == files
    states = torch.load(folder / "optimizers.pt", weights_only=True)
    assert set(states) == {"mi.energy", "generator"} and all(state["state"] for state in states.values())


def test_a_finished_run_trains_no_further(
    stages: Stages, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(stages.student_job(), "run")
    monkeypatch.setattr(loop, "advance", None)
    again = trained(stages.student_job(), "run")
    assert again.network.digest == first.network.digest and again.evaluations == first.evaluations


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_seed_gives_one_result_and_another_seed_another(
    stages: Stages, trained: Trained, recipe: str
) -> None:
    first, again, other = (trained(job_of(stages, recipe, seed=seed)) for seed in (0, 0, 1))
    assert first.network.digest == again.network.digest != other.network.digest
    assert numbers(first) == numbers(again) != numbers(other)


def test_every_pass_shows_every_picture_once_in_a_new_order_with_new_flips(stages: Stages) -> None:
    minibatches = stages.minibatches(stages.student_job().training)
    shown = [minibatches.step(nimg).sample for nimg in range(0, 48, 4)]
    passes = [torch.cat([sample.indices for sample in shown[part : part + 6]]) for part in (0, 6)]
    assert sorted(passes[0].tolist()) == sorted(passes[1].tolist()) == list(range(24))
    assert not torch.equal(*passes)
    flipped = [
        {int(i) for sample in shown[part : part + 6] for i in sample.indices[sample.flips]} for part in (0, 6)
    ]
    assert flipped[0] != flipped[1] and all(0 < len(part) < 24 for part in flipped)
    unflipped = stages.minibatches(stages.student_job(flip=False).training)
    assert not unflipped.step(0).sample.flips.any()


def test_a_batch_over_the_end_of_a_pass_takes_from_both_passes(stages: Stages) -> None:
    over = stages.minibatches(stages.student_job(batch_size=10).training).step(20)
    by_fours = stages.minibatches(stages.student_job().training)
    before = [by_fours.step(nimg).sample.indices for nimg in (20, 24, 28)]
    assert torch.equal(over.sample.indices, torch.cat(before)[:10])


# ---- refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped_once(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a student's run that was stopped at its first report."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    stop_after_first_report(stages.student_job(), folder)
    return folder


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A stopped run's folder and the one checkpoint in it."""
    shutil.copytree(stopped_once, tmp_path / "run")
    (found,) = (tmp_path / "run").glob("checkpoint-*")
    return tmp_path / "run", found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mi.energy.safetensors", b""),
        ("optimizers.pt", None),
        ("meta.json", b"{"),
        ("meta.json", b"\xff\xfe\x00"),
    ],
)
def test_a_damaged_checkpoint_starts_again_and_comes_to_the_same_result_and_a_line_says_so(
    stages: Stages,
    trained: Trained,
    whole: Whole,
    stopped: tuple[Path, Path],
    name: str,
    content: bytes | None,
) -> None:
    (stopped[1] / name).unlink()
    if content is not None:
        (stopped[1] / name).write_bytes(content)
    job = stages.student_job()
    with pytest.warns(NoticeWarning, match=rf"checkpoint-0+16/{name}: missing or damaged .* its beginning"):
        result = trained(job, "run")
    assert numbers(result) == numbers(whole(job)) and result.network.digest == whole(job).network.digest


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_the_result_is_the_same(
    stages: Stages, trained: Trained, whole: Whole, tmp_path: Path, recipe: str
) -> None:
    """The training was stopped after its last report: the newest checkpoint is that of its end."""
    job = job_of(stages, recipe, flip=True)
    quiet(job, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "network")
    (tmp_path / "run/checkpoint-000000000032/optimizers.pt").write_bytes(b"cut")
    with pytest.warns(NoticeWarning, match="going on from checkpoint-0+16, the one before"):
        result = trained(job, "run")
    assert numbers(result) == numbers(whole(job)) and result.network.digest == whole(job).network.digest


def test_a_checkpoint_of_another_job_is_refused_with_both_keys(
    stages: Stages, trained: Trained, stopped: tuple[Path, Path]
) -> None:
    other = stages.student_job(l1_weight=3)
    with pytest.raises(CheckpointError, match=f"belongs to job {stages.student_job().key}, not {other.key}"):
        trained(other, "run")


def test_a_checkpoint_of_another_version_is_refused(
    stages: Stages, trained: Trained, stopped: tuple[Path, Path]
) -> None:
    meta = json.loads((stopped[1] / "meta.json").read_text())
    (stopped[1] / "meta.json").write_text(json.dumps(meta | {"version": 99}))
    with pytest.raises(
        CheckpointError, match=f"version 99, this raydistill reads {checkpoint.CHECKPOINT_VERSION}"
    ):
        trained(stages.student_job(), "run")


def test_a_checkpoint_that_cannot_be_written_is_a_store_error_and_leaves_the_old_one(
    stages: Stages, trained: Trained, stopped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        StoreError, match=r"the checkpoint could not be written .*No space left on device.*; free space"
    ):
        trained(stages.student_job(), "run")
    assert [path.name for path in stopped[0].glob("*checkpoint*")] == [stopped[1].name]


HUGE = {"evaluator": "optimizer", "pix2pix": "discriminator_optimizer", "distill": "mi__optimizer"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_learning_rate_that_blows_up_ends_in_a_divergence_error(
    stages: Stages, trained: Trained, recipe: str
) -> None:
    energy = r"phase mi\.energy: an energy is not finite or beyond 10,000 at image \d+; lower "
    what = energy if recipe == "distill" else r"phase \w+: the gradient is not finite at image \d+; lower "
    with pytest.raises(DivergenceError, match=what):
        trained(job_of(stages, recipe, **{f"{HUGE[recipe]}__learning_rate": 1e30}))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_network_that_the_last_step_broke_is_no_result(
    stages: Stages, trained: Trained, recipe: str
) -> None:
    with pytest.raises(DivergenceError):
        trained(job_of(stages, recipe, budget_nimg=4, optimizer__learning_rate=1e30))


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(stages: Stages) -> None:
    """Neither that of its phase nor any later one moves; the first is named, at the next report."""
    recipe, step = assembly.build(stages.student_job(), stages.setup()), stages.step()
    recipe.forward(step)
    step.teacher[1, 0, 0, 0] = float("nan")
    before = networks_state(recipe)
    for phase in recipe.phases:
        loop.advance(phase, recipe, [step], stages.student_job().training, stages.setup().workers)
        assert float(recipe.divergence.found) == 1
        states = recipe.optimizers[phase.network].state.values()
        assert states and not any(state["step"] or state["exp_avg"].any() for state in states)
    loop.take_step(recipe, stages.step(4), stages.student_job().training, stages.setup().workers)
    moved = [
        name
        for name, value in networks_state(recipe).items()
        if not torch.equal(value, before[name]) and not name.endswith(".u")
    ]
    assert moved == []
    what = "phase mi.energy: an energy is not finite or beyond 10,000 at image 0; lower student.terms.mi."
    with pytest.raises(DivergenceError, match=what):
        recipe.divergence.require_none()


@pytest.mark.parametrize("bad", [0, 4, 12])
def test_a_divergence_ends_the_training_at_the_next_report_and_reaches_no_checkpoint(
    stages: Stages, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """Reports after 8 and 16 images; a loss that is not finite in one step of four images."""
    take = loop.take_step

    def poisoned(recipe: Assembly, step: Any, *rest: Any) -> dict[str, Tensor]:
        if step.nimg == bad:
            step.batch.target.fill_(float("nan"))
        return take(recipe, step, *rest)

    monkeypatch.setattr(loop, "take_step", poisoned)
    job = job_of(stages, "pix2pix", batch_size=4, budget_nimg=16, report_every_nimg=8)
    with pytest.raises(DivergenceError, match=rf"gradient is not finite at image {bad}; lower its learning"):
        train(job, report=lambda evaluation: None, state_dir=tmp_path)
    kept = [path.name for path in tmp_path.glob("checkpoint-*")]
    assert kept == ([] if bad < 8 else ["checkpoint-000000000008"])


def networks_state(recipe: Assembly) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, network in recipe.networks.items()
        for key, value in network.state_dict().items()
    }


# ---- what is read, built and moved -------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_reads_nothing_of_the_test_split(
    stages: Stages, trained: Trained, whole: Whole, tmp_path: Path, recipe: str
) -> None:
    shutil.copytree(stages.data.path, tmp_path / "data")
    removed = list((tmp_path / "data").glob("test_*"))
    for path in removed:
        path.unlink()
    job = job_of(stages, recipe)
    without = job.model_copy(update={"data": Stored(path=str(tmp_path / "data"), digest=stages.data.digest)})
    assert len(removed) == 2 and without.key == job.key
    assert trained(without).network.digest == whole(job).network.digest


def test_with_a_weight_of_zero_no_energy_network_is_built(
    stages: Stages, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "energy", None)
    result = trained(stages.student_job(mi__weight=0))
    assert not [name for name in result.metrics if name.startswith("energy/")]
    assert set(assembly.build(stages.student_job(mi__weight=0), stages.setup()).networks) == {"generator"}


@pytest.mark.parametrize("mi_weight", [0, 0.1])
def test_with_a_weight_of_zero_no_dissimilarity_is_computed_predicted_or_logged(
    stages: Stages, trained: Trained, monkeypatch: pytest.MonkeyPatch, mi_weight: float
) -> None:
    def never(a: Tensor, b: Tensor) -> Tensor:
        raise AssertionError("the dissimilarity was computed")

    job, plain = (stages.student_job(mi__weight=mi_weight, ssim_weight=weight) for weight in (0, 1))

    def rehearsed(job: Job) -> None:
        rehearsal.minibatch(job.training, stages.setup().info, 4, stages.experiment.teacher.generator)

    monkeypatch.setattr("raydistill.training.bases.plain.dissimilarity", never)
    for evaluation in trained(job).evaluations:
        assert "train/l1" in evaluation.numbers and "train/dissimilarity" not in evaluation.numbers
    rehearsed(job)
    with pytest.raises(AssertionError, match="the dissimilarity was computed"):
        trained(plain)
    with pytest.raises(AssertionError, match="the dissimilarity was computed"):
        rehearsed(plain)


@pytest.mark.parametrize("weight", ["l1_weight", "gan_weight"])
def test_a_loss_of_a_teacher_whose_weight_is_zero_is_neither_logged_nor_predicted(
    stages: Stages, trained: Trained, weight: str
) -> None:
    job, usual = stages.teacher_job(**{weight: 0}), stages.teacher_job()
    missing = set(trained(usual).metrics) - set(trained(job).metrics)
    assert missing == {{"l1_weight": "train/l1", "gan_weight": "train/gan_loss"}[weight]}
    without, with_it = (
        len(rehearsal.minibatch(each.training, stages.setup().info, 4).history) for each in (job, usual)
    )
    assert without < with_it


def test_a_student_without_any_loss_stays_as_it_is(stages: Stages, trained: Trained) -> None:
    job = stages.student_job(mi__weight=0, l1_weight=0, ssim_weight=0, ema_nimg=0)
    before = networks_state(assembly.build(job, stages.setup()))
    after = load_file(Path(trained(job).network.path) / "weights.safetensors")
    assert all(torch.equal(before[f"generator.{name}"], value) for name, value in after.items())


def test_every_number_of_the_energy_is_reported_and_finite(stages: Stages, whole: Whole) -> None:
    for evaluation in whole(stages.student_job()).evaluations:
        flat = evaluation.to_json()
        assert {name for name in flat if name.startswith("energy/")} == ENERGY_NAMES
        assert {
            "val/miou",
            "val/kd_evaluator",
            "val/fd_evaluator",
            "train/l1",
            "nimg",
            "wall_sec",
        } <= set(flat)
        assert np.isfinite(list(flat.values())).all()
        assert evaluation.scoring_sec is not None and 0 < evaluation.scoring_sec < evaluation.wall_sec


@pytest.mark.parametrize("positive", ["teacher", "target"])
def test_the_energy_phase_moves_the_energy_alone_and_the_student_phase_the_student_alone(
    stages: Stages, positive: str
) -> None:
    job = stages.student_job(mi__positive=positive)
    recipe, step = assembly.build(job, stages.setup()), stages.step()
    assert [phase.name for phase in recipe.phases] == ["mi.energy", "generator"]
    recipe.forward(step)
    for phase in recipe.phases:
        before = networks_state(recipe)
        loop.advance(phase, recipe, [step], job.training, stages.setup().workers)
        after = networks_state(recipe)
        assert {
            network
            for name, value in after.items()
            for network in recipe.networks
            if name.startswith(f"{network}.") and not torch.equal(value, before[name])
        } == {phase.network}


def test_the_energy_runs_once_a_langevin_step_and_once_a_phase_and_never_in_evaluation(
    stages: Stages, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    forward, gradient, gap = EnergyModel.forward, EnergyModel.gradient, EnergyModel.gap_and_gradient

    def chain(self: EnergyModel, s: Tensor) -> Callable[[Tensor], Tensor]:
        of_t = gradient(self, s)
        return lambda t: calls.append("chain") or of_t(t)

    def own(self: EnergyModel, t: Tensor, s: Tensor) -> Tensor:
        calls.append("own" if self.training else "evaluation")
        return forward(self, t, s)

    def student(self: EnergyModel, *pictures: Tensor) -> tuple[Tensor, Tensor]:
        calls.append("student")
        return gap(self, *pictures)

    monkeypatch.setattr(EnergyModel, "gradient", chain)
    monkeypatch.setattr(EnergyModel, "forward", own)
    monkeypatch.setattr(EnergyModel, "gap_and_gradient", student)
    trained(stages.student_job(mi__num_steps=3))
    assert calls == ["chain", "chain", "chain", "own", "student"] * 8


def test_the_energys_kernels_are_computed_twice_a_step(
    stages: Stages, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own step, with a graph; and once more for the student and the next chains, as it has moved."""
    calls: list[bool] = []
    computed = energy.normalised_weights

    def counted(convs: Any) -> Any:
        calls.append(convs[0].training)
        return computed(convs)

    monkeypatch.setattr(energy, "normalised_weights", counted)
    trained(stages.student_job())
    assert calls == [False, *[True, False] * 8], "the first is for the first chains"


def test_the_noise_of_the_negatives_is_new_at_every_step_and_the_same_at_the_same_step(
    stages: Stages,
) -> None:
    def negatives(nimg: int) -> Tensor:
        recipe, step = assembly.build(stages.student_job(), stages.setup()), stages.step(nimg)
        recipe.forward(step)
        recipe.phases[0].loss(step)
        return step.shared_tensors["mi.negatives"]

    assert torch.equal(negatives(4), negatives(4)) and not torch.equal(negatives(4), negatives(8))


# ---- how a training is carried out -------------------------------------------------------------------------

SLOW = {"ema_nimg": 0, "optimizer__learning_rate": 1e-4}
"""Steps so short that rounding stays rounding; the whole network is compared, not its average."""


def assert_same(given: TrainingResult, expected: TrainingResult, tolerance: float) -> None:
    """||w - w'|| / ||w'|| of all weights but the biases that an instance norm cancels, and the logged
    numbers, within `tolerance`.

    Without the generator's hinge loss: the discriminator's last bias, which has a gradient of 0 at first, is
    moved by rounding noise.
    """
    first, second = (
        load_file(Path(result.network.path) / "weights.safetensors") for result in (given, expected)
    )
    w, v = (
        torch.cat([value.flatten() for name, value in state.items() if name.endswith("weight")])
        for state in (first, second)
    )
    assert (w - v).norm() / v.norm() < tolerance
    names = [
        name
        for name in expected.metrics
        if name.startswith("train/") or name in ("energy/pos", "energy/neg", "energy/gap")
    ]
    names = [name for name in names if name != "train/gan_loss"]
    assert [given.metrics[name] for name in names] == pytest.approx(
        [expected.metrics[name] for name in names], rel=tolerance, abs=tolerance
    )


def test_the_evaluators_loss_of_a_batch_is_the_mean_of_its_parts_where_pixels_are_ignored_too(
    stages: Stages,
) -> None:
    setup = stages.setup()
    setup = setup._replace(info=setup.info.model_copy(update={"ignore_index": 255}))
    recipe, step = assembly.build(stages.evaluator_job(), setup), stages.step()
    assert step.batch.labels is not None
    step.batch.labels[0] = 255
    losses = []
    for part in [step, *loop.microbatches(step, 2)]:
        recipe.forward(part)
        losses.append(recipe.phases[0].loss(part)[0].item())
    assert losses[0] == pytest.approx((losses[1] + losses[2]) / 2, rel=1e-5) and losses[1] < 0.7 * losses[2]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("microbatch", [1, 3])
def test_microbatches_give_what_the_whole_batch_gives(
    stages: Stages, trained: Trained, whole: Whole, recipe: str, microbatch: int
) -> None:
    """Four images in four parts, and in parts of three and one."""
    parts = trained(job_of(stages, recipe, execution__microbatch=microbatch, **SLOW))
    together = whole(job_of(stages, recipe, **SLOW))
    assert_same(parts, together, 1e-4)
    assert parts.network.digest != together.network.digest


def test_a_microbatch_of_the_whole_batch_or_more_is_the_whole_batch(
    stages: Stages, trained: Trained, whole: Whole
) -> None:
    digests = {trained(stages.student_job(execution__microbatch=size)).network.digest for size in (4, 5)}
    assert digests == {whole(stages.student_job()).network.digest}


def test_the_student_meets_the_negatives_that_the_energy_met_in_every_microbatch(
    stages: Stages, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both phases go over all parts before their optimiser step, and the power iteration happens once a
    step."""
    pairs, by_hand, met = vem.pair_energies, EnergyModel.gap_and_gradient, []

    def in_energy_step(energy: EnergyModel, t: Tensor, negatives: Tensor, s: Tensor) -> Any:
        met.append(("energy", negatives.clone(), energy.head.weight.detach().clone()))
        return pairs(energy, t, negatives, s)

    def in_student_step(energy: EnergyModel, t: Tensor, negatives: Tensor, s: Tensor) -> Any:
        met.append(("student", negatives.clone(), energy.head.weight.detach().clone()))
        return by_hand(energy, t, negatives, s)

    monkeypatch.setattr("raydistill.training.terms.vem.pair_energies", in_energy_step)
    monkeypatch.setattr(EnergyModel, "gap_and_gradient", in_student_step)
    trained(stages.student_job(execution__microbatch=2, budget_nimg=4, report_every_nimg=4))
    assert [phase for phase, _, _ in met] == ["energy", "energy", "student", "student"]
    assert all(torch.equal(met[part][1], met[part + 2][1]) for part in (0, 1)) and not torch.equal(
        met[0][1], met[1][1]
    )
    assert (
        torch.equal(met[0][2], met[1][2])
        and torch.equal(met[2][2], met[3][2])
        and not torch.equal(met[1][2], met[2][2])
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_activation_checkpointing_changes_no_bit_and_computes_blocks_again(
    stages: Stages, trained: Trained, whole: Whole, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    plain = whole(job_of(stages, recipe))
    again: list[int] = []
    forward = nn.Sequential.forward
    monkeypatch.setattr(nn.Sequential, "forward", lambda self, x: again.append(1) or forward(self, x))
    assert trained(job_of(stages, recipe)).network.digest == plain.network.digest
    calls = len(again)
    assert (
        trained(job_of(stages, recipe, execution__activation_checkpointing=True)).network.digest
        == plain.network.digest
    )
    assert len(again) - calls > calls


@pytest.mark.parametrize("recipe", RECIPES)
def test_bfloat16_stays_close_and_keeps_weights_energies_and_losses_in_float32(
    stages: Stages, trained: Trained, whole: Whole, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """bfloat16 has 8 bits: each number is off by up to 0.4 %."""
    half = trained(job_of(stages, recipe, precision="bfloat16", **SLOW))
    full = whole(job_of(stages, recipe, **SLOW))
    assert half.network.digest != full.network.digest
    assert_same(half, full, 0.02)
    job = job_of(stages, recipe, precision="bfloat16")
    seen: list[torch.dtype] = []
    conv = nn.Conv2d.forward
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda self, x: seen.append((out := conv(self, x)).dtype) or out
    )
    recipe_ = assembly.build(job, stages.setup())
    loop.apply_execution(recipe_, job.training, stages.setup())
    step = stages.step()
    seen.clear()
    recipe_.forward(step)
    in_the_loop = (
        {torch.float32} if recipe == "distill" else set()
    )  # the teacher, as it is where its outputs are stored
    assert step.output.dtype == torch.float32 and set(seen) == {torch.bfloat16} | in_the_loop
    for phase in recipe_.phases:
        loss, numbers = phase.loss(step)
        assert {loss.dtype, *(number.dtype for number in numbers.values())} == {torch.float32}
    assert {value.dtype for network in recipe_.networks.values() for value in network.parameters()} == {
        torch.float32
    }


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_compiled_networks_give_what_the_others_give(stages: Stages, trained: Trained, recipe: str) -> None:
    compiled, eager = (
        trained(job_of(stages, recipe, execution__compile=choice, **SLOW)) for choice in (True, False)
    )
    assert_same(compiled, eager, 1e-3)


def test_the_learning_rate_is_constant_then_falls_linearly_to_zero() -> None:
    config = Optimizer(learning_rate=2.0, betas=(0.0, 0.9), decay_start=0.5)
    assert [loop.learning_rate(config, nimg, 100) for nimg in (0, 50, 75, 90, 100)] == pytest.approx(
        [2, 2, 1, 0.4, 0]
    )
    assert loop.learning_rate(config.model_copy(update={"decay_start": 1.0}), 99, 100) == 2.0


def test_the_average_keeps_half_of_itself_in_a_half_life(stages: Stages) -> None:
    average, network = (
        networks.generator(stages.experiment.student.generator, stages.setup().info, seed) for seed in (0, 1)
    )
    expected = [(a + b) / 2 for a, b in zip(average.parameters(), network.parameters(), strict=True)]
    for _ in range(4):
        distributed.move_average(average, network, 0.5 ** (4 / 16))
    torch.testing.assert_close(list(average.parameters()), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("count", [2, 4])
def test_order_and_mirroring_depend_on_seed_image_and_pass_and_not_on_the_number_of_workers(
    stages: Stages, count: int
) -> None:
    """24 images in batches of 4: two passes."""
    config = stages.student_job(flip=True).training

    def seen(number: int) -> list[list[tuple[int, bool]]]:
        """For each of 12 steps, image and mirroring over all workers."""
        everyone = [stages.minibatches(config, Workers(rank, number)) for rank in range(number)]
        found: list[list[tuple[int, bool]]] = []
        for nimg in range(0, 48, 4):
            shown = [minibatches.step(nimg).sample for minibatches in everyone]
            found.append([pair for each in shown for pair in zip(each.indices.tolist(), each.flips.tolist())])
        return found

    alone = seen(1)
    assert seen(count) == alone
    first, second = (dict(pair for step in part for pair in step) for part in (alone[:6], alone[6:]))
    assert set(first) == set(second) == set(range(24)), "every image once a pass"
    assert first != second and set(first.values()) == {True, False}
