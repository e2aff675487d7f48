"""Batches: several sweeps as one job, as data that is checked before anything starts.

A file defines one `BATCH`: spaces x methods x seeds, in an order, within a budget. `raydistill batch FILE.py` runs it.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from raydistill.config.base import Frozen
from raydistill.config.space import defined_in
from raydistill.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
"""Letters, digits, '.', '_' and '-': it becomes part of a folder's name."""
Axis = Literal["seed", "space", "method"]


class Method(Frozen):
    """One way to train students: what differs from the spaces' configs and from the batch's own values."""

    name: Name
    set: dict[str, Any] = {}
    """Dotted config path -> value, as `--set`."""
    options: dict[str, Any] = {}
    """Option of `raydistill sweep` -> value, such as {"trials": 16, "max_macs": 8e6}."""


class Budget(Frozen):
    """What the batch may spend in all, over every start of it. When it is spent no trial starts; running ones end. None: no limit."""

    hours: PositiveFloat | None = None
    """Wall-clock time of the command."""
    trials: PositiveInt | None = None
    """Searched trials; baselines are not counted."""


class Batch(Frozen):
    name: Name
    spaces: Annotated[tuple[str, ...], Field(min_length=1)]
    """Search spaces: names or paths, as `--space`."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    order: tuple[Axis, Axis, Axis] = ("seed", "space", "method")
    """The outermost loop first. By default every space and method has its first seed before any has its second."""
    budget: Budget = Budget()
    data: dict[str, str] = {}
    """Space -> folder of pictures, for spaces that read one, as `--data`."""
    set: dict[str, Any] = {}
    """Dotted config path -> value, for all sweeps."""
    options: dict[str, Any] = {}
    """Option of `raydistill sweep` -> value, for all sweeps."""
    store: str = "runs"
    mlflow: str | None = None
    experiment: str = "raydistill"

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Batch":
        named: dict[str, list[str]] = {
            "spaces": [Path(space).stem for space in self.spaces],
            "methods": [method.name for method in self.methods],
            "seeds": [str(seed) for seed in self.seeds],
            "order": [*self.order],
        }
        for what, names in named.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(
                    f"{what}: {', '.join(twice)} is given more than once; give each one name of its own"
                )
        if unknown := sorted(set(self.data) - set(self.spaces)):
            raise ValueError(f"data: {', '.join(unknown)} is none of the spaces {', '.join(self.spaces)}")
        return self

    def sweeps(self) -> Iterator["Entry"]:
        """Every sweep of the batch, in its order."""
        axes: dict[Axis, Sequence[Any]] = {"seed": self.seeds, "space": self.spaces, "method": self.methods}
        for configuration in product(*(axes[axis] for axis in self.order)):
            by_axis = dict(zip(self.order, configuration, strict=True))
            yield Entry(by_axis["space"], by_axis["method"], by_axis["seed"])


class Entry(NamedTuple):
    """One sweep of a batch."""

    space: str
    method: Method
    seed: int

    @property
    def label(self) -> str:
        return f"{Path(self.space).stem}-{self.method.name}-s{self.seed}"


def load_batch(path: Path) -> Batch:
    """The BATCH of a file. Raises ConfigError where there is no such file or it defines none."""
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(
            f"{path}: no such batch file; give the path of a .py file that defines BATCH = Batch(...)"
        )
    return defined_in(path, "BATCH", Batch, ConfigError)
