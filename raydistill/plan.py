"""What a sweep will do, and every check that needs no training."""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from raydistill import (
    cost,
    feed,
    inherit,
    memory,
    models,
    networks,
    parallel,
    plugins,
    presets,
    recipes,
    results,
    search,
    space,
    store,
    terms,
    warm,
)
from raydistill.architectures import Generator
from raydistill.config import DistillTraining, Experiment, GeneratorTraining, Stored, digest
from raydistill.data import DataInfo, prepare, read_info
from raydistill.dotted import nearest, parse_assignments, validated, with_checked, with_values
from raydistill.errors import BudgetError, CheckpointError, ConfigError, SpaceError
from raydistill.options import SweepOptions
from raydistill.space import Objective, SearchSpace, Window
from raydistill.warm import NOTHING_KNOWN, WarmStart

TEACHER_WORKERS = 2
"""That share the judge's and the teacher's training."""
RECHECK_WORKERS = 2
"""One front member of every sweep is trained again by so many workers."""
_NUM_STUDENTS = 64
"""That stand for what may be proposed."""
NUM_STARTUP = 5
"""So many first proposals are stratified over the cost; the same for any number of trials, so that a resume may ask for more."""


@dataclass(frozen=True)
class Plan:
    """Everything that is checked before any cost."""

    options: SweepOptions
    store: Path
    space: SearchSpace
    experiment: Experiment
    data: Stored
    info: DataInfo
    warm: WarmStart = NOTHING_KNOWN
    """What a new sweep copies; one that goes on has its copy."""

    @property
    def definition(self) -> str:
        """What makes two sweeps the same; the number of trials may grow on resume."""
        options, named = self.options, {name: plugin["digest"] for name, plugin in plugins.recorded().items()}
        parts = [self.space, self.experiment, self.data.digest, options.seed, options.sampler, options.early_stopping]
        return digest([*parts, *([named] if named else []), *([options.warm_start] if options.warm_start else [])])

    @cached_property
    def problem(self) -> search.Problem:
        options = self.options
        return search.Problem(self.space, self.costs_of_picked, options.seed, NUM_STARTUP, options.sampler, options.trials)

    def costs_of_picked(self, picked: search.Picked) -> dict[str, float]:
        if self._asks_for_memory:
            return self.costs_of(self.student_of(picked))
        prefix = "student.generator."
        values = space.values_of(self.space, picked).items()
        ours = {path.removeprefix(prefix): value for path, value in values if path.startswith(prefix)}
        return self._counts_of(with_checked(self.experiment.student.generator, ours))

    def student_of(self, picked: search.Picked) -> DistillTraining:
        values = {path.removeprefix("student."): value for path, value in space.values_of(self.space, picked).items()}
        if "mi.kind" in values:  # replaces a whole section
            return with_values(self.experiment.student, values, where="search")
        return with_checked(self.experiment.student, values)

    @cached_property
    def students(self) -> list[tuple[DistillTraining, float]]:
        """Feasible students from all of the cost axis, with their MACs."""
        picks = list(itertools.islice(search.feasible_picks(self.problem), _NUM_STUDENTS))
        return [(self.student_of(picked), self.costs_of_picked(picked)["cost/macs"]) for picked in picks]

    def costs_of(self, training: DistillTraining | GeneratorTraining) -> dict[str, float]:
        """The costs of the student that a training gives; its memory only where the space asks for that."""
        counts = self._counts_of(training.generator)
        return counts | {"cost/memory_gb": self.memory_of(training) / 2**30} if self._asks_for_memory else counts

    def _counts_of(self, generator: Generator) -> dict[str, float]:
        layers = networks.layers(generator, self.info)
        return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)}

    @cached_property
    def _asks_for_memory(self) -> bool:
        named = [window.cost for window in self.space.constraints] + [objective.name for objective in self.space.objectives]
        return "cost/memory_gb" in named

    @cached_property
    def _around(self) -> memory.Around:
        return memory.Around(self.experiment.judge.network, self.info, self.experiment.teacher.generator, self.options.workers_per_trial)

    @cached_property
    def _predict(self) -> memory.Predictor:
        return memory.Predictor(self._around)

    def memory_of(self, training: DistillTraining | GeneratorTraining) -> int:
        """Predicted bytes of one worker on its GPU. Where it has none, too: a cost is the same wherever a sweep goes on."""
        if isinstance(training, DistillTraining) and self._asks_for_memory:
            return self._predict(training)
        return memory.training_bytes(training, self._around)

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
    def left_out(self) -> list[int]:
        """Uniform baselines outside the cost windows: they are not trained."""
        return [ngf for ngf in self.space.uniform if not space.is_affordable(self.space, self.costs_of(self.uniform(ngf)))]

    @cached_property
    def baselines(self) -> list[tuple[str, str, DistillTraining | GeneratorTraining]]:
        """(role, label, training): uniform widths by plain distillation, and the narrowest of them without a teacher."""
        widths = [ngf for ngf in self.space.uniform if ngf not in self.left_out]
        out: list[tuple[str, str, DistillTraining | GeneratorTraining]] = [
            ("uniform", f"uniform {ngf}", self.uniform(ngf)) for ngf in widths
        ]
        names = ("batch_size", "budget_nimg", "report_every_nimg", "ema_nimg", "flip", "precision", "execution")
        shared: dict[str, Any] = {name: getattr(self.experiment.student, name) for name in names} | {"start": None}
        for ngf in sorted(widths)[:1]:
            alone = self.experiment.teacher.model_copy(update={"generator": self.uniform_generator(ngf), **shared})
            if space.is_affordable(self.space, self.costs_of(alone)):  # its discriminator may need more memory than the uniform student
                out.append(("no_teacher", f"no teacher {ngf}", alone))
        return out

    @cached_property
    def trial_bytes(self) -> int:
        """Predicted memory of one worker, on its GPU, of the trial that needs most of it."""
        dearest = space.values_of(self.space, space.corner(self.space, highest=True))
        ends = [window.high * 2**30 for window in self.space.constraints if window.cost == "cost/memory_gb"]
        searched = min(self.memory_of(with_values(self.experiment, dearest, where="search").student), *ends, math.inf)
        uniform = [training for role, _, training in self.baselines if role == "uniform"]
        widest = sorted(uniform, key=lambda training: self.costs_of(training)["cost/params"])[-1:]
        alone = [training for role, _, training in self.baselines if role != "uniform"]
        return max(int(searched), *map(self.memory_of, [*widest, *alone]), 0)

    def worker_bytes(self, gpus: float) -> int:
        """`trial_bytes` where each worker has so many GPUs; on a CPU its whole process counts instead of a CUDA context."""
        return self.trial_bytes + (0 if gpus else memory.PROCESS_BYTES - memory.CONTEXT_BYTES)

    @cached_property
    def reference(self) -> list[float]:
        """One number per objective, known before the sweep."""
        dearest = self.costs_of_picked(space.corner(self.space, highest=True))
        return [float(dearest[o.name]) if o.reference is None else o.reference for o in self.space.objectives]

    @property
    def objectives(self) -> list[results.Objective]:
        return [(objective.name, objective.direction) for objective in self.space.objectives]


def check(options: SweepOptions) -> Plan:
    """Every check that needs no training. Raises InputError."""
    where = f"--space {options.space}"
    if options.trials < 1:
        raise BudgetError(f"--trials {options.trials}: give at least 1")
    if options.sampler not in search.SAMPLERS:
        known = list(search.SAMPLERS)
        raise ConfigError(f"--sampler {options.sampler}: known: {', '.join(known)}. Nearest: {nearest(options.sampler, known)!r}.")
    if options.stability is not None and not options.replicates:
        raise ConfigError(f"--stability {options.stability:g}: give --replicates, too: how many trainings it may cost at most")
    chosen = space.load_space(options.space)
    experiment = with_data(space.preset_of(chosen, where), options.data, where)
    if options.teacher is not None:
        experiment = experiment.model_copy(update={"teacher": _given_teacher(experiment, Path(options.teacher))})
    if options.nimg is not None:
        experiment = with_values(experiment, {chosen.fidelity: options.nimg}, where="--nimg")
    given = parse_assignments(list(options.set))
    for path in given:
        if path == "student.seed" or path in chosen.parameters:
            why = "give --seed" if path == "student.seed" else "it is searched; narrow it in a search space of your own"
            raise ConfigError(f"--set {path}: {why}")
    experiment = with_values(experiment, presets.expanded(given, "--set"), where="--set")
    chosen = space.fitted(_with_options(chosen, options), experiment, where)
    space.check(chosen, experiment, where)
    terms.check(experiment.student.mi, experiment.data.height, experiment.data.width, experiment.student.batch_size)
    _check_workers(options, experiment)
    folder = store.open_store(options.store)
    data = prepare(experiment.data, folder / "cache" / "data", recipe=experiment.teacher.recipe)
    plan = Plan(options, folder, chosen, experiment, data, read_info(data))
    _check_objectives(plan, where)
    _check_generators(plan)
    search.prove_feasible(plan.problem)
    if options.warm_start and not options.resume:
        plan = replace(plan, warm=warm.read(options.warm_start, options.sampler, folder / "sweeps", chosen, plan.costs_of_picked))
    _check_on_data(plan)
    return plan


def _check_objectives(plan: Plan, where: str) -> None:
    """Raises SpaceError where an objective cannot be measured on this data."""
    info, names = plan.info, {name for name, _ in plan.objectives}
    takes_noise = models.GENERATORS[plan.experiment.student.generator.family].takes == "noise"
    if "val/miou" in names and (not info.has_labels or takes_noise):
        why = "pictures that belong to labels, which noise does not give" if info.has_labels else "labels, and this data has none"
        raise SpaceError(f"{where}: objective val/miou needs {why}; use --space aligned or --objective val/kd_judge:min:1")
    if (named := names & {"val/psnr", "val/ssim"}) and (takes_noise or info.pairing != "pairs" or info.inputs_are_labels):
        raise SpaceError(
            f"{where}: objective {min(named)} needs inputs that are pictures and belong to the targets; give A|B pictures, "
            "data.degrade, or --objective val/kd_judge:min:1"
        )


def _given_teacher(experiment: Experiment, folder: Path) -> GeneratorTraining:
    """The teacher's training with the network of `folder` as its start, and no images. Raises ConfigError where it is no generator."""
    inner = folder / "network" if (folder / "network").is_dir() else folder
    if not (inner / "meta.json").is_file():
        raise ConfigError(
            f"--teacher {folder}: no network there (no meta.json); give the folder of a trained one, or of `raydistill teacher import`"
        )
    try:
        found = networks.stored(inner, kind="generator")
        generator, _ = networks.load_generator(found)
    except CheckpointError as error:
        raise ConfigError(f"--teacher {folder}: {error}") from error
    given, needed = (models.GENERATORS[family].takes for family in (generator.family, experiment.teacher.generator.family))
    if given != needed:
        what = {"picture": "pictures", "noise": "noise"}
        raise ConfigError(f"--teacher {folder}: a {generator.family} takes {what[given]}; give one that takes {what[needed]}")
    start = found.model_copy(update={"path": str(Path(found.path).absolute())})
    update = {"generator": generator, "start": start, "budget_nimg": 0}
    return validated(type(experiment.teacher), experiment.teacher.model_copy(update=update).model_dump(), where=f"--teacher {folder}")


def _check_generators(plan: Plan) -> None:
    """Raises ConfigError where a generator cannot take the pictures, puts out others than the targets, or cannot start where it should."""
    info = plan.info
    for stage in ("teacher", "student"):
        generator = getattr(plan.experiment, stage).generator
        takes_noise = models.GENERATORS[generator.family].takes == "noise"
        models.check(generator, info.input_channels, *networks.size_for(generator, info), f"{stage}.generator")
        scale = getattr(generator, "scale", 1)
        if scale != info.degrade.scale and not takes_noise:
            raise ConfigError(
                f"{stage}.generator.scale: {scale}, but the targets have {info.degrade.scale} times the size of the inputs "
                "(data.degrade.scale); use the same"
            )
    teacher, student = plan.experiment.teacher, plan.experiment.student
    if teacher.recipe == "pix2pix" and info.degrade.scale != 1:
        raise ConfigError(f"data.degrade.scale: {info.degrade.scale}: pix2pix looks at input and picture together; use --space enhance")
    latents = feed.latent_of(teacher.generator), feed.latent_of(student.generator)
    if latents[0] != latents[1]:
        given = ["a picture" if latent is None else f"{latent} numbers" for latent in latents]
        raise ConfigError(f"student.generator: takes {given[1]}, the teacher {given[0]}; use a family and latent like the teacher's")
    recipes.distill.require_paired_target(student, info)
    if getattr(student.generator, "truncation", 1) != 1:
        raise ConfigError("student.generator.truncation: the student learns the teacher's pictures as they are truncated; leave it at 1")
    if teacher.start is not None and latents[0] is None:
        channels = models.input_channels(teacher.generator, networks.load_generator(teacher.start)[1])
        if channels != plan.info.input_channels:
            raise ConfigError(
                f"--teacher: takes inputs of {channels} channels, this data has {plan.info.input_channels}; use data like its own"
            )
    if student.init == "teacher":
        widest = with_values(plan.experiment, space.values_of(plan.space, space.corner(plan.space, highest=True)), where="search").student
        for generator in (widest.generator, *(plan.uniform_generator(ngf) for ngf in plan.space.uniform if ngf not in plan.left_out)):
            inherit.require_narrower(teacher.generator, generator, "student.init=teacher: student.generator")


def with_data(experiment: Experiment, data: str | None, where: str) -> Experiment:
    """The experiment on the folder that `--data` names. Raises ConfigError where it draws its own data."""
    if data is None:
        return experiment
    if "root" not in type(experiment.data).model_fields:
        raise ConfigError(
            f"--data {data}: {where} draws its own data; use --space camvid (images + labels), aligned (A|B), "
            "cyclegan (trainA + trainB), or sagan, stylegan2 and enhance (any pictures)"
        )
    return with_values(experiment, {"data.root": str(Path(data).absolute())}, where="--data")


def _check_workers(options: SweepOptions, experiment: Experiment) -> None:
    """Raises ConfigError where a number of workers, or the way they work, cannot train what it shall."""
    student = experiment.student
    if options.early_stopping and 2 * student.report_every_nimg > student.budget_nimg:
        raise ConfigError(
            f"--early-stopping: student.report_every_nimg is {student.report_every_nimg:,} of {student.budget_nimg:,} images, too late to "
            f"save any; give --set student.report_every_nimg={max(1, student.budget_nimg // 8)}"
        )
    if options.executor == "inline" and options.workers_per_trial > 1:
        raise ConfigError(
            f"--executor inline runs one worker a trial, given --workers-per-trial {options.workers_per_trial}; use --executor train"
        )
    for option, gpus in (("--gpus-per-worker", options.gpus_per_worker), ("--teacher-gpus", options.teacher_gpus)):
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"{option} {gpus:g}: give a whole number, or a share of one GPU between 0 and 1")
    for stage, option, number in _asked_workers(options):
        training = getattr(experiment, stage)
        if (misfit := training.misfit(number, f"{option} {number}")) is not None:
            step = number * training.share_multiple
            raise ConfigError(
                f"{stage}.batch_size: {misfit}, for example --set {stage}.batch_size={training.batch_size // step * step or step}"
            )
    is_inline = options.executor == "inline" or (options.executor == "auto" and options.workers_per_trial == 1)
    if student.execution.sharding == "fsdp" and is_inline:
        raise ConfigError(
            "student.execution.sharding: fsdp splits a network over the workers of a TorchTrainer; use --executor train, or data_parallel"
        )


def _asked_workers(options: SweepOptions) -> list[tuple[str, str, int]]:
    """(stage, option, number of workers)"""
    teacher_workers = options.teacher_workers or TEACHER_WORKERS
    asked = [("judge", "--teacher-workers", teacher_workers), ("teacher", "--teacher-workers", teacher_workers)]
    return [*asked, ("student", "--workers-per-trial", options.workers_per_trial), ("student", "the recheck's workers:", RECHECK_WORKERS)]


def _check_on_data(plan: Plan) -> None:
    """Raises ConfigError where the data are too few for the workers, or an option of `execution` cannot be followed on them."""
    for _, option, number in _asked_workers(plan.options):
        if number > plan.info.counts["val"]:
            raise ConfigError(f"{option} {number}: more workers than val pictures ({plan.info.counts['val']})")
    for stage in ("judge", "teacher", "student"):
        training = getattr(plan.experiment, stage)
        for name, network in networks.empty(training, plan.info).items():
            parallel.refuse_execution(training.execution, network, stage, f"{stage}.{name}")


def _with_options(chosen: SearchSpace, options: SweepOptions) -> SearchSpace:
    """The space with objectives and cost windows from the command line."""
    updates: dict[str, Any] = {}
    if options.objectives:
        updates["objectives"] = tuple(_parse_objective(text) for text in options.objectives)
    asked = [
        ("cost/macs", options.min_macs, options.max_macs),
        ("cost/params", options.min_params, options.max_params),
        ("cost/memory_gb", None, options.max_memory_gb),
    ]
    windows = [Window(cost=name, low=low or 0.0, high=1e30 if high is None else high) for name, low, high in asked if low or high]
    if windows:
        updates["constraints"] = (*chosen.constraints, *windows)
    return chosen.model_copy(update=updates)


def _parse_objective(text: str) -> Objective:
    """`val/kd_judge:min:1.0` or `cost/macs:min`."""
    name, _, rest = text.partition(":")
    direction, _, reference = rest.partition(":")
    try:
        worst = float(reference) if reference else None
    except ValueError:
        worst = None
    if direction not in ("min", "max") or (reference and worst is None):
        raise ConfigError(
            f"--objective {text}: give it as name:min or name:max, and :worst for qualities, for example val/kd_judge:min:1.0"
        )
    return Objective(name=name, direction="min" if direction == "min" else "max", reference=worst)
