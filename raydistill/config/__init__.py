"""Configs: frozen, typed, printable, and identified by a digest. They import no framework.

The base classes of a plug-in's own config classes can be imported from here, everything else from its file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydistill.config.architectures import (
        Generator,
        NoiseGenerator,
        PatchDiscriminator,
        PictureGenerator,
        Width,
        Widths,
    )
    from raydistill.config.base import Frozen, Optimizer, Stored
    from raydistill.config.bases import Base
    from raydistill.config.data import DataSet
    from raydistill.config.terms import LearntTerm, Term
    from raydistill.config.training import GeneratorTraining

__all__ = [
    "Base",
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
_FILES = ("base", "architectures", "bases", "data", "terms", "training")


def __getattr__(name: str) -> Any:
    """Finds the names of `__all__` when they are used: the command line needs few files of this package."""
    if name in __all__:
        for file in _FILES:
            module = import_module(f"{__name__}.{file}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
