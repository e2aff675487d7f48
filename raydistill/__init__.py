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


if ray_address() is None:
    # Ray reads this once, when any module imports it. Nodes then take 127.0.0.1 as their address, and every
    # server of an embedded cluster listens there alone. `_node_ip_address="127.0.0.1"` does not work on
    # Linux: Ray replaces it by the machine's address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

moved.install()

__version__ = "0.1.0"
