"""OMGD's table of label maps -> photos by U-Nets: base widths 16, 12 and 8, each with and without a term.

`raydistill batch published/omgd_cityscapes --data FOLDER --segmenter drn105=FILE` trains three seeds.
Everything else is that of `pix2pix_cityscapes_unet`, at full length.
"""

from raydistill.config.architectures import UnetWidths
from search_spaces.published import _tables
from search_spaces.published.pix2pix_cityscapes_unet import SPACE as CITYSCAPES

STUDENTS = _tables.rows(UnetWidths, (16, 12, 8), "published_pix2pix")
SPACE = _tables.table(CITYSCAPES, STUDENTS)
