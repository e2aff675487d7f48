"""The options that say where trainings run: the same for all commands that train by Ray."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.bounds import Amount, NumWorkers
from raydistill.config.options import Cli

PLACE = "Where it runs"

Executor = Annotated[
    Literal["auto", "inline", "train"],
    Field(
        description="How a trial runs: inline (in a Ray Tune actor), train (by a TorchTrainer of its "
        "own), or auto (inline with one worker a trial, else train)."
    ),
    Cli("KIND", PLACE),
]
WorkersPerTrial = Annotated[
    NumWorkers, Field(description="Workers that share a student's training."), Cli("N", PLACE)
]
CpusPerWorker = Annotated[
    NumWorkers, Field(description="CPUs of each worker of a trial."), Cli("CPUS", PLACE)
]
GpusPerWorker = Annotated[
    Amount | None,
    Field(
        description="GPUs of each worker of a trial, or a share of one. Default: what its predicted "
        "memory needs; 0 where there is no GPU."
    ),
    Cli("GPUS", PLACE),
]
MaxConcurrent = Annotated[
    NumWorkers | None, Field(description="Trials at a time. Default: as many as fit."), Cli("N", PLACE)
]
WaitForNodes = Annotated[
    Amount,
    Field(description="How long to wait for another node when those that are left have no room for a trial."),
    Cli("SECONDS", PLACE),
]
