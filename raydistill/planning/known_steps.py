"""The steps whose counts `raydistill doctor --step` prints: some by name, and those of every search space."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from raydistill.config.architectures import UnetGenerator, UnetWidths
from raydistill.config.data import ShapesData
from raydistill.config.experiment import Experiment
from raydistill.config.paths import parse_assignments, with_values
from raydistill.config.presets import shapes32, shapes64, stylegan2
from raydistill.config.space import load_space, preset_of
from raydistill.config.term_presets import with_named_terms
from raydistill.data import described
from raydistill.data.outputs import LIMIT_GB, outputs_bytes
from raydistill.errors import ConfigError, SpaceError
from raydistill.models.inputs import latent_size, repeats
from raydistill.planning.step_counts import Counted

Stage = Literal["student", "teacher", "evaluator"]


def unet256() -> Experiment:
    """The published pix2pix set-up: U-Nets of 256x256, a teacher of width 64, batches of 4, the published
    term.
    """
    base = _with_term(shapes32(), "published_pix2pix")
    student = {"generator": UnetGenerator(widths=UnetWidths.uniform(16)), "batch_size": 4}
    teacher = {"generator": UnetGenerator(widths=UnetWidths.uniform(64)), "batch_size": 4}
    return base.model_copy(
        update={
            "data": ShapesData(height=256, width=256),
            "teacher": base.teacher.model_copy(update=teacher),
            "student": base.student.model_copy(update=student),
        }
    )


def resnet64() -> Experiment:
    """The embedded pictures at 64x64, ResNets, and the published term of CycleGAN."""
    return _with_term(shapes64(), "published_cyclegan")


def stylegan2_32() -> Experiment:
    """StyleGAN2 at 32x32 with its published term, on the embedded pictures."""
    base = _with_term(stylegan2(), "published_stylegan2")
    return base.model_copy(update={"data": ShapesData(height=32, width=32)})


KNOWN: dict[str, Callable[[], Experiment]] = {
    "unet256": unet256,
    "resnet64": resnet64,
    "stylegan2-32": stylegan2_32,
}
"""Name -> the experiment of a step. Their teacher makes its pictures in the loop."""


class NamedStep(NamedTuple):
    """A step that is to be counted, in words, too."""

    counted: Counted
    words: str


def named_step(name: str, values: Sequence[str], stage: Stage, is_resident: bool) -> NamedStep:
    """A step by its name.

    Args:
        name: one of `KNOWN`, or a search space: a name or a file.
        values: of config paths, as `--set` takes them.
        stage: whose training the step is of.
        is_resident: whether pictures lie on the device; otherwise they are read on the host and copied.

    Raises:
        InputError: there is no such step, path or data.
    """
    experiment = KNOWN[name]() if name in KNOWN else _of_space(name)
    assigned = with_named_terms(parse_assignments(list(values)), "--set")
    experiment = with_values(experiment, assigned, where="--set")
    if getattr(experiment.data, "root", None) == "":
        advice = "give --set data.root=FOLDER"
        raise ConfigError(f"--step {name}: data.root is empty, and there is no default folder; {advice}")
    info, training = described(experiment.data), getattr(experiment, stage)
    if stage == "student":
        training = experiment.resolved(training)
    counted, teachers = Counted(training, info, is_resident=is_resident), ""
    if stage == "student":
        flip, kind, teacher = training.flip, experiment.teacher.outputs, experiment.teacher.generator
        is_stored = name not in KNOWN and repeats(info, latent_size(teacher))
        is_stored = is_stored and outputs_bytes(info, flip, kind) <= LIMIT_GB * 2**30
        counted = counted._replace(teacher=teacher, outputs=kind if is_stored else None)
        teachers = ", teacher's outputs stored" if is_stored else ", teacher in the loop"
    where = "on the device" if is_resident else "read ahead"
    words = f"{stage} ({training.recipe}), batch {training.batch_size}, {info.width}x{info.height}"
    return NamedStep(counted, f"{words}{teachers}, pictures {where}")


def _of_space(name: str) -> Experiment:
    """The preset of a search space. Raises SpaceError with all names that are known, where it is none."""
    try:
        return preset_of(load_space(name), f"--step {name}")
    except SpaceError as error:
        raise SpaceError(f"--step {name}: no step of that name ({', '.join(KNOWN)}). {error}") from error


def _with_term(experiment: Experiment, name: str) -> Experiment:
    """The experiment with a named mutual-information term."""
    return with_values(experiment, with_named_terms({"student.terms.mi": name}, name), where=name)
