"""Several workers against one: the same weights and numbers on the same global batch, by gloo on this
machine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from conftest import Stages, numbers, quiet, spawned
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.config.training import Execution
from raydistill.data import load_split, noise
from raydistill.distributed import CrossRankBatchNorm, Workers
from raydistill.errors import ConfigError, DivergenceError
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.models import saved
from raydistill.training import assembly, loop
from raydistill.training.assembly import Assembly
from raydistill.training.loop import TrainingResult, train
from raydistill.training.recipes import Setup

COUNTS = (2, 3)
RTOL, ATOL = 1e-4, 1e-5
"""Of float32 sums in another order, after four steps of Adam at 1e-4 that move a weight by up to 4e-4."""
RATIOS = ("energy/displacement", "energy/alignment")
UNDETERMINED = "train/gan_loss"
"""While the hinge is linear the discriminator's last bias has a gradient of 0, of which Adam makes steps
of rounding noise."""


FSDP = {"execution__sharding": "fsdp", "execution__fsdp_min_params": 1}
"""Every network but the energy and every block is split."""
ALONE = ("pix2pix", "distill", "evaluator", "batch_norm")


class Stopped(Exception):
    pass


def jobs_of(stages: Stages) -> dict[str, Job]:
    """Four steps of 12 pictures, two passes, a report after each."""
    size = {"batch_size": 12, "budget_nimg": 48, "report_every_nimg": 24}
    slow = {**size, "optimizer__learning_rate": 1e-4}
    return {
        "pix2pix": stages.teacher_job(flip=True, discriminator_optimizer__learning_rate=1e-4, **slow),
        "distill": stages.student_job(**slow),
        "evaluator": stages.evaluator_job(**slow),
        "pix2pix_fsdp": stages.teacher_job(
            flip=True, discriminator_optimizer__learning_rate=1e-4, **slow, **FSDP
        ),
        "distill_fsdp": stages.student_job(**slow, **FSDP),
        "batch_norm": stages.teacher_job(
            generator__norm="batch",
            discriminator__norm="batch",
            discriminator__num_layers=2,
            discriminator_optimizer__learning_rate=1e-4,
            **slow,
        ),
        "ratios": stages.student_job(**slow | {"budget_nimg": 12, "report_every_nimg": 12}),
        "uneven": stages.student_job(batch_size=13),
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
    for name in (*ALONE, "ratios", *(["pix2pix_fsdp", "distill_fsdp"] if count == 2 else [])):
        found[name] = quiet(given[name], folder / name)
    workers = distributed.current()
    for name in ("distill", "distill_fsdp"):
        if count == 2:
            found[f"{name} stopped"] = stopped(given[name], folder / f"{name}-stopped")
            found[f"{name} moved"] = moved_by_phases(given[name])
        else:
            if workers.is_main:
                shutil.copytree(folder.parent / "2" / f"{name}-stopped", folder / f"{name}-resumed")
            distributed.barrier(workers)
            found[f"{name} resumed"] = quiet(given[name], folder / f"{name}-resumed")
    found["split"] = {least: is_sharded_with(least) for least in (1, 1000, 10_000)}
    found["norm"] = batch_norm_of(CrossRankBatchNorm(3), pictures()[workers.slice(12)], count)
    for name, error in (("uneven", ConfigError), ("diverging", DivergenceError)):
        try:
            quiet(given[name], folder / name)
        except error as caught:
            found[name] = str(caught)
    own = workers.slice(12)
    keys = noise.image_keys(0, "langevin", range(24 + own.start, 24 + own.stop))
    found["noise"] = noise.normal(keys, (3, 4, 4), 3)
    found["scores"] = teacher_scores(given["distill"], workers)
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 2))]
    parameters[0].grad, parameters[2].grad = torch.tensor([1.0, rank]), torch.full((1, 2), 10.0 * rank)
    distributed.average_gradients(parameters, workers)
    found["gradients"] = [parameter.grad for parameter in parameters]
    found["rows"] = distributed.gather_unequal_rows(torch.arange(7)[workers.slice(7), None], workers)
    found["equal rows"] = distributed.gather_rows(torch.arange(12)[workers.slice(12)], workers)
    found["once"] = (distributed.computed_once(lambda: rank + 7, workers), refusal(workers))
    found["total"] = distributed.total(torch.tensor([rank, 1]), workers)
    found["numbers"] = distributed.mean_numbers(
        {"a": torch.tensor(float(rank)), "b": torch.tensor(2.0)}, workers
    )
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


def refusal(workers: Workers) -> str:
    """What the error says that the main worker meets in what is computed once."""

    def refuse() -> None:
        raise ConfigError(f"refused by {workers.rank}")

    try:
        distributed.computed_once(refuse, workers)
    except ConfigError as error:
        return str(error)
    return ""


def stopped(job: Job, folder: Path) -> bool:
    """Whether the run was stopped after its first report."""
    try:
        train(job, report=stop, state_dir=folder)
    except Stopped:
        return True
    return False


def moved_by_phases(job: Job) -> list[tuple[str, set[str], set[str], list[bool]]]:
    """For each phase: its network, the networks that it changed, those that hold a gradient after it, and
    which are split."""
    split = load_split(job.data, "train")
    setup = Setup(split.info, torch.device("cpu"), distributed.current())
    recipe = assembly.build(job, setup)
    loop.apply_execution(recipe, job.training, setup)
    step = recipe.minibatches.step(0)
    recipe.forward(step)
    found = []
    for phase in recipe.phases:
        before = {
            name: {key: value.clone() for key, value in state.items()}
            for name, state in whole(recipe).items()
        }
        loop.advance(phase, recipe, [step], job.training, setup.workers)
        changed = {
            name
            for name, state in whole(recipe).items()
            if any(not torch.equal(state[key], before[name][key]) for key in state)
        }
        holding = {
            name
            for name, network in recipe.networks.items()
            if any(p.grad is not None for p in network.parameters())
        }
        recipe.optimizers[phase.network].zero_grad()
        found.append(
            (
                phase.network,
                changed,
                holding,
                [distributed.is_sharded(network) for network in recipe.networks.values()],
            )
        )
    return found


def is_sharded_with(fsdp_min_params: int) -> list[bool]:
    """Whether a network of 1,200 parameters and a block of 600 in it are split."""
    network = nn.Sequential(nn.Sequential(nn.Linear(20, 30, bias=False)), nn.Linear(30, 20, bias=False))
    distributed.shard(
        network,
        Execution(sharding="fsdp", fsdp_min_params=fsdp_min_params),
        torch.device("cpu"),
        distributed.current(),
    )
    return [distributed.is_sharded(network), distributed.is_sharded(network[0])]


def whole(recipe: Assembly) -> dict[str, dict[str, Tensor]]:
    return distributed.gather_state(recipe.networks, {}).networks


def pictures() -> Tensor:
    return torch.randn(12, 3, 5, 4, generator=torch.Generator().manual_seed(1)) * 3 + 2


def batch_norm_of(norm: nn.Module, x: Tensor, count: int) -> dict[str, Tensor]:
    """Output, input's gradient, a gradient through that gradient, the weights' gradients and the running
    statistics."""
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(2))  # type: ignore[arg-type]
    x = x.clone().requires_grad_(True)
    y = norm(x)
    (gradient,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((gradient**2).sum(), x, retain_graph=True)
    (y**3).mean().backward()
    distributed.average_gradients(list(norm.parameters()), distributed.current())
    found = {
        "y": y,
        "gradient": gradient,
        "second": second,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
    }
    return {name: value.detach() for name, value in found.items()} | {
        name: value.clone() for name, value in norm.named_buffers()
    }


def teacher_scores(job: Job, workers: Workers) -> dict[str, float]:
    assert job.evaluator is not None and job.teacher is not None
    scorer = EvaluatorScorer(job.data, job.evaluator, "val", torch.device("cpu"), workers)
    return scorer.generator(saved.load(job.teacher, scorer.split.info, torch.device("cpu")))


def stop(evaluation: dict[str, Any]) -> None:
    raise Stopped


@pytest.fixture(scope="module")
def alone(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingResult]:
    folder = tmp_path_factory.mktemp("alone")
    return {
        name: quiet(job, folder / name) for name, job in jobs_of(stages).items() if name in (*ALONE, "ratios")
    }


@pytest.fixture(scope="module")
def together(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """Number of workers -> what each rank found."""
    jobs, folder = (
        {name: job.model_dump_json() for name, job in jobs_of(stages).items()},
        tmp_path_factory.mktemp("together"),
    )
    for count in COUNTS:
        (folder / str(count)).mkdir()
    spawned(run_process, (folder, jobs), max(COUNTS))
    paths = {count: [folder / str(count) / f"rank-{rank}.pt" for rank in range(count)] for count in COUNTS}
    return {count: [torch.load(path, weights_only=False) for path in paths[count]] for count in COUNTS}


def weights(result: TrainingResult) -> dict[str, Tensor]:
    """Those of the finished network and, where there is one, of the energy network."""
    folder = Path(result.network.path)
    found = load_file(folder / "weights.safetensors")
    for path in folder.parent.glob("checkpoint-*/mi.energy.safetensors"):
        found |= {f"mi.energy.{name}": value for name, value in load_file(path).items()}
    return found


def determined(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the generator's biases in front of an instance norm: it cancels them, and Adam moves them
    by rounding noise."""
    last = (
        max(int(name.split(".")[0]) for name in given if name.split(".")[0].isdigit())
        if "1.bias" in given
        else None
    )
    cancelled = {
        name
        for name in given
        if last is not None and name.endswith("bias") and name[0].isdigit() and name != f"{last}.bias"
    }
    return {name: value for name, value in given.items() if name not in cancelled}


# ---- several workers equal one -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("recipe", ALONE)
def test_several_workers_give_the_weights_of_one(
    alone: dict, together: dict, recipe: str, count: int
) -> None:
    several, one = (determined(weights(result[recipe])) for result in (together[count][0], alone))
    assert (recipe == "distill") == any(name.startswith("mi.energy.") for name in one)
    torch.testing.assert_close(several, one, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("recipe", ALONE)
def test_several_workers_report_the_numbers_of_one(
    alone: dict, together: dict, recipe: str, count: int
) -> None:
    """Without the scores, which jump where a rounded pixel does: see the next test."""
    for several, one in zip(numbers(together[count][0][recipe]), numbers(alone[recipe]), strict=True):
        assert set(several) == set(one)
        names = [name for name in one if name not in (*RATIOS, UNDETERMINED) and not name.startswith("val/")]
        assert [several[name] for name in names] == pytest.approx(
            [one[name] for name in names], rel=RTOL, abs=ATOL
        )


@pytest.mark.parametrize("count", COUNTS)
def test_several_workers_score_a_network_as_one_does(stages: Stages, together: dict, count: int) -> None:
    one = teacher_scores(stages.student_job(), Workers(0, 1))
    for rank in together[count]:
        print(f"\n{count} workers: {rank['scores']}; one: {one}")
        assert rank["scores"] == pytest.approx(one, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", RATIOS)
def test_a_ratio_over_the_batch_is_that_of_the_global_batch(
    alone: dict, together: dict, name: str, count: int
) -> None:
    """Of the first step: after it, rounding may push an activation over the kink of its leaky ReLU."""
    several, one = (
        result.evaluations[0].numbers[name] for result in (together[count][0]["ratios"], alone["ratios"])
    )
    assert several == pytest.approx(one, rel=RTOL, abs=ATOL)


@pytest.mark.parametrize("count", COUNTS)
def test_every_worker_returns_the_same_result(together: dict, count: int) -> None:
    for recipe in ALONE:
        first, *others = (rank[recipe] for rank in together[count])
        assert all(numbers(other) == numbers(first) and other.network == first.network for other in others)


@pytest.mark.parametrize("count", COUNTS)
def test_the_workers_langevin_noise_is_the_slices_of_that_of_one(together: dict, count: int) -> None:
    everyone = noise.normal(noise.image_keys(0, "langevin", range(24, 36)), (3, 4, 4), 3)
    assert torch.equal(torch.cat([rank["noise"] for rank in together[count]], 1), everyone)


@pytest.mark.parametrize("how", ["distill", "distill_fsdp"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_checkpoint_of_two_workers_goes_on_with_one_and_with_three(
    stages: Stages, alone: dict, together: dict, tmp_path: Path, how: str, count: int
) -> None:
    assert all(rank[f"{how} stopped"] for rank in together[2])
    folder = Path(together[2][0]["distill"].network.path).parent.parent / f"{how}-stopped"
    found = max(folder.glob("checkpoint-*"))
    assert json.loads((found / "meta.json").read_text())["nimg"] == 24
    if count == 1:
        shutil.copytree(folder, tmp_path / "run")
    resumed = (
        quiet(jobs_of(stages)["distill"], tmp_path / "run")
        if count == 1
        else together[3][0][f"{how} resumed"]
    )
    assert numbers(resumed)[0] == numbers(together[2][0][how])[0]
    torch.testing.assert_close(
        determined(weights(resumed)), determined(weights(alone["distill"])), rtol=RTOL, atol=ATOL
    )


# ---- FSDP2 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["pix2pix", "distill"])
def test_fsdp_gives_the_weights_and_numbers_of_data_parallel(together: dict, recipe: str) -> None:
    fsdp, plain = (together[2][0][name] for name in (f"{recipe}_fsdp", recipe))
    torch.testing.assert_close(determined(weights(fsdp)), determined(weights(plain)), rtol=RTOL, atol=ATOL)
    for split, whole in zip(numbers(fsdp), numbers(plain), strict=True):
        names = [name for name in whole if name != UNDETERMINED and not name.startswith("val/")]
        assert [split[name] for name in names] == pytest.approx(
            [whole[name] for name in names], rel=RTOL, abs=ATOL
        )


def test_a_sharded_discriminator_is_stored_whole(alone: dict, together: dict) -> None:
    results = (together[2][0]["pix2pix_fsdp"], together[2][0]["pix2pix"], alone["pix2pix"])
    fsdp, *others = (
        load_file(Path(result.beside["discriminator"].path) / "weights.safetensors") for result in results
    )
    for other in others:
        torch.testing.assert_close(fsdp["0.weight"], other["0.weight"], rtol=RTOL, atol=ATOL)
        assert {name: value.shape for name, value in fsdp.items()} == {
            name: value.shape for name, value in other.items()
        }


def test_a_checkpoint_does_not_show_how_networks_were_shared(together: dict) -> None:
    folders = [Path(together[2][0][name].network.path).parent for name in ("distill", "distill_fsdp")]
    states = [
        torch.load(max(folder.glob("checkpoint-*")) / "optimizers.pt", weights_only=True)
        for folder in folders
    ]
    shapes = [
        {(n, i, k): v.shape for n, s in state.items() for i, m in s["state"].items() for k, v in m.items()}
        for state in states
    ]
    assert shapes[0] == shapes[1] and {
        type(v) for s in states[1].values() for m in s["state"].values() for v in m.values()
    } == {Tensor}


@pytest.mark.parametrize("how", ["distill", "distill_fsdp"])
def test_a_phase_moves_and_differentiates_its_own_network_alone_and_the_energy_is_never_split(
    together: dict, how: str
) -> None:
    for rank in together[2]:
        assert [phase[0] for phase in rank[f"{how} moved"]] == ["mi.energy", "generator"]
        for network, changed, holding, split in rank[f"{how} moved"]:
            assert changed == holding == {network} and split == [how.endswith("fsdp"), False]


def test_a_network_below_the_threshold_is_not_split_and_no_block_of_it(together: dict) -> None:
    assert [rank["split"] for rank in together[2]] == [
        {1: [True, True], 1000: [True, False], 10_000: [False, False]}
    ] * 2


# ---- batch norm over workers -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
def test_batch_norm_over_workers_is_that_of_the_global_batch(together: dict, count: int) -> None:
    one = batch_norm_of(nn.BatchNorm2d(3), pictures(), 1)
    ranks = [rank["norm"] for rank in together[count]]
    assert set(ranks[0]) == set(one)
    for name, expected in one.items():
        is_per_image = name in ("y", "gradient", "second")
        given = torch.cat([rank[name] for rank in ranks]) if is_per_image else ranks[-1][name]
        torch.testing.assert_close(
            given, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item(), msg=name
        )


# ---- refused -----------------------------------------------------------------------------------------------


def test_a_batch_that_does_not_divide_is_refused_on_every_worker(together: dict) -> None:
    expected = "training.batch_size: 13 is not divisible by 2 workers; use a multiple of 2"
    assert [rank["uneven"] for rank in together[2]] == [expected] * 2


def test_one_worker_may_use_batch_norm_and_any_batch_size(stages: Stages) -> None:
    assert (
        distributed.check(
            Workers(0, 1), stages.student_job(batch_size=13).training, {"generator": nn.BatchNorm2d(4)}
        )
        is None
    )


@pytest.mark.parametrize(
    "option", [{"execution__microbatch": 2}, {"execution__activation_checkpointing": True}]
)
def test_what_would_change_batch_statistics_is_refused(
    stages: Stages, trained: Callable[..., TrainingResult], option: dict
) -> None:
    (name,) = option
    with pytest.raises(
        ConfigError,
        match=rf"training.execution.{name[11:]}: with batch norm \(the network generator\) it would change",
    ):
        trained(stages.student_job(generator__norm="batch", **option))


def test_fsdp_without_workers_is_refused(stages: Stages, trained: Callable[..., TrainingResult]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"training\.execution\.sharding: fsdp splits networks over the workers of Ray Train; use "
        r"--exec",
    ):
        trained(stages.student_job(**FSDP))


@pytest.mark.parametrize("count", COUNTS)
def test_divergence_is_raised_on_every_worker(together: dict, count: int) -> None:
    """By the same words: the phase, and the first image of the minibatch of all."""
    what = "phase mi.energy: an energy is not finite or beyond 10,000 at image 12; lower "
    assert all(what in found["diverging"] for found in together[count])


# ---- the collectives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", COUNTS)
def test_rows_totals_and_means_are_over_all_workers_in_order(together: dict, count: int) -> None:
    for rank in together[count]:
        assert rank["rows"].flatten().tolist() == list(range(7))
        assert rank["equal rows"].tolist() == list(range(12))
        assert rank["total"].tolist() == [sum(range(count)), count]
        assert rank["numbers"] == {"a": (count - 1) / 2, "b": 2.0}


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_computed_once_is_the_main_workers_and_so_is_its_error(together: dict, count: int) -> None:
    assert [rank["once"] for rank in together[count]] == [(7, "refused by 0")] * count


@pytest.mark.parametrize("count", COUNTS)
def test_gradients_become_their_means_over_the_workers_and_an_absent_one_stays_absent(
    together: dict, count: int
) -> None:
    mean = (count - 1) / 2
    for rank in together[count]:
        first, absent, last = rank["gradients"]
        assert absent is None and first.tolist() == [1.0, mean] and last.tolist() == [[10 * mean] * 2]


@pytest.mark.parametrize(("total", "count"), [(12, 3), (7, 3), (1, 2), (0, 2)])
def test_the_slices_of_the_workers_cover_everything_in_order(total: int, count: int) -> None:
    parts = [range(total)[Workers(rank, count).slice(total)] for rank in range(count)]
    assert [item for part in parts for item in part] == list(range(total))


def test_without_a_process_group_there_is_one_worker() -> None:
    assert distributed.current() == Workers(0, 1) and distributed.current().is_main
