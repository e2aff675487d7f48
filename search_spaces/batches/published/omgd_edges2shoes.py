"""`raydistill batch published/omgd_edges2shoes --data FOLDER --extractor inception=FILE`, three seeds."""

from search_spaces.published import _tables
from search_spaces.published.omgd_edges2shoes import STUDENTS

FIGURE = "OMGD (Ren et al. 2021), figure of FID against MACs, read by eye; one seed, chosen on test"

BATCH = _tables.batch(
    "omgd_edges2shoes",
    {"omgd_edges2shoes": STUDENTS},
    _tables.published("test/fid", {16: 25.0, 12: 32.0, 8: 37.5}, 2.0, FIGURE),
)
