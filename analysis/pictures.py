"""Pictures of trials for the page: small enough to stand inside it."""

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from PIL import Image

MOST_BYTES = 64 * 1024
"""Of one picture inside the page."""
MOST_MEMBERS = 24
"""Members of the front whose pictures are inside the page."""
_QUALITIES = (85, 65, 45, 25)
_SMALLER = 0.7


def inside(table: pd.DataFrame) -> list[str]:
    """The trials whose pictures are inside the page: teacher, baselines, and the members of the front that
    contribute most to its hypervolume."""
    front = table[table["front.member"]].sort_values("front.hv_contribution", ascending=False)
    others = table[~table["role"].isin(("search", "replicate", "recheck"))]
    return list(dict.fromkeys([*others["trial_id"], *front["trial_id"].head(MOST_MEMBERS)]))


def embedded(samples: Mapping[str, Path], trials: Sequence[str]) -> dict[str, str]:
    """Trial -> its picture as a data URL, for those of `trials` that have one.

    Raises FileNotFoundError: a file does not exist.
    """
    urls = {}
    for trial in trials:
        if (path := samples.get(trial)) is not None:
            urls[trial] = _url(path, path.stat().st_mtime_ns)
    return urls


@functools.lru_cache(maxsize=128)  # a running sweep draws its page often, its pictures change once
def _url(path: Path, changed: int) -> str:
    return "data:image/webp;base64," + base64.b64encode(as_webp(path)).decode()


def as_webp(path: Path) -> bytes:
    """A picture as WebP of at most `MOST_BYTES`: without loss, else of less quality, else smaller."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    may_fit = image.width * image.height * 3 <= 16 * MOST_BYTES  # trying takes seconds of a large one
    if may_fit and len(whole := _encoded(image, lossless=True)) <= MOST_BYTES:
        return whole
    while True:
        for quality in _QUALITIES:
            if len(lossy := _encoded(image, quality=quality)) <= MOST_BYTES:
                return lossy
        size = (max(1, int(image.width * _SMALLER)), max(1, int(image.height * _SMALLER)))
        image = image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, *, lossless: bool = False, quality: int = 80) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", lossless=lossless, quality=quality, method=2)
    return out.getvalue()
