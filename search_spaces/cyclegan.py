"""Pictures of one domain -> another's, `--data FOLDER` with trainA and trainB: a kernel distance to real pictures of B is searched."""

from raydistill.space import SearchSpace
from search_spaces.aligned import SPACE as ALIGNED

SPACE: SearchSpace = ALIGNED.model_copy(update={"preset": "cyclegan"})
