"""Label maps -> photos from a folder, `--data FOLDER`: CamVid, or any folder of `images/` and `labels/`."""

from raydistill.space import SearchSpace
from search_spaces.default import SPACE as DEFAULT

SPACE: SearchSpace = DEFAULT.model_copy(update={"preset": "labelled"})
