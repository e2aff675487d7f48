"""`raydistill batch published/omgd_horse2zebra --data FOLDER --extractor inception=FILE`, three seeds.

The published FID is of generated test pictures against the real ones of train and test: `real_split`.
"""

from search_spaces.published import _tables
from search_spaces.published.omgd_horse2zebra import STUDENTS
from search_spaces.published.omgd_horse2zebra_narrow import STUDENTS as NARROW

FIGURE = (
    "OMGD (Ren et al. 2021), figure of FID against MACs, read by eye; users report 66.5 and 70.8 for 51.9"
)

BATCH = _tables.batch(
    "omgd_horse2zebra",
    {"omgd_horse2zebra": STUDENTS, "omgd_horse2zebra_narrow": NARROW},
    _tables.published("test/fid", {16: 51.9, 12: 64.3, 8: 71.4}, 5.0, FIGURE),
    {"real_split": "train+test"},
)
