"""The embedded default at 32x32: stage widths, mutual-information weight and Langevin step size."""

from raydistill.space import Choice, Float, Int, Objective, SearchSpace, When

SPACE = SearchSpace(
    preset="shapes32",
    parameters={
        "student.generator.widths.stem": Int(low=2, high=8, step=2),
        "student.generator.widths.down": Int(low=4, high=16, step=4),
        "student.generator.widths.trunk": Int(low=8, high=32, step=8),
        "student.generator.widths.hidden": Int(low=8, high=32, step=8),
        "student.generator.widths.up": Int(low=4, high=16, step=4),
        "student.generator.widths.head": Int(low=2, high=8, step=2),
        "student.terms.mi.weight": Choice(options={"0": 0.0, "0.03": 0.03, "0.1": 0.1, "0.3": 0.3}),
        "student.terms.mi.step_size": Float(low=0.1, high=100.0, log=True),
    },
    when={
        "student.terms.mi.step_size": When(parameter="student.terms.mi.weight", keys=("0.03", "0.1", "0.3"))
    },
    needs={"student.terms.mi.step_size": When(parameter="student.terms.mi.kind", keys=("vem",))},
    objectives=(
        Objective(name="val/miou", direction="max", reference=0.0),
        Objective(name="cost/macs", direction="min"),
    ),
    uniform=(3, 5, 8),
)
