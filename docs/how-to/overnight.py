"""A night's work: what the published Langevin chains and a cost window do to the frontier, over three seeds.

Run it by `raydistill batch docs/how-to/overnight.py`.
"""

from raydistill.config.batch import Batch, Budget, Method

BATCH = Batch(
    name="chains",
    spaces=("default",),
    methods=(
        Method(name="default"),
        Method(name="published", set={"student.terms.mi.start": "student", "student.terms.mi.num_steps": 10}),
        Method(name="cheap", options={"max_macs": 4e6}),
    ),
    seeds=(0, 1, 2),
    order=("seed", "space", "method"),
    budget=Budget(hours=10),
    options={"trials": 12},
)
