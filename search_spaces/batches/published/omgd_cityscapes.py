"""`raydistill batch published/omgd_cityscapes --data FOLDER --segmenter drn105=FILE`, three seeds."""

from search_spaces.published import _tables
from search_spaces.published.omgd_cityscapes import STUDENTS

FIGURE = "OMGD (Ren et al. 2021), figure of mIoU against MACs, read by eye; one seed, chosen on test"

BATCH = _tables.batch(
    "omgd_cityscapes",
    {"omgd_cityscapes": STUDENTS},
    # Published in percent; our mIoU is a share.
    _tables.published("test/miou_drn105", {16: 0.489, 12: 0.455, 8: 0.416}, 0.015, FIGURE),
)
