"""Contract kits: what a family of generators, a data set, a recipe, a term or a sampler has to hold.

Each is a class with `test_` methods for pytest, which only this package needs. An author subclasses it, and
gives by a fixture what is tested; raydistill's own are tested by the same classes.
"""

from raydistill.testing.data import DataContract
from raydistill.testing.generators import GeneratorCase, GeneratorContract

__all__ = ["DataContract", "GeneratorCase", "GeneratorContract"]
