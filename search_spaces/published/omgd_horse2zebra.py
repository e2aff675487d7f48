"""OMGD's table of horses -> zebras, the student of base width 16, with and without a term.

`raydistill batch published/omgd_horse2zebra --data FOLDER --extractor inception=FILE` trains three seeds of
these rows and of those in `omgd_horse2zebra_narrow`. Everything else is that of `cyclegan_horse2zebra`, at
full length.
"""

from raydistill.config.architectures import MobileResnetWidths
from search_spaces.published import _tables
from search_spaces.published.cyclegan_horse2zebra import SPACE as HORSES

STUDENTS = _tables.rows(MobileResnetWidths, (16,), "published_cyclegan")
SPACE = _tables.table(HORSES, STUDENTS)
