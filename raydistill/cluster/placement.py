"""Where work runs: Ray itself, what its nodes have, and how many trials fit on them at once.

`place` is a pure function of the nodes. Ray Train reserves the workers of a trial in one piece or not at all, so two half-started trials
cannot hold what each other wait for; but a trial's own process runs before its workers do. The number of trials is such that all their
workers fit wherever those processes were put.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError
from raydistill.planning.plan import RECHECK_WORKERS, TEACHER_WORKERS

DRIVER_CPUS = 0.001
"""What a trial's own process takes where Ray Train's workers do the work: Ray refuses 0."""
_WORKER_SHARE = 0.9
"""Of its CPUs a worker of Ray Train reserves so much; the rest has room for the trials' own processes."""
_USABLE_GPU = 0.9
"""Share of a GPU's memory that trials are packed into: allocators fragment."""
_MOST_TRIALS_PER_GPU = 4


class Node(NamedTuple):
    address: str
    cpus: float
    gpus: float = 0.0
    gpu_bytes: int = 0
    """Memory of its smallest GPU; 0: not known."""

    def __str__(self) -> str:
        return f"{self.address}: {self.cpus:g} CPUs, {self.gpus:g} GPUs"


class Group(NamedTuple):
    """Workers that start together or not at all."""

    workers: int
    cpus: float
    """Of each worker."""
    gpus: float = 0.0
    """Of each worker; a fraction is part of one GPU."""

    def __str__(self) -> str:
        return f"{self.workers} x ({self.cpus:g} CPUs, {self.gpus:g} GPUs)"


class Placement(NamedTuple):
    """How student trials are placed."""

    inline: bool
    """The training function runs in a reused Tune actor; else in the workers of a TorchTrainer."""
    group: Group
    """A trial's workers; inline: the one actor."""
    max_concurrent: int

    @property
    def trial_cpus(self) -> float:
        """What Tune reserves for a trial's own process."""
        return self.group.cpus if self.inline else DRIVER_CPUS


class Placements(NamedTuple):
    """Every stage of a sweep."""

    stages: Group
    """Evaluator and teacher."""
    trials: Placement
    recheck: Group


# ---- what fits ---------------------------------------------------------------------------------------------


def place_stages(nodes: Sequence[Node], options: SweepOptions, trial_bytes: Callable[[], int]) -> Placements:
    """Evaluator and teacher, trials and recheck on these nodes.

    Args:
        trial_bytes: predicts the GPU memory of a worker of the most expensive trial; called where the memory of a GPU decides.

    Raises:
        ConfigError: a stage does not fit; the message has the arithmetic.
    """
    inline = options.executor == "inline" or (options.executor == "auto" and options.workers_per_trial == 1)
    gpus = _gpus_per_worker(nodes, options, trial_bytes)
    group = Group(
        options.workers_per_trial, options.cpus_per_worker * (1.0 if inline else _WORKER_SHARE), gpus
    )
    driver_cpus = 0.0 if inline else DRIVER_CPUS
    fits = groups_at_once(nodes, group, driver_cpus)
    if fits < 1:
        raise _does_not_fit(
            nodes,
            group,
            driver_cpus,
            f"--workers-per-trial {options.workers_per_trial}: a trial",
            "use fewer workers or more machines",
        )
    concurrent = fits if options.max_concurrent is None else min(options.max_concurrent, fits)
    return Placements(_stages(nodes, options), Placement(inline, group, concurrent), _recheck(nodes, group))


def why(nodes: Sequence[Node], options: SweepOptions, placement: Placement) -> str:
    """What decides how many trials run at a time."""
    group, driver_cpus = placement.group, 0.0 if placement.inline else DRIVER_CPUS
    fits = groups_at_once(nodes, group, driver_cpus)
    room = f"{fits} x {group} fit on {_listed(nodes)}"
    if placement.max_concurrent < fits:
        return f"of --max-concurrent {options.max_concurrent}, though {room}"
    return f"{room}{'; the share of a GPU is by predicted memory' if 0 < group.gpus < 1 and options.gpus_per_worker is None else ''}"


def groups_at_once(nodes: Sequence[Node], group: Group, driver_cpus: float = 0.0) -> int:
    """The largest k such that k groups fit, with the k drivers, of so many CPUs each, on any node: a worker fits on one node whole."""
    best = sum(workers_on(node, group) for node in nodes) // group.workers
    for number in range(best, 0, -1):
        room = sum(workers_on(node._replace(cpus=node.cpus - number * driver_cpus), group) for node in nodes)
        if room // group.workers >= number:
            return number
    return 0


def workers_on(node: Node, group: Group) -> int:
    """How many workers of `group` fit on one node. A fraction of a GPU lies on one GPU: 0.4 fits twice on each, never five times on two."""
    by_cpus = math.floor(node.cpus / group.cpus + 1e-9)
    if group.gpus == 0:
        return max(0, by_cpus)
    by_gpus = (
        int(node.gpus) * math.floor(1 / group.gpus + 1e-9)
        if group.gpus <= 1
        else math.floor(node.gpus / group.gpus + 1e-9)
    )
    return max(0, min(by_cpus, by_gpus))


def _gpus_per_worker(nodes: Sequence[Node], options: SweepOptions, trial_bytes: Callable[[], int]) -> float:
    """GPUs of each worker of a trial: as asked for, else so many trials a GPU as its memory is predicted to hold."""
    with_gpus = [node for node in nodes if node.gpus >= 1]
    smallest = min((node.gpu_bytes for node in with_gpus), default=0)
    asked, usable = options.gpus_per_worker, int(smallest * _USABLE_GPU)
    if asked == 0 or (asked is None and not with_gpus):
        return 0.0
    if not with_gpus:
        raise ConfigError(
            f"--gpus-per-worker {asked:g}: no node has a GPU ({_listed(nodes)}); leave the option out or add a node with GPUs"
        )
    if not smallest or (asked is not None and asked >= 1):
        return 1.0 if asked is None else asked
    needed = trial_bytes()
    memory = f"a trial's worker is predicted to take {needed / 2**30:.2f} GiB"
    if asked is not None:
        if usable < needed / asked:
            raise ConfigError(
                f"--gpus-per-worker {asked:g}: {memory}, {asked:g} of the usable {usable / 2**30:.2f} GiB of the smallest GPU is "
                f"{asked * usable / 2**30:.2f} GiB; give a larger share or a smaller student.batch_size"
            )
        return asked
    if needed > usable:
        raise ConfigError(
            f"student.batch_size: {memory}, the smallest GPU has {usable / 2**30:.2f} GiB to use; give a smaller batch or more "
            "--workers-per-trial, or train on CPUs with --gpus-per-worker 0"
        )
    if options.workers_per_trial > 1:
        return 1.0  # nccl wants a GPU of its own for each worker of a group
    return 1.0 / min(_MOST_TRIALS_PER_GPU, usable // needed)


def _stages(nodes: Sequence[Node], options: SweepOptions) -> Group:
    """Evaluator and teacher: nothing else runs then."""
    gpus = (
        (1.0 if any(node.gpus >= 1 for node in nodes) else 0.0)
        if options.teacher_gpus is None
        else options.teacher_gpus
    )
    if gpus and not any(node.gpus >= 1 for node in nodes):
        raise ConfigError(
            f"--teacher-gpus {gpus:g}: no node has a GPU ({_listed(nodes)}); leave the option out or add a node with GPUs"
        )
    if options.teacher_workers is None:
        return next(
            (group for n in (TEACHER_WORKERS, 1) if groups_at_once(nodes, group := Group(n, 1.0, gpus))),
            Group(1, 1.0, gpus),
        )
    group = Group(options.teacher_workers, 1.0, gpus)
    if not groups_at_once(nodes, group):
        hint = (
            "use fewer workers, or share GPUs with --teacher-gpus 0.5"
            if gpus
            else "use fewer workers or more machines"
        )
        raise _does_not_fit(
            nodes, group, 0.0, f"--teacher-workers {options.teacher_workers}: the teacher", hint
        )
    return group


def _recheck(nodes: Sequence[Node], trial: Group) -> Group:
    """The largest share of each worker, up to a trial's, at which the recheck's workers fit: there may be one CPU or GPU only."""
    for parts in (1, 2, 4):
        group = Group(
            RECHECK_WORKERS,
            trial.cpus / parts,
            trial.gpus if trial.gpus == 0 else min(trial.gpus, 1.0) / parts,
        )
        if groups_at_once(nodes, group):
            return group
    raise _does_not_fit(
        nodes,
        group,
        0.0,
        "the recheck of a front member",
        "add a machine, or give a smaller --cpus-per-worker",
    )


def _does_not_fit(
    nodes: Sequence[Node], group: Group, driver_cpus: float, what: str, hint: str
) -> ConfigError:
    room = ", ".join(
        f"{node} -> {workers_on(node._replace(cpus=node.cpus - driver_cpus), group)} of them"
        for node in nodes
    )
    driver = f" and {driver_cpus:g} CPUs for its own process" if driver_cpus else ""
    return ConfigError(
        f"{what} needs {group}{driver}; each worker must fit on one node: {room or 'no node is alive'}; {hint}"
    )


def _listed(nodes: Sequence[Node]) -> str:
    return "; ".join(str(node) for node in nodes) or "no node is alive"


# ---- the nodes ---------------------------------------------------------------------------------------------
