"""What the published spaces share: ranges of widths, the term, and the objectives."""

from collections.abc import Mapping

from raydistill.config.space import Distribution
from raydistill.space import Choice, Float, Int, Objective, When

WEIGHT, STEP = "student.terms.mi.weight", "student.terms.mi.step_size"
UNET: Mapping[str, Distribution] = {
    "down1": Int(low=4, high=16, step=4),
    "down2": Int(low=8, high=32, step=8),
    "down3": Int(low=16, high=64, step=16),
    "deep": Int(low=32, high=128, step=32),
    "up3": Int(low=16, high=64, step=16),
    "up2": Int(low=8, high=32, step=8),
    "up1": Int(low=4, high=16, step=4),
}
"""Base widths of 4 to 16 in each place."""
MOBILE: Mapping[str, Distribution] = {
    "stem": Int(low=8, high=32, step=4),
    "down": Int(low=16, high=64, step=8),
    "trunk": Int(low=32, high=192, step=16),
    "hidden1": Int(low=32, high=192, step=16),
    "hidden2": Int(low=32, high=192, step=16),
    "hidden3": Int(low=32, high=192, step=16),
    "up": Int(low=16, high=64, step=8),
    "head": Int(low=8, high=32, step=4),
}
"""Base widths of 8 to 32, and to 48 in the trunk: OMGD's students and those of GAN Compression lie inside."""
SAGAN: Mapping[str, Distribution] = {
    "at4": Int(low=64, high=384, step=64),
    "at8": Int(low=32, high=192, step=32),
    "at16": Int(low=16, high=96, step=16),
    "at32": Int(low=8, high=48, step=8),
}
"""Base widths of 8 to 48."""
STYLEGAN: Mapping[str, Distribution] = {
    **{f"at{side}": Int(low=32, high=256, step=32) for side in (4, 8, 16, 32, 64)},
    "at128": Int(low=16, high=128, step=16),
    "at256": Int(low=8, high=64, step=8),
}
"""A sixteenth to a half of the published widths."""
ENHANCE: Mapping[str, Distribution] = {
    name: Int(low=8, high=64, step=8) for name in ("trunk", "hidden", "up")
}
WHEN = {STEP: When(parameter=WEIGHT, keys=("0.03", "0.1", "0.3"))}
NEEDS = {STEP: When(parameter="student.terms.mi.kind", keys=("vem",))}
MACS = Objective(name="cost/macs", direction="min")
FID = Objective(name="val/fid", direction="min")
"""It needs `--extractor inception=FILE`. Its reference is four times the teacher's."""


def parameters(widths: Mapping[str, Distribution]) -> dict[str, Distribution]:
    """The student's widths, and weight and step size of the term."""
    return {
        **{f"student.generator.widths.{name}": each for name, each in widths.items()},
        WEIGHT: Choice(options={"0": 0.0, "0.03": 0.03, "0.1": 0.1, "0.3": 0.3}),
        STEP: Float(low=0.1, high=100.0, log=True),
    }
