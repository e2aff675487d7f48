"""Pictures -> better pictures, `--data FOLDER` of A|B pairs, A the worse one: the widths of a residual network."""

from raydistill.space import Int, SearchSpace
from search_spaces.aligned import SPACE as ALIGNED

_WIDTHS = {
    "trunk": Int(low=4, high=32, step=4),
    "hidden": Int(low=4, high=32, step=4),
}
_OTHERS = {path: kind for path, kind in ALIGNED.parameters.items() if ".generator." not in path}

SPACE: SearchSpace = ALIGNED.model_copy(
    update={
        "preset": "enhance",
        "parameters": {f"student.generator.widths.{name}": kind for name, kind in _WIDTHS.items()} | _OTHERS,
        "uniform": (6, 12, 20),
    }
)
