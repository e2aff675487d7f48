"""Pictures -> better pictures, `--data FOLDER` of any pictures, which are degraded: the widths of a residual network, PSNR against MACs."""

from raydistill.space import Int, Objective, SearchSpace
from search_spaces.default import SPACE as DEFAULT

_WIDTHS = {
    "trunk": Int(low=4, high=32, step=4),
    "hidden": Int(low=4, high=32, step=4),
    "up": Int(low=4, high=32, step=4),
}
_OTHERS = {path: kind for path, kind in DEFAULT.parameters.items() if ".generator." not in path}

SPACE: SearchSpace = DEFAULT.model_copy(
    update={
        "preset": "enhance",
        "parameters": {f"student.generator.widths.{name}": kind for name, kind in _WIDTHS.items()} | _OTHERS,
        "objectives": (
            Objective(name="val/psnr", direction="max", reference=10.0),
            Objective(name="cost/macs", direction="min"),
        ),
        "uniform": (6, 12, 20),
    }
)
