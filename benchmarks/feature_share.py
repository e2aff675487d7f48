"""How hard losses of features pull beside SSIM: `python benchmarks/feature_share.py --out FILE.jsonl`.

For pictures t and students' pictures s, the norm of the gradient by s of 1e4 style and of 10 content (OMGD's
weights) is divided by that of 10 (1 - SSIM). Pictures t are real ones of val. A student's picture is t shrunk
to a half and enlarged again, blended with t by a share, with a tint: what a student in training is like, from
far to close. Networks: VGG16 with weights drawn by He et al. 2015, the stand-in trained on the data, and
VGG16 from --features FILE. The ratio of the shares of VGG16 to those of the stand-in, a geometric mean over
pictures and seeds, is the factor that stands beside the stand-in's class (`models.features.TrainedTaps`); its
own factors are left out here.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.paths import with_values
from raydistill.config.presets import PRESETS
from raydistill.data import batch, load_split, prepare
from raydistill.method.perceptual import content_loss, style_loss
from raydistill.method.similarity import dissimilarity
from raydistill.models import saved
from raydistill.models.features import FeatureNetwork, Vgg16Taps, he_initialise, read_vgg16
from raydistill.trials.run_job import network_of, perform

SEEDS, BLENDS, NUM_PICTURES = (0, 1, 2), (1.0, 0.5, 0.25), 16
STYLE_WEIGHT, CONTENT_WEIGHT, SSIM_WEIGHT = 1e4, 10.0, 10.0


def student_like(t: Tensor, blend: float) -> Tensor:
    """Pictures like those of a student: the nearer, the smaller `blend` is."""
    coarse = F.interpolate(F.avg_pool2d(t, 2), t.shape[2:], mode="bilinear", align_corners=False)
    tint = torch.tensor([0.1, -0.05, 0.05]).view(3, 1, 1)
    return (t + blend * (coarse + tint - t)).clamp(-1, 1)


def shares(network: FeatureNetwork, t: Tensor, blend: float) -> dict[str, float]:
    """Loss -> norm of its gradient by s as a share of that of 10 (1 - SSIM)."""
    s = student_like(t, blend).requires_grad_(True)
    own, other = network(s), network(t)
    losses = {
        "ssim": SSIM_WEIGHT * dissimilarity(s, t),
        "style": STYLE_WEIGHT * style_loss(own, other),
        "content": CONTENT_WEIGHT * content_loss(own[network.content_tap], other[network.content_tap]),
    }
    norms = {
        name: float(torch.autograd.grad(loss, s, retain_graph=True)[0].norm())
        for name, loss in losses.items()
    }
    return {name: norms[name] / norms["ssim"] for name in ("style", "content")}


def stand_in(data: Stored, preset: str, seed: int, folder: Path) -> FeatureNetwork:
    """The stand-in of a preset, trained on its data."""
    training = PRESETS[preset]().features.model_copy(update={"seed": seed + 1})
    job = Job(training=training, data=data)
    result = perform(job, folder / job.key, lambda evaluation: None)
    return saved.load_features(network_of(folder / job.key, result))


def he_vgg16(seed: int) -> FeatureNetwork:
    """VGG16 with weights of He et al. 2015."""
    torch.manual_seed(seed)
    network = Vgg16Taps()
    he_initialise(network)
    return network.eval().requires_grad_(False)


def networks_of(
    data: Stored, preset: str, folder: Path, file: Path | None
) -> Iterator[tuple[str, int, FeatureNetwork]]:
    """(name, seed, network) of all that are measured."""
    for seed in SEEDS:
        yield "VGG16, He", seed, he_vgg16(seed)
        yield "stand-in", seed, stand_in(data, preset, seed, folder)
    if file is not None:
        yield "VGG16, file", 0, read_vgg16(file)


def main() -> None:
    """Measures, and prints the factors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="shapes32")
    parser.add_argument("--set", action="append", default=[], metavar="data.height=64")
    parser.add_argument("--features", type=Path, default=None, help="a file of VGG16's weights")
    parser.add_argument("--folder", type=Path, default=Path("runs/feature_share"))
    options = parser.parse_args()
    values = {path: json.loads(text) for path, _, text in (each.partition("=") for each in options.set)}
    experiment = with_values(PRESETS[options.preset](), values, where="--set")
    data = prepare(experiment.data, options.folder / "data")
    val = load_split(data, "val")
    t = batch(val, np.arange(NUM_PICTURES), device=torch.device("cpu")).target
    size, rows = f"{t.shape[3]}x{t.shape[2]}", []
    for name, seed, network in networks_of(data, options.preset, options.folder, options.features):
        for blend in BLENDS:
            row = {"data": options.preset, "size": size, "network": name, "seed": seed, "blend": blend}
            rows.append(row | shares(network, t, blend))
            print(rows[-1])
    with options.out.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for loss in ("style", "content"):
        mean = {
            name: statistics.fmean(math.log(row[loss]) for row in rows if row["network"] == name)
            for name in {row["network"] for row in rows}
        }
        for name, value in mean.items():
            print(f"{loss}: share with {name} {math.exp(value):.3g}", end="; ")
        print(f"factor {math.exp(mean['VGG16, He'] - mean['stand-in']):.4g}")


if __name__ == "__main__":
    main()
