"""Label maps -> photos by U-Nets of four levels, `--data FOLDER`: one width for each level down and up."""

from raydistill.space import Int, SearchSpace
from search_spaces.default import SPACE as DEFAULT

_WIDTHS = {
    "down1": Int(low=2, high=8, step=2),
    "down2": Int(low=4, high=16, step=4),
    "down3": Int(low=8, high=32, step=8),
    "deep": Int(low=8, high=64, step=8),
    "up3": Int(low=8, high=32, step=8),
    "up2": Int(low=4, high=16, step=4),
    "up1": Int(low=2, high=8, step=2),
}

SPACE: SearchSpace = DEFAULT.of_widths("unet", _WIDTHS, uniform=(3, 5, 8))
