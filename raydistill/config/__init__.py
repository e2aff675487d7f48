"""Configs: frozen, typed, printable, and identified by a digest. They import no framework.

The base classes of a plug-in's own config classes can be imported from here, everything else from its file.
"""

from raydistill.config.architectures import Generator, NoiseGenerator, PictureGenerator, Width, Widths
from raydistill.config.base import Frozen, Optimizer, Stored
from raydistill.config.data import DataSet
from raydistill.config.terms import LearntTerm, Term

__all__ = [
    "DataSet",
    "Frozen",
    "Generator",
    "LearntTerm",
    "NoiseGenerator",
    "Optimizer",
    "PictureGenerator",
    "Stored",
    "Term",
    "Width",
    "Widths",
]
