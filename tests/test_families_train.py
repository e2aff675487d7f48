"""Every family that takes pictures trains, as a teacher and as a student; two workers take the step of
one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import Stages, numbers, quiet, spawned
from cookbook import forgotten_after, written
from families import CASES, plug_in_case
from torch import Tensor

from raydistill import distributed, models, plugins
from raydistill.config.architectures import (
    MobileResnetGenerator,
    MobileResnetWidths,
    PictureGenerator,
    UnetGenerator,
    UnetWidths,
)
from raydistill.config.experiment import Job
from raydistill.distributed import Workers
from raydistill.models import input_shape

GENERATORS: dict[str, PictureGenerator] = {
    "mobile_resnet": MobileResnetGenerator(widths=MobileResnetWidths.uniform(4), num_blocks=3),
    "unet": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4, norm="instance"),
    "unet-batch": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4),
    "unet-deep": UnetGenerator(widths=UnetWidths.uniform(4), num_levels=4, blocks_per_level=1),
}


@pytest.mark.parametrize("stage", ["teacher", "student"])
@pytest.mark.parametrize("name", GENERATORS)
def test_the_error_of_a_family_falls_and_its_scores_are_finite(
    name: str, stage: str, stages: Stages, tmp_path: Path
) -> None:
    job = getattr(stages, f"{stage}_job")(budget_nimg=96, report_every_nimg=48, optimizer__learning_rate=2e-3)
    training = job.training.model_copy(update={"generator": GENERATORS[name]})
    first, last = numbers(
        quiet(
            Job(training=training, data=job.data, evaluator=job.evaluator, teacher=job.teacher),
            tmp_path / "run",
        )
    )
    assert last["train/l1"] < first["train/l1"]
    assert all(abs(value) < float("inf") for value in last.values())


# ---- two workers equal one ---------------------------------------------------------------------------------


def step_of(name: str, stages: Stages, workers: Workers) -> dict[str, Tensor]:
    """A generator's gradients and buffers after one step on four pictures, shared by the workers.

    StyleGAN2 takes it with the fixed noise of a finished network: in training the noise is drawn by each
    process.
    """
    case = plug_in_case() if name == "plug-in" else CASES[name]
    torch.manual_seed(0)
    module = (
        models.GENERATORS[case.config.family]
        .build(case.config, case.in_channels)
        .train(case.config.family != "stylegan2")
    )
    for parameter in (
        module.parameters()
    ):  # an attention's gamma and a noise's strength start at 0, which hides what is behind them
        if parameter.numel() == 1:
            torch.nn.init.constant_(parameter, 0.1)
    x = torch.randn(4, *input_shape(*case)).clamp(-1, 1)
    distributed.prepare({"generator": module}, stages.student_job().training, torch.device("cpu"), workers)
    pictures = module(x[workers.slice(4)])
    (pictures * torch.linspace(-1, 1, 3)[:, None, None]).square().mean().backward()
    distributed.average_gradients(list(module.parameters()), workers)
    gradients = {
        name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None
    }
    return gradients | {name: value.clone() for name, value in module.named_buffers()}


def run_worker(rank: int, folder: Path, stages: Stages, plugins_json: str) -> None:
    torch.set_num_threads(1)
    plugins.load_json(plugins_json)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    torch.save(
        {name: step_of(name, stages, distributed.current()) for name in (*CASES, "plug-in")},
        folder / f"{rank}.pt",
    )
    dist.destroy_process_group()


def test_two_workers_take_the_step_of_one_in_every_family(stages: Stages, tmp_path: Path) -> None:
    with forgotten_after():
        plugins.load(written(tmp_path, "plain.py"))
        spawned(run_worker, (tmp_path, stages, plugins.to_json()), 2)
        found: list[dict[str, Any]] = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
        for name in (*CASES, "plug-in"):
            alone = step_of(name, stages, Workers(0, 1))
            assert alone and set(alone) == set(found[0][name])
            for shared in (found[0][name], found[1][name]):
                torch.testing.assert_close(
                    shared, alone, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
                )
