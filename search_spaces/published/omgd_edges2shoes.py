"""OMGD's table of edges -> shoes by U-Nets: base widths 16, 12 and 8, each with and without a term.

`raydistill batch published/omgd_edges2shoes --data FOLDER --extractor inception=FILE` trains three seeds.
Everything else is that of `pix2pix_edges2shoes_unet`, at full length.
"""

from raydistill.config.architectures import UnetWidths
from search_spaces.published import _tables
from search_spaces.published.pix2pix_edges2shoes_unet import SPACE as SHOES

STUDENTS = _tables.rows(UnetWidths, (16, 12, 8), "published_pix2pix")
SPACE = _tables.table(SHOES, STUDENTS)
