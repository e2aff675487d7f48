"""`base_weights` on noise -> pictures of 32x32 by StyleGAN2, `--data FOLDER` of any pictures.

Learning rates go further: the best of the usual range were at its ends.
"""

from raydistill.space import Float
from search_spaces.base_weights_cyclegan import SPACE as UNPAIRED

_RATES = {"student.optimizer.learning_rate": Float(low=5e-4, high=5e-2, log=True)}

SPACE = UNPAIRED.model_copy(
    update={"preset": "stylegan2", "uniform": (3,), "parameters": {**UNPAIRED.parameters, **_RATES}}
)
