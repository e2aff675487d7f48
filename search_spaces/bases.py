"""The base distillation and the term beside the default widths: does the term add to each of them?"""

from raydistill.space import Choice, SearchSpace
from search_spaces.default import SPACE as DEFAULT

SPACE: SearchSpace = DEFAULT.model_copy(
    update={
        "parameters": {
            **{path: each for path, each in DEFAULT.parameters.items() if ".generator." in path},
            "student.base.kind": Choice(options={"plain": "plain", "gan": "gan", "omgd": "omgd"}),
            "student.terms.mi.weight": Choice(options={"0": 0.0, "0.1": 0.1}),
        },
        "when": {},
        "needs": {},
    }
)
