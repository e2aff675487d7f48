"""What a search space is written with: `from raydistill.space import SearchSpace, Int, Float, Choice, When, Objective`."""

from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, When, Window

__all__ = ["Choice", "Float", "Int", "Objective", "SearchSpace", "When", "Window"]
