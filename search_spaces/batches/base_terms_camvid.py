"""`raydistill batch base_terms_camvid --data FOLDER`: do terms add to three base distillations?

Three seeds of the students; evaluator, teacher and feature network are the same in all sweeps.
"""

from raydistill.config.batch import Batch, Method
from search_spaces.base_terms_camvid import METHODS


def alone_of(option: str) -> str:
    """The same base without a term, as long as the option; base plain alone is so by its images."""
    base, _, length = option.split(", ")
    return f"{base}, alone, {'images' if base == 'plain' else length}"


BATCH = Batch(
    name="base_terms_camvid",
    spaces=("base_terms_camvid",),
    methods=(Method(name="all"),),
    seeds=(0, 1, 2),
    compare={option: alone for option in METHODS if (alone := alone_of(option)) != option},
    options={"sampler": "random", "teacher_cache_gb": 4.0},
)
