"""The options of a sweep, as the command line gives them."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import Frozen, UserPath
from raydistill.config.bounds import (
    Amount,
    AmountAboveZero,
    Cost,
    CostAboveZero,
    NumImages,
    NumTrials,
    NumWorkers,
    Seed,
)

LONGEST_NAME, LONGEST_EXPERIMENT = 200, 256
"""Characters of the name of a sweep, from which names of files are made, and of MLflow's experiment."""


class SweepOptions(Frozen):
    """What the command line of a sweep gives. See `raydistill sweep --help`."""

    space: UserPath = "default"
    """Search space: a name, or the path of a .py file."""
    data: UserPath | None = None
    """Folder of pictures, for spaces that read one."""
    store: UserPath = "runs"
    """Results folder, or the URL of an object store."""
    name: Annotated[str, Field(max_length=LONGEST_NAME)] | None = None
    """Name of the sweep; None: the space and a number."""
    resume: bool = False
    """Go on with a sweep of the same settings."""
    plan: bool = False
    """Check everything, print what the sweep will take, and stop."""
    seconds_per_image: AmountAboveZero | None = None
    """Plan with this training time of one image, in every training; None: it is measured."""
    trials: NumTrials = 8
    """Number of students to search, beside the baselines."""
    max_hours: AmountAboveZero | None = None
    """Limit on the time over every start of the sweep, evaluator and teacher included; None: no limit."""
    max_gpu_hours: AmountAboveZero | None = None
    """Limit on the GPU time of the trials that have ended, without evaluator and teacher; None: no limit."""
    seed: Seed = 0
    """Seed of search and students."""
    sampler: str = "known-cost"
    """What proposes configurations: a key of `search.SAMPLERS`."""
    early_stopping: bool = False
    """Stop students that are bad for their cost, or that can no longer reach the front."""
    replicates: NumTrials = 0
    """Largest number of trainings by further seeds that follow the search."""
    stability: Annotated[float, Field(gt=0, le=1)] | None = None
    """End the replicates when so much of the front is expected to stay; None: when all of it is certain."""
    warm_start: tuple[UserPath, ...] = ()
    """Sweeps and tables that are known before the first trial. See `search/warm_start.py`."""
    nimg: NumImages | None = None
    """Images that a student is trained on; None: as the space's preset says."""
    set: tuple[str, ...] = ()
    """Assignments dotted.path=value that change the config."""
    objectives: tuple[str, ...] = ()
    """Objectives NAME:min|max[:WORST] that replace those of the space; empty: those of the space."""
    max_macs: CostAboveZero | None = None
    min_macs: Cost | None = None
    max_params: CostAboveZero | None = None
    min_params: Cost | None = None
    max_memory_gb: AmountAboveZero | None = None
    """Limit on the predicted memory of one worker of a trial, in GiB; None: no limit."""
    executor: Literal["auto", "inline", "train"] = "auto"
    """inline: a trial runs in a Tune actor. train: it runs by a TorchTrainer, which several workers need.
    auto: inline for one worker a trial, else train."""
    workers_per_trial: NumWorkers = 1
    cpus_per_worker: NumWorkers = 1
    gpus_per_worker: Amount | None = None
    """None: a whole GPU, or a half, third or fourth of one where the predicted memory allows it."""
    max_concurrent: NumWorkers | None = None
    """Largest number of trials at a time; None: as many as fit."""
    teacher: UserPath | None = None
    """Folder of a trained or imported generator that is used as the teacher; None: one is trained."""
    teacher_workers: NumWorkers | None = None
    """None: `TEACHER_WORKERS` of `planning/plan.py`, or 1 where only one fits."""
    teacher_gpus: Amount | None = None
    """GPUs of each of these workers; None: 1 where there are GPUs."""
    teacher_cache_gb: Amount = 2.0
    """The teacher's outputs on the training pictures are stored if they need at most so many GiB; else the
    teacher runs in every trial."""
    wait_for_nodes: Amount = 120.0
    """Seconds to wait for another node when too few are left."""
    mlflow: UserPath | None = None
    """Tracking URI; None: an sqlite file in the store."""
    experiment: Annotated[str, Field(max_length=LONGEST_EXPERIMENT)] = "raydistill"
    """Name of the MLflow experiment."""
