"""What early stopping saves, on RECORDED curves of real students.

    python benchmarks/curves.py --record FILE [--space NAME --data FOLDER]
    python benchmarks/curves.py --curves FILE [--space NAME]

The students are random configurations of a space, with the preset's step size, as many as
--students says. Each is trained on 1,536 images with an evaluation after each eighth; all other numbers of
images of the preset shrink in proportion. Seed 0, one thread. FILE gets one line for each student when it is
trained; the same command goes on where it stopped.

A simulated sweep proposes recorded students at random, none twice. What was recorded counts as true, so the
luck of one seed is part of the front. The first table has the processor time and the hypervolume of a sweep
with early stopping as shares of those of one without, and the time of an oracle that knows every end: it
stops at the first evaluation whatever is no member of the front, or all but the fewest students that have .99
of the hypervolume. The columns of the second are those of `stopping.py`.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from search import NUM_WORKERS, read
from search_problems import Point
from stopping import compared, report

from raydistill.config.configurations import values_of
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS
from raydistill.config.space import Int, SearchSpace, load_space
from raydistill.data import DataInfo, prepare, read_info
from raydistill.models import cost, networks
from raydistill.planning.plan import NUM_STARTUP
from raydistill.records.pareto import hypervolume, members
from raydistill.search import Configuration, EarlyStopping, Problem, identity, random_configuration
from raydistill.search.simulate import Outcome, simulate
from raydistill.seeds import numpy_stream
from raydistill.training import recipes
from raydistill.trials.run_job import perform
from raydistill.trials.stages import train_stages

NIMG, EVALUATIONS = 1_536, 8
MARKS = (10, 20, 30)


class Searched(NamedTuple):
    """What the recorded students are drawn from."""

    space: SearchSpace
    """Without the parameters that are not always active."""
    data: str | None
    """Folder of the pictures; None where the preset draws them."""

    @property
    def quality(self) -> str:
        """The objective that is measured; the other one is the MACs."""
        return self.space.objectives[0].name

    def experiment(self) -> Experiment:
        """The preset, with students that are trained on `NIMG` images."""
        preset = PRESETS[self.space.preset]()
        values = {
            "student.budget_nimg": NIMG,
            "student.report_every_nimg": NIMG // EVALUATIONS,
            "student.ema_nimg": preset.student.ema_nimg * NIMG / preset.student.budget_nimg,
        }
        return with_values(
            preset, values | ({"data.root": self.data} if self.data else {}), where="benchmark"
        )

    def macs(self, configuration: Configuration, info: DataInfo) -> int:
        """Multiply-accumulates of a configuration, for one image."""
        widths = {path: value for path, value in configuration.items() if ".widths." in path}
        generator = with_values(self.experiment(), widths, where="benchmark").student.generator
        return cost.macs(networks.layers(generator, info))


def searched(name: str, data: str | None) -> Searched:
    """The search space of that name."""
    space = load_space(name)
    always = {path: kind for path, kind in space.parameters.items() if path not in space.when}
    lasting = SearchSpace(
        preset=space.preset, parameters=always, objectives=space.objectives, uniform=space.uniform
    )
    return Searched(lasting, data)


def record(file: Path, of: Searched, count: int) -> None:
    """Trains the students that `file` lacks. `count`: how many there shall be."""
    torch.set_num_threads(1)
    experiment, folder = of.experiment(), file.with_suffix(".cache")
    data = prepare(experiment.data, folder / "data", **recipes.data_needs(experiment.teacher))
    info = read_info(data)
    stages = train_stages(experiment, data, folder, lambda numbers: None)
    done = {identity(line["configuration"]) for line in read(file)}
    rng, chosen = numpy_stream(0, "benchmark/curves"), dict[Any, Configuration]()
    while len(chosen) < count:
        configuration = random_configuration(of.space, rng)
        chosen.setdefault(identity(configuration), configuration)
    for number, configuration in enumerate(chosen.values()):
        if identity(configuration) in done:
            continue
        training = with_values(experiment, values_of(of.space, configuration), where="benchmark").student
        job = Job(training=training, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
        started = time.process_time()
        result = perform(job, folder / "students" / job.key, lambda numbers: None)
        curve = [(evaluation.nimg, evaluation.numbers[of.quality]) for evaluation in result.evaluations]
        line = {
            "number": number,
            "configuration": configuration,
            "macs": of.macs(configuration, info),
            "status": result.status,
            "curve": curve,
        }
        with file.open("a") as out:
            out.write(json.dumps(line | {"cpu_sec": round(time.process_time() - started, 1)}) + "\n")
        print(line, flush=True)


class Table:
    """The recorded students as a search problem, whose only parameter is the row."""

    def __init__(self, file: Path, of: Searched):
        self.lines = [line for line in read(file) if line["status"] == "COMPLETE"]
        self.points = np.array([self._values(line, line["curve"][-1][1]) for line in self.lines])
        self.space = of.space.model_copy(update={"parameters": {"row": Int(low=0, high=len(self.lines) - 1)}})
        self.directions = [objective.direction for objective in of.space.objectives]
        worst = of.space.objectives[0].reference
        assert worst is not None
        self.reference = [worst, float(max(line["macs"] for line in self.lines))]
        self.best = hypervolume(self.points, self.directions, self.reference)

    @staticmethod
    def _values(line: dict[str, Any], quality: float) -> list[float]:
        return [quality, float(line["macs"])]

    def costs_of(self, configuration: Configuration) -> dict[str, float]:
        """What the search knows of a row before its training."""
        return {"cost/macs": self.lines[configuration["row"]]["macs"]}

    def regret(self, points: Point) -> float:
        """Share of the best hypervolume that is missing. `points`: (n, 2), quality and MACs."""
        return (self.best - hypervolume(points, self.directions, self.reference)) / self.best

    def outcome_of(self, configuration: Configuration, number: int) -> Outcome:
        """The recorded training of a row."""
        line = self.lines[configuration["row"]]
        *curve, end = [self._values(line, quality) for _, quality in line["curve"]]
        return Outcome(end, line["cpu_sec"], EVALUATIONS, list(enumerate(curve, start=1)))

    def saved(self, kept: NDArray[np.bool_]) -> float:
        """Share of the processor time that is saved where all others stop at their first evaluation."""
        seconds = np.array([line["cpu_sec"] for line in self.lines])
        return float(seconds[~kept].sum() * (1 - 1 / EVALUATIONS) / seconds.sum())

    def oracle(self, share: float) -> float:
        """`saved` with the fewest members of the front, found one by one, that have this share of the best
        hypervolume."""
        kept = members(self.points, self.directions)
        while True:
            left = [np.where(np.arange(len(kept)) == index, False, kept) for index in np.flatnonzero(kept)]
            regrets = [self.regret(self.points[each]) for each in left]
            if not regrets or min(regrets) > 1 - share:
                return self.saved(kept)
            kept = left[int(np.argmin(regrets))]

    def sweep(self, seed: int) -> Problem:
        """A sweep over all rows, in a random order."""
        return Problem(self.space, self.costs_of, seed, NUM_STARTUP, "random", len(self.lines))

    def stopped(self, seed: int) -> tuple[float, float]:
        """Processor time and hypervolume with early stopping, as shares of those of a sweep without."""
        sweep = self.sweep(seed)
        trials = simulate(
            sweep,
            self.outcome_of,
            num_trials=len(self.lines),
            num_workers=NUM_WORKERS,
            should_stop=EarlyStopping(sweep),
        )
        took = sum(trial.steps / trial.outcome.steps * trial.outcome.wall_sec for trial in trials)
        whole = [trial.configuration["row"] for trial in trials if trial.status == "COMPLETE"]
        return took / sum(trial.outcome.wall_sec for trial in trials), 1 - self.regret(self.points[whole])

    def print_saved(self, name: str, seeds: int) -> None:
        """Prints the first table."""
        time_share, volume = np.array([self.stopped(seed) for seed in range(seeds)]).T
        print(
            "| curves | students | seeds | time | hypervolume: mean, least, below .99 | oracle: front, .99 |"
        )
        print("|---|---|---|---|---|---|")
        kept = f"{volume.mean():.4f}, {volume.min():.4f}, {(volume < 0.99).sum()}"
        oracle = ", ".join(f"{1 - self.oracle(share):.2f}" for share in (1, 0.99))
        print(f"| {name} | {len(self.lines)} | {seeds} | {time_share.mean():.2f} | {kept} | {oracle} |")

    def cell(self, seed: int) -> dict[str, Any]:
        """Two simulated sweeps, with and without early stopping, each as long as it can be."""
        sweep = self.sweep(seed)

        def true(configuration: Configuration) -> Point:
            return self.points[configuration["row"]]

        numbers = compared(sweep, sweep, self.outcome_of, true, self.regret, MARKS)
        return {"problem": f"{len(self.lines)} students", "sampler": "random", "seed": seed} | numbers


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", type=Path, metavar="FILE", help="train the students that it lacks")
    what.add_argument(
        "--curves", type=Path, metavar="FILE", help="simulate sweeps over what was recorded there"
    )
    parser.add_argument("--space", default="default", help="of two objectives, a quality and the MACs")
    parser.add_argument("--data", help="folder of the pictures, for spaces that do not draw their own")
    parser.add_argument("--students", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    of = searched(given.space, given.data)
    if given.record:
        return record(given.record, of, given.students)
    table = Table(given.curves, of)
    table.print_saved(given.space, given.seeds)
    report([table.cell(seed) for seed in range(given.seeds)], f"recorded curves of {given.space}", MARKS)


if __name__ == "__main__":
    main()
