"""`base_weights` on a folder of pictures with label maps, at 64x48: needs `--data`."""

from search_spaces.base_weights import SPACE as DEFAULT

SPACE = DEFAULT.model_copy(update={"preset": "labelled"})
