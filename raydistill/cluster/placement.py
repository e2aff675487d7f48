"""Where work runs: which workers each stage of a sweep has, and how many trials fit on the nodes at once.

Everything here is a pure function of the nodes and the options; Ray is asked and started in `runtime`.

Ray Train reserves the workers of a trial in one piece or not at all, so two half-started trials cannot hold
what the other one waits for. But a trial's own process runs before its workers do. Therefore the number of
trials is such that all their workers fit wherever those processes were put.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError
from raydistill.planning.plan import RECHECK_WORKERS, TEACHER_WORKERS

DRIVER_CPUS = 0.001
"""CPUs that a trial's own process reserves where Ray Train's workers do the work. Ray refuses 0."""
_WORKER_SHARE = 0.9
"""Share of its CPUs that a worker of Ray Train reserves; the rest is room for the trials' own processes."""
_USABLE_GPU = 0.9
"""Share of a GPU's memory that trials are packed into, because allocators fragment it."""
_USABLE_MEMORY = 0.9
"""Share of a machine's memory that trials on CPUs may take; from 0.95 on Ray ends workers."""
_MOST_TRIALS_PER_GPU = 4


class Node(NamedTuple):
    """What one machine of the cluster has."""

    address: str
    cpus: float
    gpus: float = 0.0
    gpu_bytes: int = 0
    """Memory of its smallest GPU in bytes; 0 where it is not known."""
    memory_bytes: int = 0
    """Memory of the machine in bytes; 0 where it is not known."""

    def __str__(self) -> str:
        return f"{self.address}: {self.cpus:g} CPUs, {self.gpus:g} GPUs"


class Group(NamedTuple):
    """Workers that start together or not at all."""

    workers: int
    cpus: float
    """CPUs of each worker."""
    gpus: float = 0.0
    """GPUs of each worker; a fraction is a part of one GPU."""

    def __str__(self) -> str:
        return f"{self.workers} x ({self.cpus:g} CPUs, {self.gpus:g} GPUs)"


WorkerBytes = Callable[[float, int], int]
"""(GPUs of a worker, bytes of the smallest GPU) -> predicted bytes of a worker of the most expensive trial;
with 0 GPUs that of its process on a CPU."""


class Placement(NamedTuple):
    """How the trials of students are placed."""

    inline: bool
    """True: a trial is trained in a reused Tune actor. False: by the workers of a TorchTrainer."""
    group: Group
    """A trial's workers; the one actor where trials run inline."""
    max_concurrent: int
    """Trials at a time."""
    gpu_bytes: int = 0
    """Memory of the smallest GPU that a worker may get; 0: not known, or workers have none."""

    @property
    def trial_cpus(self) -> float:
        """CPUs that Ray Tune reserves for a trial's own process."""
        return self.group.cpus if self.inline else DRIVER_CPUS


class Placements(NamedTuple):
    """How every stage of a sweep is placed."""

    stages: Group
    """Workers that train the evaluator, then the teacher."""
    trials: Placement
    recheck: Group
    """Workers that train one front member again."""


# ---- what fits ---------------------------------------------------------------------------------------------


def place_stages(
    nodes: Sequence[Node],
    options: SweepOptions,
    worker_bytes: WorkerBytes,
    sharing: tuple[int, int] = (TEACHER_WORKERS, RECHECK_WORKERS),
) -> Placements:
    """Places evaluator and teacher, trials and recheck on the nodes.

    Args:
        sharing: workers that can share the batches of evaluator and teacher, and those of the recheck.

    Raises:
        ConfigError: a stage does not fit, or as `place_trials` does.
    """
    trials = place_trials(nodes, options, worker_bytes)
    stages = _stages(nodes, options, sharing[0])
    return Placements(stages, trials, _recheck(nodes, trials.group, sharing[1]))


def place_trials(nodes: Sequence[Node], options: SweepOptions, worker_bytes: WorkerBytes) -> Placement:
    """Places the trainings of students on the nodes.

    Args:
        worker_bytes: predicts the memory of a worker. It is called only where memory decides.

    Raises:
        ConfigError: a trial does not fit, or --max-concurrent asks for more than memory holds; the message
            has the arithmetic.
    """
    inline = options.executor == "inline" or (options.executor == "auto" and options.workers_per_trial == 1)
    cpus = options.cpus_per_worker * (1.0 if inline else _WORKER_SHARE)
    group = Group(options.workers_per_trial, cpus, _gpus_per_worker(nodes, options, worker_bytes))
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
    if group.gpus == 0 and all(node.memory_bytes for node in nodes):
        concurrent = _held_by_memory(nodes, options, group, concurrent, worker_bytes(0.0, 0))
    gpu_bytes = _smallest_gpu(nodes) if group.gpus else 0
    return Placement(inline, group, concurrent, gpu_bytes)


def _held_by_memory(
    nodes: Sequence[Node], options: SweepOptions, group: Group, concurrent: int, worker_bytes: int
) -> int:
    """How many of `concurrent` trials on CPUs the memory of the nodes holds at a time.

    Raises:
        ConfigError: it holds none, or fewer than --max-concurrent asks for.
    """
    workers = sum(int(_USABLE_MEMORY * node.memory_bytes / worker_bytes) for node in nodes)
    held = workers // group.workers
    memory = ", ".join(f"{node.address}: {node.memory_bytes / 2**30:.2f} GiB" for node in nodes)
    room = f"{_USABLE_MEMORY:.0%} may be used on {memory}"
    needs = f"a trial's worker is predicted to take {worker_bytes / 2**30:.2f} GiB of memory"
    if held < 1:
        raise ConfigError(
            f"student.batch_size: {needs}, and {room}; give a smaller batch, narrower students "
            "(--max-memory-gb) or a larger machine"
        )
    if options.max_concurrent is not None and held < concurrent:
        all_bytes = concurrent * group.workers * worker_bytes
        raise ConfigError(
            f"--max-concurrent {options.max_concurrent}: {needs}, {concurrent} x {group.workers} of them "
            f"{all_bytes / 2**30:.1f} GiB, and {room}; give --max-concurrent {held}"
        )
    return min(concurrent, held)


def why(nodes: Sequence[Node], options: SweepOptions, placement: Placement) -> str:
    """What decides how many trials run at a time, as the end of a sentence that begins with "because"."""
    group, driver_cpus = placement.group, 0.0 if placement.inline else DRIVER_CPUS
    fits = groups_at_once(nodes, group, driver_cpus)
    room = f"{fits} x {group} fit on {listed(nodes)}"
    if placement.max_concurrent < min(fits, options.max_concurrent or fits):
        memory = sum(node.memory_bytes for node in nodes) / 2**30
        return f"no more fit into {_USABLE_MEMORY:.0%} of {memory:.1f} GiB of memory, though {room}"
    if placement.max_concurrent < fits:
        return f"of --max-concurrent {options.max_concurrent}, though {room}"
    if options.gpus_per_worker is None and 0 < group.gpus < 1:
        return f"{room}; the share of a GPU is by predicted memory"
    return room


def groups_at_once(nodes: Sequence[Node], group: Group, driver_cpus: float = 0.0) -> int:
    """The largest k such that k groups fit, wherever their k drivers of `driver_cpus` CPUs each are put.

    A worker must fit on one node; the workers of a group may be on several.
    """
    best = sum(workers_on(node, group) for node in nodes) // group.workers
    for number in range(best, 0, -1):
        room = sum(workers_on(node._replace(cpus=node.cpus - number * driver_cpus), group) for node in nodes)
        if room // group.workers >= number:
            return number
    return 0


def workers_on(node: Node, group: Group) -> int:
    """How many workers of `group` fit on one node.

    A fraction of a GPU lies on one GPU: a share of 0.4 fits twice on each, so never five times on two.
    """
    by_cpus = math.floor(node.cpus / group.cpus + 1e-9)
    if group.gpus == 0:
        return max(0, by_cpus)
    if group.gpus <= 1:
        by_gpus = int(node.gpus) * math.floor(1 / group.gpus + 1e-9)
    else:
        by_gpus = math.floor(node.gpus / group.gpus + 1e-9)
    return max(0, min(by_cpus, by_gpus))


def _smallest_gpu(nodes: Sequence[Node]) -> int:
    """Bytes of the smallest GPU of the nodes; 0: there is none, or one does not tell."""
    return min((node.gpu_bytes for node in nodes if node.gpus >= 1), default=0)


def _gpus_per_worker(nodes: Sequence[Node], options: SweepOptions, worker_bytes: WorkerBytes) -> float:
    """GPUs of each worker of a trial: as asked for, else the share of one that its predicted memory needs."""
    with_gpus = [node for node in nodes if node.gpus >= 1]
    smallest = _smallest_gpu(nodes)
    option, usable = options.gpus_per_worker, int(smallest * _USABLE_GPU)
    if option == 0 or (option is None and not with_gpus):
        return 0.0
    if not with_gpus:
        raise ConfigError(
            f"--gpus-per-worker {option:g}: no node has a GPU ({listed(nodes)}); "
            "leave the option out or add a node with GPUs"
        )
    if not smallest or (option is not None and option >= 1):
        return 1.0 if option is None else option
    needed = worker_bytes(1.0, smallest)
    memory = f"a trial's worker is predicted to take {needed / 2**30:.2f} GiB"
    if option is not None:
        if usable < needed / option:
            raise ConfigError(
                f"--gpus-per-worker {option:g}: {memory}, {option:g} of the usable {usable / 2**30:.2f} GiB "
                f"of the smallest GPU is {option * usable / 2**30:.2f} GiB; give a larger share or a smaller "
                "student.batch_size"
            )
        return option
    if needed > usable:
        raise ConfigError(
            f"student.batch_size: {memory}, the smallest GPU has {usable / 2**30:.2f} GiB to use; "
            "give a smaller batch or more --workers-per-trial, or train on CPUs with --gpus-per-worker 0"
        )
    if options.workers_per_trial > 1:
        return 1.0  # nccl needs a GPU of its own for each worker of a group
    return 1.0 / min(_MOST_TRIALS_PER_GPU, usable // needed)


def _stages(nodes: Sequence[Node], options: SweepOptions, workers: int) -> Group:
    """Workers of evaluator and teacher. Nothing else runs while they are trained."""
    has_gpu = any(node.gpus >= 1 for node in nodes)
    gpus = float(has_gpu) if options.teacher_gpus is None else options.teacher_gpus
    if gpus and not has_gpu:
        raise ConfigError(
            f"--teacher-gpus {gpus:g}: no node has a GPU ({listed(nodes)}); "
            "leave the option out or add a node with GPUs"
        )
    if options.teacher_workers is None:
        several = Group(workers, 1.0, gpus)
        return several if groups_at_once(nodes, several) else several._replace(workers=1)
    group = Group(options.teacher_workers, 1.0, gpus)
    if not groups_at_once(nodes, group):
        shared = "use fewer workers, or share GPUs with --teacher-gpus 0.5"
        hint = shared if gpus else "use fewer workers or more machines"
        what = f"--teacher-workers {options.teacher_workers}: the teacher"
        raise _does_not_fit(nodes, group, 0.0, what, hint)
    return group


def _recheck(nodes: Sequence[Node], trial: Group, workers: int) -> Group:
    """Workers of the recheck: each has what a worker of a trial has, or a half or fourth where that fits.

    There may be a single CPU or GPU for all of them.
    """
    for parts in (1, 2, 4):
        gpus = min(trial.gpus, 1.0) / parts
        group = Group(workers, trial.cpus / parts, gpus)
        if groups_at_once(nodes, group):
            return group
    hint = "add a machine, or give a smaller --cpus-per-worker"
    raise _does_not_fit(nodes, group, 0.0, "the recheck of a front member", hint)


def _does_not_fit(
    nodes: Sequence[Node], group: Group, driver_cpus: float, what: str, hint: str
) -> ConfigError:
    """The error that says what does not fit, with the arithmetic of each node."""
    beside_driver = [node._replace(cpus=node.cpus - driver_cpus) for node in nodes]
    room = ", ".join(
        f"{node} -> {workers_on(free, group)} of them"
        for node, free in zip(nodes, beside_driver, strict=True)
    )
    driver = f" and {driver_cpus:g} CPUs for its own process" if driver_cpus else ""
    return ConfigError(
        f"{what} needs {group}{driver}; each worker must fit on one node: "
        f"{room or 'no node is alive'}; {hint}"
    )


def listed(nodes: Sequence[Node]) -> str:
    """The nodes with what they have, for messages."""
    return "; ".join(str(node) for node in nodes) or "no node is alive"
