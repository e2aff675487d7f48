"""Trainings by a base distillation: resumed, shared by two workers, behind a teacher that is followed; and
several terms beside it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import numbers, quiet, run_two, spawned
from safetensors.torch import load_file
from test_recipes import EXPERIMENTS, SMALL, lengths
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.training import DistillTraining, Execution
from raydistill.data import prepare, read_info
from raydistill.errors import RunError
from raydistill.models import networks, saved
from raydistill.records.trials import Evaluation
from raydistill.testing import begin, tiny_experiment
from raydistill.testing.bases import begun
from raydistill.testing.terms import setup_of
from raydistill.training import assembly, kept_reports, loop
from raydistill.training.loop import train
from raydistill.trials.stages import train_stages

TAPS = ["down", "block1"]
RTOL, ATOL = 1e-4, 1e-5
"""Of float32 sums in another order, after two steps of Adam at 1e-4. Further steps may go over the kinks of
L1 losses, where rounding decides about a whole part of a gradient."""
GRADIENTS, ROUNDING = 1e-4, 1e-6
"""How far a mean gradient may lie from another one, as a share of the tensor's largest; and of the largest of
all, for biases whose gradients cancel."""
SLOW = {
    "student.optimizer.learning_rate": 1e-4,
    "teacher.optimizer.learning_rate": 1e-4,
    "teacher.discriminator_optimizer.learning_rate": 1e-4,
}
CASES: dict[str, dict[str, Any]] = {
    "gan": {"kind": "gan", "taps": TAPS},
    "omgd": {"kind": "omgd", "taps": TAPS},
    "omgd-three-steps": {"kind": "omgd", "taps": TAPS, "student_steps": 3},
    "omgd_cyclegan": {"kind": "omgd_cyclegan", "taps": TAPS},
}


class Stopped(Exception):
    pass


def stop(evaluation: Evaluation) -> None:
    raise Stopped


def job_of(folder: Path, name: str, num_slabs: int = 3, **values: Any) -> Job:
    """A student's job with networks of random weights in `folder`; slabs are other networks each."""
    paths = {f"student.base.{path}": value for path, value in CASES[name].items()}
    # a record of OMGD's teachers would leave the second training of a folder without them
    paths |= {"student.terms.mi.weight": 0.0, "student.seed": 1, "student.execution.record_teachers_gb": 0.0}
    paths |= SLOW
    paths |= {f"student.{path}": value for path, value in values.items()}
    if name != "omgd_cyclegan":
        return begin(folder, tiny_experiment(paths), "student").job
    experiment = with_values(EXPERIMENTS["cyclegan"](folder), SMALL | lengths(4) | paths, where="test")
    job = begin(folder, experiment, "student").job
    return job.model_copy(update={"slabs": slabs(folder, job, num_slabs)})


def slabs(folder: Path, job: Job, number: int) -> tuple[Stored, ...]:
    """So many generators like the teacher, of other random weights each."""
    assert job.teacher is not None
    config, info = saved.generator_config(job.teacher), read_info(job.data)
    return tuple(
        saved.save(folder / f"slab{seed}", "generator", networks.generator(config, info, 10 + seed), config)
        for seed in range(number)
    )


def kept(folder: Path) -> dict[str, Tensor]:
    """All that moves, as it is in the last checkpoint."""
    checkpoint = max(folder.glob("checkpoint-*"))
    files = [path for path in checkpoint.glob("*.safetensors") if path.stem != "average"]
    return {f"{path.stem}.{key}": value for path in files for key, value in load_file(path).items()}


def mean_gradients(folder: Path) -> dict[str, Tensor]:
    """Adam's first moments in the last checkpoint."""
    optimizers = torch.load(max(folder.glob("checkpoint-*")) / "optimizers.pt", weights_only=True)
    return {
        f"{name}.{index}": each["exp_avg"]
        for name, optimizer in optimizers.items()
        for index, each in optimizer["state"].items()
    }


# ---- resumes and workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped_bit_for_bit(
    name: str, tmp_path: Path
) -> None:
    """It stops between two steps of OMGD's teachers, and in the middle of a slab."""
    job = job_of(tmp_path, name)
    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=tmp_path / "stopped")
    resumed, whole = quiet(job, tmp_path / "stopped"), quiet(job, tmp_path / "whole")
    assert resumed.network.digest == whole.network.digest and numbers(resumed) == numbers(whole)
    one, other = kept(tmp_path / "whole"), kept(tmp_path / "stopped")
    assert one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Job], Path]:
    """Every case trained by two workers, in a folder by its name; also with networks split over them."""
    folder = tmp_path_factory.mktemp("together")
    # of seed 1, sharded networks of omgd_cyclegan go over a kink at the second step; after one they agree
    size = {"batch_size": 8, "budget_nimg": 16, "report_every_nimg": 16, "seed": 2}
    jobs = {name: job_of(tmp_path_factory.mktemp(name), name, **size) for name in CASES}
    execution = Execution(sharding="fsdp", fsdp_min_params=1, record_teachers_gb=0.0)
    split = {
        f"{name}-fsdp": job.model_copy(
            update={"training": job.training.model_copy(update={"execution": execution})}
        )
        for name, job in jobs.items()
    }
    spawned(run_two, (folder, {name: job.model_dump_json() for name, job in (jobs | split).items()}), 2)
    return jobs, folder


@pytest.mark.parametrize("sharding", ["", "-fsdp"])
@pytest.mark.parametrize("name", CASES)
def test_two_workers_give_what_one_gives(
    name: str, sharding: str, together: tuple[dict[str, Job], Path], tmp_path: Path
) -> None:
    """Without the biases that a norm behind them or the linear part of the hinge cancels: Adam moves them by
    rounding noise."""
    jobs, folder = together
    alone = quiet(jobs[name], tmp_path / "alone")
    one, two = kept(tmp_path / "alone"), kept(folder / f"{name}{sharding}")
    assert one.keys() == two.keys()
    determined = [key for key in one if not key.endswith("bias") or key.startswith("adaptors.")]
    for key in determined:
        torch.testing.assert_close(
            two[key], one[key], rtol=RTOL, atol=ATOL, msg=lambda text, key=key: f"{key}: {text}"
        )
    gradients, others = mean_gradients(tmp_path / "alone"), mean_gradients(folder / f"{name}{sharding}")
    assert gradients.keys() == others.keys() and len(gradients) > 8
    largest = max(float(each.abs().max()) for each in gradients.values())
    for key, value in gradients.items():
        atol = max(GRADIENTS * float(value.abs().max()), ROUNDING * largest)
        torch.testing.assert_close(
            others[key], value, rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert alone.nimg == 16 and {key.partition(".")[0] for key in determined} == {
        "gan": {"generator", "discriminator", "adaptors"},
        "omgd_cyclegan": {"generator", "adaptors"},
    }.get(name, {"generator", "wide", "deep", "teacher_discriminator", "adaptors"})


def test_omgds_teachers_stand_still_between_their_steps(tmp_path: Path) -> None:
    """One step in three minibatches; the student moves in each."""
    job = job_of(tmp_path, "omgd-three-steps")
    trained = assembly.build(job, setup_of(job))
    moved = []
    for nimg in range(0, 24, 4):
        before = {name: parameters(network) for name, network in trained.networks.items()}
        loop.take_step(trained, trained.minibatches.step(nimg), job.training, setup_of(job).workers)
        after = {name: parameters(network) for name, network in trained.networks.items()}
        moved.append({name for name in before if not torch.equal(before[name], after[name])})
    always, also = {"generator", "adaptors"}, {"wide", "deep", "teacher_discriminator"}
    assert moved == 2 * [always | also, always, always]


def parameters(network: torch.nn.Module) -> Tensor:
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone()


# ---- a teacher that is followed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "expected"), [(1, [0] * 6), (2, [0, 0, 0, 1, 1, 1]), (3, [0, 0, 1, 1, 2, 2])]
)
def test_each_slab_of_the_teacher_has_an_equal_part_of_the_students_budget(
    number: int, expected: list[int], tmp_path: Path
) -> None:
    """24 images by fours: of two slabs, the second begins with image 12."""
    job = job_of(tmp_path, "omgd_cyclegan", number)
    setup = setup_of(job)
    trained = assembly.build(job, setup)
    loaded = [saved.load(each, setup.info, setup.device) for each in job.slabs]
    for nimg, slab in zip(range(0, 24, 4), expected, strict=True):
        step = trained.minibatches.step(nimg)
        trained.forward(step)
        with torch.no_grad():
            made = [network(step.batch.inputs) for network in loaded]
        found = [bool(torch.allclose(step.teacher, each, atol=1e-6)) for each in made]
        assert found == [index == slab for index in range(number)], nimg


def evaluations(*scores: float, name: str = "val/kd_evaluator") -> list[Evaluation]:
    return [
        Evaluation(nimg=8 * (k + 1), wall_sec=0.0, numbers={name: value}) for k, value in enumerate(scores)
    ]


def test_the_best_report_so_far_is_the_lowest_distance_or_the_highest_miou_and_of_equals_the_earlier() -> (
    None
):
    best = kept_reports.best_so_far
    assert best(evaluations(3, 2, 2, 5, 1)) == [0, 1, 1, 1, 4]
    assert best(evaluations(3, 2, 2, 5, 1, name="val/miou")) == [0, 0, 0, 3, 3]
    both = [
        each.model_copy(update={"numbers": {"val/kd_evaluator": distance, "val/miou": miou}})
        for each, distance, miou in zip(evaluations(0, 0), (1.0, 0.5), (0.9, 0.2), strict=True)
    ]
    assert best(both) == [0, 0] and best([]) == []
    with pytest.raises(RunError, match="a report has no val/miou, val/kd_evaluator, so it cannot be told"):
        best(evaluations(1, name="val/psnr"))


def test_the_network_of_a_report_is_kept_where_it_is_the_best_so_far(tmp_path: Path) -> None:
    trained, _ = begun(job_of(tmp_path, "omgd"))
    history = evaluations(3, 2, 4)
    for count in (1, 2, 3):
        config = trained.config
        kept_reports.keep(config, trained.networks["generator"], history[:count], tmp_path / "run")
    assert os.listdir(tmp_path / "run" / "reports") == [f"{nimg:012d}" for nimg in (8, 16)]
    stored = saved.stored(kept_reports.report_folder(tmp_path / "run", 16), kind="generator")
    assert saved.load_generator(stored)[0] == config


def followed(folder: Path) -> Experiment:
    paths = {"student.base.kind": "omgd_cyclegan", "student.base.taps": TAPS, "features.budget_nimg": 8}
    paths |= {"features.report_every_nimg": 8, "features.batch_size": 4, "features.network.width": 2}
    small = SMALL | lengths(4) | {"teacher.report_every_nimg": 8}
    return with_values(EXPERIMENTS["cyclegan"](folder), small | paths, where="test")


def test_the_stage_of_the_teacher_gives_the_best_network_up_to_each_report(tmp_path: Path) -> None:
    """Three reports; the last slab is the best of all, which need not be the teacher itself."""
    experiment = followed(tmp_path)
    data = prepare(experiment.data, tmp_path / "data", recipe="cyclegan")
    found = train_stages(experiment, data, tmp_path / "cache", lambda evaluation: None)
    best = kept_reports.best_so_far(found.teacher_result.evaluations)
    reports = {f"{found.teacher_result.evaluations[index].nimg:012d}" for index in best}
    assert [Path(slab.path).name for slab in found.slabs] == [
        f"{found.teacher_result.evaluations[index].nimg:012d}" for index in best
    ]
    (folder,) = (tmp_path / "cache" / "teacher").iterdir()
    assert len(found.slabs) == 3 and set(os.listdir(folder / "reports")) == reports
    again = train_stages(experiment, data, tmp_path / "cache", lambda evaluation: None)
    assert again.slabs == found.slabs
    if best[-1] == 2:
        assert found.slabs[-1].digest == found.teacher.digest
    first = Path(found.slabs[0].path)
    (first / "weights.safetensors").write_bytes(b"")
    with pytest.raises(
        RunError, match=r"weights are missing or damaged; remove .*, and the teacher is trained"
    ):
        train_stages(experiment, data, tmp_path / "cache", lambda evaluation: None)
    shutil.rmtree(first)
    with pytest.raises(RunError, match=r"remove .*, and the teacher is trained again"):
        train_stages(experiment, data, tmp_path / "cache", lambda evaluation: None)


# ---- several terms -----------------------------------------------------------------------------------------

VEM: dict[str, Any] = {"kind": "vem", "weight": 0.1, "num_steps": 2, "step_size": 10.0, "energy.channels": 2}


def with_terms(folder: Path, **terms: dict[str, Any]) -> Job:
    """A student by the base plain and the terms of these names."""
    values = {
        f"student.terms.{name}.{path}": value for name, term in terms.items() for path, value in term.items()
    }
    return begin(folder, tiny_experiment(values | {"student.seed": 1}), "student").job


def training_of(job: Job) -> DistillTraining:
    assert isinstance(job.training, DistillTraining)
    return job.training


def test_two_terms_train_beside_each_other_and_the_second_logs_under_its_name(tmp_path: Path) -> None:
    job = with_terms(tmp_path, mi=VEM, second={"kind": "vid", "weight": 0.3})
    result = quiet(job, tmp_path / "run")
    names = {key.rpartition(".")[0].split(".")[0] + "." + key.split(".")[1] for key in kept(tmp_path / "run")}
    assert {"mi.energy", "second.variance"} <= names
    last = result.evaluations[-1].numbers
    expected = {"energy/gap", "energy/alignment", "energy/alignment_second", "train/vid_nll_second"}
    assert expected <= set(last) and not {"energy/gap_second", "train/vid_nll"} & set(last)


def test_two_terms_of_one_kind_draw_other_numbers(tmp_path: Path) -> None:
    trained, step = begun(with_terms(tmp_path, mi=VEM, second=VEM))
    own, other = (trained.networks[f"{name}.energy"] for name in ("mi", "second"))
    assert not torch.equal(parameters(own), parameters(other))
    other.load_state_dict(own.state_dict())
    for phase in trained.phases[:2]:
        phase.loss(step)
    negatives = [step.shared_tensors[f"{name}.negatives"] for name in ("mi", "second")]
    assert not torch.equal(*negatives)
    assert [phase.name for phase in trained.phases] == ["mi.energy", "second.energy", "generator"]


def test_a_terms_weight_grows_over_its_warm_up(tmp_path: Path) -> None:
    """The student's loss is base + min(1, nimg / warmup) * weight * term."""
    losses: dict[str, Callable[[int], Tensor]] = {}
    for name, term in {
        "none": {"weight": 0.0},
        "full": {"kind": "vid", "weight": 0.3},
        "warm": {"kind": "vid", "weight": 0.3, "warmup_nimg": 16},
    }.items():
        trained, step = begun(with_terms(tmp_path / name, mi=term))

        def loss(nimg: int, trained: Any = trained, step: Any = step) -> Tensor:
            step.nimg = nimg
            found: Tensor = trained.phases[-1].loss(step)[0].detach()
            return found

        losses[name] = loss
    base, full = float(losses["none"](0)), float(losses["full"](0))
    assert abs(full - base) > 1e-3
    for nimg, share in ((0, 0.0), (4, 0.25), (8, 0.5), (16, 1.0), (32, 1.0)):
        assert float(losses["warm"](nimg)) == pytest.approx(base + share * (full - base), rel=1e-5)
