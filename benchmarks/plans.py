"""What the published experiments would take: time on assumed cards, memory, disk, trials at a time.

    python benchmarks/plans.py --card A100

Nothing is trained and no card is needed. Counts of pictures are the published ones. Seconds of a step are its
multiply-accumulates (`planning.step_counts`, forward and backward passes of all networks) over what a card is
ASSUMED to do of them in a second, see `CARDS`: so hours tell experiments apart, and were not measured on any
card. Evaluations, scoring and reading are not in them.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from raydistill.cluster.placement import Node, place_stages
from raydistill.config import published
from raydistill.config.lengths import LengthName, with_lengths
from raydistill.config.space import uniform_names
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import Training
from raydistill.data.tensors import num_bytes
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan, recheck_workers, stage_workers
from raydistill.planning.step_counts import Counted, count_step

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from published_layouts import LAYOUTS


class Card(NamedTuple):
    """An assumption about a GPU."""

    gmac_per_sec: float
    """1e9 multiply-accumulates a second, in float32 as PyTorch computes convolutions (TF32): a sixth of the
    peak that its data sheet names."""
    memory_gib: int


CARDS = {"A100": Card(13_000.0, 80), "L4": Card(5_000.0, 24)}
NUM_TRAIN = {
    "pix2pix_edges2shoes_unet": published.EDGES2SHOES,
    "pix2pix_edges2shoes_resnet": published.EDGES2SHOES,
    "pix2pix_cityscapes_unet": published.CITYSCAPES,
    "pix2pix_cityscapes_resnet": published.CITYSCAPES,
    "cyclegan_horse2zebra": published.HORSE2ZEBRA,
    "cyclegan_summer2winter": published.SUMMER2WINTER,
    "sagan_celeba64": 162_770,
    "stylegan2_ffhq256": 70_000,
    "enhance_x2": 10_000,
}
"""Training pictures of the published data; `enhance_x2` has no data of its own: a round number."""
TRIALS, FULL, GPUS = 40, 8, (1, 8, 64)
"""Searched students of a sweep, members of its front that are trained in full, GPUs of a cluster."""
BY_EVALUATOR = ("val/kd_evaluator:min:1", "cost/macs:min")
"""Objectives for which no weights are needed; they change none of the numbers."""


def plan_of(name: str, folder: Path) -> Plan:
    """The plan of a sweep of the experiment, on a few drawn pictures in the layout of its data."""
    data = LAYOUTS[name](folder / name)
    given: dict[str, Any] = {"space": f"published/{name}", "data": str(data), "store": str(folder / "runs")}
    return check(SweepOptions(**given, objectives=BY_EVALUATOR, trials=TRIALS))


def hours_of(training: Training, plan: Plan, card: Card) -> float:
    """GPU-hours of a whole training on one card."""
    teacher = plan.experiment.teacher
    is_student = training.recipe == "distill"
    outputs = teacher.outputs if is_student and plan.outputs_bytes else None
    step = count_step(Counted(training, plan.info, teacher.generator if is_student else None, outputs))
    return training.budget_nimg / training.batch_size * step.gmac / card.gmac_per_sec / 3600


def row_of(name: str, plan: Plan, card: Card) -> str:
    """A row of the table."""
    number, widest = NUM_TRAIN[name], plan.uniform(uniform_names(plan.space)[0])

    def hours(length: LengthName) -> float:
        experiment = with_lengths(plan.experiment, plan.space.lengths, number, length)
        lengths = {name: getattr(experiment.student, name) for name in ("budget_nimg", "report_every_nimg")}
        return hours_of(widest.model_copy(update=lengths), plan, card)

    long = with_lengths(plan.experiment, plan.space.lengths, number, "search")
    teacher, search, full = hours_of(long.teacher, plan, card), hours("search"), hours("full")
    sharing = stage_workers(plan.options, plan.experiment), recheck_workers(plan.experiment)
    counts = {"train": number, "val": round(0.15 * number), "test": 2}
    decoded = num_bytes(plan.info.model_copy(update={"counts": counts, "input_counts": None}))
    at_a_time = []
    for gpus in GPUS:
        each = min(gpus, 8)
        nodes = [Node(f"n{i}", 16.0 * each, each, card.memory_gib * 2**30) for i in range(gpus // each)]
        placed = place_stages(nodes, plan.options, plan.worker_bytes, sharing)
        at_a_time.append(str(placed.trials.max_concurrent))
    cells = (
        name,
        f"{number:,}",
        f"{teacher:.2g}",
        f"{search:.2g}",
        f"{full:.2g}",
        f"{teacher + TRIALS * search + FULL * full:.2g}",
        f"{plan.trial_bytes / 2**30:.1f}",
        f"{decoded / 2**30:.1f}",
        ", ".join(at_a_time),
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--card", choices=tuple(CARDS), default="A100")
    parser.add_argument("--only", choices=tuple(NUM_TRAIN), nargs="*", default=tuple(NUM_TRAIN))
    given = parser.parse_args()
    gpus = ", ".join(map(str, GPUS))
    heads: tuple[str, ...] = ("experiment", "pictures", "teacher, h", "student, search, h")
    heads += ("student, full, h", f"in all, h ({TRIALS} searched, {FULL} in full)")
    heads += ("GiB a worker", "decoded, GiB")
    print(f"| {' | '.join((*heads, f'trials at a time on {gpus} GPUs'))} |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only:
            print(row_of(name, plan_of(name, Path(folder)), CARDS[given.card]), flush=True)


if __name__ == "__main__":
    main()
