"""Published tables as search spaces: rows are `Settings`, trained at full length and scored on test."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from raydistill.config.architectures import Widths
from raydistill.config.batch import Batch, Method, Published
from raydistill.space import SearchSpace, Settings

BASE, PUBLISHED_VEM, RECOMMENDED = "base", "base + published VEM", "base + recommended"


def rows(
    widths: type[Widths],
    ngfs: Sequence[int],
    published_term: str,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Settings:
    """A row for each base width with the base alone, with the published term, and with the recommended one.

    Args:
        published_term: a name of `config.term_presets.NAMED_TERMS`.
        changes: config path -> value, in which the published term differs.
    """
    terms: dict[str, dict[str, Any]] = {
        BASE: {"student.terms.mi.weight": 0.0},
        PUBLISHED_VEM: {"student.terms.mi": published_term, **changes},
        RECOMMENDED: {"student.terms.mi": "recommended"},
    }
    return Settings(
        options={
            f"{ngf}, {name}": term
            | {f"student.generator.widths.{key}": each for key, each in widths.uniform_values(ngf).items()}
            for ngf in ngfs
            for name, term in terms.items()
        }
    )


def table(space: SearchSpace, students: Settings, **fields: Any) -> SearchSpace:
    """The space with these rows as its students, at full length, without windows and baselines.

    Args:
        fields: further fields to replace.
    """
    assert space.lengths is not None
    return space.model_copy(
        update={
            "parameters": {"student": students},
            **{"when": {}, "needs": {}, "constraints": (), "uniform": (), "test": "all"},
            "lengths": space.lengths.model_copy(update={"search_share": 1.0}),
            **fields,
        }
    )


def batch(
    name: str,
    spaces: Mapping[str, Settings],
    published: dict[str, Published],
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Batch:
    """Three seeds of the rows of some spaces, each with a term beside the same width without, and no recheck,
    which would be one more training at full length for each seed.

    Args:
        spaces: name of each below `published/` -> its rows.
        published: see `published`.
        options: further options of the sweeps.
    """
    rows_of_all = [key for students in spaces.values() for key in students.options]
    return Batch(
        name=name,
        spaces=tuple(f"published/{space}" for space in spaces),
        methods=(Method(name="omgd"),),
        seeds=(0, 1, 2),
        compare={key: f"{key.split(', ')[0]}, {BASE}" for key in rows_of_all if not key.endswith(BASE)},
        published=published,
        options={"sampler": "random", "skip_recheck": True, **options},
    )


def published(
    metric: str, values: Mapping[int, float], tolerance: float, source: str
) -> dict[str, Published]:
    """Row of the base alone -> its published number, by base width."""
    return {
        f"{ngf}, {BASE}": Published(metric=metric, value=value, tolerance=tolerance, source=source)
        for ngf, value in values.items()
    }
