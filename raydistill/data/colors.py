"""Pictures of label maps: which class each of their colours means."""

from dataclasses import dataclass

import numpy as np

from raydistill.data.label_maps import Color
from raydistill.errors import DataError

IGNORED_COLOR: Color = (160, 160, 160)
"""Colour of ignored pixels in pictures of label maps, where the data say no other."""


@dataclass(frozen=True)
class ColorTable:
    """Which id of a prepared label map each colour of a picture of a label map means."""

    colors: tuple[tuple[Color, int], ...]
    tolerance: int = 0
    """A colour that is not listed means the nearest listed one, where no channel differs from that by more
    than this."""

    def ids(self, picture: np.ndarray, path: str) -> np.ndarray:
        """Colours uint8 (H, W, 3) -> ids, uint8 (H, W).

        Raises DataError, which names the file as `path`, for colours that are not listed.
        """
        packed = picture.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        found, places = np.unique(packed, return_inverse=True)
        rows = np.stack([found >> 16, found >> 8 & 255, found & 255], 1)
        nearest, distances = self._nearest(rows)
        if (is_unknown := distances > self.tolerance).any():
            pixels = np.bincount(places.reshape(-1), minlength=len(found))
            raise _unknown_colors(path, rows[is_unknown], pixels[is_unknown], picture.size // 3)
        return np.array([index for _, index in self.colors], np.uint8)[nearest][places].reshape(packed.shape)

    def _nearest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each colour (N, 3) the place of the nearest listed one, and by how much a channel differs."""
        listed = np.array([color for color, _ in self.colors], np.int16)
        best, least = np.zeros(len(rows), np.int64), np.full(len(rows), 256, np.int16)
        for place, color in enumerate(listed):
            far = np.abs(rows.astype(np.int16) - color).max(1)
            best, least = np.where(far < least, place, best), np.minimum(far, least)
        return best, least


_NAMED_COLORS = 6
"""Colours that a message names."""


def _unknown_colors(path: str, colors: np.ndarray, pixels: np.ndarray, total: int) -> DataError:
    """The refusal of a file's colours (N, 3) that no table lists, which `pixels` (N,) of `total` have."""
    most = np.argsort(-pixels, kind="stable")[:_NAMED_COLORS]
    named = ", ".join(f"{tuple(colors[place].tolist())} in {int(pixels[place]):,}" for place in most)
    return DataError(
        f"{path}: {int(pixels.sum()):,} of its {total:,} pixels have colours that are not in the palette of "
        f"classes.json, {len(colors):,} different ones: {named}{', ...' * (len(colors) > len(most))}. Smooth "
        'resizing and JPEG make new colours: "tolerance": N takes those that differ by up to N in a channel '
        'for the nearest one of the palette, "ignored_palette": [[r, g, b], ...] ignores these pixels. '
        "Correct the picture or the file."
    )
