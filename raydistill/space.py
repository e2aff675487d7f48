"""The parts of a search space.

`from raydistill.space import SearchSpace, Int, Float, Choice, Settings, When, Window,
Objective, Length, Lengths`
"""

from raydistill.config.lengths import Length, Lengths
from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, Settings, When, Window

__all__ = [
    "Choice",
    "Float",
    "Int",
    "Length",
    "Lengths",
    "Objective",
    "SearchSpace",
    "Settings",
    "When",
    "Window",
]
