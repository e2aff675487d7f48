"""`omgd_cityscapes` cut down to CamVid at 64x64: a table of the same form, for two cores.

`raydistill batch published/omgd_camvid --data FOLDER` trains three seeds. Recipe, base, terms, losses and
batches of four are those of `pix2pix_cityscapes_unet`. Every width is a quarter of the published one, that of
the energy network included, U-Nets have six levels instead of eight, and trainings are short (4,000 steps of
a student), so learning rates are five times as high. CamVid has too few pictures and no published segmenter:
the evaluator's mIoU scores. It reproduces no published number.
"""

from raydistill.config.architectures import UnetWidths
from raydistill.space import Length, Lengths, Objective
from search_spaces.published import _tables
from search_spaces.published.pix2pix_cityscapes_unet import SPACE as CITYSCAPES

STUDENTS = _tables.rows(UnetWidths, (4, 3, 2), "published_pix2pix", {"student.terms.mi.energy.channels": 8})
_RATE = 1e-3
SPACE = _tables.table(
    CITYSCAPES,
    STUDENTS,
    objectives=(
        Objective(name="val/miou", direction="max", reference=0.0),
        Objective(name="val/kd_evaluator", direction="min", reference=1.0),
    ),
    fixed={
        "data.layout": "auto",
        **{f"data.{name}": 64 for name in ("height", "width")},
        **{f"data.load_{name}": 72 for name in ("height", "width")},
        **{f"teacher.generator.widths.{name}": each for name, each in UnetWidths.uniform_values(16).items()},
        **{f"{stage}.generator.num_levels": 6 for stage in ("teacher", "student")},
        "teacher.discriminator.width": 32,
        "teacher.optimizer.learning_rate": _RATE,
        "teacher.discriminator_optimizer.learning_rate": _RATE,
        "student.optimizer.learning_rate": _RATE,
    },
    lengths=Lengths(
        evaluator=Length(nimg=16_000, reports=2),
        teacher=Length(nimg=4_000, reports=2),
        student=Length(nimg=16_000, reports=2),
    ),
)
