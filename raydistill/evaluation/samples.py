"""A grid of sample pictures: what networks make of some pictures of a split."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.data import Batch, Split, render_inputs, to_uint8
from raydistill.models.inputs import evaluation_batch, num_inputs


def write_grid(
    path: Path,
    split: Split,
    columns: dict[str, Callable[[Batch], Tensor]],
    device: torch.device,
    latent: int | None = None,
    num_rows: int = 6,
) -> None:
    """Writes a PNG with a row for each of `num_rows` pictures of a split, scaled up to about 96 pixels.

    The columns are the input, where it is a picture, the target, and what the functions in
    `columns` make, in order.

    Args:
        latent: How many numbers a noise input has; None: inputs are the split's.
    """
    indices = np.linspace(0, num_inputs(split, latent) - 1, num_rows).astype(int)
    part = evaluation_batch(split, latent, indices, device)
    with torch.no_grad():
        images = [to_uint8(produce(part)).permute(0, 2, 3, 1).cpu().numpy() for produce in columns.values()]
    images.insert(0, to_uint8(part.target).permute(0, 2, 3, 1).cpu().numpy())
    if latent is None and part.inputs.dim() == 4:
        inputs, factor = render_inputs(part.inputs, split.info), split.info.degrade.scale
        images.insert(0, inputs.repeat(factor, 1).repeat(factor, 2))
    gap = ((0, 0), (1, 1), (1, 1), (0, 0))
    framed = [np.pad(image, gap, constant_values=255) for image in images]
    grid = np.concatenate([np.concatenate(list(column), 0) for column in framed], 1)
    scale = max(1, 96 // split.info.height)
    Image.fromarray(grid.repeat(scale, 0).repeat(scale, 1)).save(path)
