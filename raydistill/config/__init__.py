"""Configs: frozen, typed, printable, and identified by a digest. They import no framework.

The base classes of a plug-in's own config classes can be imported from here, everything else from its file.
"""

from raydistill.config.architectures import (
    Generator,
    NoiseGenerator,
    PatchDiscriminator,
    PictureGenerator,
    Width,
    Widths,
)
from raydistill.config.base import Frozen, Optimizer, Stored
from raydistill.config.data import DataSet
from raydistill.config.terms import LearntTerm, Term
from raydistill.config.training import GeneratorTraining

__all__ = [
    "DataSet",
    "Frozen",
    "Generator",
    "GeneratorTraining",
    "LearntTerm",
    "NoiseGenerator",
    "Optimizer",
    "PatchDiscriminator",
    "PictureGenerator",
    "Stored",
    "Term",
    "Width",
    "Widths",
]
