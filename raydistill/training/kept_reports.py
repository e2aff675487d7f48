"""The networks of a training's reports that were the best so far: what a student can follow afterwards."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from raydistill.config.base import Frozen
from raydistill.errors import RunError
from raydistill.models import saved
from raydistill.records.trials import Evaluation

_SCORES = (("val/miou", 1), ("val/kd_evaluator", -1))
"""What says which is better, and the sign of better: the first that was measured."""


def report_folder(folder: Path, nimg: int) -> Path:
    """Where the network after `nimg` images lies, of the training in `folder`."""
    return folder / "reports" / f"{nimg:012d}"


def keep(config: Frozen, network: nn.Module, history: Sequence[Evaluation], folder: Path) -> None:
    """Writes the generator of the last report, of the training in `folder`, where it is the best so far."""
    if best_so_far(history)[-1] == len(history) - 1:
        saved.save(report_folder(folder, history[-1].nimg), "generator", network, config)


def best_so_far(evaluations: Sequence[Evaluation]) -> list[int]:
    """For each evaluation the index of the best up to it, by val; of equal ones the earlier.

    Raises:
        RunError: nothing was measured that tells which is better.
    """
    found: list[int] = []
    for index, each in enumerate(evaluations):
        name, sign = next((score for score in _SCORES if score[0] in each.numbers), ("", 0))
        if not name:
            names = ", ".join(name for name, _ in _SCORES)
            raise RunError(f"a report has no {names}, so it cannot be told which network is the best so far")
        is_better = not found or sign * each.numbers[name] > sign * evaluations[found[-1]].numbers[name]
        found.append(index if is_better else found[-1])
    return found
