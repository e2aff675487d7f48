"""Joining a Ray cluster that runs already.

Ray alone waits up to minutes where that is impossible, and ends in a traceback.
"""

import logging
import os

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address

from raydistill.cluster import places
from raydistill.errors import ConfigError

_JOIN_SEC = 5
"""Seconds that the head may take to answer a new connection."""
_TOKEN_HELP = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to a file with the cluster's token "
    "(default ~/.ray/auth_token), as on its head; RAY_AUTH_MODE=disabled only where the head has it, too"
)


def join_ray(given: str) -> None:
    """Joins the cluster at the address `given`, or says within seconds why that is impossible.

    `given`: HEAD:PORT, or "auto" for the cluster that was started last on this machine.

    Raises:
        ConfigError: not the address of a cluster, nobody answers there, or the cluster refuses the token.
    """
    where = f"RAY_ADDRESS={given}"
    if "://" in given:
        raise ConfigError(
            f"{where}: a sweep joins its cluster from one of the cluster's machines; "
            "give HEAD:6379, or auto on the head"
        )
    try:
        address = canonicalize_bootstrap_address(given) or given
        with init_grpc_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=_JOIN_SEC)  # Ray itself would wait for minutes
    except (grpc.FutureTimeoutError, OSError, ValueError) as error:
        reason = str(error) or f"nothing in {_JOIN_SEC} s at {address}"
        raise ConfigError(
            f"{where}: no Ray cluster answers there ({reason}); "
            "start it, give HEAD:6379, or unset RAY_ADDRESS"
        ) from error
    # The number of Ray's attempts, each of a second and with a line of its log; its default is 20.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "2")
    try:
        ray.init(job_config=places.Job(), log_to_driver=False, logging_level=logging.ERROR)
    except ray.exceptions.AuthenticationError as error:
        raise ConfigError(f"{where}: the cluster wants a token and there is none; {_TOKEN_HELP}") from error
    except (ConnectionError, RuntimeError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[-1]
        if "Unauthenticated" in cause or "InvalidAuthToken" in cause:
            raise ConfigError(f"{where}: the cluster refuses the token; {_TOKEN_HELP}") from error
        raise ConfigError(
            f"{where}: a server answers there, but not as a Ray {ray.__version__} cluster: {cause}"
        ) from error
