"""How large a number in a config or an option may be, and how much a file of Python may define.

The bounds are far above any use. What lies beyond them is a slip or an attack, and is refused with its
dotted path before anything is drawn or allocated. `docs/explanation/limits.md` lists them for users. Every
number of a config has one of these types, or bounds of its own.
"""

import math
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, WrapValidator

LARGEST_SIDE = 8192
"""Pixels of a side of a picture."""

Side = Annotated[int, Field(gt=0, le=LARGEST_SIDE)]
"""Height or width of a picture, in pixels."""
NumPictures = Annotated[int, Field(gt=0, le=10**8)]
"""Pictures of a data set."""
NumImages = Annotated[int, Field(gt=0, le=10**12)]
"""Length of a training in images (nimg), or a number of parameters."""
BatchSize = Annotated[int, Field(gt=0, le=2**16)]
"""Pictures that are held in memory at once."""
Interval = Annotated[int, Field(gt=0, le=10**6)]
"""Something is done once in so many steps, or so many times."""
NumHalvings = Annotated[int, Field(gt=0, le=64)]
"""Layers that each halve a picture."""
NumTrials = Annotated[int, Field(ge=0, le=10**5)]
"""Trainings of a sweep."""
NumWorkers = Annotated[int, Field(gt=0, le=10**4)]
"""Workers, their CPUs, trials at a time, threads."""
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e9)]
"""Weight of a loss, standard deviation; GiB, seconds, GPUs."""
AmountAboveZero = Annotated[float, Field(gt=0, le=1e9)]
"""Step size, variance; seconds, hours, GiB."""
Share = Annotated[float, Field(ge=0, le=1)]
"""A part of a whole."""
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
"""Any: a training by one that is too large diverges, and says so."""
Cost = Annotated[float, Field(ge=0, le=1e30)]
"""A limit on MACs, parameters or memory."""
CostAboveZero = Annotated[float, Field(gt=0, le=1e30)]
MacsConvention = Literal["true", "conv_out", "conv_out+norm", "cagc"]
"""How multiply-accumulates are counted, see `models.cost.CONVENTIONS`."""


class CountedMacs(float):
    """A number of multiply-accumulates that knows how it was counted."""

    convention: MacsConvention = "true"


def counted_macs(value: object, handler: ValidatorFunctionWrapHandler) -> CountedMacs:
    """A number, or text like "2.6e9:conv_out+norm". Raises ValueError where there is no such convention."""
    number, colon, convention = value.partition(":") if isinstance(value, str) else (value, "", "")
    if colon and convention not in get_args(MacsConvention):
        known = ", ".join(get_args(MacsConvention))
        raise ValueError(f"there is no convention {convention[:100]!r} of counting; known: {known}")
    counted = CountedMacs(handler(number))
    counted.convention = cast(MacsConvention, convention or getattr(value, "convention", "true"))
    return counted


MacsLimit = Annotated[Cost, WrapValidator(counted_macs)]
"""A limit on MACs: a number, which is counted as objectives are, or as text with a convention behind it."""
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A score, or an end of a range."""
WholeNumber = Annotated[int, Field(ge=-(2**63), lt=2**63)]

MOST_PARAMETERS = 200
"""Parameters, conditions, baselines of a search space."""
MOST_OPTIONS = 1000
"""Options of a Choice; sets, spaces, methods, seeds of a batch."""
MOST_DEPTH = 16
"""How deep lists and dictionaries are nested in a value."""
_MOST_ITEMS = 10_000
"""Items of a value; one list many times in another counts each time."""


def _plain(value: Any) -> Any:
    """`value`, if it is JSON data or has tuples beside. Raises ValueError where it is not, or is too much."""
    left, num_items = [(value, 0)], 0
    while left:
        item, depth = left.pop()
        num_items += 1
        if depth > MOST_DEPTH or num_items > _MOST_ITEMS:
            raise ValueError(f"nested more than {MOST_DEPTH} deep, or of more than {_MOST_ITEMS:,} items")
        if isinstance(item, dict):
            left += [(each, depth + 1) for each in item.values()]
        elif isinstance(item, list | tuple):
            left += [(each, depth + 1) for each in item]
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("no finite number")
        elif isinstance(item, int) and abs(item) >= 2**63:
            raise ValueError("a whole number of more than 63 bits")
        elif item is not None and not isinstance(item, str | int | float):
            raise ValueError(f"a {type(item).__name__}; give numbers, text, lists and dictionaries of them")
    return value


Plain = Annotated[Any, AfterValidator(_plain)]
"""A value that a Python file gives for a config path or an option."""
