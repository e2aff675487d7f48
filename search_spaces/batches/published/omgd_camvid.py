"""`raydistill batch published/omgd_camvid --data FOLDER`, three seeds; nothing was published for it."""

from search_spaces.published import _tables
from search_spaces.published.omgd_camvid import STUDENTS

BATCH = _tables.batch("omgd_camvid", {"omgd_camvid": STUDENTS}, {}, {"teacher_cache_gb": 4.0})
