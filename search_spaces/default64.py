"""The embedded data set at 64x64, with the space of `default`."""

from raydistill.space import SearchSpace
from search_spaces.default import SPACE as DEFAULT

SPACE: SearchSpace = DEFAULT.model_copy(update={"preset": "shapes64"})
