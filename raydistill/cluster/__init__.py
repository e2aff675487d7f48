"""Ray: where work runs, and Ray Train and Ray Tune around it. No other package imports Ray."""

import os

from raydistill import ray_address

if ray_address() is None:
    # Ray reads this once, when it is imported, so it is said here and not where a cluster is started. Nodes
    # then take 127.0.0.1 as their address, and every server of an embedded cluster listens there alone.
    # `_node_ip_address="127.0.0.1"` does not work on Linux: Ray replaces it by the machine's address.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
