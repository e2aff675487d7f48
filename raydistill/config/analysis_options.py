"""The options of the commands on sweeps that are there: compare, ablate, watch, list, plot, frontier,
track and promote."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.bounds import Cost, Seed
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

SweepFolder = Annotated[
    str,
    Field(description="Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME."),
    Cli("SWEEP", positional=True),
]
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

    sweep: SweepFolder
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

    sweep: SweepFolder
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


class FrontierOptions(Options):
    """What `raydistill frontier` is given."""

    sweep: Annotated[
        Path,
        Field(description="Folder of a sweep: STORE/sweeps/NAME. It may run, or be a copy."),
        Cli("SWEEP", positional=True),
    ]
    as_json: Annotated[
        bool, Field(description="Print the trials as JSON, by the columns of the tables."), Cli(name="--json")
    ] = False


class _TrackedSweep(Options):
    """A sweep, and where it is in MLflow."""

    sweep: SweepFolder
    mlflow: Annotated[
        str | None,
        Field(
            description="Tracking server or store. Default: where the sweep was tracked, without a password."
        ),
        Cli("URI"),
    ] = None
    experiment: Annotated[
        str | None, Field(description="MLflow experiment. Default: that of the sweep."), Cli("NAME")
    ] = None


class TrackOptions(_TrackedSweep):
    """What `raydistill track` is given."""

    study: Annotated[
        str | None,
        Field(
            description="Write the sweep as a study of Optuna's, too, into this database, such as "
            "sqlite:///study.db; a study that is there is brought to the ledger's state."
        ),
        Cli("URL"),
    ] = None


def percent_of(text: str) -> float:
    """The number in "2%" or "2". Raises ConfigError where it is none from 0 to 100."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100:
        raise ConfigError(f"--within {text}: a percentage from 0 to 100 is needed, for example 2%")
    return number


class PromoteOptions(_TrackedSweep):
    """What `raydistill promote` is given."""

    trial: Annotated[
        str | None, Field(description="Promote this trial: its number, or its id."), Cli("N")
    ] = None
    under: Annotated[
        Annotated[Cost, Field(gt=0)] | None,
        Field(description="Promote the best of the front by the first objective with at most so many MACs."),
        Cli("MACS"),
    ] = None
    within: Annotated[
        Annotated[float, Field(ge=0, le=100)] | None,
        Field(
            description="Promote the cheapest of the front that is at most so many percent worse than the "
            "teacher by the first objective, for example 2%."
        ),
        Cli("PERCENT", read=percent_of),
    ] = None
    name: Annotated[
        str | None,
        Field(description="Name of the registered model. Default: the sweep's.", min_length=1),
        Cli("NAME"),
    ] = None
    alias: Annotated[
        str, Field(description="Alias that the model gets.", pattern=r"^[A-Za-z0-9_-]+$"), Cli("NAME")
    ] = "champion"
    licence: Annotated[str, Field(description="Licence of the model, for its tags."), Cli("TEXT")] = ""
    replace: Annotated[
        bool,
        Field(
            description="Take the alias from a model of other data, another evaluator or another convention "
            "of MACs."
        ),
        Cli(),
    ] = False
