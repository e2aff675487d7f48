"""The pages of configs: every field of the models that a person writes, with its bounds and default."""

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from raydistill.commands.reference.markdown import (
    REWRITE,
    allowed,
    attribute_docstrings,
    paragraphs,
    table,
    type_of,
    wrapped,
)
from raydistill.config.architectures import (
    NOISE_VARIANTS,
    PICTURE_VARIANTS,
    EnergyNetwork,
    EvaluatorNetwork,
    PatchDiscriminator,
    SaganDiscriminator,
    SaganDiscriminatorWidths,
    StyleganDiscriminator,
)
from raydistill.config.base import Optimizer
from raydistill.config.batch import Batch, Budget, Method
from raydistill.config.data import DATA_VARIANTS, DataSet, Degradation
from raydistill.config.experiment import Experiment
from raydistill.config.features import FeatureNetworkConfig, FeaturesTraining
from raydistill.config.lengths import Length, Lengths
from raydistill.config.presets import PRESETS
from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, Settings, When, Window
from raydistill.config.term_presets import NAMED_TERMS
from raydistill.config.terms import TERM_VARIANTS, Term
from raydistill.config.training import (
    TEACHER_VARIANTS,
    DistillTraining,
    EvaluatorTraining,
    Execution,
    GeneratorTraining,
    Training,
)

_INTRODUCTION = (
    "A config path is the dotted way to a field, such as `student.base.l1_weight`; `--set PATH=VALUE` sets "
    "it and `raydistill config --space NAME` prints every path with its value. Unknown paths, NaN and "
    "infinities are refused. This page is made of the models in `raydistill/config/`: change it there, and "
    f"write it again by `{REWRITE}`."
)


def config_page() -> str:
    """Every section of a config, and presets."""
    parts = ["# Config", wrapped(_INTRODUCTION), "## The whole: `Experiment`", *_model(Experiment)]
    parts += ["## Data: `data`", *_variants(DataSet, *DATA_VARIANTS.classes.values()), *_model(Degradation)]
    parts += ["## Trainings: `evaluator`, `features`, `teacher`, `student`", *_model(Training)]
    parts += _variants(Training, EvaluatorTraining, FeaturesTraining, DistillTraining)
    parts += [*_own(GeneratorTraining, Training)]
    parts += _variants(GeneratorTraining, *TEACHER_VARIANTS.classes.values())
    parts += [*_model(Optimizer), *_model(Execution)]
    parts += [
        "## Mutual-information terms: `student.terms.NAME`",
        *_variants(Term, *TERM_VARIANTS.classes.values()),
    ]
    parts += ["## Generators: `teacher.generator`, `student.generator`"]
    for family in (*PICTURE_VARIANTS.classes.values(), *NOISE_VARIANTS.classes.values()):
        widths = family.model_fields["widths"].annotation
        assert isinstance(widths, type) and issubclass(widths, BaseModel)
        parts += [*_model(family), *_model(widths)]
    parts.append("## Other networks")
    for network in (PatchDiscriminator, SaganDiscriminator, SaganDiscriminatorWidths, StyleganDiscriminator):
        parts += _model(network)
    parts += [*_model(EnergyNetwork), *_model(EvaluatorNetwork), *_model(FeatureNetworkConfig), *_presets()]
    return "\n\n".join(parts) + "\n"


def spaces_page() -> str:
    """The models that a file of a search space or of a batch is made of."""
    parts = ["# Files of search spaces and batches"]
    parts.append(
        wrapped(
            "A file of a search space defines one `SPACE = SearchSpace(...)`, with names from "
            "`raydistill.space`. "
            "A file of a batch defines one `BATCH = Batch(...)`, with names from "
            "`raydistill.config.batch`. This "
            f"page is made of these models; `{REWRITE}` writes it again."
        )
    )
    parts += ["## Search spaces"]
    for part in (SearchSpace, Int, Float, Choice, Settings, When, Objective, Window, Lengths, Length):
        parts += _model(part)
    parts += ["## Batches"]
    for model in (Batch, Method, Budget):
        parts += _model(model)
    return "\n\n".join(parts) + "\n"


def _variants(base: type[BaseModel], *classes: type[BaseModel]) -> Iterator[str]:
    """A base class, unless it has been shown, and what each class adds to it."""
    if base not in (Training, GeneratorTraining):
        yield from _model(base)
    for each in classes:
        yield from _own(each, base)


def _model(model: type[BaseModel]) -> Iterator[str]:
    yield f"### {model.__name__}"
    yield from _texts(model)
    yield from _fields(model, model.model_fields)


def _own(model: type[BaseModel], base: type[BaseModel]) -> Iterator[str]:
    """A model without the fields that it has just as its base."""
    yield f"### {model.__name__}"
    yield from _texts(model)
    shown = {
        name: info
        for name, info in model.model_fields.items()
        if name not in base.model_fields or repr(info) != repr(base.model_fields[name])
    }
    yield from _fields(model, shown)
    yield wrapped(f"Its other fields are those of `{base.__name__}`.")


def _texts(model: type[BaseModel]) -> Iterator[str]:
    if not model.__doc__:
        raise ValueError(f"{model.__module__}.{model.__name__} has no docstring: write one")
    yield from paragraphs(model.__doc__)


def _fields(model: type[BaseModel], fields: dict[str, FieldInfo]) -> Iterator[str]:
    texts = attribute_docstrings(model)
    entries = []
    for name, info in fields.items():
        facts = (
            type_of(info.annotation, info.metadata),
            allowed(info.annotation, info.metadata),
            _default(info),
        )
        entry = f"`{name}` ({'; '.join(fact for fact in facts if fact)})"
        entries.append(wrapped(f"{entry}: {texts[name]}" if name in texts else entry, first="* ", then="  "))
    if entries:
        yield "\n".join(entries)


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required"
    if isinstance(info.default, BaseModel):
        given = {name: getattr(info.default, name) for name in sorted(info.default.model_fields_set)}
        return "default " + (", ".join(f"`{name}={value!r}`" for name, value in given.items()) or "as given")
    return f"default `{info.default!r}`"


def _presets() -> Iterator[str]:
    yield "## Presets"
    yield wrapped("What a space starts from (`preset=`); `raydistill config --space NAME` prints it whole.")
    rows = []
    for name, make in PRESETS.items():
        experiment = make()
        lengths = [
            f"{training.budget_nimg:,}"
            for training in (experiment.evaluator, experiment.teacher, experiment.student)
        ]
        size = f"{experiment.data.height}x{experiment.data.width}"
        families = f"{experiment.teacher.generator.family}, {experiment.teacher.recipe}"
        rows.append((f"`{name}`", experiment.data.kind, size, families, *lengths))
    columns = ("preset", "data", "height x width", "family and recipe of the teacher")
    yield table((*columns, *(f"images of {name}" for name in ("evaluator", "teacher", "a student"))), rows)
    yield "## Named terms"
    yield wrapped("`--set student.terms.mi=NAME` gives a whole term, of which a space then searches nothing.")
    named = [
        (f"`{name}`", " ".join((make.__doc__ or "").split()), f"`{make()!r}`")
        for name, make in NAMED_TERMS.items()
    ]
    yield table(("name", "what it is", "its values"), named)
