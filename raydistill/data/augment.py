"""The part of a training picture that is shown: another one in each pass, the same for the same (seed, picture, pass)."""

from typing import NamedTuple

import numpy as np

from raydistill.seeds import numpy_stream


class Crop(NamedTuple):
    starts: np.ndarray
    """(B, 2): the first row and column of each."""
    height: int
    width: int

    def of(self, pictures: np.ndarray) -> np.ndarray:
        """(B, h, w, ...) -> (B, height, width, ...)"""
        parts = [
            picture[top : top + self.height, left : left + self.width]
            for picture, (top, left) in zip(pictures, self.starts)
        ]
        return np.stack(parts)


def random_crop(
    loaded: tuple[int, int], shown: tuple[int, int], seed: int, indices: np.ndarray, passes: np.ndarray
) -> Crop:
    """Each place of the part is equally likely. `loaded`, `shown`: (height, width); `indices`, `passes`: (B,)."""
    room = [have - need + 1 for have, need in zip(loaded, shown)]
    drawn = [
        numpy_stream(seed, f"crop/{index}", int(number)).integers(0, room)
        for index, number in zip(indices, passes, strict=True)
    ]
    return Crop(np.array(drawn), *shown)


def central(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, h, w, ...) -> a view of the middle, (N, height, width, ...). Reads nothing."""
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    return pictures[:, top : top + height, left : left + width]
