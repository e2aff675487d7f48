"""The other rows of `omgd_horse2zebra`: base widths 12 and 8, whose published teacher has base width 48."""

from raydistill.config.architectures import MobileResnetWidths
from search_spaces.published import _tables
from search_spaces.published.cyclegan_horse2zebra import SPACE as HORSES

STUDENTS = _tables.rows(MobileResnetWidths, (12, 8), "published_cyclegan")
TEACHER = {
    f"teacher.generator.widths.{name}": width for name, width in MobileResnetWidths.uniform_values(48).items()
}
SPACE = _tables.table(HORSES, STUDENTS, fixed=HORSES.fixed | TEACHER)
