"""raydistill: Pareto fronts of compressed GAN generators, quality against cost.

What is listed in `__all__` is the public face. A name is imported when it is used for the first time, so
`from raydistill import SearchSpace` loads neither torch nor Ray.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

if sys.argv[:1] == ["-m"] and "raydistill" in sys.orig_argv and sys.path[0] in ("", os.getcwd()):
    # `python -m raydistill` looks into the working folder first: an optuna.py there would replace Optuna
    sys.path.append(sys.path.pop(0))

from raydistill import moved

if TYPE_CHECKING:
    from raydistill.commands.evaluate import score
    from raydistill.config import presets
    from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, Settings, When, Window
    from raydistill.config.sweep_options import SweepOptions
    from raydistill.data import DataKind
    from raydistill.exchange.export import ExportReport, export
    from raydistill.exchange.generator_file import load_generator
    from raydistill.exchange.import_teacher import ImportReport, import_teacher
    from raydistill.exchange.student import Student
    from raydistill.models import Family
    from raydistill.sweep.plan_report import PlanReport
    from raydistill.sweep.run import plan_sweep, run_sweep
    from raydistill.sweep.sweep_result import SweepResult, load_sweep
    from raydistill.training.bases import BaseKind
    from raydistill.training.recipes import RecipeKind
    from raydistill.training.terms import TermKind

__all__ = [
    "BaseKind",
    "Choice",
    "DataKind",
    "ExportReport",
    "Family",
    "Float",
    "ImportReport",
    "Int",
    "Objective",
    "PlanReport",
    "RecipeKind",
    "SearchSpace",
    "Settings",
    "Student",
    "SweepOptions",
    "SweepResult",
    "TermKind",
    "When",
    "Window",
    "export",
    "import_teacher",
    "load_generator",
    "load_sweep",
    "plan_sweep",
    "presets",
    "run_sweep",
    "score",
]
_HOMES = {
    "commands.evaluate": ("score",),
    "config.space": ("Choice", "Float", "Int", "Objective", "SearchSpace", "Settings", "When", "Window"),
    "config.sweep_options": ("SweepOptions",),
    "data": ("DataKind",),
    "exchange.export": ("ExportReport", "export"),
    "exchange.generator_file": ("load_generator",),
    "exchange.import_teacher": ("ImportReport", "import_teacher"),
    "exchange.student": ("Student",),
    "models": ("Family",),
    "sweep.plan_report": ("PlanReport",),
    "sweep.run": ("plan_sweep", "run_sweep"),
    "sweep.sweep_result": ("SweepResult", "load_sweep"),
    "training.bases": ("BaseKind",),
    "training.recipes": ("RecipeKind",),
    "training.terms": ("TermKind",),
}
"""Module -> the names of the public face that are imported from it; `presets` is a module itself."""


def ray_address() -> str | None:
    """Address of the Ray cluster to join, from RAY_ADDRESS; None: Ray is embedded."""
    return os.environ.get("RAY_ADDRESS") or None


if not TYPE_CHECKING:  # a type checker would take any name for one of the package

    def __getattr__(name: str) -> object:
        """Imports a name of `__all__`."""
        if name == "presets":
            return importlib.import_module("raydistill.config.presets")
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"raydistill.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


moved.install()

__version__ = "0.1.0"
