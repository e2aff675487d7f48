"""The options of the commands that look at sweeps: compare, ablate, watch, list, plot."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.bounds import Seed
from raydistill.config.options import Cli, Options
from raydistill.config.place_options import (
    CpusPerWorker,
    Executor,
    GpusPerWorker,
    MaxConcurrent,
    WaitForNodes,
    WorkersPerTrial,
)
from raydistill.errors import ConfigError

_SWEEP = "Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME."

Sweeps = Annotated[
    tuple[str, ...],
    Field(description="Folders of sweeps that have ended, STORE/sweeps/NAME."),
    Cli("SWEEP", positional=True),
]
Labels = Annotated[
    tuple[str, ...],
    Field(
        description="Name of a side, in the order of their first sweeps. Repeatable, once for each side. "
        "Default: what differs between them."
    ),
    Cli("NAME", name="--label"),
]
Budgets = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1e30)], ...],
    Field(
        description="Compare the best quality within this cost, such as 3e6 for 3 M MACs. Repeatable. "
        "Default: three that spread over the fronts."
    ),
    Cli("COST", name="--at"),
]
AsJson = Annotated[bool, Field(description="Print it as JSON."), Cli(name="--json")]


class CompareOptions(Options):
    """What `raydistill compare` is given."""

    sweeps: Sweeps
    labels: Labels = ()
    budgets: Budgets = ()
    out: Annotated[
        Path, Field(description="HTML file to write: figures and tables, without a network."), Cli("FILE")
    ] = Path("compare.html")
    as_json: AsJson = False


def _trial_ids(text: str) -> tuple[str, ...]:
    """The trials in "0003,0010" or "3,10". Raises ConfigError where a part is no number."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and len(part) < 10 for part in parts):
        raise ConfigError(f"--trials {text}: numbers of trials with commas between, such as 0003,0010")
    return tuple(dict.fromkeys(f"{int(part):04d}" for part in parts))


class AblateOptions(Options):
    """What `raydistill ablate` is given."""

    sweep: Annotated[str, Field(description=_SWEEP), Cli("SWEEP", positional=True)]
    set: Annotated[
        tuple[str, ...],
        Field(
            description="The one change: a config path below student and its value; searched ones, too. "
            "Several values given together are one change. Repeatable."
        ),
        Cli("PATH=VALUE"),
    ] = ()
    trials: Annotated[
        tuple[str, ...] | None,
        Field(description="Trials to train with and without the change. Default: the front."),
        Cli("N,N,...", read=_trial_ids),
    ] = None
    seeds: Annotated[
        Annotated[int, Field(gt=0, le=1000)],
        Field(description="Seeds of each trial: its own and the next ones."),
        Cli("N"),
    ] = 1
    first_seed: Annotated[
        Seed | None, Field(description="The first of the seeds. Default: the trial's own."), Cli("N")
    ] = None
    equal: Annotated[
        Literal["images", "time"],
        Field(
            description="What both trainings of a pair have alike: the images, or the training time, from a "
            "few steps that are timed here."
        ),
        Cli("images|time"),
    ] = "images"
    as_json: AsJson = False
    executor: Executor = "auto"
    workers_per_trial: WorkersPerTrial = 1
    cpus_per_worker: CpusPerWorker = 1
    gpus_per_worker: GpusPerWorker = None
    max_concurrent: MaxConcurrent = None
    wait_for_nodes: WaitForNodes = 120.0


class WatchOptions(Options):
    """What `raydistill watch` is given."""

    sweep: Annotated[str, Field(description=_SWEEP), Cli("SWEEP", positional=True)]
    every: Annotated[
        Annotated[float, Field(ge=0.2, le=3600)],
        Field(description="Seconds between two looks."),
        Cli("SECONDS"),
    ] = 2.0


class ListOptions(Options):
    """What `raydistill list` is given."""

    store: Annotated[
        str, Field(description="Results folder, or s3://bucket/prefix."), Cli("STORE", positional=True)
    ] = "runs"
    as_json: AsJson = False


class PlotOptions(Options):
    """What `raydistill plot` is given."""

    sweeps: Sweeps
    out: Annotated[
        Path, Field(description="File to write; its ending says the format: pdf, svg or png."), Cli("FILE")
    ]
    kind: Annotated[
        Literal["front", "attainment", "curves", "ablation"],
        Field(
            description="front: students and fronts, with bands over seeds; attainment: what a quarter, half "
            "and three quarters of the seeds attain; curves: learning curves of front members; ablation: "
            "what `raydistill ablate` has found."
        ),
        Cli("KIND"),
    ] = "front"
    labels: Labels = ()
    metric: Annotated[
        str | None,
        Field(description="Metric of --kind curves and ablation. Default: the first quality."),
        Cli("NAME"),
    ] = None
    width: Annotated[
        Annotated[float, Field(ge=1, le=20)],
        Field(description="Width in inches: 3.3 is a column, 6.9 a page of two columns."),
        Cli("INCHES"),
    ] = 3.3
