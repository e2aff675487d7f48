"""The weights of plain distillation and the learning rate, of one student: what a preset is tuned by.

The student's widths are the preset's, and no term takes part, so that a term is compared with the best base.
Only ratios of the weights matter to Adam. The squared error always has a weight, so that no student is
without a loss.
"""

from raydistill.space import Choice, Float, Objective, SearchSpace

SPACE = SearchSpace(
    preset="shapes32",
    parameters={
        "student.base.l1_weight": Choice(options={"0": 0.0, "10": 10.0}),
        "student.base.robust_weight": Choice(options={"0": 0.0, "10": 10.0}),
        "student.base.ssim_weight": Choice(options={"0": 0.0, "0.5": 0.5, "1.5": 1.5, "5": 5.0}),
        "student.base.mse_weight": Choice(options={"1": 1.0, "20": 20.0, "80": 80.0, "320": 320.0}),
        "student.base.multiscale_weight": Choice(options={"0": 0.0, "10": 10.0, "40": 40.0}),
        "student.optimizer.learning_rate": Float(low=1e-3, high=1.2e-2, log=True),
    },
    objectives=(
        Objective(name="val/miou", direction="max", reference=0.0),
        Objective(name="val/kd_evaluator", direction="min", reference=1.0),
    ),
    uniform=(4,),
    fixed={"student.terms.mi.weight": 0.0},
)
