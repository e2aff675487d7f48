"""What the command line of a sweep gives."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from raydistill.config.base import Frozen


class SweepOptions(Frozen):
    """What the command line gives. See `raydistill sweep --help`."""

    space: str = "default"
    data: str | None = None
    store: str = "runs"
    name: str | None = None
    resume: bool = False
    plan: bool = False
    seconds_per_image: PositiveFloat | None = None
    """A rate to plan with, of an image in any training; None: measured."""
    trials: int = 8
    max_hours: PositiveFloat | None = None
    """Wall-clock time over every start of the sweep, evaluator and teacher included."""
    max_gpu_hours: PositiveFloat | None = None
    """Of the trials that have ended; evaluator and teacher are not counted."""
    seed: NonNegativeInt = 0
    sampler: str = "known-cost"
    early_stopping: bool = False
    replicates: NonNegativeInt = 0
    stability: float | None = Field(None, gt=0, le=1)
    warm_start: tuple[str, ...] = ()
    """Sweeps, folders of sweeps and tables that are known before the first trial. See `warm`."""
    nimg: PositiveInt | None = None
    set: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    max_macs: PositiveFloat | None = None
    min_macs: NonNegativeFloat | None = None
    max_params: PositiveFloat | None = None
    min_params: NonNegativeFloat | None = None
    max_memory_gb: PositiveFloat | None = None
    """Predicted memory of one worker of a trial, GiB."""
    executor: Literal["auto", "inline", "train"] = "auto"
    workers_per_trial: PositiveInt = 1
    cpus_per_worker: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat | None = None
    """None: a whole GPU, or a half, third or fourth of one where the predicted memory allows it."""
    max_concurrent: PositiveInt | None = None
    teacher: str | None = None
    """Folder of a trained or imported generator that is the teacher as it is; None: one is trained."""
    teacher_workers: PositiveInt | None = None
    """None: `TEACHER_WORKERS`, or 1 where there is room for one only."""
    teacher_gpus: NonNegativeFloat | None = None
    """GPUs of each; None: 1 where there are GPUs."""
    teacher_cache_gb: NonNegativeFloat = 2.0
    """The teacher's outputs on the training pictures are stored where they need no more; else it runs in every trial."""
    wait_for_nodes: NonNegativeFloat = 120.0
    mlflow: str | None = None
    experiment: str = "raydistill"
