"""The parts of a search space.

`from raydistill.space import SearchSpace, Int, Float, Choice, When, Window, Objective`
"""

from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, When, Window

__all__ = ["Choice", "Float", "Int", "Objective", "SearchSpace", "When", "Window"]
