"""Features and distances of 1,000 pictures: processor seconds, memory and values, beside torchmetrics.

    python benchmarks/metrics.py --pictures FOLDER_OR_ZIP --extractor squeezenet=FILE [--num 1000]

Both run the same network. That many pictures are the real ones; the others are the same with noise. Each way
runs in a process of its own with one thread; memory is the peak of that process above what it had with the
network loaded.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.evaluation import metrics
from raydistill.evaluation.extractors import Extractor, load_extractor
from raydistill.evaluation.metrics import Moments
from raydistill.evaluation.picture_sets import Pictures, of_files
from raydistill.evaluation.scorer import Scorer

CPU = torch.device("cpu")


def noisy(real: Pictures) -> Pictures:
    """The same pictures with uniform noise of up to 40 of 255."""

    def read(indices: np.ndarray) -> Tensor:
        pictures, generator = real.read(indices), torch.Generator().manual_seed(int(indices[0]))
        return (
            (pictures.int() + torch.randint(-40, 41, pictures.shape, generator=generator))
            .clamp(0, 255)
            .to(torch.uint8)
        )

    return real._replace(name="with noise", read=read)


def ours(extractor: Extractor, real: Pictures, fake: Pictures) -> tuple[float, dict[str, float]]:
    """raydistill's way: processor seconds at which the features were there, and the values."""
    (one,), (two,) = (Scorer(part, "all", [extractor]).features for part in (real, fake))
    done = time.process_time()
    precise, recalled = metrics.precision_recall(one, two)
    values = {
        "frechet": metrics.frechet_distance(Moments.of(one), Moments.of(two)),
        "kernel": metrics.kernel_distance(one, two),
        "precision": float(precise.double().mean()),
        "recall": float(recalled.double().mean()),
    }
    return done, values


class AsModule(nn.Module):
    """An extractor as torchmetrics wants it."""

    def __init__(self, extractor: Extractor):
        super().__init__()
        self.extractor, self.num_features = extractor, extractor.num_features

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> features (B, D)."""
        return self.extractor.network(pictures)


def torchmetrics(extractor: Extractor, real: Pictures, fake: Pictures) -> tuple[float, dict[str, float]]:
    """The way of torchmetrics, in its default float32: processor seconds of the features, and the values.

    It has no precision and recall, and its kernel distance is a mean over random subsets.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    network = AsModule(extractor)
    frechet, kernel = (
        FrechetInceptionDistance(feature=network),
        KernelInceptionDistance(feature=network, subset_size=100),
    )
    with torch.no_grad():
        for part, is_real in ((real, True), (fake, False)):
            for shown in part.batches():
                frechet.update(shown, real=is_real)
        done = time.process_time()
        # a second pass, as the two metrics do not share features
        for part, is_real in ((real, True), (fake, False)):
            for shown in part.batches():
                kernel.update(shown, real=is_real)
        kernel_sec = time.process_time() - done
        values = {
            "frechet": float(frechet.compute()),
            "kernel": float(kernel.compute()[0]),
            "second_pass_sec": kernel_sec,
        }
    return done + kernel_sec, values


PATHS = {"ours": ours, "torchmetrics": torchmetrics}


def peak_mb() -> float:
    """Peak memory of this process so far, MiB."""
    (line,) = [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    return int(line.split()[1]) / 1024


def run_path(given: argparse.Namespace) -> None:
    """Runs one way in this process, and prints what it took as JSON."""
    torch.set_num_threads(1)
    extractor = load_extractor(given.extractor, CPU)
    real = of_files(Path(given.pictures), in_order_of_split=False, device=CPU)
    if real.num < given.num:
        sys.exit(f"{given.pictures}: {real.num} pictures, needed {given.num}; give another --num")
    real = real.subset(given.num)
    before, started = peak_mb(), time.process_time()
    done, values = PATHS[given.path](extractor, real, noisy(real))
    ended = time.process_time()
    seconds = {"features_sec": done - started, "statistics_sec": ended - done}
    print(json.dumps({**seconds, "memory_mb": peak_mb() - before, **values}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--extractor", required=True)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--path", choices=PATHS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.path:
        run_path(options)
        sys.exit()
    found = {}
    for path in PATHS:
        command = [sys.executable, __file__, *sys.argv[1:], "--path", path]
        found[path] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"{path:14}" + ", ".join(f"{name} {value:.6g}" for name, value in found[path].items()))
    difference = abs(found["ours"]["frechet"] / found["torchmetrics"]["frechet"] - 1)
    print(f"Frechet distances differ by a relative {difference:.1e}: torchmetrics sums in float32")
