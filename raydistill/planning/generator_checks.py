"""Checks of a sweep's generators: against the data, against each other, and against what they start from."""

from pathlib import Path

from raydistill import models
from raydistill.config import space
from raydistill.config.experiment import Experiment
from raydistill.config.paths import validated
from raydistill.config.training import DistillTraining
from raydistill.data import DataInfo
from raydistill.errors import CheckpointError, ConfigError
from raydistill.models import networks, pruning, saved
from raydistill.models.inputs import latent_size
from raydistill.planning.plan import Plan
from raydistill.training import recipes


def with_given_teacher(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the network of `folder` as its teacher.

    Raises:
        ConfigError: there is no generator in the folder, or it takes other inputs than the
            experiment's teacher.
    """
    network_folder = folder / "network" if (folder / "network").is_dir() else folder
    if not (network_folder / "meta.json").is_file():
        raise ConfigError(
            f"--teacher {folder}: no network there (no meta.json); "
            "give the folder of a trained one, or of `raydistill teacher import`"
        )
    try:
        stored = saved.stored(network_folder, kind="generator")
        generator, _ = saved.load_generator(stored)
    except CheckpointError as error:
        raise ConfigError(f"--teacher {folder}: {error}") from error
    families = (generator.family, experiment.teacher.generator.family)
    inputs, needed = (models.GENERATORS[family].takes for family in families)
    if inputs != needed:
        what = {"picture": "pictures", "noise": "noise"}
        raise ConfigError(
            f"--teacher {folder}: a {generator.family} takes {what[inputs]}; "
            f"give one that takes {what[needed]}"
        )
    values = experiment.teacher.model_copy(update={"generator": generator}).model_dump()
    teacher = validated(type(experiment.teacher), values, where=f"--teacher {folder}")
    given = stored.model_copy(update={"path": str(Path(stored.path).absolute())})
    return experiment.model_copy(update={"teacher": teacher, "given_teacher": given})


def check_generators(plan: Plan) -> None:
    """Raises ConfigError where a generator does not fit the data or the other one, or cannot
    start where it should.
    """
    info, teacher, student = plan.info, plan.experiment.teacher, plan.experiment.student
    for stage in ("teacher", "student"):
        _check_sizes(stage, getattr(plan.experiment, stage).generator, info)
    if teacher.recipe == "pix2pix" and info.degrade.scale != 1:
        raise ConfigError(
            f"data.degrade.scale: {info.degrade.scale}: pix2pix looks at input and picture together; "
            "use --space enhance"
        )
    latents = latent_size(teacher.generator), latent_size(student.generator)
    if latents[0] != latents[1]:
        inputs = ["a picture" if latent is None else f"{latent} numbers" for latent in latents]
        raise ConfigError(
            f"student.generator: takes {inputs[1]}, the teacher {inputs[0]}; "
            "use a family and latent like the teacher's"
        )
    recipes.distill.require_paired_target(student, info)
    if getattr(student.generator, "truncation", 1) != 1:
        raise ConfigError(
            "student.generator.truncation: the student learns the teacher's pictures as they are truncated; "
            "leave it at 1"
        )
    given = plan.experiment.given_teacher or teacher.start
    if given is not None and latents[0] is None:
        channels = models.input_channels(teacher.generator, saved.load_generator(given)[1])
        if channels != info.input_channels:
            raise ConfigError(
                f"--teacher: takes inputs of {channels} channels, this data has {info.input_channels}; "
                "use data like its own"
            )
    score = student.init_score
    if student.init != "random":
        pruning.require_score(teacher.generator, score, "student.init_score")
    if student.init == "teacher":
        _check_start_at_teacher(plan)
    if student.init == "random" and score != "l1":
        raise ConfigError(
            f"student.init_score: {score!r} chooses channels of the teacher, but student.init is 'random'; "
            "set student.init=teacher, or leave it out"
        )


def _check_sizes(stage: str, generator: models.Generator, info: DataInfo) -> None:
    """Raises ConfigError where a generator cannot take the pictures, or puts out others than the targets."""
    takes_noise = models.GENERATORS[generator.family].takes == "noise"
    size = networks.size_for(generator, info)
    models.check(generator, info.input_channels, *size, f"{stage}.generator")
    scale = getattr(generator, "scale", 1)
    if scale != info.degrade.scale and not takes_noise:
        raise ConfigError(
            f"{stage}.generator.scale: {scale}, "
            f"but the targets have {info.degrade.scale} times the size of the inputs "
            "(data.degrade.scale); use the same"
        )


def _check_start_at_teacher(plan: Plan) -> None:
    """Raises ConfigError where a baseline is no narrower copy of the teacher, whose channels it starts from.

    Of students, `planning.refusals` knows which are.
    """
    names = reversed(space.uniform_names(plan.space))  # of base widths mostly the widest first
    for ngf in (ngf for ngf in names if ngf not in plan.excluded_baselines):
        teacher, generator = plan.experiment.teacher.generator, plan.uniform_generator(ngf)
        pruning.require_narrower(teacher, generator, "student.init=teacher: student.generator")


def start_sentence(plan: Plan) -> str | None:
    """Whether students start with the teacher's channels; None where that is not left to their networks."""
    if plan.experiment.student.init != "auto":
        return None
    students = [training for training, _ in plan.students]
    extremes = [each for highest in (False, True) for each in plan.extreme_students(highest=highest)]
    students += [each for each in extremes if space.is_affordable(plan.space, plan.bounded_costs_of(each))]
    students += [training for _, _, training in plan.baselines if isinstance(training, DistillTraining)]
    found = [pruning.why_at_random(plan.experiment.teacher.generator, student) for student in students]
    reasons = [reason for reason in found if reason is not None]
    if not reasons:
        return "students start with the teacher's channels, as student.init is auto"
    who = "students" if len(reasons) == len(found) else "some students"
    return f"{who} start with random weights, as student.init is auto: {reasons[0]}"
