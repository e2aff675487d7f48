"""raydistill: frontiers of compressed GAN generators, quality against cost."""

import os

if not os.environ.get("RAY_ADDRESS"):
    # Read once, when Ray is imported, by whichever module: nodes then take 127.0.0.1 for their address, and every server of an embedded
    # cluster listens there alone. `_node_ip_address="127.0.0.1"` does not do it on Linux: Ray replaces it by the machine's address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

__version__ = "0.1.0"
