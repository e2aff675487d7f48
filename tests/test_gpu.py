"""What needs a CUDA GPU: `python -m pytest -m gpu`. One GPU is enough."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Stages, numbers, quiet
from safetensors.torch import load_file
from test_sweep import command, run

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.data import load_split
from raydistill.records import tables
from raydistill.training import assembly, loop
from raydistill.training.loop import TrainingResult
from raydistill.training.recipes import Setup

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")]
FSDP = {"execution__sharding": "fsdp", "execution__fsdp_min_params": 1}
SLOW = {"ema_nimg": 0, "optimizer__learning_rate": 1e-4}
"""Steps so short that rounding stays rounding."""
TOLERANCE = 2e-3
"""||w - w'|| / ||w'||: cuDNN's convolutions may use TF32, of 10 bits, and add up in another order."""


@pytest.fixture(scope="module")
def jobs(stages: Stages) -> dict[str, Job]:
    return {
        "distill": stages.student_job(**SLOW),
        "distill fsdp": stages.student_job(**SLOW, **FSDP),
        "pix2pix": stages.teacher_job(discriminator_optimizer__learning_rate=1e-4, **SLOW),
        "pix2pix fsdp": stages.teacher_job(discriminator_optimizer__learning_rate=1e-4, **SLOW, **FSDP),
        "batch norm": stages.teacher_job(generator__norm="batch", discriminator__norm="batch", **SLOW),
    }


def one_worker(rank: int, folder: Path, jobs: dict[str, str]) -> None:
    """Every job by a group of one worker with nccl, as a TorchTrainer sets it up."""
    torch.cuda.set_device(0)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl", init_method=f"file://{folder}/init", rank=rank, world_size=1
    )
    found: dict[str, Any] = {}
    for name, text in jobs.items():
        job = Job.model_validate_json(text)
        found[name] = quiet(job, folder / name)
        found[f"{name} split"] = split_of(job)
    probe = torch.arange(4.0, device="cuda")
    dist.all_reduce(probe)
    found["sum"] = probe.cpu()
    torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


def split_of(job: Job) -> dict[str, tuple[bool, str]]:
    """Network -> whether FSDP2 split it, and the device of its parameters."""
    setup = Setup(load_split(job.data, "train").info, torch.device("cuda"), distributed.current())
    recipe = assembly.build(job, setup)
    loop.apply_execution(recipe, job.training, setup)
    return {
        name: (distributed.is_sharded(network), next(network.parameters()).device.type)
        for name, network in recipe.networks.items()
    }


@pytest.fixture(scope="module")
def by_nccl(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("nccl")
    mp.spawn(one_worker, (folder, {name: job.model_dump_json() for name, job in jobs.items()}), nprocs=1)
    return torch.load(folder / "found.pt", weights_only=False)


@pytest.fixture(scope="module")
def plain(jobs: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingResult]:
    """Without a process group, on the GPU."""
    folder = tmp_path_factory.mktemp("plain")
    return {name: quiet(jobs[name], folder / name) for name in ("distill", "pix2pix", "batch norm")}


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield


def apart(first: TrainingResult, second: TrainingResult) -> float:
    """||w - w'|| / ||w'|| of the finished networks' weights."""
    w, v = (load_file(Path(result.network.path) / "weights.safetensors") for result in (first, second))
    a, b = (
        torch.cat([value.flatten() for name, value in state.items() if name.endswith("weight")])
        for state in (w, v)
    )
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", ["distill", "pix2pix"])
def test_the_gpu_gives_what_the_cpu_gives(
    jobs: dict[str, Job], plain: dict[str, TrainingResult], on_cpu: None, tmp_path: Path, name: str
) -> None:
    assert apart(plain[name], quiet(jobs[name], tmp_path / "cpu")) < TOLERANCE


def test_training_really_runs_on_the_gpu(stages: Stages, tmp_path: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    quiet(stages.student_job(), tmp_path / "run")
    assert torch.cuda.max_memory_allocated() > before


def test_a_run_that_was_stopped_on_the_gpu_goes_on_on_the_cpu(
    jobs: dict[str, Job], plain: dict[str, TrainingResult], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(evaluation: dict[str, Any]) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        loop.train(jobs["distill"], report=stop, state_dir=tmp_path / "run")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    resumed = quiet(jobs["distill"], tmp_path / "run")
    assert numbers(resumed)[0]["nimg"] == 16
    assert apart(resumed, plain["distill"]) < TOLERANCE


@pytest.mark.parametrize("name", ["distill", "pix2pix", "batch norm"])
def test_nccl_with_one_worker_gives_what_no_process_group_gives(
    by_nccl: dict, plain: dict, name: str
) -> None:
    assert by_nccl["sum"].tolist() == [0, 1, 2, 3]
    assert apart(by_nccl[name], plain[name]) < TOLERANCE


@pytest.mark.parametrize("recipe", ["distill", "pix2pix"])
def test_cuda_fsdp2_with_one_worker_gives_what_whole_networks_give(by_nccl: dict, recipe: str) -> None:
    split, whole = by_nccl[f"{recipe} fsdp split"], by_nccl[f"{recipe} split"]
    assert {name: is_sharded for name, (is_sharded, _) in split.items()} == {
        name: name != "energy" for name in split
    }
    assert not any(is_sharded for is_sharded, _ in whole.values()) and {
        device for _, device in (*split.values(), *whole.values())
    } == {"cuda"}
    assert apart(by_nccl[f"{recipe} fsdp"], by_nccl[recipe]) < TOLERANCE


@pytest.mark.parametrize("recipe", ["distill", "pix2pix"])
def test_bfloat16_on_the_gpu_stays_finite_and_close(
    stages: Stages, plain: dict[str, TrainingResult], tmp_path: Path, recipe: str
) -> None:
    job = {"distill": stages.student_job, "pix2pix": stages.teacher_job}[recipe]
    more = {"discriminator_optimizer__learning_rate": 1e-4} if recipe == "pix2pix" else {}
    half = quiet(job(precision="bfloat16", **SLOW, **more), tmp_path / "half")
    assert all(torch.isfinite(torch.tensor(value)) for value in half.metrics.values())
    assert 0 < apart(half, plain[recipe]) < 0.05


@pytest.mark.parametrize(
    "execution", [{"microbatch": 2}, {"activation_checkpointing": True}, {"compile": True}]
)
def test_each_way_to_carry_out_a_training_gives_the_same_on_the_gpu(
    stages: Stages, plain: dict[str, TrainingResult], tmp_path: Path, execution: dict[str, Any]
) -> None:
    values = {f"execution__{name}": value for name, value in execution.items()}
    assert apart(quiet(stages.student_job(**SLOW, **values), tmp_path / "run"), plain["distill"]) < TOLERANCE


# ---- whole sweeps ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    def sweep(*options: str) -> tuple[Path, Any]:
        cwd = tmp_path_factory.mktemp("sweep")
        done = run(command(cwd / "runs", "--trials", "2", *options), cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return cwd / "runs/sweeps/default-001", done

    return sweep


def test_the_main_job_runs_on_one_gpu(swept: Callable[..., tuple[Path, Any]]) -> None:
    """Evaluator, teacher, trials, recheck, report; each result names the GPU and counts its seconds."""
    folder, _ = swept("--executor", "train", "--teacher-workers", "1")
    table = tables.read_table(folder / "trials.parquet")
    trained = table[table["role"] != "recheck"]
    assert set(trained["status"]) == {"COMPLETE"}
    assert trained["hardware"].str.contains(torch.cuda.get_device_name(), regex=False).all()
    assert (trained["gpu_sec"] > 0).all()


def test_two_trials_share_a_gpu_by_halves(swept: Callable[..., tuple[Path, Any]]) -> None:
    """Both run at the same time: one starts before the other has ended."""
    folder, done = swept("--gpus-per-worker", "0.5", "--teacher-workers", "1", "--max-concurrent", "2")
    assert "2 at a time" in done.stdout
    searched = tables.read_table(folder / "trials.parquet").query("role == 'search'")
    assert set(searched["status"]) == {"COMPLETE"} and (searched["gpu_sec"] > 0).all()
    logs = [folder / "trials" / str(name) / "log.txt" for name in searched["trial_id"]]
    spans = [(path.parent.joinpath("trial.json").stat().st_mtime, path.stat().st_mtime) for path in logs]
    (first_start, first_end), (second_start, second_end) = sorted(spans)
    assert second_start < first_end and first_start < second_end
