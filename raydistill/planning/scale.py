"""`--scale`: the same space with narrow networks and short trainings, by one rule.

Kept are recipe, base, term, scorers, objectives, resolution, depth and batches. Changed are:

* every width of every network, divided by `Scale.divisor`, and ranges of widths with them;
* lengths: so many minibatches, or the whole length where that is less;
* uniform baselines and searched trials: at most so many; where `Settings` say all students, all are trained;
* windows on MACs and parameters: they keep their ratio to the cost of the widest uniform baseline;
* how many pictures of a split are scored: at most so many.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from annotated_types import Ge
from pydantic import BaseModel

from raydistill import models
from raydistill.config import space
from raydistill.config.architectures import Generator, Widths
from raydistill.config.experiment import Experiment
from raydistill.config.lengths import STAGES
from raydistill.config.space import Distribution, Int, SearchSpace, Settings, Window
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import DataInfo
from raydistill.errors import ConfigError
from raydistill.models import cost
from raydistill.models.cost import Table

Model = TypeVar("Model", bound=BaseModel)


class Scale(NamedTuple):
    """How far a space is shrunk."""

    divisor: int
    """Of every width."""
    minibatches: int
    """Length of each training, in minibatches; two reports."""
    scored: int
    """The most pictures of a split that are scored."""
    trials: int | None = None
    baselines: int | None = None
    """The most of each; None: as many as without it."""


SCALES = {
    "smoke": Scale(divisor=16, minibatches=2, scored=32, trials=2, baselines=1),
    "small": Scale(divisor=4, minibatches=500, scored=500),
}
"""`--scale` -> how far. smoke is for minutes on two cores, small for a night on them or minutes on a GPU."""
_WIDTHS = ("width", "channels", "style")
"""Fields that are widths, outside of `Widths`."""
_REPORTS = 2


def scaled_options(options: SweepOptions, assigned: Sequence[str]) -> SweepOptions:
    """The options with as many trials as the scale has.

    Args:
        assigned: the config paths of --set.

    Raises:
        ConfigError: a length is given by hand, too.
    """
    if options.scale is None:
        return options
    lengths = [path for path in assigned if path.endswith((".budget_nimg", ".report_every_nimg"))]
    given = ["--nimg"] * (options.nimg is not None) + [f"--set {path}" for path in lengths]
    if given:
        raise ConfigError(
            f"--scale {options.scale}: it says how long trainings are, and so does {', '.join(given)}; "
            "leave one of the two out"
        )
    most = SCALES[options.scale].trials
    return options.model_copy(
        update={"trials": options.trials if most is None else min(options.trials, most)}
    )


def scaled_scoring(options: SweepOptions, info: DataInfo) -> SweepOptions:
    """The options with as many scored pictures as the scale has, where val has more and none is given."""
    if options.scale is None or options.num_scored is not None:
        return options
    most, there = (
        SCALES[options.scale].scored,
        min(info.counts["val"], (info.input_counts or info.counts)["val"]),
    )
    return options if there <= most else options.model_copy(update={"num_scored": most})


def scaled(search_space: SearchSpace, experiment: Experiment, name: str) -> tuple[SearchSpace, Experiment]:
    """The space and its config at a scale; see the top of this file.

    Args:
        experiment: what `preset_of` gives.
        name: a key of `SCALES`.
    """
    scale = SCALES[name]
    stages = {stage: _narrower(getattr(experiment, stage), scale.divisor) for stage in STAGES}
    small = _shorter(experiment.model_copy(update=stages), scale)
    generator, names = experiment.student.generator, space.uniform_names(search_space)
    widths = [
        type(generator.widths)(**space.uniform_values(search_space, generator.widths, ngf)) for ngf in names
    ]
    narrower = [_narrower(each, scale.divisor) for each in widths]
    widest = (widths or [generator.widths])[0], (narrower or [small.student.generator.widths])[0]
    pairs = zip((generator, small.student.generator), widest, strict=True)
    tables = [_layers(each.model_copy(update={"widths": first}), experiment) for each, first in pairs]
    named: dict[str, dict[str, int]] = {}
    for ngf, each in zip(names, narrower, strict=True):
        values = each.model_dump(exclude_none=True)
        if values not in named.values() and len(named) < (scale.baselines or len(names)):
            named[f"{ngf} over {scale.divisor}"] = values
    fields = {
        "parameters": {
            path: _narrower_range(path, each, small, scale.divisor)
            for path, each in search_space.parameters.items()
        },
        "constraints": tuple(_scaled_window(each, *tables) for each in search_space.constraints),
        "uniform": (),
        "uniform_widths": named,
        "lengths": None,
    }
    return search_space.model_copy(update=fields), small


def _narrower(model: Model, divisor: int) -> Model:
    """A copy of a config in which every width is divided; none falls below what its field allows."""
    changes: dict[str, Any] = {}
    for name, value in model:
        is_width = isinstance(model, Widths) or name in _WIDTHS
        if isinstance(value, BaseModel):
            changes[name] = _narrower(value, divisor)
        elif isinstance(value, dict):
            changes[name] = {
                key: _narrower(each, divisor) if isinstance(each, BaseModel) else each
                for key, each in value.items()
            }
        elif is_width and isinstance(value, int):
            changes[name] = max(_least(type(model), name), round(value / divisor))
    return model.model_copy(update=changes)


def _least(model: type[BaseModel], name: str) -> int:
    """The least value of a width."""
    bounds = [each.ge for each in model.model_fields[name].metadata if isinstance(each, Ge)]
    return max([1, *(int(bound) for bound in bounds)])  # type: ignore[call-overload]


def _narrower_range(path: str, distribution: Distribution, small: Experiment, divisor: int) -> Distribution:
    """The range of a width, divided like the width, and what settings say of widths; the others stay.

    A length that settings give is at most the student's.
    """
    if isinstance(distribution, Settings):
        options = {key: _narrower_values(each, small, divisor) for key, each in distribution.options.items()}
        return Settings(options=options)
    if ".widths." not in path or not isinstance(distribution, Int):
        return distribution
    least = _least(type(small.student.generator.widths), path.rpartition(".")[2])
    low = max(least, round(distribution.low / divisor))
    step = max(1, distribution.step // divisor)
    high = low + max(0, round(distribution.high / divisor) - low) // step * step
    return Int(low=low, high=high, step=step)


def _narrower_values(values: dict[str, Any], small: Experiment, divisor: int) -> dict[str, Any]:
    """What one of the settings gives, at a scale."""
    out = dict(values)
    for path, value in values.items():
        if ".widths." in path:
            least = _least(type(small.student.generator.widths), path.rpartition(".")[2])
            out[path] = max(least, round(value / divisor))
        elif path == "student.budget_nimg":
            out[path] = min(value, small.student.budget_nimg)
    return out


def _shorter(experiment: Experiment, scale: Scale) -> Experiment:
    """The experiment with trainings of a few minibatches."""
    changes = {}
    for stage in STAGES:
        training = getattr(experiment, stage)
        budget = min(training.budget_nimg, scale.minibatches * training.batch_size)
        lengths = {"budget_nimg": budget, "report_every_nimg": math.ceil(budget / _REPORTS)}
        changes[stage] = training.model_copy(update=lengths)
    return experiment.model_copy(update=changes)


def _layers(generator: Generator, experiment: Experiment) -> Table:
    """A generator as a table at the size of the data, for ratios of costs: inputs have three channels."""
    factor = experiment.data.degrade.scale
    size = experiment.data.height // factor, experiment.data.width // factor
    return models.GENERATORS[generator.family].layers(generator, 3, *size)


def _scaled_window(window: Window, widest: Table, narrower: Table) -> Window:
    """A window on MACs or parameters, at the same ratio to the widest uniform baseline."""
    if window.cost == "cost/memory_gb":
        return window
    before, after = (
        cost.macs(table, window.convention) if window.cost == "cost/macs" else cost.params(table)
        for table in (widest, narrower)
    )
    low, high = (-(-int(bound) * after // before) for bound in (window.low, window.high))
    return window.model_copy(update={"low": float(low), "high": float(high)})
