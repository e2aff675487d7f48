"""Pictures of one domain -> pictures of another by CycleGAN, `--data FOLDER` with trainA and trainB.

A kernel distance to real pictures of B is searched against MACs.
"""

from raydistill.space import SearchSpace
from search_spaces.aligned import SPACE as ALIGNED

SPACE: SearchSpace = ALIGNED.model_copy(update={"preset": "cyclegan"})
