"""Every check of a sweep that needs no training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill import distributed, models, search
from raydistill.config import presets, space
from raydistill.config.experiment import Experiment
from raydistill.config.paths import nearest, parse_assignments, validated, with_values
from raydistill.config.space import Objective, SearchSpace, Window
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import GeneratorTraining
from raydistill.data import prepare, read_info
from raydistill.errors import BudgetError, CheckpointError, ConfigError, SpaceError
from raydistill.models import networks, pruning, saved
from raydistill.models.inputs import latent_size
from raydistill.planning.plan import RECHECK_WORKERS, TEACHER_WORKERS, Plan
from raydistill.records import store
from raydistill.search import warm_start
from raydistill.training import recipes, terms


def check(options: SweepOptions) -> Plan:
    """Every check that needs no training. Raises InputError."""
    where = f"--space {options.space}"
    if options.trials < 1:
        raise BudgetError(f"--trials {options.trials}: give at least 1")
    if options.sampler not in search.SAMPLERS:
        known = list(search.SAMPLERS)
        raise ConfigError(
            f"--sampler {options.sampler}: known: {', '.join(known)}. "
            f"Nearest: {nearest(options.sampler, known)!r}."
        )
    if options.stability is not None and not options.replicates:
        raise ConfigError(
            f"--stability {options.stability:g}: give --replicates, too: "
            "how many trainings it may cost at most"
        )
    chosen = space.load_space(options.space)
    experiment = with_data(space.preset_of(chosen, where), options.data, where)
    if options.teacher is not None:
        experiment = experiment.model_copy(
            update={"teacher": _given_teacher(experiment, Path(options.teacher))}
        )
    if options.nimg is not None:
        experiment = with_values(experiment, {chosen.fidelity: options.nimg}, where="--nimg")
    given = parse_assignments(list(options.set))
    for path in given:
        if path == "student.seed" or path in chosen.parameters:
            why = (
                "give --seed"
                if path == "student.seed"
                else "it is searched; narrow it in a search space of your own"
            )
            raise ConfigError(f"--set {path}: {why}")
    experiment = with_values(experiment, presets.expanded(given, "--set"), where="--set")
    chosen = space.fitted(_with_options(chosen, options), experiment, where)
    space.check(chosen, experiment, where)
    terms.check(
        experiment.student.mi, experiment.data.height, experiment.data.width, experiment.student.batch_size
    )
    _check_workers(options, experiment)
    folder = store.open_store(options.store)
    data = prepare(experiment.data, folder / "cache" / "data", recipe=experiment.teacher.recipe)
    plan = Plan(options, folder, chosen, experiment, data, read_info(data))
    _check_objectives(plan, where)
    _check_generators(plan)
    search.prove_feasible(plan.problem)
    if options.warm_start and not options.resume:
        plan = replace(
            plan,
            warm_start=warm_start.read(
                options.warm_start, options.sampler, folder / "sweeps", chosen, plan.costs_of_configuration
            ),
        )
    _check_on_data(plan)
    return plan


def _check_objectives(plan: Plan, where: str) -> None:
    """Raises SpaceError where an objective cannot be measured on this data."""
    info, names = plan.info, {name for name, _ in plan.objectives}
    takes_noise = models.GENERATORS[plan.experiment.student.generator.family].takes == "noise"
    if "val/miou" in names and (not info.has_labels or takes_noise):
        why = (
            "pictures that belong to labels, which noise does not give"
            if info.has_labels
            else "labels, and this data has none"
        )
        raise SpaceError(
            f"{where}: objective val/miou needs {why}; "
            "use --space aligned or --objective val/kd_evaluator:min:1"
        )
    if (named := names & {"val/psnr", "val/ssim"}) and (
        takes_noise or info.pairing != "pairs" or info.inputs_are_labels
    ):
        raise SpaceError(
            f"{where}: objective {min(named)} needs inputs that are pictures and belong to the targets; "
            "give A|B pictures, "
            "data.degrade, or --objective val/kd_evaluator:min:1"
        )


def _given_teacher(experiment: Experiment, folder: Path) -> GeneratorTraining:
    """The teacher's training with the network of `folder` as its start, and no images.

    Raises ConfigError where it is no generator.
    """
    inner = folder / "network" if (folder / "network").is_dir() else folder
    if not (inner / "meta.json").is_file():
        raise ConfigError(
            f"--teacher {folder}: no network there (no meta.json); "
            "give the folder of a trained one, or of `raydistill teacher import`"
        )
    try:
        found = saved.stored(inner, kind="generator")
        generator, _ = saved.load_generator(found)
    except CheckpointError as error:
        raise ConfigError(f"--teacher {folder}: {error}") from error
    given, needed = (
        models.GENERATORS[family].takes for family in (generator.family, experiment.teacher.generator.family)
    )
    if given != needed:
        what = {"picture": "pictures", "noise": "noise"}
        raise ConfigError(
            f"--teacher {folder}: a {generator.family} takes {what[given]}; "
            f"give one that takes {what[needed]}"
        )
    start = found.model_copy(update={"path": str(Path(found.path).absolute())})
    update = {"generator": generator, "start": start, "budget_nimg": 0}
    return validated(
        type(experiment.teacher),
        experiment.teacher.model_copy(update=update).model_dump(),
        where=f"--teacher {folder}",
    )


def _check_generators(plan: Plan) -> None:
    """Raises ConfigError where a generator cannot take the pictures, puts out others than the targets, or
    cannot start where it should.
    """
    info = plan.info
    for stage in ("teacher", "student"):
        generator = getattr(plan.experiment, stage).generator
        takes_noise = models.GENERATORS[generator.family].takes == "noise"
        models.check(
            generator, info.input_channels, *networks.size_for(generator, info), f"{stage}.generator"
        )
        scale = getattr(generator, "scale", 1)
        if scale != info.degrade.scale and not takes_noise:
            raise ConfigError(
                f"{stage}.generator.scale: "
                f"{scale}, but the targets have {info.degrade.scale} times the size of the inputs "
                "(data.degrade.scale); use the same"
            )
    teacher, student = plan.experiment.teacher, plan.experiment.student
    if teacher.recipe == "pix2pix" and info.degrade.scale != 1:
        raise ConfigError(
            f"data.degrade.scale: {info.degrade.scale}: pix2pix looks at input and picture together; "
            "use --space enhance"
        )
    latents = latent_size(teacher.generator), latent_size(student.generator)
    if latents[0] != latents[1]:
        given = ["a picture" if latent is None else f"{latent} numbers" for latent in latents]
        raise ConfigError(
            f"student.generator: takes {given[1]}, the teacher {given[0]}; "
            "use a family and latent like the teacher's"
        )
    recipes.distill.require_paired_target(student, info)
    if getattr(student.generator, "truncation", 1) != 1:
        raise ConfigError(
            "student.generator.truncation: the student learns the teacher's pictures as they are truncated; "
            "leave it at 1"
        )
    if teacher.start is not None and latents[0] is None:
        channels = models.input_channels(teacher.generator, saved.load_generator(teacher.start)[1])
        if channels != plan.info.input_channels:
            raise ConfigError(
                f"--teacher: takes inputs of {channels} channels, this data has {plan.info.input_channels}; "
                "use data like its own"
            )
    if student.init == "teacher":
        widest = with_values(
            plan.experiment,
            space.values_of(plan.space, space.extreme_configuration(plan.space, highest=True)),
            where="search",
        ).student
        for generator in (
            widest.generator,
            *(
                plan.uniform_generator(ngf)
                for ngf in plan.space.uniform
                if ngf not in plan.excluded_baselines
            ),
        ):
            pruning.require_narrower(teacher.generator, generator, "student.init=teacher: student.generator")


def with_data(experiment: Experiment, data: str | None, where: str) -> Experiment:
    """The experiment on the folder that `--data` names. Raises ConfigError where it draws its own data."""
    if data is None:
        return experiment
    if "root" not in type(experiment.data).model_fields:
        raise ConfigError(
            f"--data {data}: {where} draws its own data; "
            "use --space camvid (images + labels), aligned (A|B), "
            "cyclegan (trainA + trainB), or sagan, stylegan2 and enhance (any pictures)"
        )
    return with_values(experiment, {"data.root": str(Path(data).absolute())}, where="--data")


def _check_workers(options: SweepOptions, experiment: Experiment) -> None:
    """Raises ConfigError where a number of workers, or the way they work, cannot train what it shall."""
    student = experiment.student
    if options.early_stopping and 2 * student.report_every_nimg > student.budget_nimg:
        raise ConfigError(
            f"--early-stopping: student.report_every_nimg is {student.report_every_nimg:,} of "
            f"{student.budget_nimg:,} images, too late to "
            f"save any; give --set student.report_every_nimg={max(1, student.budget_nimg // 8)}"
        )
    if options.executor == "inline" and options.workers_per_trial > 1:
        raise ConfigError(
            "--executor inline runs one worker a trial, "
            f"given --workers-per-trial {options.workers_per_trial}; use --executor train"
        )
    for option, gpus in (
        ("--gpus-per-worker", options.gpus_per_worker),
        ("--teacher-gpus", options.teacher_gpus),
    ):
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise ConfigError(
                f"{option} {gpus:g}: give a whole number, or a share of one GPU between 0 and 1"
            )
    for stage, option, number in _asked_workers(options):
        training = getattr(experiment, stage)
        if (misfit := training.misfit(number, f"{option} {number}")) is not None:
            step = number * training.share_multiple
            raise ConfigError(
                f"{stage}.batch_size: "
                f"{misfit}, for example --set {stage}.batch_size={training.batch_size // step * step or step}"
            )
    is_inline = options.executor == "inline" or (
        options.executor == "auto" and options.workers_per_trial == 1
    )
    if student.execution.sharding == "fsdp" and is_inline:
        raise ConfigError(
            "student.execution.sharding: fsdp splits a network over the workers of a TorchTrainer; "
            "use --executor train, or data_parallel"
        )


def _asked_workers(options: SweepOptions) -> list[tuple[str, str, int]]:
    """(stage, option, number of workers)"""
    teacher_workers = options.teacher_workers or TEACHER_WORKERS
    asked = [
        ("evaluator", "--teacher-workers", teacher_workers),
        ("teacher", "--teacher-workers", teacher_workers),
    ]
    return [
        *asked,
        ("student", "--workers-per-trial", options.workers_per_trial),
        ("student", "the recheck's workers:", RECHECK_WORKERS),
    ]


def _check_on_data(plan: Plan) -> None:
    """Raises ConfigError where the data are too few for the workers, or an option of `execution` cannot
    be followed on them.
    """
    for _, option, number in _asked_workers(plan.options):
        if number > plan.info.counts["val"]:
            raise ConfigError(
                f"{option} {number}: more workers than val pictures ({plan.info.counts['val']})"
            )
    for stage in ("evaluator", "teacher", "student"):
        training = getattr(plan.experiment, stage)
        for name, network in networks.empty(training, plan.info).items():
            distributed.refuse_execution(training.execution, network, stage, f"{stage}.{name}")


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
    windows = [
        Window(cost=name, low=low or 0.0, high=1e30 if high is None else high)
        for name, low, high in asked
        if low or high
    ]
    if windows:
        updates["constraints"] = (*chosen.constraints, *windows)
    return chosen.model_copy(update=updates)


def _parse_objective(text: str) -> Objective:
    """`val/kd_evaluator:min:1.0` or `cost/macs:min`."""
    name, _, rest = text.partition(":")
    direction, _, reference = rest.partition(":")
    try:
        worst = float(reference) if reference else None
    except ValueError:
        worst = None
    if direction not in ("min", "max") or (reference and worst is None):
        raise ConfigError(
            f"--objective {text}: "
            "give it as name:min or name:max, and :worst for qualities, for example val/kd_evaluator:min:1.0"
        )
    return Objective(name=name, direction="min" if direction == "min" else "max", reference=worst)
