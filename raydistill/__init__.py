"""raydistill: frontiers of compressed GAN generators, quality against cost."""

import os

from raydistill import moved


def ray_address() -> str | None:
    """Of the cluster to join, from RAY_ADDRESS; None: Ray is embedded."""
    return os.environ.get("RAY_ADDRESS") or None


if ray_address() is None:
    # Read once, when Ray is imported, by whichever module: nodes then take 127.0.0.1 for their address, and every server of an embedded
    # cluster listens there alone. `_node_ip_address="127.0.0.1"` does not do it on Linux: Ray replaces it by the machine's address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

moved.install()

__version__ = "0.1.0"
