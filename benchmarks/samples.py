"""What the pictures that a trial draws at each report cost: `python benchmarks/samples.py [--nimg 4000]`.

One training of the default student, one thread, evaluator and teacher of random weights. The processor
time of the drawing is taken out of the same run's, so a machine that slows down changes no ratio. Exit code
1 where drawing takes more than 2 % of it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.testing import begin
from raydistill.training import loop

MOST_SHARE = 0.02


def main(nimg: int) -> int:
    drawing: list[float] = []
    draw = loop.keep_report

    def timed(*given: Any) -> None:
        began = time.process_time()
        draw(*given)
        drawing.append(time.process_time() - began)

    loop.keep_report = timed
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        experiment = with_values(shapes32(), {"student.budget_nimg": nimg}, where="benchmark")
        job, state = begin(Path(folder), experiment, "student").job, Path(folder) / "trial"
        began = time.process_time()
        loop.train(job, report=lambda evaluation: None, state_dir=state)
        total = time.process_time() - began
        size = sum(path.stat().st_size for path in (state / loop.REPORTED).glob("*.png"))
    with_them, without = total, total - sum(drawing)
    print(
        f"{nimg:,} images, {len(drawing)} reports: {with_them:.2f} s with pictures, {without:.2f} s without "
        f"them, {with_them / without:.4f} times; {1000 * sum(drawing) / len(drawing):.0f} ms and "
        f"{size / len(drawing) / 1024:.0f} KiB a report"
    )
    return int(sum(drawing) > MOST_SHARE * without)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nimg", type=int, default=4000, help="images that the student is trained on")
    sys.exit(main(parser.parse_args().nimg))
