"""What a sweep will do, and every check that needs no training."""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from raydistill import plugins, search
from raydistill.config import space
from raydistill.config.architectures import Generator
from raydistill.config.base import Stored, digest
from raydistill.config.experiment import Experiment
from raydistill.config.paths import validated, with_checked, with_values
from raydistill.config.space import SearchSpace
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import DataInfo
from raydistill.models import cost, networks
from raydistill.planning import memory
from raydistill.records import tables
from raydistill.search.warm_start import NOTHING_KNOWN, WarmStart

TEACHER_WORKERS = 2
"""That share the evaluator's and the teacher's training."""
RECHECK_WORKERS = 2
"""One front member of every sweep is trained again by so many workers."""
_NUM_STUDENTS = 64
"""That stand for what may be proposed."""
NUM_STARTUP = 5
"""So many first proposals are stratified over the cost; the same for any number of trials, so that a
resume may ask for more.
"""


@dataclass(frozen=True)
class Plan:
    """Everything that is checked before any cost."""

    options: SweepOptions
    store: Path
    space: SearchSpace
    experiment: Experiment
    data: Stored
    info: DataInfo
    warm_start: WarmStart = NOTHING_KNOWN
    """What a new sweep copies; one that goes on has its copy."""

    @property
    def definition(self) -> str:
        """What makes two sweeps the same; the number of trials may grow on resume."""
        options, named = self.options, {name: plugin["digest"] for name, plugin in plugins.recorded().items()}
        parts = [
            self.space,
            self.experiment,
            self.data.digest,
            options.seed,
            options.sampler,
            options.early_stopping,
        ]
        return digest(
            [*parts, *([named] if named else []), *([options.warm_start] if options.warm_start else [])]
        )

    @cached_property
    def problem(self) -> search.Problem:
        options = self.options
        return search.Problem(
            self.space,
            self.costs_of_configuration,
            options.seed,
            NUM_STARTUP,
            options.sampler,
            options.trials,
        )

    def costs_of_configuration(self, configuration: search.Configuration) -> dict[str, float]:
        if self._asks_for_memory:
            return self.costs_of(self.student_of(configuration))
        prefix = "student.generator."
        values = space.values_of(self.space, configuration).items()
        ours = {path.removeprefix(prefix): value for path, value in values if path.startswith(prefix)}
        return self._counts_of(with_checked(self.experiment.student.generator, ours))

    def student_of(self, configuration: search.Configuration) -> DistillTraining:
        values = {
            path.removeprefix("student."): value
            for path, value in space.values_of(self.space, configuration).items()
        }
        if "mi.kind" in values:  # replaces a whole section
            return with_values(self.experiment.student, values, where="search")
        return with_checked(self.experiment.student, values)

    @cached_property
    def students(self) -> list[tuple[DistillTraining, float]]:
        """Feasible students from all of the cost axis, with their MACs."""
        configurations = list(itertools.islice(search.feasible_configurations(self.problem), _NUM_STUDENTS))
        return [
            (self.student_of(configuration), self.costs_of_configuration(configuration)["cost/macs"])
            for configuration in configurations
        ]

    def costs_of(self, training: DistillTraining | GeneratorTraining) -> dict[str, float]:
        """The costs of the student that a training gives; its memory only where the space asks for that."""
        counts = self._counts_of(training.generator)
        return (
            counts | {"cost/memory_gb": self.memory_of(training) / 2**30} if self._asks_for_memory else counts
        )

    def _counts_of(self, generator: Generator) -> dict[str, float]:
        layers = networks.layers(generator, self.info)
        return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)}

    @cached_property
    def _asks_for_memory(self) -> bool:
        named = [window.cost for window in self.space.constraints] + [
            objective.name for objective in self.space.objectives
        ]
        return "cost/memory_gb" in named

    @cached_property
    def _memory_setup(self) -> memory.MemorySetup:
        return memory.MemorySetup(
            self.experiment.evaluator.network,
            self.info,
            self.experiment.teacher.generator,
            self.options.workers_per_trial,
        )

    @cached_property
    def _predict(self) -> memory.Predictor:
        return memory.Predictor(self._memory_setup)

    def memory_of(self, training: DistillTraining | GeneratorTraining) -> int:
        """Predicted bytes of one worker on its GPU.

        Where it has none, too: a cost is the same wherever a sweep goes on.
        """
        if isinstance(training, DistillTraining) and self._asks_for_memory:
            return self._predict(training)
        return memory.training_bytes(training, self._memory_setup)

    def uniform_generator(self, ngf: int) -> Generator:
        generator = self.experiment.student.generator
        widths = validated(type(generator.widths), generator.widths.values_at(ngf), where=f"uniform {ngf}")
        return generator.model_copy(update={"widths": widths})

    def uniform(self, ngf: int) -> DistillTraining:
        """A student of uniform widths, by plain distillation."""
        student = self.experiment.student
        plain = student.mi.model_copy(update={"weight": 0.0})
        return student.model_copy(update={"mi": plain, "generator": self.uniform_generator(ngf)})

    @cached_property
    def excluded_baselines(self) -> list[int]:
        """Uniform baselines outside the cost windows: they are not trained."""
        return [
            ngf
            for ngf in self.space.uniform
            if not space.is_affordable(self.space, self.costs_of(self.uniform(ngf)))
        ]

    @cached_property
    def baselines(self) -> list[tuple[str, str, DistillTraining | GeneratorTraining]]:
        """(role, label, training): uniform widths by plain distillation, and the narrowest of
        them without a teacher.
        """
        widths = [ngf for ngf in self.space.uniform if ngf not in self.excluded_baselines]
        out: list[tuple[str, str, DistillTraining | GeneratorTraining]] = [
            ("uniform", f"uniform {ngf}", self.uniform(ngf)) for ngf in widths
        ]
        names = (
            "batch_size",
            "budget_nimg",
            "report_every_nimg",
            "ema_nimg",
            "flip",
            "precision",
            "execution",
        )
        shared: dict[str, Any] = {name: getattr(self.experiment.student, name) for name in names} | {
            "start": None
        }
        for ngf in sorted(widths)[:1]:
            alone = self.experiment.teacher.model_copy(
                update={"generator": self.uniform_generator(ngf), **shared}
            )
            if space.is_affordable(
                self.space, self.costs_of(alone)
            ):  # its discriminator may need more memory than the uniform student
                out.append(("no_teacher", f"no teacher {ngf}", alone))
        return out

    @cached_property
    def trial_bytes(self) -> int:
        """Predicted memory of one worker, on its GPU, of the trial that needs most of it."""
        most_expensive = space.values_of(self.space, space.extreme_configuration(self.space, highest=True))
        ends = [window.high * 2**30 for window in self.space.constraints if window.cost == "cost/memory_gb"]
        searched = min(
            self.memory_of(with_values(self.experiment, most_expensive, where="search").student),
            *ends,
            math.inf,
        )
        uniform = [training for role, _, training in self.baselines if role == "uniform"]
        widest = sorted(uniform, key=lambda training: self.costs_of(training)["cost/params"])[-1:]
        alone = [training for role, _, training in self.baselines if role != "uniform"]
        return max(int(searched), *map(self.memory_of, [*widest, *alone]), 0)

    def worker_bytes(self, gpus: float) -> int:
        """`trial_bytes` where each worker has so many GPUs; on a CPU its whole process counts
        instead of a CUDA context.
        """
        return self.trial_bytes + (0 if gpus else memory.PROCESS_BYTES - memory.CONTEXT_BYTES)

    @cached_property
    def reference(self) -> list[float]:
        """One number per objective, known before the sweep."""
        most_expensive = self.costs_of_configuration(space.extreme_configuration(self.space, highest=True))
        return [
            float(most_expensive[o.name]) if o.reference is None else o.reference
            for o in self.space.objectives
        ]

    @property
    def objectives(self) -> list[tables.NamedDirection]:
        return [(objective.name, objective.direction) for objective in self.space.objectives]
