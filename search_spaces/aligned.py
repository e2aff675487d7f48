"""Pictures -> pictures from a folder of A|B pairs, `--data FOLDER`.

There are no labels and so no mIoU: a kernel distance to real pictures is searched against MACs.
"""

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
