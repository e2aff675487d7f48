"""`base_weights` on unpaired pictures of two domains, `--data FOLDER` with trainA and trainB."""

from raydistill.space import Objective
from search_spaces.base_weights import SPACE as DEFAULT

SPACE = DEFAULT.model_copy(
    update={
        "preset": "cyclegan",
        "objectives": (
            Objective(name="val/kd_evaluator", direction="min", reference=1.0),
            Objective(name="val/fd_evaluator", direction="min", reference=100.0),
        ),
    }
)
