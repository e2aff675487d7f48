"""A score: its value, 95 % interval and the conditions under which it was measured."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from raydistill.config import renamed
from raydistill.config.base import Frozen, digest
from raydistill.errors import DataError


class Score(Frozen):
    """One score of a set of pictures, with everything that decides which scores it may be compared with."""

    name: Annotated[str, AfterValidator(renamed.metric_now)]
    """`<split>/<quantity>`, with the extractor where there is one: `val/kd_squeezenet`."""
    value: float | None
    """None: infinite, as the PSNR of equal pictures."""
    interval: tuple[float, float] | None
    """95 % interval (low, high) over the scored pictures; None: not asked for, or the score has none."""
    ceiling: float | None = None
    """The same score of the real pictures themselves; None: it is not a score of classes."""
    num_samples: int
    """How many pictures were scored."""
    num_real: int | None
    """How many real pictures they were scored against; None: published statistics do not say it."""
    biased: bool = False
    """Whether it is a Frechet distance of no more pictures than features.

    Such a distance has no meaning beside one of another number of pictures.
    """
    extractor: Annotated[str, AfterValidator(renamed.kind_now)] = ""
    """What the weights of the extractor or the segmenter are; empty: there is none."""
    extractor_digest: str = ""
    resize: str = ""
    split: str
    real_statistics: str
    """Digest of what the real statistics come from: data, split, extractor, resize filter, number."""


CONDITIONS = ("num_samples", "num_real", "extractor_digest", "resize", "split", "real_statistics")
"""The fields that must be equal where two scores of one name are compared."""


def statistics_digest(
    data_digest: str, extractor_digest: str, resize: str, split: str, num_samples: int
) -> str:
    """Digest of everything that the features of real pictures depend on.

    Scores with different digests are not compared.
    """
    return digest([data_digest, extractor_digest, resize, split, num_samples])


def require_same_conditions(first: Iterable[Score], second: Iterable[Score], where: str) -> None:
    """Raises DataError where two scores of one name were measured under different conditions.

    The message begins with `where`, which says where the first ones come from.
    """
    others = {score.name: score for score in second}
    for score in first:
        other = others.get(score.name, score)
        for condition in CONDITIONS:
            mine, theirs = getattr(score, condition), getattr(other, condition)
            if mine != theirs:
                raise DataError(
                    f"{where}: mixed digests: "
                    f"{score.name} was measured with {condition} {theirs!r}, here with {mine!r}; "
                    "such values cannot be compared"
                )
