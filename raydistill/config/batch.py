"""A batch: several sweeps as one job, defined as data that is checked before anything starts.

A Python file defines one `BATCH`: spaces x methods x seeds, in an order, within a budget. `raydistill batch
FILE.py` runs it.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from raydistill.config.base import Frozen, UserPath
from raydistill.config.bounds import MOST_OPTIONS, Amount, AmountAboveZero, Number, Plain, Seed
from raydistill.config.definitions import definition_folders, load_definition
from raydistill.config.space import load_space, preset_of
from raydistill.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
"""Letters, digits, '.', '_' and '-', because it becomes part of a folder's name."""
_MOST_SWEEPS = 10_000
Axis = Literal["seed", "space", "method"]
"""What the sweeps of a batch differ in."""


class Method(Frozen):
    """One way to train students: what it changes in the spaces' configs and in the batch's own values."""

    name: Name
    set: dict[str, Plain] = {}
    """Dotted config path -> value, as for `--set`."""
    options: dict[str, Plain] = {}
    """Option of `raydistill sweep` -> value, such as {"trials": 16, "max_macs": 8e6}."""


class Budget(Frozen):
    """What the batch may spend in all, over every start of it. None: no limit.

    When it is spent, no further trial starts, and those that run go on to their end.
    """

    hours: AmountAboveZero | None = None
    """Wall-clock time of the command."""
    trials: Annotated[int, Field(gt=0, le=10**8)] | None = None
    """Number of searched trials, without baselines."""


class Published(Frozen):
    """A number that was published for one of the options of a search space's `Settings`."""

    metric: str
    """What it is of, such as "test/fid"."""
    value: Number
    tolerance: Amount
    """How far from it a number may lie that counts as reproduced: how exactly it was read, and what the
    authors' own seeds may differ by."""
    source: Annotated[str, Field(min_length=1, max_length=1000)]


class Batch(Frozen):
    """Several sweeps: one for each combination of a space, a method and a seed."""

    name: Name
    spaces: Annotated[tuple[UserPath, ...], Field(min_length=1, max_length=MOST_OPTIONS)]
    """Search spaces: names or paths, as for `--space`."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1, max_length=MOST_OPTIONS)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_OPTIONS)]
    order: tuple[Axis, Axis, Axis] = ("seed", "space", "method")
    """Order of the loops, the outermost first. By default all sweeps with the first seed come before any with
    the second."""
    budget: Budget = Budget()
    data: dict[UserPath, UserPath] = {}
    """Space -> folder of pictures, as for `--data`, for spaces that read one."""
    compare: dict[str, str] = {}
    """Option of a space's `Settings` -> the option that it is compared with, seed by seed."""
    published: dict[str, Published] = {}
    """Option of a space's `Settings` -> what was published for it."""
    set: dict[str, Plain] = {}
    """Dotted config path -> value, for all sweeps."""
    options: dict[str, Plain] = {}
    """Option of `raydistill sweep` -> value, for all sweeps."""
    store: UserPath = "runs"
    """Results folder, or the URL of an object store."""
    mlflow: UserPath | None = None
    """Tracking URI; None: an sqlite file in the store."""
    experiment: str = "raydistill"
    """Name of the MLflow experiment."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Batch":
        lists: dict[str, list[str]] = {
            "spaces": [Path(space).stem for space in self.spaces],
            "methods": [method.name for method in self.methods],
            "seeds": [str(seed) for seed in self.seeds],
            "order": [*self.order],
        }
        for what, names in lists.items():
            if repeats := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(
                    f"{what}: {', '.join(repeats)} is given more than once; give each one name of its own"
                )
        if unknown := sorted(set(self.data) - set(self.spaces)):
            raise ValueError(f"data: {', '.join(unknown)} is none of the spaces {', '.join(self.spaces)}")
        if (num := len(self.spaces) * len(self.methods) * len(self.seeds)) > _MOST_SWEEPS:
            raise ValueError(f"{num:,} sweeps, at most {_MOST_SWEEPS:,}; give fewer spaces, methods or seeds")
        return self

    def sweeps(self) -> Iterator["Entry"]:
        """Every sweep of the batch, in the order that `order` gives."""
        axes: dict[Axis, Sequence[Any]] = {"seed": self.seeds, "space": self.spaces, "method": self.methods}
        for combination in product(*(axes[axis] for axis in self.order)):
            by_axis = dict(zip(self.order, combination, strict=True))
            yield Entry(by_axis["space"], by_axis["method"], by_axis["seed"])


class Entry(NamedTuple):
    """One sweep of a batch."""

    space: str
    method: Method
    seed: int

    @property
    def label(self) -> str:
        """The sweep's name within the batch: space, method and seed."""
        return f"{Path(self.space).stem}-{self.method.name}-s{self.seed}"


def load_batch(given: Path) -> Batch:
    """The BATCH of a Python file, given by its path or, in a folder `search_spaces/batches`, by its name.

    Raises:
        ConfigError: there is no such file, it fails, or it defines no BATCH.
    """
    folders = [folder / "batches" for folder in definition_folders()]
    paths = [given] if given.suffix == ".py" else [folder / f"{given}.py" for folder in folders]
    for path in paths:
        if path.is_file():
            return load_definition(path, "BATCH", Batch, ConfigError)
    files = [(folder, path) for folder in folders for path in folder.rglob("[!_]*.py")]
    known = sorted({path.relative_to(folder).with_suffix("").as_posix() for folder, path in files})
    raise ConfigError(
        f"{given}: no such batch file; give the path of a .py file that defines BATCH = Batch(...), "
        f"or a name: {', '.join(known)}"
    )


def with_data(batch: Batch, folder: str | None) -> Batch:
    """The batch with this folder of pictures for every space that reads one and has none.

    Raises:
        ConfigError: no space would read it.
    """
    if folder is None:
        return batch
    spaces = {name: load_space(name) for name in batch.spaces if name not in batch.data}
    reading = [name for name, space in spaces.items() if preset_of(space, name).data.kind == "folder"]
    if not reading:
        raise ConfigError(f"--data {folder}: every space of batch {batch.name} has its data; leave it out")
    return batch.model_copy(update={"data": batch.data | dict.fromkeys(reading, folder)})
