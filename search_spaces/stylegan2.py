"""Noise -> pictures of 32x32 by StyleGAN2, `--data FOLDER` of any pictures.

A kernel distance to real pictures is searched against MACs.
"""

from raydistill.space import Int, SearchSpace
from search_spaces.aligned import SPACE as ALIGNED

_WIDTHS = {
    "at4": Int(low=8, high=48, step=8),
    "at8": Int(low=8, high=48, step=8),
    "at16": Int(low=8, high=48, step=8),
    "at32": Int(low=8, high=48, step=8),
}

SPACE: SearchSpace = ALIGNED.of_widths("stylegan2", _WIDTHS, uniform=(1, 2, 4))
