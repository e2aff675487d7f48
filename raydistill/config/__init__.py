"""Configs: frozen, typed, printable, identified by a digest. No framework.

What a plug-in's config classes are subclasses of is here by name; everything else by its file.
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
