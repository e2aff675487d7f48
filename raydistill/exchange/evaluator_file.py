"""An evaluator as a TorchScript file, which scores other sweeps as a segmenter or an extractor."""

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from raydistill.data import to_float
from raydistill.errors import CheckpointError, ConfigError, RunError
from raydistill.exchange.export import written_whole
from raydistill.models import saved
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator

Gives = Literal["classes", "features"]
"""What the file gives of uint8 pictures (B, 3, H, W): class scores of each pixel (B, C, H, W), or features
(B, D)."""
_SIZES = ((2, 16, 24), (1, 32, 16))
"""(B, H, W) of the pictures that a file is tried on, after it was traced on others."""


class _Scores(nn.Module):
    """An evaluator that takes pictures as scorers from files do."""

    def __init__(self, evaluator: PixelEvaluator | PictureEvaluator, gives: Gives):
        super().__init__()
        self.evaluator, self.gives = evaluator, gives

    def forward(self, pictures: Tensor) -> Tensor:
        output = self.evaluator(to_float(pictures))
        return output.prediction if self.gives == "classes" else output.features


def find_evaluator(path: Path) -> Path | None:
    """The folder of the evaluator that a folder is, or has as its network; None: there is none."""
    for folder in (path, path / "network"):
        if (folder / "meta.json").is_file():
            try:
                saved.stored(folder, kind="evaluator")
            except CheckpointError:
                return None
            return folder
    return None


def export_evaluator(folder: Path, gives: Gives, out: Path) -> None:
    """Writes an evaluator to the TorchScript file `out`, whole or not at all.

    Raises:
        ConfigError: it is damaged, or tells classes of whole pictures where those of pixels are asked for.
        RunError: what the file gives differs from what the evaluator gives.
        StoreError: the file cannot be written.
    """
    try:
        evaluator = saved.load_evaluator(saved.stored(folder, kind="evaluator"))
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    if gives == "classes" and isinstance(evaluator, PictureEvaluator):
        raise ConfigError(f"{folder}: tells classes of whole pictures, not of pixels; give --gives features")
    network = _Scores(evaluator, gives).eval()
    quiet = warnings.catch_warnings(action="ignore")
    with written_whole(out) as temporary, quiet, torch.no_grad():
        torch.jit.save(torch.jit.trace(network, torch.zeros(2, 3, 16, 16, dtype=torch.uint8)), temporary)
        script = torch.jit.load(temporary)
        for count, height, width in _SIZES:
            pictures = torch.arange(count * 3 * height * width).remainder(251).to(torch.uint8)
            pictures = pictures.view(count, 3, height, width)
            if not torch.allclose(script(pictures), network(pictures), rtol=1e-5, atol=1e-5):
                raise RunError(f"{out}: not written: it gives other numbers than the evaluator")
