"""The embedded data set: label maps and pictures of overlapping textured, shaded objects, drawn from a seed.

Most classes share two colours and differ only in texture, and the phase of a texture is random in every
picture. So the mean picture given the label map says little about the class. A regression on real pictures
blurs; a GAN teacher commits to one phase, and its output is a sharp function of the label map that a student
can learn. The teacher has something to teach.

The text of this file is the identity of the data set: after any change of it the pictures are prepared anew.
"""

import hashlib

import numpy as np

from raydistill.config.data import ShapesData

CLASSES = ("ground", "rows", "columns", "diagonals", "checks", "dots", "ball", "slashes")
"""Names of the classes of pixels; the index is the id.

"ground" is behind all objects, the others are objects.
"""
PALETTE = (
    (90, 90, 90),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Colour of each class in pictures of label maps, RGB 0..255."""
_BRIGHT = np.array([0.92, 0.80, 0.55])
_DARK = np.array([0.20, 0.25, 0.42])
_GROUND = np.array([0.45, 0.62, 0.45])
_BALL = np.array([0.75, 0.30, 0.25])


def draw(config: ShapesData, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (N, H, W, 3) and label maps uint8 (N, H, W) of a split.

    Args:
        config: sizes, seed, and the number N of pictures of each split.
        split: "train", "val" or "test". Each has a random stream of its own.
    """
    count = {"train": config.num_train, "val": config.num_val, "test": config.num_test}[split]
    key = int.from_bytes(hashlib.sha256(f"shapes/{config.seed}/{split}".encode()).digest()[:8])
    rng = np.random.default_rng(key)
    pairs = [_draw_pair(config.height, config.width, rng) for _ in range(count)]
    return np.stack([picture for picture, _ in pairs]), np.stack([labels for _, labels in pairs])


def _draw_pair(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 (height, width, 3) of four to six objects, and its label map uint8 (height, width)."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    scale = min(height, width)
    labels = np.zeros((height, width), np.uint8)
    picture = np.broadcast_to(_GROUND, (height, width, 3)).copy()
    for kind in rng.permutation(np.arange(1, len(CLASSES)))[: rng.integers(4, 7)]:
        center = rng.uniform(0.1, 0.9, 2) * (height, width)
        radii = rng.uniform(0.2, 0.34, 2) * scale
        mask = _outline((rows - center[0]) / radii[0], (columns - center[1]) / radii[1], int(rng.integers(3)))
        y, x = rows[mask], columns[mask]
        texture = _texture(int(kind), y, x, max(4, scale // 8), rng)
        picture[mask], labels[mask] = texture * _shading(y, x, center, radii, rng)[:, None], kind
    light = rng.uniform(-0.12, 0.12, 2)
    picture *= (1 + light[0] * (rows / height - 0.5) + light[1] * (columns / width - 0.5))[..., None]
    picture += rng.normal(0, 0.01, picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), labels


def _outline(y: np.ndarray, x: np.ndarray, shape: int) -> np.ndarray:
    """Whether pixels lie inside of an ellipse (shape 0), a rectangle (1) or a triangle (2).

    In the coordinates y and x, both (H, W), the object spans [-1, 1].
    """
    if shape == 0:
        return y**2 + x**2 < 1
    if shape == 1:
        return np.maximum(abs(y), abs(x)) < 0.85
    return (abs(y) < 1) & (abs(x) < (y + 1) / 2 + 0.2)


def _texture(
    kind: int, rows: np.ndarray, columns: np.ndarray, period: int, rng: np.random.Generator
) -> np.ndarray:
    """Colours (N, 3) in [0, 1] of the class `kind` at the N pixels (rows, columns), with a random phase."""
    phase = (rng.random(2) < 0.25) * (period // 2)
    y, x = (rows + phase[0]) % period, (columns + phase[1]) % period
    half = period / 2
    if CLASSES[kind] == "rows":
        bright = y < half
    elif CLASSES[kind] == "columns":
        bright = x < half
    elif CLASSES[kind] == "diagonals":
        bright = (rows + columns + phase[0]) % period < half
    elif CLASSES[kind] == "checks":
        bright = (y < half) ^ (x < half)
    elif CLASSES[kind] == "dots":
        bright = np.maximum(abs(y - half + 0.5), abs(x - half + 0.5)) < half * 0.7
    elif CLASSES[kind] == "slashes":
        bright = (rows - columns + phase[0]) % period < half
    else:
        return np.broadcast_to(_BALL, (*rows.shape, 3))
    return np.where(bright[:, None], _BRIGHT, _DARK)


def _shading(
    rows: np.ndarray, columns: np.ndarray, center: np.ndarray, radii: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Brightness factor (N,) of the N pixels of an object that is lit from a random side."""
    angle = rng.uniform(0, 2 * np.pi)
    side = np.sin(angle) * (rows - center[0]) / radii[0] + np.cos(angle) * (columns - center[1]) / radii[1]
    return 1 + 0.12 * np.clip(side, -1, 1)
