"""`base_weights` on the enhancement of pictures, `--data FOLDER` of any pictures.

PSNR is to the original picture, which no loss of the student has seen.
"""

from raydistill.space import Objective
from search_spaces.base_weights import SPACE as DEFAULT

SPACE = DEFAULT.model_copy(
    update={
        "preset": "enhance",
        "objectives": (
            Objective(name="val/psnr", direction="max", reference=10.0),
            Objective(name="val/kd_evaluator", direction="min", reference=1.0),
        ),
        "uniform": (8,),
    }
)
