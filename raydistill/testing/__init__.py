"""Contract kits: what a family of generators, data, a recipe, a base, a term, a sampler or a scorer has to
hold.

Each is a class with `test_` methods for pytest, which only this package needs. An author subclasses it, and
gives by a fixture what is tested; raydistill's own are tested by the same classes.
"""

from raydistill.testing.bases import BaseContract
from raydistill.testing.data import DataContract
from raydistill.testing.generators import GeneratorCase, GeneratorContract
from raydistill.testing.recipes import RecipeContract
from raydistill.testing.samplers import SamplerContract
from raydistill.testing.scorers import ExtractorContract, SegmenterContract
from raydistill.testing.terms import TermContract
from raydistill.testing.trainings import Begun, begin, tiny_experiment

__all__ = [
    "BaseContract",
    "Begun",
    "DataContract",
    "ExtractorContract",
    "GeneratorCase",
    "GeneratorContract",
    "RecipeContract",
    "SamplerContract",
    "SegmenterContract",
    "TermContract",
    "begin",
    "tiny_experiment",
]
