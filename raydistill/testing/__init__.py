"""Contract kits: what a family of generators, a data set, a recipe or a term has to hold.

Each is a class with `test_` methods for pytest, which only this package needs. An author subclasses it, and
gives by a fixture what is tested; raydistill's own are tested by the same classes.
"""

from raydistill.testing.data import DataContract
from raydistill.testing.generators import GeneratorCase, GeneratorContract
from raydistill.testing.recipes import RecipeContract
from raydistill.testing.terms import TermContract
from raydistill.testing.trainings import Begun, begin, tiny_experiment

__all__ = [
    "Begun",
    "DataContract",
    "GeneratorCase",
    "GeneratorContract",
    "RecipeContract",
    "TermContract",
    "begin",
    "tiny_experiment",
]
