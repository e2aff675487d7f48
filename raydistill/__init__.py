"""raydistill: Pareto fronts of compressed GAN generators, quality against cost."""

import os
import sys

if sys.argv[:1] == ["-m"] and "raydistill" in sys.orig_argv and sys.path[0] in ("", os.getcwd()):
    # `python -m raydistill` looks into the working folder first: an optuna.py there would replace Optuna
    sys.path.append(sys.path.pop(0))

from raydistill import moved


def ray_address() -> str | None:
    """Address of the Ray cluster to join, from RAY_ADDRESS; None: Ray is embedded."""
    return os.environ.get("RAY_ADDRESS") or None


moved.install()

__version__ = "0.1.0"
