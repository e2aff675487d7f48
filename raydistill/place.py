"""Where work runs: Ray itself, and how many trials fit at once."""

import logging
import os
from typing import NamedTuple

import ray

from raydistill import join
from raydistill.errors import ConfigError, RunError

_TRAIN_DRIVER_CPUS = 0.1
_TRAIN_WORKER_CPUS = 0.9
"""Below 1, so that a trial of n workers and its driver fit on n CPUs."""


class Placement(NamedTuple):
    """How student trials are placed."""

    inline: bool
    """The training function runs in a reused Tune actor; else in the workers of a TorchTrainer."""
    workers_per_trial: int
    max_concurrent: int
    trial_cpus: float
    """What Tune reserves for a trial's own process."""
    worker_cpus: float


def start_ray(*, dashboard: bool) -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts an embedded one on loopback, quietly.

    `dashboard`: trials stopped with Ray Train inside only give their resources back while it runs.

    Raises:
        ConfigError: RAY_ADDRESS is not the address of a cluster, nobody answers there, or the cluster refuses the token.
        RunError: Ray did not start.
    """
    for name, value in (("RAY_AIR_NEW_OUTPUT", "0"), ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"), ("TUNE_DISABLE_SIGINT_HANDLER", "1")):
        os.environ.setdefault(name, value)
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a trial that diverged before its first report is no error of Tune's
    if address := os.environ.get("RAY_ADDRESS"):
        join.join_ray(address)
        return
    try:
        ray.init(
            address="local",
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises a bare Exception where its processes do not come up in time
        raise RunError(f"Ray did not start: {str(error).splitlines()[0]} Is the machine overloaded? Try again.") from error


def stop_ray() -> None:
    if ray.is_initialized():
        ray.shutdown()


def place(executor: str, workers_per_trial: int, limit: int | None) -> Placement:
    """How many trials run at once on the resources that Ray sees.

    Raises:
        ConfigError: not even one trial fits; the message has the arithmetic.
    """
    resources = ray.cluster_resources()
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    inline = executor == "inline" or (executor == "auto" and workers_per_trial == 1 and gpus == 0)
    gpus_per_worker = 1.0 if not inline and gpus > 0 else 0.0
    worker_cpus = 0.0 if inline else _TRAIN_WORKER_CPUS
    trial_cpus = 1.0 if inline else _TRAIN_DRIVER_CPUS
    need_cpus = trial_cpus + worker_cpus * workers_per_trial
    fits = int(cpus / need_cpus + 1e-9)
    if gpus_per_worker:
        fits = min(fits, int(gpus // workers_per_trial))
    if fits < 1:
        raise ConfigError(
            f"--workers-per-trial {workers_per_trial}: a trial needs {need_cpus:.1f} CPUs and "
            f"{gpus_per_worker * workers_per_trial:.0f} GPUs, "
            f"Ray has {cpus:.0f} CPUs and {gpus:.0f} GPUs; use fewer workers or more machines"
        )
    concurrent = fits if limit is None else min(limit, fits)
    return Placement(inline, workers_per_trial, concurrent, trial_cpus, worker_cpus)
