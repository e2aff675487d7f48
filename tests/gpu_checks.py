"""What needs a CUDA GPU and no Ray, as functions without pytest.

`test_gpu.py` runs them as tests, and `benchmarks/gpu.py` on a machine that has no pytest. Each takes a `Kit`,
raises AssertionError where it does not hold, and returns what it measured in one line. With a kit of the CPU
they run as well, and show nothing but that.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from raydistill import distributed
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.data import load_split, prepare, read_info
from raydistill.models import networks, saved
from raydistill.training import assembly, loop
from raydistill.training.loop import TrainingResult, train
from raydistill.training.recipes import Setup

WIDTHS = ("stem", "down", "trunk", "hidden", "up", "head")
TINY: dict[str, Any] = {
    **{"data.height": 16, "data.width": 16, "data.num_train": 24, "data.num_val": 8, "data.num_test": 2},
    **{"evaluator.network.width": 4, "evaluator.network.feature_width": 4},
    **{f"{stage}.generator.widths.{width}": 4 for stage in ("teacher", "student") for width in WIDTHS},
    **{f"{stage}.generator.num_blocks": 1 for stage in ("teacher", "student")},
    **{"teacher.discriminator.width": 4, "teacher.discriminator.num_layers": 1},
    **{f"{stage}.batch_size": 4 for stage in ("teacher", "student")},
    **{f"{stage}.budget_nimg": 32 for stage in ("teacher", "student")},
    **{f"{stage}.report_every_nimg": 16 for stage in ("teacher", "student")},
    **{"student.flip": True, "student.terms.mi.energy.channels": 2, "student.terms.mi.num_steps": 3},
    "student.terms.mi.step_size": 10.0,
}
"""Config path -> value: the preset `shapes32` with two reports of four steps each."""
FSDP = {"execution.sharding": "fsdp", "execution.fsdp_min_params": 1}
SLOW = {"ema_nimg": 0, "optimizer.learning_rate": 1e-4}
"""Steps so short that rounding stays rounding."""
SLOW_TEACHER = {**SLOW, "discriminator_optimizer.learning_rate": 1e-4}
JOBS: dict[str, tuple[str, dict[str, Any]]] = {
    "distill": ("student", SLOW),
    "pix2pix": ("teacher", SLOW_TEACHER),
    "batch norm": ("teacher", {**SLOW_TEACHER, "generator.norm": "batch", "discriminator.norm": "batch"}),
}
"""Name -> the stage that is trained, and config paths below it."""
TOLERANCE = 2e-3
"""||w - w'|| / ||w'||: cuDNN's convolutions may use TF32, of 10 bits, and add up in another order."""
BFLOAT16_TOLERANCE = 0.05


class Kit:
    """A tiny experiment whose evaluator and teacher have random weights, and the device of its trainings.

    What several checks compare with is trained once.
    """

    def __init__(self, folder: Path, device: str):
        """Prepares data and networks in `folder`. `device`: "cuda" or "cpu"."""
        self.folder, self.device = folder, device
        self.experiment = with_values(shapes32(), TINY, where="checks")
        self.student = untrained(self.experiment, folder)
        self.results: dict[str, TrainingResult] = {}

    def job(self, name: str, **values: Any) -> Job:
        """One of `JOBS`. `values`: further config paths below its stage, with `__` for the dot."""
        stage, paths = JOBS[name]
        paths = paths | {path.replace("__", "."): value for path, value in values.items()}
        given = {f"{stage}.{path}": value for path, value in paths.items()}
        training = getattr(with_values(self.experiment, given, where="check"), stage)
        teacher = self.student.teacher if stage == "student" else None
        return self.student.model_copy(update={"training": training, "teacher": teacher})

    def trained(self, name: str, how: str, **values: Any) -> TrainingResult:
        """The result of a job in the folder `how`, trained on the kit's device, once."""
        if (key := f"{name} {how}") not in self.results:
            self.results[key] = quiet(self.job(name, **values), self.folder / key.replace(" ", "-"))
        return self.results[key]


def untrained(experiment: Experiment, folder: Path) -> Job:
    """The student's job of an experiment; its data are prepared in `folder`, and its evaluator and teacher
    have random weights."""
    data = prepare(experiment.data, folder / "data")
    info, network, generator = read_info(data), experiment.evaluator.network, experiment.teacher.generator
    evaluator = saved.save(folder / "evaluator", "evaluator", networks.evaluator(network, info, 0), network)
    teacher = saved.save(folder / "teacher", "generator", networks.generator(generator, info, 1), generator)
    return Job(training=experiment.student, data=data, evaluator=evaluator, teacher=teacher)


def quiet(job: Job, folder: Path) -> TrainingResult:
    return train(job, report=lambda evaluation: None, state_dir=folder)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Trainings inside run on the CPU."""
    before = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        yield
    finally:
        torch.cuda.is_available = before


@contextlib.contextmanager
def one_worker(kit: Kit, name: str) -> Iterator[None]:
    """A process group of this process alone, as a TorchTrainer sets it up. `name`: new for each group."""
    backend = "gloo"
    if kit.device == "cuda":
        torch.cuda.set_device(0)
        backend = "cpu:gloo,cuda:nccl"
    file = kit.folder / f"init-{name.replace(' ', '-')}"
    dist.init_process_group(backend, init_method=f"file://{file}", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def apart(first: TrainingResult, second: TrainingResult) -> float:
    """||w - w'|| / ||w'|| of the finished networks' weights."""
    w, v = (load_file(Path(result.network.path) / "weights.safetensors") for result in (first, second))
    a, b = (
        torch.cat([value.flatten() for name, value in state.items() if name.endswith("weight")])
        for state in (w, v)
    )
    return float((a - b).norm() / b.norm())


def require_near(first: TrainingResult, second: TrainingResult, most: float = TOLERANCE) -> str:
    """Raises AssertionError where weights are further apart than `most`."""
    distance = apart(first, second)
    assert distance < most, f"weights are {distance:.1e} apart, at most {most:.0e} is allowed"
    return f"weights {distance:.1e} apart, at most {most:.0e}"


# ---- the checks --------------------------------------------------------------------------------------------


def the_gpu_gives_what_the_cpu_gives(kit: Kit, name: str) -> str:
    """A whole training, weights compared."""
    with on_cpu():
        on_the_cpu = kit.trained(name, "on the cpu")
    return require_near(kit.trained(name, "plain"), on_the_cpu)


def training_really_runs_on_the_gpu(kit: Kit) -> str:
    """It takes memory of the card."""
    if kit.device == "cpu":
        return "has no meaning on a CPU"
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    quiet(kit.job("distill"), kit.folder / "takes-memory")
    taken = torch.cuda.max_memory_allocated() - before
    assert taken > 0, "a training took no memory of the card"
    return f"it took {taken / 2**20:.1f} MiB of the card"


def a_run_that_was_stopped_on_the_gpu_goes_on_on_the_cpu(kit: Kit) -> str:
    """From its checkpoint, and ends as one that was never stopped."""

    class Stopped(Exception):
        pass

    def stop(evaluation: Any) -> None:
        raise Stopped

    job, folder = kit.job("distill"), kit.folder / "stopped"
    with contextlib.suppress(Stopped):
        train(job, report=stop, state_dir=folder)
        raise AssertionError("the training was not stopped at its first report")
    with on_cpu():
        resumed = quiet(job, folder)
    first = resumed.evaluations[0].nimg
    assert first == 16, f"its first report is that of {first} images, not of 16"
    return require_near(resumed, kit.trained("distill", "plain"))


def nccl_with_one_worker_gives_what_no_process_group_gives(kit: Kit, name: str) -> str:
    """Data parallel; and the sum over one worker is what it has."""
    with one_worker(kit, f"whole {name}"):
        probe = torch.arange(4.0, device=kit.device)
        dist.all_reduce(probe)
        assert probe.tolist() == [0, 1, 2, 3], f"the sum over one worker is {probe.tolist()}"
        grouped = kit.trained(name, "one worker")
    return require_near(grouped, kit.trained(name, "plain"))


def fsdp2_with_one_worker_gives_what_whole_networks_give(kit: Kit, name: str) -> str:
    """Every network but the energy is split, on the device."""
    options = {path.replace(".", "__"): value for path, value in FSDP.items()}
    with one_worker(kit, f"split {name}"):
        split = split_of(kit, kit.job(name, **options))
        sharded = kit.trained(name, "fsdp", **options)
    with one_worker(kit, f"not split {name}"):
        whole = split_of(kit, kit.job(name))
    assert {network: is_split for network, (is_split, _) in split.items()} == {
        network: not distributed.is_plain(network) for network in split
    }, f"split with FSDP2: {split}"
    assert not any(is_split for is_split, _ in whole.values()), f"split without FSDP2: {whole}"
    devices = {device for _, device in (*split.values(), *whole.values())}
    assert devices == {kit.device}, f"networks are on {devices}"
    return require_near(sharded, kit.trained(name, "plain"))


def split_of(kit: Kit, job: Job) -> dict[str, tuple[bool, str]]:
    """Network -> whether FSDP2 split it, and the device of its parameters."""
    setup = Setup(load_split(job.data, "train").info, torch.device(kit.device), distributed.current())
    recipe = assembly.build(job, setup)
    loop.apply_execution(recipe, job.training, setup)
    return {
        name: (distributed.is_sharded(network), next(network.parameters()).device.type)
        for name, network in recipe.networks.items()
    }


def bfloat16_stays_finite_and_close(kit: Kit, name: str) -> str:
    """Networks but the energy compute in bfloat16."""
    half = kit.trained(name, "bfloat16", precision="bfloat16")
    bad = [metric for metric, value in half.metrics.items() if not math.isfinite(value)]
    assert not bad, f"not finite: {', '.join(bad)}"
    assert apart(half, kit.trained(name, "plain")) > 0, "bfloat16 changed nothing"
    return require_near(half, kit.trained(name, "plain"), BFLOAT16_TOLERANCE)


def each_way_to_carry_out_a_training_gives_the_same(kit: Kit, option: str, value: Any) -> str:
    """`option` below `execution`."""
    other = kit.trained("distill", f"{option}", **{f"execution__{option}": value})
    return require_near(other, kit.trained("distill", "plain"))


Check = Callable[[Kit], str]


def _all_checks() -> dict[str, Check]:
    checks: dict[str, Check] = {
        function.__name__: function
        for function in (
            training_really_runs_on_the_gpu,
            a_run_that_was_stopped_on_the_gpu_goes_on_on_the_cpu,
        )
    }
    for function, names in (
        (the_gpu_gives_what_the_cpu_gives, ("distill", "pix2pix")),
        (nccl_with_one_worker_gives_what_no_process_group_gives, tuple(JOBS)),
        (fsdp2_with_one_worker_gives_what_whole_networks_give, ("distill", "pix2pix")),
        (bfloat16_stays_finite_and_close, ("distill", "pix2pix")),
    ):
        for name in names:
            checks[f"{function.__name__}[{name}]"] = partial(function, name=name)
    way = each_way_to_carry_out_a_training_gives_the_same
    for option, value in {"microbatch": 2, "activation_checkpointing": True, "compile": True}.items():
        checks[f"{way.__name__}[{option}]"] = partial(way, option=option, value=value)
    return checks


CHECKS = _all_checks()
"""Name -> a check. The one of `compile` comes last: it takes longest."""
