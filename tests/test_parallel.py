"""Several workers against one: the same weights and numbers on the same global batch, by gloo on this machine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Stages, numbers, quiet
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill import networks, parallel
from raydistill.config import Job
from raydistill.errors import ConfigError, DivergenceError
from raydistill.evaluate import Evaluator
from raydistill.parallel import Workers
from raydistill.train import TrialResult, train

COUNTS = (2, 3)
RTOL, ATOL = 1e-4, 1e-5
"""Of float32 sums in another order, after four steps of Adam at 1e-4 that move a weight by up to 4e-4."""
RATIOS = ("energy/displacement", "energy/alignment")
UNDETERMINED = "train/gan_loss"
"""While the hinge is linear the discriminator's last bias has a gradient of 0, of which Adam makes steps of rounding noise."""


class Stopped(Exception):
    pass


def jobs_of(stages: Stages) -> dict[str, Job]:
    """Four steps of 12 pictures, two passes, a report after each."""
    size = {"batch_size": 12, "budget_nimg": 48, "report_every_nimg": 24}
    slow = {**size, "optimizer__learning_rate": 1e-4}
    return {
        "pix2pix": stages.teacher_job(flip=True, discriminator_optimizer__learning_rate=1e-4, **slow),
        "distill": stages.student_job(**slow),
        "judge": stages.judge_job(**slow),
        "uneven": stages.student_job(batch_size=13),
        "batch_norm": stages.student_job(**size, generator__norm="batch"),
        "diverging": stages.student_job(**size | {"optimizer__learning_rate": 1e30}),
    }


def run_process(rank: int, folder: Path, jobs: dict[str, str]) -> None:
    """Takes part in every group that has this rank, one after the other."""
    for count in COUNTS:
        if rank < count:
            run_worker(rank, count, folder / str(count), jobs)


def run_worker(rank: int, count: int, folder: Path, jobs: dict[str, str]) -> None:
    """All that is checked with `count` workers; results lie in `folder` by rank."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=count)
    given = {name: Job.model_validate_json(text) for name, text in jobs.items()}
    found: dict[str, Any] = {}
    for name in ("pix2pix", "distill", "judge"):
        found[name] = quiet(given[name], folder / name)
    try:
        train(given["distill"], report=stop, state_dir=folder / "stopped")
    except Stopped:
        found["stopped"] = True
    for name, error in (("uneven", ConfigError), ("batch_norm", ConfigError), ("diverging", DivergenceError)):
        try:
            quiet(given[name], folder / name)
        except error as caught:
            found[name] = str(caught)
    workers = parallel.current()
    normal = parallel.normal_stream(0, "langevin", 24, torch.empty(12 // count, 3, 4, 4), workers)
    found["noise"] = [normal() for _ in range(3)]
    found["scores"] = teacher_scores(given["distill"], workers)
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 2))]
    parameters[0].grad, parameters[2].grad = torch.tensor([1.0, rank]), torch.full((1, 2), 10.0 * rank)
    parallel.average_gradients(parameters, workers)
    found["gradients"] = [parameter.grad for parameter in parameters]
    found["rows"] = parallel.gather_rows(torch.arange(7)[workers.slice(7), None], workers)
    found["total"] = parallel.total(torch.tensor([rank, 1]), workers)
    found["numbers"] = parallel.mean_numbers({"a": torch.tensor(float(rank)), "b": torch.tensor(2.0)}, workers)
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def teacher_scores(job: Job, workers: Workers) -> dict[str, float]:
    assert job.judge is not None and job.teacher is not None
    evaluator = Evaluator(job.data, job.judge, "val", torch.device("cpu"), workers)
    teacher = networks.load(job.teacher, evaluator.split.info, torch.device("cpu"))
    return evaluator.score(lambda part: teacher(part.inputs))


def stop(evaluation: dict[str, Any]) -> None:
    raise Stopped


@pytest.fixture(scope="module")
def alone(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialResult]:
    folder = tmp_path_factory.mktemp("alone")
    return {name: quiet(job, folder / name) for name, job in jobs_of(stages).items() if name in ("pix2pix", "distill", "judge")}


@pytest.fixture(scope="module")
def together(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Number of workers -> what each rank found."""
    jobs, folder = {name: job.model_dump_json() for name, job in jobs_of(stages).items()}, tmp_path_factory.mktemp("together")
    for count in COUNTS:
        (folder / str(count)).mkdir()
    mp.spawn(run_process, (folder, jobs), nprocs=max(COUNTS))
    paths = {count: [folder / str(count) / f"rank-{rank}.pt" for rank in range(count)] for count in COUNTS}
    return {count: [torch.load(path, weights_only=False) for path in paths[count]] for count in COUNTS}


def weights(result: TrialResult) -> dict[str, Tensor]:
    """Those of the finished network and, where there is one, of the energy network."""
    folder = Path(result.network.path)
    found = load_file(folder / "weights.safetensors")
    for path in folder.parent.glob("checkpoint-*/energy.safetensors"):
        found |= {f"energy.{name}": value for name, value in load_file(path).items()}
    return found


def determined(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the generator's biases in front of an instance norm: it cancels them, and Adam moves them by rounding noise."""
    last = max(int(name.split(".")[0]) for name in given if name.split(".")[0].isdigit()) if "1.bias" in given else None
    cancelled = {name for name in given if last is not None and name.endswith("bias") and name[0].isdigit() and name != f"{last}.bias"}
    return {name: value for name, value in given.items() if name not in cancelled}


# ---- several workers equal one --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("recipe", ["pix2pix", "distill", "judge"])
def test_several_workers_give_the_weights_of_one(alone: dict, together: dict, recipe: str, count: int) -> None:
    several, one = (determined(weights(result[recipe])) for result in (together[count][0], alone))
    assert (recipe == "distill") == any(name.startswith("energy.") for name in one)
    torch.testing.assert_close(several, one, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("recipe", ["pix2pix", "distill", "judge"])
def test_several_workers_report_the_numbers_of_one(alone: dict, together: dict, recipe: str, count: int) -> None:
    """Without the scores, which jump where a rounded pixel does: see the next test."""
    for several, one in zip(numbers(together[count][0][recipe]), numbers(alone[recipe]), strict=True):
        assert set(several) == set(one)
        names = [name for name in one if name not in (*RATIOS, UNDETERMINED) and not name.startswith("val/")]
        assert [several[name] for name in names] == pytest.approx([one[name] for name in names], rel=RTOL, abs=ATOL)


@pytest.mark.parametrize("count", COUNTS)
def test_several_workers_score_a_network_as_one_does(stages: Stages, together: dict, count: int) -> None:
    one = teacher_scores(stages.student_job(), Workers(0, 1))
    for rank in together[count]:
        assert rank["scores"] == pytest.approx(one, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", RATIOS)
def test_a_ratio_over_the_batch_is_that_of_the_global_batch(alone: dict, together: dict, name: str, count: int) -> None:
    several, one = (result.evaluations[0][name] for result in (together[count][0]["distill"], alone["distill"]))
    assert several == pytest.approx(one, rel=RTOL, abs=ATOL)


@pytest.mark.parametrize("count", COUNTS)
def test_every_worker_returns_the_same_result(together: dict, count: int) -> None:
    for recipe in ("pix2pix", "distill", "judge"):
        first, *others = (rank[recipe] for rank in together[count])
        assert all(numbers(other) == numbers(first) and other.network == first.network for other in others)


@pytest.mark.parametrize("count", COUNTS)
def test_the_workers_langevin_noise_is_the_slices_of_that_of_one(together: dict, count: int) -> None:
    normal = parallel.normal_stream(0, "langevin", 24, torch.empty(12, 3, 4, 4), Workers(0, 1))
    for draw in range(3):
        assert torch.equal(torch.cat([rank["noise"][draw] for rank in together[count]]), normal())


def test_the_noise_changes_with_the_draw_and_the_images_seen_and_the_seed() -> None:
    def first(seed: int, nimg: int) -> Tensor:
        return parallel.normal_stream(seed, "langevin", nimg, torch.empty(4, 3), Workers(0, 1))()

    normal = parallel.normal_stream(0, "langevin", 0, torch.empty(4, 3), Workers(0, 1))
    draws = [normal(), normal(), first(0, 4), first(1, 0)]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert torch.equal(first(0, 0), draws[0])


def test_a_checkpoint_of_two_workers_goes_on_with_one(
    stages: Stages, alone: dict, together: dict, trained: Callable[..., TrialResult]
) -> None:
    assert all(rank["stopped"] for rank in together[2])
    folder = Path(together[2][0]["distill"].network.path).parent.parent / "stopped"
    (found,) = folder.glob("checkpoint-*")
    assert json.loads((found / "meta.json").read_text())["nimg"] == 24
    resumed = quiet(jobs_of(stages)["distill"], folder)
    assert numbers(resumed)[0] == numbers(together[2][0]["distill"])[0]
    torch.testing.assert_close(determined(weights(resumed)), determined(weights(alone["distill"])), rtol=RTOL, atol=ATOL)


# ---- refused --------------------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_divide_is_refused_on_every_worker(together: dict) -> None:
    expected = "training.batch_size: 13 is not divisible by 2 workers; use a multiple of 2"
    assert [rank["uneven"] for rank in together[2]] == [expected] * 2


def test_batch_norm_is_refused_on_every_worker(together: dict) -> None:
    for rank in together[2]:
        assert "generator: batch norm with 2 workers would use local statistics; set norm to 'instance'" in rank["batch_norm"]


def test_one_worker_may_use_batch_norm_and_any_batch_size() -> None:
    assert parallel.check(Workers(0, 1), 13, {"generator": nn.BatchNorm2d(4)}) is None


@pytest.mark.parametrize("count", COUNTS)
def test_divergence_is_raised_on_every_worker(together: dict, count: int) -> None:
    assert all("the gradient is not finite" in rank["diverging"] for rank in together[count])


# ---- the collectives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
def test_rows_totals_and_means_are_over_all_workers_in_order(together: dict, count: int) -> None:
    for rank in together[count]:
        assert rank["rows"].flatten().tolist() == list(range(7))
        assert rank["total"].tolist() == [sum(range(count)), count]
        assert rank["numbers"] == {"a": (count - 1) / 2, "b": 2.0}


@pytest.mark.parametrize("count", COUNTS)
def test_gradients_become_their_means_over_the_workers_and_an_absent_one_stays_absent(together: dict, count: int) -> None:
    mean = (count - 1) / 2
    for rank in together[count]:
        first, absent, last = rank["gradients"]
        assert absent is None and first.tolist() == [1.0, mean] and last.tolist() == [[10 * mean] * 2]


@pytest.mark.parametrize(("total", "count"), [(12, 3), (7, 3), (1, 2), (0, 2)])
def test_the_slices_of_the_workers_cover_everything_in_order(total: int, count: int) -> None:
    parts = [range(total)[Workers(rank, count).slice(total)] for rank in range(count)]
    assert [item for part in parts for item in part] == list(range(total))


def test_without_a_process_group_there_is_one_worker() -> None:
    assert parallel.current() == Workers(0, 1) and parallel.current().is_main
