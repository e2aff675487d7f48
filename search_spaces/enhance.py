"""Pictures -> better pictures, `--data FOLDER` of any pictures, from which worse ones are made.

The widths of a residual network are searched, PSNR against MACs.
"""

from raydistill.space import Int, Objective, SearchSpace
from search_spaces.default import SPACE as DEFAULT

_WIDTHS = {
    "trunk": Int(low=4, high=32, step=4),
    "hidden": Int(low=4, high=32, step=4),
    "up": Int(low=4, high=32, step=4),
}

SPACE: SearchSpace = DEFAULT.of_widths(
    "enhance",
    _WIDTHS,
    uniform=(6, 12, 20),
    objectives=(
        Objective(name="val/psnr", direction="max", reference=10.0),
        Objective(name="cost/macs", direction="min"),
    ),
)
