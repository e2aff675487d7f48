"""What the mutual-information term costs, as ratios: `python benchmarks/mi_term.py`. Interleaved repeats on one thread, medians.

chain: ten Langevin steps on plain normalised weights against frozen ones (the sampler's way), after a check that both give the same
negatives. step: one training step of a student with the term against one without, energy c = 8, batch 16.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch

from raydistill import networks, recipes
from raydistill.config import Job, MutualInformation, ShapesData, Stored
from raydistill.data import load_split, prepare, read_info
from raydistill.data.outputs import store_outputs
from raydistill.parallel import Workers, normal_stream
from raydistill.presets import shapes32
from raydistill.recipes import Bench
from raydistill.train import next_step, take_step
from raydistill.vem import draw_negatives

REPEATS = 30


def medians(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of each, run in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for run, kept in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            run()
            kept.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def chain(bench: Bench) -> tuple[float, float]:
    energy = networks.energy(MutualInformation().energy, bench.info, 0).eval()
    plain = networks.energy(MutualInformation().energy, bench.info, 0).eval()
    plain.frozen = nullcontext  # type: ignore[method-assign,assignment]
    s = torch.rand(16, 3, bench.info.height, bench.info.width) * 2 - 1

    def run(network: torch.nn.Module) -> torch.Tensor:
        normal = normal_stream(0, "langevin", 0, s)
        return draw_negatives(network, s, MutualInformation(), normal).samples  # type: ignore[arg-type]

    assert torch.equal(run(energy), run(plain))
    return medians(lambda: run(plain), lambda: run(energy))


def step(bench: Bench, data: Stored, folder: Path) -> tuple[float, float]:
    experiment, split = shapes32(), load_split(data, "train")
    judge = networks.save(folder / "judge", "judge", networks.judge(experiment.judge.network, bench.info, 0), experiment.judge.network)
    generator = networks.generator(experiment.teacher.generator, bench.info, 0)
    teacher = networks.save(folder / "teacher", "generator", generator, experiment.teacher.generator)
    store_outputs(folder / "teacher", teacher.digest, generator, split, False, bench.device)

    def one(weight: float) -> Callable[[], None]:
        training = experiment.student.model_copy(update={"mi": experiment.student.mi.model_copy(update={"weight": weight})})
        recipe = recipes.build(Job(training=training, data=data, judge=judge, teacher=teacher), bench)

        def run() -> None:
            take_step(recipe, next_step(split, training, 0, bench), training, bench.workers)

        return run

    return medians(one(0.1), one(0.0))


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(ShapesData(num_train=64, num_val=2, num_test=2), Path(folder))
        bench = Bench(read_info(data), torch.device("cpu"), Workers(0, 1))
        plain, frozen = chain(bench)
        with_term, without = step(bench, data, Path(folder))
    print("what                                         ms        ms     ratio")
    print(f"chain: plain weights / frozen weights  {plain * 1e3:8.1f}  {frozen * 1e3:8.1f}  {plain / frozen:8.2f}")
    print(f"step: with the term / without          {with_term * 1e3:8.1f}  {without * 1e3:8.1f}  {with_term / without:8.2f}")


if __name__ == "__main__":
    main()
