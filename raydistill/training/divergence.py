"""Whether a training has diverged: kept on the device, where every step adds to it, and asked at reports
alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from raydistill.errors import DivergenceError

_NEVER = 2**62
_PHASES, _CONDITIONS = 16, 16
"""So many phases of a recipe, and conditions of a phase, can be told apart."""


class Divergence:
    """The first step of a training in which a condition does not hold: its phase and its image.

    Asking a device for a value would wait for it. So the place of that step stays in a tensor, and `found`
    masks every update from that one on.

    Args:
        phases: their names, in their order; 16 at most.
        device: where the training runs.
    """

    def __init__(self, phases: Sequence[str], device: torch.device):
        self.conditions: list[tuple[str, Sequence[str]]] = [(phase, ()) for phase in phases]
        """Of each phase its name, and what does not hold where a condition fails, as the end of a message."""
        assert len(phases) <= _PHASES, phases
        self._never = torch.full((), _NEVER, dtype=torch.int64, device=device)
        self._place = self._never
        """(image, phase, condition) as one number: the smaller, the earlier."""
        self.found = torch.zeros((), device=device)
        """1 where there was such a step, else 0: as an optimizer's `found_inf` it stops every update."""

    def note(self, number: int, image: int, conditions: Sequence[str], holds: Tensor) -> None:
        """Adds the conditions of one phase of a step.

        Args:
            number: which phase.
            image: number of the step's first image in the whole training.
            conditions: what the message says of each, 16 at most; the first that fails is named.
            holds: bool, of the same length; the same on every worker.
        """
        assert len(conditions) <= _CONDITIONS, conditions
        self.conditions[number] = (self.conditions[number][0], conditions)
        first = (image * _PHASES + number) * _CONDITIONS
        places = torch.arange(first, first + len(conditions), device=holds.device)
        failed = torch.where(holds, self._never, places)
        self._place = torch.minimum(self._place, failed.amin() if len(conditions) > 1 else failed[0])
        self.found = (self._place < self._never).float()

    def require_none(self) -> None:
        """Raises DivergenceError with phase, image and condition of the first. It waits for the device."""
        place = int(self._place)
        if place == _NEVER:
            return
        rest, condition = divmod(place, _CONDITIONS)
        image, number = divmod(rest, _PHASES)
        phase, conditions = self.conditions[number]
        what, _, advice = conditions[condition].partition("; ")
        raise DivergenceError(f"phase {phase}: {what} at image {image}; {advice}")
