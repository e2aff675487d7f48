"""Three base distillations, each alone and with two terms, on label maps and photos: needs `--data`.

Every student has the uniform width 4 at 64x48. "images": each sees as many images; "time": each has about
the time in which base plain alone sees them. What a step costs, relative to that one, is CPU time measured by
`benchmarks/bases.py --part camvid` (docs/results/time-and-memory.md): it depends on the machine. Teachers
that train beside a student count as its own, although a sweep trains them once.
"""

from typing import Any

from raydistill.space import Objective, SearchSpace, Settings

NIMG = 4_000
LEARNING_RATE = 2.4e-3
"""The preset's is for twice as many images and for plain alone; what each base wants at this length:
docs/results/method.md."""
BASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gan": {"student.base.kind": "gan"},
    "omgd": {"student.base.kind": "omgd"},
}
TERMS: dict[str, dict[str, Any]] = {
    "alone": {"student.terms.mi.weight": 0.0},
    # The step size is published for 256x256: 100 in proportion to the pixels.
    "published VEM": {"student.terms.mi": "published_cyclegan", "student.terms.mi.step_size": 4.7},
    "recommended VEM": {"student.terms.mi": "recommended_vem"},
}
COSTS = {
    ("plain", "published VEM"): 2.5,
    ("plain", "recommended VEM"): 1.8,
    ("gan", "alone"): 2.9,
    ("gan", "published VEM"): 4.9,
    ("gan", "recommended VEM"): 4.2,
    ("omgd", "alone"): 7.4,
    ("omgd", "published VEM"): 9.3,
    ("omgd", "recommended VEM"): 9.1,
}
LENGTHS = {"images": lambda cost: NIMG, "time": lambda cost: round(NIMG / cost / 16) * 16}
METHODS = {
    f"{base}, {term}, {length}": BASES[base] | TERMS[term] | {"student.budget_nimg": nimg_of(cost)}
    for length, nimg_of in LENGTHS.items()
    for base in BASES
    for term in TERMS
    if (cost := COSTS.get((base, term), 1.0)) > 1 or length == "images"
}

SPACE = SearchSpace(
    preset="labelled",
    parameters={"method": Settings(options=METHODS)},
    objectives=(
        Objective(name="val/miou", direction="max", reference=0.0),
        Objective(name="val/kd_evaluator", direction="min", reference=1.0),
    ),
    uniform=(),
    fixed={"student.optimizer.learning_rate": LEARNING_RATE},
    test="all",
)
