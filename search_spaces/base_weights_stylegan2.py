"""`base_weights` on noise -> pictures of 32x32 by StyleGAN2, `--data FOLDER` of any pictures."""

from search_spaces.base_weights_cyclegan import SPACE as UNPAIRED

SPACE = UNPAIRED.model_copy(update={"preset": "stylegan2", "uniform": (3,)})
