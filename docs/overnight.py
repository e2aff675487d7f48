"""A night's work: what shorter Langevin chains and a cost window do to the frontier, over three seeds.

Run it by `raydistill batch docs/overnight.py`.
"""

from raydistill.batch import Batch, Budget, Method

BATCH = Batch(
    name="chains",
    spaces=("default",),
    methods=(
        Method(name="published"),
        Method(name="short", set={"student.mi.num_steps": 3}),
        Method(name="cheap", options={"max_macs": 4e6}),
    ),
    seeds=(0, 1, 2),
    order=("seed", "space", "method"),
    budget=Budget(hours=10),
    options={"trials": 12},
)
