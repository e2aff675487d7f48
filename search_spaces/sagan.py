"""Noise -> pictures of 64x64 by self-attention GANs, `--data FOLDER` of any pictures.

A kernel distance to real pictures is searched against MACs.
"""

from raydistill.space import Int, SearchSpace
from search_spaces.aligned import SPACE as ALIGNED

_WIDTHS = {
    "at4": Int(low=16, high=128, step=16),
    "at8": Int(low=8, high=64, step=8),
    "at16": Int(low=8, high=32, step=8),
    "at32": Int(low=8, high=16, step=8),
}

SPACE: SearchSpace = ALIGNED.of_widths("sagan", _WIDTHS, uniform=(8, 10, 12))
