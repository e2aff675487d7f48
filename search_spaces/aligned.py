"""Pictures -> pictures from a folder of A|B pairs, `--data FOLDER`. Without labels there is no mIoU: a kernel distance is searched."""

from raydistill.space import Objective, SearchSpace
from search_spaces.default import SPACE as DEFAULT

SPACE: SearchSpace = DEFAULT.model_copy(
    update={
        "preset": "aligned",
        "objectives": (
            Objective(name="val/kd_evaluator", direction="min", reference=1.0),
            Objective(name="cost/macs", direction="min"),
        ),
    }
)
