"""`base_weights` on noise -> pictures of 64x64 by self-attention GANs, `--data FOLDER` of any pictures."""

from search_spaces.base_weights_cyclegan import SPACE as UNPAIRED

SPACE = UNPAIRED.model_copy(update={"preset": "sagan", "uniform": (8,)})
