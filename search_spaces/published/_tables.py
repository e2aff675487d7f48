"""Published tables as search spaces: rows are `Settings`, trained at full length and scored on test."""

from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.config.architectures import Widths
from raydistill.config.batch import Published
from raydistill.space import SearchSpace, Settings

BASE, PUBLISHED_VEM, RECOMMENDED = "base", "base + published VEM", "base + recommended"


def rows(widths: type[Widths], ngfs: Sequence[int], published_term: str) -> Settings:
    """A row for each base width with the base alone, with the published term, and with the recommended one.

    Args:
        published_term: a name of `config.term_presets.NAMED_TERMS`.
    """
    terms: dict[str, dict[str, Any]] = {
        BASE: {"student.terms.mi.weight": 0.0},
        PUBLISHED_VEM: {"student.terms.mi": published_term},
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


def compared(students: Settings) -> dict[str, str]:
    """Row with a term -> the row of the same width without."""
    return {key: f"{key.split(', ')[0]}, {BASE}" for key in students.options if not key.endswith(BASE)}


def published(
    metric: str, values: Mapping[int, float], tolerance: float, source: str
) -> dict[str, Published]:
    """Row of the base alone -> its published number, by base width."""
    return {
        f"{ngf}, {BASE}": Published(metric=metric, value=value, tolerance=tolerance, source=source)
        for ngf, value in values.items()
    }
