"""One contract kit over the recipes of generators: each trains its family as a teacher and as a student,
on data of its kind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages, numbers, quiet, run_two, spawned
from PIL import Image
from safetensors.torch import load_file

from raydistill.commands.evaluate import EvaluateOptions, evaluate
from raydistill.config.architectures import (
    ResnetWidths,
    SaganDiscriminatorWidths,
    SaganWidths,
    StyleganDiscriminator,
    StyleganGenerator,
    StyleganWidths,
)
from raydistill.config.base import Optimizer
from raydistill.config.data import Degradation, FolderData, ShapesData
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import validated, with_values
from raydistill.config.presets import cyclegan, enhance, sagan, stylegan2
from raydistill.config.training import Stylegan2Training
from raydistill.data import load_split, prepare
from raydistill.data.augment import Order
from raydistill.data.tensors import tensors
from raydistill.distributed import Workers
from raydistill.errors import ConfigError, DataError
from raydistill.models import saved
from raydistill.models.inputs import inputs_of
from raydistill.models.stylegan2 import Generator as StyleGenerator
from raydistill.training import assembly, loop, recipes
from raydistill.training.assembly import Assembly
from raydistill.training.loop import TrainingResult, train
from raydistill.training.recipes.cyclegan import Pool
from raydistill.training.recipes.stylegan2 import lazy

Trained = Callable[..., TrainingResult]
SMALL: dict[str, Any] = {
    **{"evaluator.network.width": 4, "evaluator.network.feature_width": 4},
    **{f"{stage}.ema_nimg": 8 for stage in ("teacher", "student")},
    **{
        "student.terms.mi.kind": "vem",
        "student.terms.mi.weight": 0.1,
        "student.terms.mi.energy.channels": 2,
        "student.terms.mi.num_steps": 2,
    },
}


def lengths(batch_size: int) -> dict[str, Any]:
    """Six minibatches, a report after three."""
    values = {"batch_size": batch_size, "budget_nimg": 6 * batch_size, "report_every_nimg": 3 * batch_size}
    return {
        f"{stage}.{name}": value
        for stage in ("evaluator", "teacher", "student")
        for name, value in values.items()
    }


def shapes(side: int) -> dict[str, Any]:
    return {"kind": "shapes", "height": side, "width": side, "num_train": 10, "num_val": 4, "num_test": 2}


def small_enhance(folder: Path) -> Experiment:
    """Not a multiple of the batch: the second report lies in the third pass."""
    base = enhance().model_copy(update={"data": ShapesData.model_validate(shapes(16))})
    values = {
        f"{stage}.generator.widths.{name}": 4
        for stage in ("teacher", "student")
        for name in ("trunk", "hidden", "up")
    }
    values |= {"data.degrade.scale": 2, "data.degrade.noise_std": 20.0}
    return with_values(
        base, values | {f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")}, where="test"
    )


def small_sagan(folder: Path) -> Experiment:
    base = sagan().model_copy(update={"data": ShapesData.model_validate(shapes(64))})
    values: dict[str, Any] = {
        f"{stage}.generator.widths.{name}": 8
        for stage in ("teacher", "student")
        for name in SaganWidths.uniform(1 * 8).model_dump()
    }
    values |= {
        f"teacher.discriminator.widths.{name}": 8 for name in SaganDiscriminatorWidths.uniform(8).model_dump()
    }
    return with_values(
        base, values | {f"{stage}.generator.latent": 6 for stage in ("teacher", "student")}, where="test"
    )


def small_stylegan2(folder: Path) -> Experiment:
    """With every lazy penalty within the few minibatches, and a report between two of each."""
    base = stylegan2().model_copy(update={"data": ShapesData.model_validate(shapes(16))})
    widths = StyleganWidths(at4=6, at8=4, at16=4)
    generator = StyleganGenerator(widths=widths, style=6, num_mapping_layers=2)
    teacher = base.teacher.model_copy(
        update={"generator": generator, "discriminator": StyleganDiscriminator(widths=widths)}
    )
    teacher = teacher.model_copy(update={"r1_every": 2, "path_every": 3})
    return base.model_copy(
        update={"teacher": teacher, "student": base.student.model_copy(update={"generator": generator})}
    )


def small_cyclegan(folder: Path) -> Experiment:
    """More inputs than targets, and a pool that fills up within the first pass."""
    rng = np.random.default_rng(0)
    for name, count in (("trainA", 11), ("trainB", 9), ("valA", 4), ("valB", 3), ("testA", 2), ("testB", 3)):
        (folder / "pictures" / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(
                folder / "pictures" / name / f"{index}.png"
            )
    values = {
        f"{stage}.generator.widths.{name}": 4
        for stage in ("teacher", "student")
        for name in ResnetWidths.uniform(1).model_dump()
    }
    values |= {f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")}
    values |= {"data.root": str(folder / "pictures"), "data.height": 16, "data.width": 16}
    values |= {
        "teacher.discriminator.width": 4,
        "teacher.discriminator.num_layers": 1,
        "teacher.pool_size": 5,
    }
    return with_values(cyclegan(), values, where="test")


EXPERIMENTS: dict[str, Callable[[Path], Experiment]] = {
    "enhance": small_enhance,
    "sagan": small_sagan,
    "stylegan2": small_stylegan2,
    "cyclegan": small_cyclegan,
}
all_recipes = pytest.mark.parametrize("name", EXPERIMENTS)
both_stages = pytest.mark.parametrize("stage", ["teacher", "student"])


@pytest.fixture(scope="module")
def kits(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stages]:
    """Assembly -> its experiment, with data, evaluator and teacher, made when first asked for."""
    made: dict[str, Stages] = {}

    def kit(name: str) -> Stages:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            experiment = with_values(
                EXPERIMENTS[name](folder), SMALL | lengths(2 if name == "sagan" else 4), where="test"
            )
            data = prepare(experiment.data, folder / "data", **recipes.data_needs(experiment.teacher))
            evaluator = quiet(Job(training=experiment.evaluator, data=data), folder / "evaluator").network
            teacher = quiet(
                Job(training=experiment.teacher, data=data, evaluator=evaluator), folder / "teacher"
            ).network
            made[name] = Stages(experiment, data, evaluator, teacher)
        return made[name]

    return kit


def job_of(kit: Stages, stage: str, **values: Any) -> Job:
    return {"teacher": kit.teacher_job, "student": kit.student_job}[stage](**values)


class Stopped(Exception):
    pass


def stop(evaluation: dict[str, Any]) -> None:
    raise Stopped


@all_recipes
@both_stages
def test_a_stopped_and_resumed_training_equals_one_that_never_stopped(
    kits: Callable[[str], Stages], trained: Trained, tmp_path: Path, name: str, stage: str
) -> None:
    job = job_of(kits(name), stage, flip=True)
    whole = trained(job)
    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=tmp_path / "stopped")
    resumed = trained(job, "stopped")
    assert resumed.network.digest == whole.network.digest and numbers(resumed) == numbers(whole)
    assert [point.nimg for point in whole.evaluations] == [
        3 * job.training.batch_size,
        6 * job.training.batch_size,
    ]
    assert whole.beside.keys() == resumed.beside.keys()
    assert set(whole.beside) == ({"discriminator"} if hasattr(job.training, "discriminator") else set())
    for name, written in whole.beside.items():
        assert resumed.beside[name].digest == written.digest
        config = getattr(job.training, name)
        assert saved.load_discriminator(written, type(config))[0] == config
    assert (
        np.isfinite(list(whole.metrics.values())).all()
        and (tmp_path / "run-0" / "samples.png").stat().st_size > 0
    )


@all_recipes
@both_stages
def test_a_phase_moves_its_own_networks_alone(kits: Callable[[str], Stages], name: str, stage: str) -> None:
    kit = kits(name)
    job, setup = job_of(kit, stage), kit.setup()
    recipe = assembly.build(job, setup)
    step = recipe.minibatches.step(0)
    recipe.forward(step)
    for phase in recipe.phases:
        before = {key: value.clone() for key, value in parameters(recipe).items()}
        loop.advance(phase, recipe, [step], job.training, setup.workers)
        moved = {
            key.partition("/")[0]
            for key, value in parameters(recipe).items()
            if not torch.equal(value, before[key])
        }
        assert moved == {*phase.moves}


def parameters(recipe: Assembly) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name, network in recipe.networks.items()
        for key, value in network.named_parameters()
    }


@pytest.mark.slow
def test_several_workers_give_what_one_gives(kits: Callable[[str], Stages], tmp_path: Path) -> None:
    """Two steps of eight pictures, by one worker and by two."""
    values = {
        "batch_size": 8,
        "budget_nimg": 16,
        "report_every_nimg": 16,
        "ema_nimg": 0,
        "optimizer__learning_rate": 1e-5,
    }
    values |= {"discriminator_optimizer__learning_rate": 1e-5}
    jobs = {
        name: job_of(kits(name), "teacher", **values).model_dump_json() for name in ("cyclegan", "stylegan2")
    }
    values |= {"batch_size": 4, "budget_nimg": 8, "report_every_nimg": 8}
    jobs["sagan"] = job_of(kits("sagan"), "teacher", **values).model_dump_json()
    spawned(run_two, (tmp_path, jobs), 2)
    for name, text in jobs.items():
        job = Job.model_validate_json(text)
        alone, shared = (
            quiet(job, tmp_path / f"{name}-alone"),
            load_file(tmp_path / name / "network" / "weights.safetensors"),
        )
        expected = load_file(Path(alone.network.path) / "weights.safetensors")
        for key in (
            key for key in expected if key.endswith(("weight", "original", "mean_style", "running_var"))
        ):
            assert (shared[key] - expected[key]).norm() <= 1e-4 * expected[key].norm(), (name, key)
        numbers_of = [
            json.loads(max(folder.glob("checkpoint-*/meta.json")).read_text())["history"][-1]
            for folder in (tmp_path / name, tmp_path / f"{name}-alone")
        ]
        for key in (key for key in numbers_of[0] if key.startswith("train/")):
            assert numbers_of[0][key] == pytest.approx(numbers_of[1][key], rel=1e-3, abs=1e-4), (name, key)


# ---- enhancement -------------------------------------------------------------------------------------------


def test_inputs_are_degraded_anew_in_every_pass_and_the_same_for_the_same_seed_picture_and_pass(
    kits: Callable[[str], Stages],
) -> None:
    kit = kits("enhance")
    split = load_split(kit.data, "train")

    def inputs(seed: int, first: int) -> torch.Tensor:
        order = Order(10, seed=kit.teacher_job().training.seed, flip=False)
        shown = order.at(range(first, first + 10))
        return inputs_of(tensors(split), None, seed, shown)[shown.indices.argsort()]

    assert inputs(0, 0).shape == (10, 3, 8, 8) and torch.equal(inputs(0, 0), inputs(0, 0))
    for other in (inputs(0, 10), inputs(1, 0)):
        noise = (other - inputs(0, 0)) * 127.5
        assert noise.std() == pytest.approx(20 * 2**0.5, rel=0.25) and abs(noise.mean()) < 3
    plain = (
        torch.nn.functional.avg_pool2d(
            torch.from_numpy(np.array(split.targets)).permute(0, 3, 1, 2).float(), 2
        )
        / 127.5
        - 1
    )
    assert (inputs(0, 0) - plain).abs().mean() < 0.2


def test_enhancement_is_scored_by_likeness_to_the_pictures(
    kits: Callable[[str], Stages], trained: Trained
) -> None:
    scores = trained(kits("enhance").teacher_job()).metrics
    assert {"val/psnr", "val/ssim", "val/kd_evaluator", "val/miou"} <= set(scores) and 5 < scores[
        "val/psnr"
    ] < 60


def test_pictures_that_have_inputs_are_not_degraded(tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGB", (32, 16), (index,) * 3).save(tmp_path / f"{index}.png")
    config = FolderData(
        root=str(tmp_path), height=16, width=16, layout="aligned", degrade=Degradation(scale=2)
    )
    with pytest.raises(
        DataError, match=r"data\.degrade is on, but .* is aligned, which has inputs of its own"
    ):
        prepare(config, tmp_path / "cache")


# ---- noise -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sagan", "stylegan2"])
def test_teacher_and_student_get_the_same_z_and_every_image_another(
    kits: Callable[[str], Stages], name: str
) -> None:
    kit = kits(name)
    job, setup = kit.student_job(), kit.setup()
    recipe = assembly.build(job, setup)
    step, later = (recipe.minibatches.step(nimg) for nimg in (0, job.training.batch_size))
    recipe.forward(step)
    z, teacher = step.batch.inputs, saved.load(kit.teacher, setup.info, setup.device)
    assert z.shape == (job.training.batch_size, 6) and len(
        {tuple(row) for row in torch.cat([z, later.batch.inputs]).tolist()}
    ) == 2 * len(z)
    with torch.no_grad():
        torch.testing.assert_close(step.teacher, teacher(z).clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_a_students_noise_is_its_teachers(kits: Callable[[str], Stages]) -> None:
    kit = kits("stylegan2")
    buffers = dict(assembly.build(kit.student_job(seed=3), kit.setup()).networks["generator"].named_buffers())
    given = load_file(Path(kit.teacher.path) / "weights.safetensors")
    names = [name for name in buffers if name.endswith("noise")]
    assert len(names) == 5 and all(torch.equal(buffers[name], given[name]) for name in names)


def test_pairs_with_a_real_picture_are_refused_where_it_has_nothing_to_do_with_the_input(
    kits: Callable[[str], Stages],
) -> None:
    for name in ("sagan", "cyclegan"):
        kit = kits(name)
        with pytest.raises(
            ConfigError,
            match=r"student\.terms\.mi\.positive: 'target' needs pictures that belong to the inputs",
        ):
            assembly.build(kit.student_job(mi__positive="target"), kit.setup())


@pytest.mark.parametrize("name", ["sagan", "stylegan2"])
def test_a_generator_that_takes_noise_is_evaluated_as_in_its_training(
    kits: Callable[[str], Stages], trained: Trained, name: str
) -> None:
    kit = kits(name)
    result = trained(kit.student_job())
    options = EvaluateOptions(
        given=(result.network.path,), data=kit.data.path, evaluator=kit.evaluator.path, resamples=0
    )
    scores = {
        score.name: score.value for score in evaluate(options, torch.device("cpu"))[result.network.path]
    }
    assert scores["val/kd_evaluator"] == pytest.approx(result.metrics["val/kd_evaluator"], rel=1e-4, abs=1e-6)
    assert "val/psnr" not in scores and "val/miou" not in result.metrics


# ---- StyleGAN2 ---------------------------------------------------------------------------------------------


def test_penalties_come_in_every_so_many_minibatches(
    kits: Callable[[str], Stages], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, names = loop.advance, list[str]()
    monkeypatch.setattr(
        loop, "advance", lambda phase, *rest: names.append(phase.name) or advance(phase, *rest)
    )
    result = trained(kits("stylegan2").teacher_job())
    steps = " ".join(names).split("discriminator")[1:]
    assert ["r1" in step for step in steps] == [True, False, True, False, True, False]
    assert ["path" in step for step in steps] == [True, False, False, True, False, False]
    assert all(
        {"train/r1", "train/path_length", "train/path_penalty"} <= set(point.numbers)
        for point in result.evaluations
    )


def test_an_optimiser_with_lazy_steps_forgets_as_fast_a_minibatch() -> None:
    config = lazy(Optimizer(learning_rate=0.17, betas=(0.0, 0.99)), 10.0, 16)
    assert config.learning_rate == pytest.approx(0.16) and config.betas == pytest.approx(
        (0.0, 0.99 ** (16 / 17))
    )
    assert lazy(Optimizer(learning_rate=0.17, betas=(0.5, 0.99)), 0.0, 16) == Optimizer(
        learning_rate=0.17, betas=(0.5, 0.99)
    )


def test_truncation_is_part_of_a_finished_generator_and_not_of_its_training() -> None:
    config = StyleganGenerator(
        widths=StyleganWidths(at4=4, at8=4), style=6, num_mapping_layers=2, truncation=0.0
    )
    generator = StyleGenerator(config)
    z = torch.randn(3, 6)
    plain, finished = generator(z), generator.eval()(z)
    assert torch.equal(finished[0], finished[1]) and not torch.equal(plain[0], plain[1])


@pytest.mark.parametrize(
    ("changes", "printed"),
    [
        (
            {"execution": {"microbatch": 2}},
            "execution.microbatch: gradients of gradients need whole, plain networks",
        ),
        ({"execution": {"sharding": "fsdp"}}, "execution.sharding: gradients of gradients"),
        ({"precision": "bfloat16"}, "precision bfloat16: gradients of gradients need float32"),
        (
            {"batch_size": 6},
            "batch_size 6 for one worker: the discriminator sees pictures by fours; use a multiple of 4",
        ),
    ],
)
def test_what_stylegan2_cannot_follow_is_refused(changes: dict[str, Any], printed: str) -> None:
    values = stylegan2().teacher.model_dump() | changes
    with pytest.raises(ConfigError, match=printed):
        validated(Stylegan2Training, values, where="teacher")


# ---- CycleGAN ----------------------------------------------------------------------------------------------


def test_a_full_pool_exchanges_half_of_the_pictures_for_older_ones() -> None:
    pool = Pool(20, "test", 0, 16, 16)
    fresh = torch.arange(400.0)[:, None, None, None].expand(-1, 3, 16, 16)
    seen = torch.cat(
        [pool.exchange(fresh[start : start + 4], start, Workers(0, 1)) for start in range(0, 400, 4)]
    )[:, 0, 0, 0]
    assert torch.equal(seen[:20], torch.arange(20.0))
    older = seen[20:] < torch.arange(20.0, 400.0)
    assert 0.4 < older.double().mean() < 0.6 and not (seen > torch.arange(400.0)).any()
    assert set(pool.pictures[:, 0, 0, 0].tolist()) | set(seen.tolist()) == set(range(400))
    again = Pool(20, "test", 0, 16, 16)
    assert torch.equal(
        torch.cat(
            [again.exchange(fresh[start : start + 8], start, Workers(0, 1)) for start in range(0, 400, 8)]
        )[:, 0, 0, 0],
        seen,
    )


def test_inputs_and_targets_have_orders_of_their_own(kits: Callable[[str], Stages]) -> None:
    """11 inputs and 9 targets: each is shown once in its own pass."""
    kit = kits("cyclegan")
    minibatches = kit.minibatches(kit.teacher_job(batch_size=1, flip=False).training)
    steps = [minibatches.step(nimg) for nimg in range(11)]
    assert sorted(int(step.sample.indices[0]) for step in steps) == list(range(11))
    assert len({step.batch.target.sum().item() for step in steps[:9]}) == 9
