"""Label maps -> photos by mobile ResNets, `--data FOLDER`."""

from raydistill.space import Int, SearchSpace
from search_spaces.default import SPACE as DEFAULT

_WIDTHS = {
    "stem": Int(low=2, high=8, step=2),
    "down": Int(low=4, high=16, step=4),
    "trunk": Int(low=8, high=32, step=8),
    "hidden1": Int(low=8, high=32, step=8),
    "hidden2": Int(low=8, high=32, step=8),
    "hidden3": Int(low=8, high=32, step=8),
    "up": Int(low=4, high=16, step=4),
    "head": Int(low=2, high=8, step=2),
}

SPACE: SearchSpace = DEFAULT.of_widths("mobile", _WIDTHS, uniform=(3, 5, 8))
