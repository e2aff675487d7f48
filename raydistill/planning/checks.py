"""Every check of a sweep that needs no training."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raydistill import distributed, models, search
from raydistill.config import configurations, printed, renamed, space, term_presets
from raydistill.config.experiment import Experiment
from raydistill.config.lengths import with_lengths
from raydistill.config.paths import leaves, parse_assignments, with_values
from raydistill.config.scoring import ScorerFile, Scoring
from raydistill.config.space import SearchSpace
from raydistill.config.space_checks import check_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo, prepare, read_info
from raydistill.errors import BudgetError, ConfigError, SpaceError, say_notice
from raydistill.models import networks
from raydistill.models.inputs import latent_size
from raydistill.planning import scale, scorers
from raydistill.planning.feature_file import require_other_weights, with_given_features
from raydistill.planning.generator_checks import check_generators, with_given_teacher
from raydistill.planning.plan import Plan, recheck_workers, stage_workers
from raydistill.planning.space_options import with_all_settled, with_options, without_whole_terms
from raydistill.planning.teacher_file import teacher_folder
from raydistill.records import store
from raydistill.search import warm_start
from raydistill.training import bases, recipes, terms


def check(options: SweepOptions, say: Callable[[str], None] = lambda line: None) -> Plan:
    """The plan of a sweep, after every check that needs no training.

    The data are prepared where they are not yet; `say` is told how far that is.

    Raises:
        InputError: an option, the search space, the data or a network cannot be used; the
            message says what to do.
    """
    where = f"--space {options.space}"
    _check_options(options)
    search_space = without_whole_terms(space.load_space(options.space), options)
    options = scale.scaled_options(options, list(_assignments(options)))
    options = with_all_settled(options, search_space)
    preset = space.preset_of(search_space, where)
    if options.scale is not None:
        search_space, preset = scale.scaled(search_space, preset, options.scale)
    copies = store.copies(store.open_store(options.store), options.name) if options.resume else {}
    experiment = _experiment(options, search_space, preset, where, copies)
    experiment = _with_searched_bases(experiment, search_space)
    experiment = with_given_features(experiment, options.features, copies)
    search_space = space.without_unmet_needs(with_options(search_space, options), experiment, where)
    files = scorers.given_files(options, copies)
    search_space = scorers.with_references(search_space, files)
    check_space(search_space, experiment, where, scorers.qualities_of(files))
    size = experiment.data.height, experiment.data.width
    terms.check_all(experiment.student, *size)
    bases.require_teacher(experiment)
    _check_workers(options, experiment)
    folder = store.open_store(options.store)
    needs = recipes.data_needs(experiment.teacher)
    data = prepare(experiment.data, folder / "cache" / "data", **needs, say=say)
    info = read_info(data)
    experiment = _with_lengths(options, search_space, preset, experiment, info)
    options = scale.scaled_scoring(options, info)
    scoring = _scoring(options, files, search_space, experiment, info, folder)
    require_other_weights(experiment.given_features, files)
    if (features := experiment.given_features) is not None:
        stored = {"given_features": scorers.copied(features, folder, "features")}
        experiment = experiment.model_copy(update=stored)
    plan = Plan(options, folder, search_space, experiment, data, info, scoring)
    _check_objectives(plan, where)
    check_generators(plan)
    _check_bases(plan)
    if (sentence := plan.refusals.sentence()) is not None:
        say_notice(f"{where}: {sentence}")
    search.prove_feasible(plan.problem)
    if options.warm_start and not options.resume:
        costs, sweeps = plan.costs_of_configuration, folder / "sweeps"
        start = warm_start.read(options.warm_start, options.sampler, sweeps, search_space, costs)
        plan = replace(plan, warm_start=start)
    _check_on_data(plan)
    return plan


def _with_searched_bases(experiment: Experiment, search_space: SearchSpace) -> Experiment:
    """The experiment with the base distillations that the space searches beside the student's own; of all,
    what comes from the teacher is filled in.
    """
    student, others = experiment.student, []
    for setting in configurations.base_settings(search_space):
        other = with_values(student, setting, where="parameters: student")
        if other.base != student.base:
            _require_pairing(experiment, other)
            others.append(experiment.resolved(other).base)
    _require_pairing(experiment, student)
    changes = {"student": experiment.resolved(student), "other_bases": tuple(others)}
    return experiment.model_copy(update=changes)


def _require_pairing(experiment: Experiment, student: DistillTraining) -> None:
    """Raises ConfigError where a student's base is for other data than the teacher's recipe, before it asks
    the teacher for what a teacher of such data has."""
    of_noise = latent_size(student.generator) is not None
    pairing = "pictures" if of_noise else recipes.kind_of(experiment.teacher).pairing
    if pairing is not None:
        bases.require_pairing(student.base, pairing)


def _check_bases(plan: Plan) -> None:
    """Raises ConfigError where a base that students may have does not fit data or networks, or gives no loss
    and the terms may not, either."""
    for student in (plan.experiment.student, *plan.extreme_students(highest=False)):
        bases.check(student, plan.info)
        bases.require_loss(student)


def _check_options(options: SweepOptions) -> None:
    """Raises InputError where an option has a value that no sweep can have."""
    if options.trials < 1:
        raise BudgetError(f"--trials {options.trials}: give at least 1")
    search.proposals_of(options.sampler)
    if options.stability is not None and not options.replicates:
        raise ConfigError(
            f"--stability {options.stability:g}: give --replicates, too: "
            "how many trainings it may cost at most"
        )


def _scoring(
    options: SweepOptions,
    files: tuple[ScorerFile, ...],
    search_space: SearchSpace,
    experiment: Experiment,
    info: DataInfo,
    store: Path,
) -> Scoring | None:
    """What scores the sweep beside its evaluator. Raises InputError where it cannot."""
    searched = {objective.name for objective in search_space.objectives} & set(scorers.qualities_of(files))
    given = [each for each in (experiment.given_teacher, experiment.given_features) if each is not None]
    return scorers.scoring_of(
        options,
        files,
        info,
        store,
        generator=experiment.student.generator,
        losses=[experiment.teacher, experiment.student, *given],
        workers=max(number for _, _, number in _worker_numbers(options, experiment)),
        reports=options.early_stopping and bool(searched),
    )


def _experiment(
    options: SweepOptions,
    search_space: SearchSpace,
    preset: Experiment,
    where: str,
    copies: Mapping[str, Path],
) -> Experiment:
    """The config of the search space, changed by --config, --data, --teacher, --nimg and --set.

    What is later in this order overrules what is earlier.
    """
    is_searched = "it is searched; narrow it in a search space of your own"
    fixed = dict.fromkeys(space.searched_paths(search_space), is_searched)
    fixed |= {"student.seed": "give --seed"}
    experiment = preset
    if options.config is not None:
        experiment = printed.with_file(experiment, options.config, fixed)
    experiment = with_data(experiment, options.data, where)
    assignments = _assignments(options)
    experiment = _with_teacher(experiment, options, assignments, copies.get(f"--teacher {options.teacher}"))
    if options.nimg is not None:
        experiment = with_values(experiment, {search_space.fidelity: options.nimg}, where="--nimg")
    for path in assignments:
        if (why := fixed.get(renamed.in_full(path))) is not None:
            raise ConfigError(f"--set {path}: {why}")
    return with_values(experiment, term_presets.with_named_terms(assignments, "--set"), where="--set")


def _assignments(options: SweepOptions) -> dict[str, Any]:
    """Config path -> value of --set."""
    return parse_assignments(list(options.set))


def _with_lengths(
    options: SweepOptions,
    search_space: SearchSpace,
    preset: Experiment,
    experiment: Experiment,
    info: DataInfo,
) -> Experiment:
    """The experiment with the space's lengths in images, where no option gives another."""
    before, after = leaves(preset), leaves(experiment)
    by_hand = {path for path in after if after[path] != before.get(path)} | set(_assignments(options))
    by_hand |= {search_space.fidelity} if options.nimg is not None else set()
    return with_lengths(
        experiment, search_space.lengths, info.num_train_pictures, "search", frozenset(by_hand)
    )


def _with_teacher(
    experiment: Experiment, options: SweepOptions, assignments: Mapping[str, Any], copy: Path | None
) -> Experiment:
    """The experiment with the teacher of --teacher, at the size that --set gives the data; where that is not
    there, with its copy in the store."""
    if options.teacher is None:
        if options.teacher_network is not None:
            raise ConfigError(
                f"--teacher-network {options.teacher_network}: of which file? Give --teacher FILE"
            )
        return experiment
    sizes = {path: value for path, value in assignments.items() if path.startswith("data.")}
    data = with_values(experiment, sizes, where="--set").data
    size = data.height // data.degrade.scale, data.width // data.degrade.scale
    if copy is not None and copy.is_dir() and not Path(options.teacher).exists():
        return with_given_teacher(experiment, copy)
    folder = teacher_folder(options.teacher, options.teacher_network, options.store, size)
    return with_given_teacher(experiment, folder)


def _check_objectives(plan: Plan, where: str) -> None:
    """Raises SpaceError where an objective cannot be measured on this data."""
    info, names = plan.info, {name for name, _ in plan.objectives}
    takes_noise = models.GENERATORS[plan.experiment.student.generator.family].takes == "noise"
    if "val/miou" in names and (not networks.has_pixel_classes(info) or takes_noise):
        why = "labels, and this data has none"
        if info.num_classes == 1:
            why = "two classes of pixels or more, and this data has one"
        elif info.has_labels:
            why = "pictures that belong to labels, which noise does not give"
        raise SpaceError(
            f"{where}: objective val/miou needs {why}; "
            "use --space aligned or --objective val/kd_evaluator:min:1"
        )
    similarities = names & {"val/psnr", "val/ssim"}
    if similarities and (takes_noise or info.pairing != "pairs" or info.inputs_are_labels):
        raise SpaceError(
            f"{where}: "
            f"objective {min(similarities)} needs inputs that are pictures and belong to the targets; "
            "give A|B pictures, data.degrade, or --objective val/kd_evaluator:min:1"
        )


def with_data(experiment: Experiment, data: str | None, where: str) -> Experiment:
    """The experiment on the folder that `--data` names; None: the experiment as it is.

    Raises:
        ConfigError: the experiment draws its own data.
    """
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
    """Raises ConfigError where so many workers, or workers of that kind, cannot train what the
    experiment asks for.
    """
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
    for stage, option, number in _worker_numbers(options, experiment):
        training = getattr(experiment, stage)
        if stage == "features" and not experiment.trains_features:
            continue
        if (misfit := training.misfit(number, f"{option} {number}")) is not None:
            step = number * training.share_multiple
            example = training.batch_size // step * step or step
            raise ConfigError(f"{stage}.batch_size: {misfit}, for example --set {stage}.batch_size={example}")
    is_single = options.executor == "auto" and options.workers_per_trial == 1
    is_inline = options.executor == "inline" or is_single
    if student.execution.sharding == "fsdp" and is_inline:
        raise ConfigError(
            "student.execution.sharding: fsdp splits a network over the workers of a TorchTrainer; "
            "use --executor train, or data_parallel"
        )


def _worker_numbers(options: SweepOptions, experiment: Experiment) -> list[tuple[str, str, int]]:
    """(stage, option, number of workers) of every training in the sweep."""
    teacher_workers = stage_workers(options, experiment)
    return [
        ("evaluator", "--teacher-workers", teacher_workers),
        ("features", "--teacher-workers", teacher_workers),
        ("teacher", "--teacher-workers", teacher_workers),
        ("student", "--workers-per-trial", options.workers_per_trial),
        ("student", "the recheck's workers:", recheck_workers(options, experiment)),
    ]


def _check_on_data(plan: Plan) -> None:
    """Raises ConfigError where the data are too few for the workers, or rule out an option of `execution`."""
    for _, option, number in _worker_numbers(plan.options, plan.experiment):
        if number > plan.info.counts["val"]:
            raise ConfigError(
                f"{option} {number}: more workers than val pictures ({plan.info.counts['val']})"
            )
    for stage in ("evaluator", "teacher", "student"):
        training = getattr(plan.experiment, stage)
        for name, network in networks.empty(training, plan.info).items():
            distributed.refuse_execution(training.execution, network, stage, f"{stage}.{name}")
