"""What a sweep will do: its search space, experiment and data, and the costs and memory of its trainings."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydistill import plugins, search
from raydistill.config import configurations, space
from raydistill.config.architectures import Generator
from raydistill.config.base import Stored, digest
from raydistill.config.experiment import Experiment
from raydistill.config.paths import validated, with_unchecked_values, with_values
from raydistill.config.scoring import Scoring
from raydistill.config.space import SearchSpace
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining, GeneratorTraining, StudentTraining
from raydistill.data import DataInfo
from raydistill.data.outputs import outputs_bytes
from raydistill.data.tensors import num_bytes
from raydistill.models import cost, networks
from raydistill.models.inputs import latent_size, repeats
from raydistill.planning import memory, refusals
from raydistill.planning.costs import counts_of_each
from raydistill.planning.recorded import Records, records_of
from raydistill.records import tables
from raydistill.records.trials import Role
from raydistill.search.warm_start import NO_WARM_START, WarmStart
from raydistill.training import recording
from raydistill.training.minibatches import lie_on_device

TEACHER_WORKERS = 2
"""Workers that share the evaluator's and the teacher's training, where no option says how many."""
RECHECK_WORKERS = 2
"""Workers of the recheck: one member of every sweep's Pareto front is trained again by so many."""
_NUM_STUDENTS = 64
"""Students that stand for everything that may be proposed."""
NUM_STARTUP = 5
"""How many first proposals are stratified over the cost; however many trials there are, so that a resume may
ask for more of them."""


_SHARED_OPTIONS = (
    "batch_size",
    "budget_nimg",
    "report_every_nimg",
    "ema_nimg",
    "flip",
    "precision",
    "execution",
)
"""Options that the baseline without a teacher has from the student."""


def stage_workers(options: SweepOptions, experiment: Experiment) -> int:
    """Workers of evaluator and teacher: --teacher-workers, or two; one where a batch is a single image."""
    if options.teacher_workers is not None:
        return options.teacher_workers
    stages = [experiment.evaluator, experiment.teacher]
    stages += [experiment.features] if experiment.trains_features else []
    return 1 if any(each.batch_size == 1 for each in stages) else TEACHER_WORKERS


def recheck_workers(options: SweepOptions, experiment: Experiment) -> int:
    """Workers of the recheck: two, or one where a student's batch is a single image or it is skipped."""
    if options.skip_recheck:
        return 1
    return 1 if experiment.student.batch_size == 1 else RECHECK_WORKERS


@dataclass(frozen=True)
class Plan:
    """A sweep whose options, space, experiment and data have passed all checks (see `checks.check`)."""

    options: SweepOptions
    store: Path
    """Folder of all sweeps and of the cache."""
    space: SearchSpace
    experiment: Experiment
    """Configs of evaluator, teacher and student; the student's parameters are searched from here."""
    data: Stored
    """The prepared data."""
    info: DataInfo
    """What the data are."""
    scoring: Scoring | None = None
    """What scores trials beside the evaluator."""
    warm_start: WarmStart = NO_WARM_START
    """Prior observations, which a new sweep copies; a resume has its own copy, and none here."""

    @property
    def definition(self) -> str:
        """Digest of everything that must be equal for a resume.

        The number of trials need not: it may grow.
        """
        options = self.options
        parts: list[Any] = [self.space, self.experiment, self.data.digest]
        parts += [options.seed, options.sampler, options.early_stopping]
        if plugin_digests := {name: plugin["digest"] for name, plugin in plugins.sweep_record().items()}:
            parts.append(plugin_digests)
        if options.warm_start:
            parts.append(options.warm_start)
        if self.scoring is not None:
            parts.append({"scoring": self.scoring})
        return digest(parts)

    @property
    def lengths(self) -> dict[str, int]:
        """Name -> images that a student may be trained on again, see `config.lengths`; empty: the space has
        no lengths."""
        named = self.space.lengths
        if named is None or named.student is None:
            return {}
        return {"full": named.values(self.info.num_train_pictures, "full")["student.budget_nimg"]}

    @cached_property
    def problem(self) -> search.Problem:
        """What the sampler needs to know about the sweep."""
        options = self.options
        return search.Problem(
            *(self.space, self.costs_of_configuration, options.seed, NUM_STARTUP),
            *(options.sampler, options.trials),
            is_refused=lambda configuration: self.refusals.of(configuration) is not None,
            refuses_some=self.refusals.some,
            costs_of_many=None if self._asks_for_memory else self.costs_of_configurations,
        )

    @cached_property
    def refusals(self) -> refusals.Refusals:
        """Which configurations the config, the teacher or the data refuse."""
        return refusals.Refusals(self.space, self.experiment, self.info)

    def costs_of_configuration(self, configuration: search.Configuration) -> dict[str, float]:
        """The costs of a configuration by name, known before training; see `bounded_costs_of`."""
        if self._asks_for_memory:
            return self.bounded_costs_of(self.student_of(configuration))
        own = self._generator_values(configuration)
        generator = with_unchecked_values(self.experiment.student.generator, own)
        return self._counts_of(generator) | self._other_counts_of(generator)

    def costs_of_configurations(
        self, given: Sequence[search.Configuration]
    ) -> dict[str, NDArray[np.float64]]:
        """`costs_of_configuration` of each, by name, (n,), without a memory: thousands at a time."""
        changes = [self._generator_values(configuration) for configuration in given]
        return counts_of_each(
            self.experiment.student.generator,
            changes,
            lambda generator: self._counts_of(generator) | self._other_counts_of(generator),
        )

    def _generator_values(self, configuration: search.Configuration) -> dict[str, Any]:
        """Path below the generator -> value that a configuration gives it."""
        prefix = "student.generator."
        values = configurations.values_of(self.space, configuration).items()
        return {path.removeprefix(prefix): value for path, value in values if path.startswith(prefix)}

    def student_of(self, configuration: search.Configuration) -> DistillTraining:
        """The student's training with the values of a configuration."""
        paths = configurations.values_of(self.space, configuration)
        values = {path.removeprefix("student."): value for path, value in paths.items()}
        if any(
            path.endswith(".kind") for path in values
        ):  # it replaces a whole section, which is then validated
            return self.experiment.resolved(with_values(self.experiment.student, values, where="search"))
        return self.experiment.resolved(with_unchecked_values(self.experiment.student, values))

    @cached_property
    def students(self) -> list[tuple[DistillTraining, float]]:
        """Feasible students from the whole range of costs, each with its MACs."""
        students = []
        for configuration in itertools.islice(search.feasible_configurations(self.problem), _NUM_STUDENTS):
            macs = self.costs_of_configuration(configuration)["cost/macs"]
            students.append((self.student_of(configuration), macs))
        return students

    def costs_of(self, training: DistillTraining | GeneratorTraining) -> dict[str, float]:
        """The costs of the generator that a training gives: `cost/macs` of one picture, and `cost/params`.

        Where the search space asks for memory, `cost/memory_gb` too: the training's predicted
        memory on a GPU, in GiB.
        """
        counts = self._counts_of(training.generator)
        if self._asks_for_memory:
            counts["cost/memory_gb"] = self.memory_of(training) / 2**30
        return counts

    def _counts_of(self, generator: Generator) -> dict[str, float]:
        layers = networks.layers(generator, self.info)
        return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)}

    def bounded_costs_of(self, training: DistillTraining | GeneratorTraining) -> dict[str, float]:
        """`costs_of`, and the MACs by each other convention that a window has, by the window's name."""
        return self.costs_of(training) | self._other_counts_of(training.generator)

    def _other_counts_of(self, generator: Generator) -> dict[str, float]:
        """Name of each window on MACs by another convention -> the generator's count."""
        windows = [window for window in self.space.constraints if window.convention != "true"]
        if not windows:
            return {}
        layers = networks.layers(generator, self.info)
        return {window.name: cost.macs(layers, window.convention) for window in windows}

    @cached_property
    def _asks_for_memory(self) -> bool:
        """Whether memory is an objective or has a window."""
        costs = [window.cost for window in self.space.constraints]
        costs += [objective.name for objective in self.space.objectives]
        return "cost/memory_gb" in costs

    @cached_property
    def _memory_setup(self) -> memory.MemorySetup:
        return memory.MemorySetup(
            evaluator=self.experiment.evaluator.network,
            info=self.info,
            teacher=self.experiment.teacher.generator,
            num_workers=self.options.workers_per_trial,
            scoring=self.scoring,
            features=None if self.experiment.given_features else self.experiment.features.network,
            outputs_fit=self.outputs_bytes > 0,
        )

    @cached_property
    def _predict(self) -> memory.Predictor:
        return memory.Predictor(self._memory_setup)

    def memory_of(self, training: DistillTraining | GeneratorTraining) -> int:
        """Predicted bytes of one worker on its GPU.

        They are those of a GPU where it has none, too: a cost is the same wherever a sweep is resumed.
        """
        if isinstance(training, DistillTraining) and self._asks_for_memory:
            return self._predict(training)
        return memory.training_bytes(training, self._memory_setup)

    def uniform_generator(self, ngf: int | str) -> Generator:
        """The student's generator with the uniform width `ngf`, or with the widths of that name."""
        generator = self.experiment.student.generator
        values = space.uniform_values(self.space, generator.widths, ngf)
        widths = validated(type(generator.widths), values, where=f"uniform {ngf}")
        return generator.model_copy(update={"widths": widths})

    def uniform(self, ngf: int | str) -> DistillTraining:
        """The training of a student with the uniform width `ngf`, or with the widths of that name, by the
        base distillation: without terms, unless there is no base."""
        student = self.experiment.student
        student = student.without_terms() if student.base.learns else student
        return student.model_copy(update={"generator": self.uniform_generator(ngf)})

    @property
    def sharing(self) -> tuple[int, int]:
        """Workers of evaluator and teacher, and of the recheck."""
        return stage_workers(self.options, self.experiment), recheck_workers(self.options, self.experiment)

    @cached_property
    def excluded_baselines(self) -> list[int | str]:
        """The widths of uniform baselines outside the cost windows: they are not trained."""
        costs = {ngf: self.bounded_costs_of(self.uniform(ngf)) for ngf in space.uniform_names(self.space)}
        return [ngf for ngf, each in costs.items() if not space.is_affordable(self.space, each)]

    @cached_property
    def baselines(self) -> list[tuple[Role, str, DistillTraining | GeneratorTraining]]:
        """(role, label, training) of the baselines.

        They are students of uniform widths by plain distillation, and the narrowest of
        them without a teacher.
        """
        widths = [ngf for ngf in space.uniform_names(self.space) if ngf not in self.excluded_baselines]
        trainings: list[tuple[Role, str, DistillTraining | GeneratorTraining]] = []
        trainings += [("uniform", f"uniform {ngf}", self.uniform(ngf)) for ngf in widths]
        for ngf in sorted(widths, key=lambda ngf: self.costs_of(self.uniform(ngf))["cost/params"])[:1]:
            update: dict[str, Any] = {"generator": self.uniform_generator(ngf), "start": None}
            update |= {name: getattr(self.experiment.student, name) for name in _SHARED_OPTIONS}
            alone = self.experiment.teacher.model_copy(update=update)
            # Its discriminator may need more memory than the uniform student.
            if space.is_affordable(self.space, self.bounded_costs_of(alone)):
                trainings.append(("no_teacher", f"no teacher {ngf}", alone))
        return trainings

    def extreme_students(self, *, highest: bool) -> list[DistillTraining]:
        """The student at one end of every range, by each kind of base and each of the settings searched."""
        extreme = configurations.extreme_configuration(self.space, highest)
        kind = "student.base.kind"
        if isinstance(kinds := self.space.parameters.get(kind), space.Choice):
            extreme = {path: value for path, value in extreme.items() if not path.startswith("student.base.")}
            extremes = [extreme | {kind: key} for key in kinds.options]
        else:
            extremes = [extreme]
        for path, settings in space.settings_in(self.space).items():
            extremes = [each | {path: key} for each in extremes for key in settings.options]
        return [self.student_of(each) for each in extremes]

    @cached_property
    def trial_bytes(self) -> int:
        """Predicted memory in bytes of one worker, on its GPU, in the trial that needs most of it."""
        limits = [window.high * 2**30 for window in self.space.constraints if window.cost == "cost/memory_gb"]
        searched = min(max(map(self.memory_of, self.extreme_students(highest=True))), *limits, math.inf)
        uniform = [training for role, _, training in self.baselines if role == "uniform"]
        widest = sorted(uniform, key=lambda training: self.costs_of(training)["cost/params"])[-1:]
        alone = [training for role, _, training in self.baselines if role != "uniform"]
        return max(int(searched), *map(self.memory_of, [*widest, *alone]), 0)

    @cached_property
    def records(self) -> Records:
        """What is recorded of teachers that train beside students."""
        trainings = [training for training, _ in self.students]
        trainings += [each for _, _, each in self.baselines if isinstance(each, DistillTraining)]
        given = self.experiment.student.execution.record_teachers_gb
        limit_gb = self.options.teacher_cache_gb if given is None else given
        return records_of(trainings, self.data.digest, self.info, self.options.workers_per_trial, limit_gb)

    def with_record_limit(self, training: StudentTraining) -> StudentTraining:
        """A student's training that knows whether its teachers are recorded, where it has its own."""
        if not isinstance(training, DistillTraining) or recording.kind_of(training) is None:
            return training
        limit = self.records.limit_gb if self.records.are_made else 0.0
        execution = training.execution.model_copy(update={"record_teachers_gb": limit})
        return training.model_copy(update={"execution": execution})

    def may_read(self, training: StudentTraining) -> bool:
        """Whether a trial reads a record of its teachers where one is there."""
        if not isinstance(training, DistillTraining) or recording.kind_of(training) is None:
            return False
        return self.records.are_made and recording.can_read(training)

    def worker_bytes(self, gpus: float, gpu_bytes: int = 0) -> int:
        """`trial_bytes` of a worker that has `gpus` GPUs; 0: on a CPU.

        On a CPU, its whole process counts in place of a CUDA context. On a GPU of `gpu_bytes`, the pictures
        count that lie there, and a record of teachers that train beside students. A trial that reads one has
        no such teachers in memory, which is not taken off: the first trials have them.
        """
        if not gpus:
            return memory.in_process(self.trial_bytes)
        pictures, held = self.picture_bytes, 0
        share = self.records.largest // self.options.workers_per_trial if self.records.are_made else 0
        for needed in (pictures, pictures + share):
            held = needed if lie_on_device(needed, gpu_bytes, self.experiment.student) else held
        return self.trial_bytes + held

    def teacher_bytes(self, gpus: float, gpu_bytes: int = 0) -> int | None:
        """The same as `worker_bytes` of a worker that trains the teacher; None: the teacher is given."""
        teacher = self.experiment.teacher
        if self.experiment.given_teacher is not None:
            return None
        needed = memory.training_bytes(teacher, self._memory_setup._replace(num_workers=self.sharing[0]))
        if not gpus:
            return memory.in_process(needed)
        pictures = num_bytes(self.info)
        return needed + (pictures if lie_on_device(pictures, gpu_bytes, teacher) else 0)

    @cached_property
    def picture_bytes(self) -> int:
        """Bytes of the training pictures, and of the teacher's outputs where they are stored."""
        return num_bytes(self.info) + self.outputs_bytes

    @property
    def stores_outputs(self) -> bool:
        """Whether a base may take the teacher's outputs from disk."""
        return any(base.takes_stored_outputs for base in self.experiment.bases)

    @property
    def outputs_bytes(self) -> int:
        """Bytes of the teacher's outputs on disk; 0 where they are not stored, see --teacher-cache-gb."""
        teacher, flip = self.experiment.teacher, self.experiment.student.flip
        if not repeats(self.info, latent_size(teacher.generator)) or not self.stores_outputs:
            return 0
        needed = outputs_bytes(self.info, flip, teacher.outputs)
        return needed if needed <= self.options.teacher_cache_gb * 2**30 else 0

    def reference(self, teacher: Mapping[str, float]) -> list[float]:
        """The reference point of hypervolumes, a number for each objective, known before the first trial.

        Where an objective names no number, it is the cost of the most expensive configuration, or
        `TEACHER_FACTOR` times the size of the teacher's score.

        Args:
            teacher: The teacher's scores on val, by name.
        """
        costs = self.costs_of_configuration(configurations.extreme_configuration(self.space, highest=True))
        point = []
        for each in self.space.objectives:
            if each.reference is not None:
                point.append(each.reference)
            elif each.name in costs:
                point.append(float(costs[each.name]))
            else:  # an unbiased kernel distance may be below 0
                point.append(space.TEACHER_FACTOR * abs(teacher[each.name]))
        return point

    @property
    def objectives(self) -> list[tables.NamedDirection]:
        """(name, direction) of each objective."""
        return [(objective.name, objective.direction) for objective in self.space.objectives]
