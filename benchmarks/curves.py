"""What early stopping saves, on RECORDED curves of real students.

    python benchmarks/curves.py --record FILE
    python benchmarks/curves.py --curves FILE

The students are random configurations of the space `default`, with the preset's step size, as many as
--students says. Each is trained on 1,536 images with an evaluation after each eighth; all other numbers of
images of the preset shrink in proportion. Seed 0, one thread. FILE gets one line for each student when it is
trained; the same command goes on where it stopped.

A simulated sweep proposes recorded students at random, none twice. What was recorded counts as true, so the
luck of one seed is part of the front. The columns are those of `stopping.py`.
"""

import argparse
import json
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from search import read
from search_problems import Point
from stopping import compared, report

from raydistill.config.configurations import extreme_configuration, values_of
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.space import Int, SearchSpace, load_space
from raydistill.data import DataInfo, prepare, read_info
from raydistill.models import cost, networks
from raydistill.planning.plan import NUM_STARTUP
from raydistill.records.pareto import hypervolume
from raydistill.search import Configuration, Problem, identity, random_configuration
from raydistill.search.simulate import Outcome
from raydistill.seeds import numpy_stream
from raydistill.trials.run_job import perform
from raydistill.trials.stages import train_stages

NIMG, EVALUATIONS = 1_536, 8
MARKS = (10, 20, 30)
SEARCHED = load_space("default")
SPACE = SearchSpace(
    preset=SEARCHED.preset,
    parameters={path: kind for path, kind in SEARCHED.parameters.items() if path not in SEARCHED.when},
    objectives=SEARCHED.objectives,
    uniform=SEARCHED.uniform,
)


def shortened() -> Experiment:
    """The preset, with students that are trained on `NIMG` images."""
    preset = shapes32()
    ema_nimg = preset.student.ema_nimg * NIMG / preset.student.budget_nimg
    values = {
        "student.budget_nimg": NIMG,
        "student.report_every_nimg": NIMG // EVALUATIONS,
        "student.ema_nimg": ema_nimg,
    }
    return with_values(preset, values, where="benchmark")


@cache
def _info() -> DataInfo:
    """Facts of the preset's data. Fewer pictures give the same sizes."""
    with tempfile.TemporaryDirectory() as folder:
        few = shapes32().data.model_copy(update={"num_train": 2, "num_val": 2, "num_test": 2})
        return read_info(prepare(few, Path(folder)))


@cache
def _macs(widths: tuple[tuple[str, Any], ...]) -> int:
    generator = with_values(shapes32(), dict(widths), where="benchmark").student.generator
    return cost.macs(networks.layers(generator, _info()))


def macs_of(configuration: Configuration) -> int:
    """Multiply-accumulates of a configuration, for one image."""
    return _macs(tuple(item for item in configuration.items() if ".widths." in item[0]))


def record(file: Path, count: int) -> None:
    """Trains the students that `file` lacks. `count`: how many there shall be."""
    torch.set_num_threads(1)
    experiment, folder = shortened(), file.with_suffix(".cache")
    data = prepare(experiment.data, folder / "data")
    stages = train_stages(experiment, data, folder, lambda numbers: None)
    done = {identity(line["configuration"]) for line in read(file)}
    rng, chosen = numpy_stream(0, "benchmark/curves"), dict[Any, Configuration]()
    while len(chosen) < count:
        configuration = random_configuration(SPACE, rng)
        chosen.setdefault(identity(configuration), configuration)
    for number, configuration in enumerate(chosen.values()):
        if identity(configuration) in done:
            continue
        training = with_values(experiment, values_of(SPACE, configuration), where="benchmark").student
        job = Job(training=training, data=data, evaluator=stages.evaluator, teacher=stages.teacher)
        started = time.process_time()
        result = perform(job, folder / "students" / job.key, lambda numbers: None)
        curve = [(evaluation.nimg, evaluation.numbers["val/miou"]) for evaluation in result.evaluations]
        line = {
            "number": number,
            "configuration": configuration,
            "macs": macs_of(configuration),
            "status": result.status,
            "curve": curve,
        }
        with file.open("a") as out:
            out.write(json.dumps(line | {"cpu_sec": round(time.process_time() - started, 1)}) + "\n")
        print(line, flush=True)


class Table:
    """The recorded students as a search problem, whose only parameter is the row."""

    def __init__(self, file: Path):
        self.lines = [line for line in read(file) if line["status"] == "COMPLETE"]
        self.points = np.array([self._values(line, line["curve"][-1][1]) for line in self.lines])
        self.space = SPACE.model_copy(update={"parameters": {"row": Int(low=0, high=len(self.lines) - 1)}})
        self.directions = [objective.direction for objective in SPACE.objectives]
        self.reference = [0.0, float(macs_of(extreme_configuration(SPACE, highest=True)))]
        self.best = hypervolume(self.points, self.directions, self.reference)

    @staticmethod
    def _values(line: dict[str, Any], miou: float) -> list[float]:
        return [miou, float(line["macs"])]

    def costs_of(self, configuration: Configuration) -> dict[str, float]:
        """What the search knows of a row before its training."""
        return {"cost/macs": self.lines[configuration["row"]]["macs"]}

    def regret(self, points: Point) -> float:
        """Share of the best hypervolume that is missing. `points`: (n, 2), mIoU and MACs."""
        return (self.best - hypervolume(points, self.directions, self.reference)) / self.best

    def outcome_of(self, configuration: Configuration, number: int) -> Outcome:
        """The recorded training of a row."""
        line = self.lines[configuration["row"]]
        *curve, end = [self._values(line, miou) for _, miou in line["curve"]]
        return Outcome(end, line["cpu_sec"], EVALUATIONS, list(enumerate(curve, start=1)))

    def cell(self, seed: int) -> dict[str, Any]:
        """Two simulated sweeps, with and without early stopping, each as long as it can be."""
        sweep = Problem(self.space, self.costs_of, seed, NUM_STARTUP, "random", len(self.lines))

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
    parser.add_argument("--students", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=100)
    given = parser.parse_args()
    if given.record:
        return record(given.record, given.students)
    table = Table(given.curves)
    report([table.cell(seed) for seed in range(given.seeds)], "recorded curves", MARKS)


if __name__ == "__main__":
    main()
