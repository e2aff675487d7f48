"""The options of the commands, but for new sweeps (`sweep_options.py`), sweeps that are there
(`analysis_options.py`) and networks (`network_options.py`)."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from raydistill.config.analysis_options import SweepFolder
from raydistill.config.base import UserPath
from raydistill.config.bounds import NumImages, NumPictures, NumTrials, Seed
from raydistill.config.data import FolderLayout
from raydistill.config.options import Cli, Options
from raydistill.config.place_options import (
    CpusPerWorker,
    Executor,
    GpusPerWorker,
    MaxConcurrent,
    WaitForNodes,
    WorkersPerTrial,
)
from raydistill.config.scorer_options import (
    Extractors,
    LpipsFile,
    NumScored,
    RealPictures,
    RealStatistics,
    ScoreEvery,
    Segmenters,
)
from raydistill.errors import ConfigError

REFERENCE, SCORERS = "What it is compared with", "What scores it"
PICTURES, OUTPUT = "Pictures and intervals", "Output"


def _full_or_number(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
    """--nimg full stays as it is; anything else must be a number of images."""
    return value if value == "full" else number(value)


def _length(text: str) -> int | str:
    """The value of --nimg: a number, or the name of a length. Raises ConfigError for anything else."""
    if text == "full":
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"--nimg {text}: a whole number of images, or full") from None


# ---- sweeps ------------------------------------------------------------------------------------------------


class BatchOptions(Options):
    """What `raydistill batch` is given."""

    file: Annotated[
        Path,
        Field(description="A .py file that defines BATCH = Batch(...), or the name of one in search_spaces."),
        Cli("FILE|NAME", positional=True),
    ]
    data: Annotated[
        UserPath | None,
        Field(description="Folder of pictures, for the spaces that read one and have none in the file."),
        Cli("FOLDER"),
    ] = None
    store: Annotated[
        UserPath | None,
        Field(description="Results folder or URL. Default: what the file says."),
        Cli("FOLDER|URL"),
    ] = None
    scale: Annotated[
        Literal["smoke", "small"] | None,
        Field(description="Every space with narrow networks and short trainings, as `sweep --scale` has it."),
        Cli("NAME"),
    ] = None
    objectives: Annotated[
        tuple[str, ...],
        Field(description="Replace the objectives of every space. Repeatable, once for each."),
        Cli("NAME:min|max[:WORST]", name="--objective"),
    ] = ()
    extractors: Extractors = ()
    segmenters: Segmenters = ()
    resume: Annotated[
        bool, Field(description="Go on with the batch of that name; finished sweeps are skipped."), Cli()
    ] = False
    plan: Annotated[bool, Field(description="Check every sweep, print the plan and stop."), Cli()] = False


class RetrainOptions(Options):
    """What `raydistill retrain` is given."""

    sweep: SweepFolder
    nimg: Annotated[
        NumImages,
        WrapValidator(_full_or_number),
        Field(
            description="Images to train on: more than the trial had. full: the length of that name that the "
            "sweep's space gives."
        ),
        Cli("IMAGES|full", read=_length),
    ]
    trial: Annotated[NumTrials | None, Field(description="Number of the one trial to train."), Cli("N")] = (
        None
    )
    front: Annotated[bool, Field(description="Train every member of the front."), Cli()] = False
    top: Annotated[
        Annotated[int, Field(gt=0, le=10**5)] | None,
        Field(description="Train so many members of the front, those of the largest hypervolume first."),
        Cli("K"),
    ] = None
    set: Annotated[
        tuple[str, ...],
        Field(
            description="Set a config path below student, but for its networks, in all that are trained. "
            "Repeatable."
        ),
        Cli("PATH=VALUE"),
    ] = ()
    seed: Annotated[Seed | None, Field(description="Another seed. Default: the trial's own."), Cli("N")] = (
        None
    )
    extractors: Extractors = ()
    segmenters: Segmenters = ()
    lpips: LpipsFile = None
    real_statistics: RealStatistics = ()
    real_split: RealPictures = "own"
    num_scored: NumScored = None
    score_every: ScoreEvery = False
    executor: Executor = "auto"
    workers_per_trial: WorkersPerTrial = 1
    cpus_per_worker: CpusPerWorker = 1
    gpus_per_worker: GpusPerWorker = None
    max_concurrent: MaxConcurrent = None
    wait_for_nodes: WaitForNodes = 120.0


class ConfigOptions(Options):
    """What `raydistill config` is given."""

    space: Annotated[
        str, Field(description="Search space: a name, or the path of a .py file."), Cli("NAME|FILE")
    ] = "default"
    config: Annotated[
        str | None,
        Field(
            description="Values of config paths, in a file that this command printed; --set overrules them."
        ),
        Cli("FILE"),
    ] = None
    set: Annotated[
        tuple[str, ...], Field(description="Set a config path. Repeatable."), Cli("PATH=VALUE")
    ] = ()


# ---- data and evaluator ------------------------------------------------------------------------------------


class InspectOptions(Options):
    """What `raydistill data inspect` is given."""

    path: Annotated[Path, Field(description="Folder, zip or npz file."), Cli("DATA", positional=True)]
    layout: Annotated[
        FolderLayout,
        Field(description="Layout of the folder, where the one that is found is wrong."),
        Cli("NAME"),
    ] = "auto"
    num: Annotated[
        NumPictures | None,
        Field(description="Decode at most so many pictures, evenly spread. Default: all."),
        Cli("N"),
    ] = None
    sheet: Annotated[
        Path,
        Field(description="PNG file that a contact sheet of the pictures is written to."),
        Cli("FILE"),
    ] = Path("contact-sheet.png")
    """Where several data sets are inspected, each name is added to it."""
    as_json: Annotated[bool, Field(description="Print the facts as JSON."), Cli(name="--json")] = False


class FetchOptions(Options):
    """What `raydistill data fetch` is given."""

    name: Annotated[
        str,
        Field(description="Name of a public data set; an unknown name lists all."),
        Cli("NAME", positional=True),
    ]
    to: Annotated[Path, Field(description="Where the data set's own folder is made."), Cli("FOLDER")] = Path(
        "data"
    )
    mirror: Annotated[
        str | None,
        Field(description="Folder with the same files. Default: the publisher's address."),
        Cli("URL"),
    ] = None
    sha256: Annotated[
        str | None,
        Field(description="Checksum to demand of the file, for a data set whose publisher names none."),
        Cli("DIGEST"),
    ] = None


class EvaluatorOptions(Options):
    """What `raydistill evaluator train` is given."""

    space: Annotated[
        str,
        Field(description="Search space whose evaluator is trained: a name, or the path of a .py file."),
        Cli("NAME|FILE"),
    ] = "default"
    data: Annotated[
        str | None,
        Field(description="Pictures to train on, for spaces that do not draw their own."),
        Cli("FOLDER"),
    ] = None
    store: Annotated[
        str, Field(description="Results folder; sweeps in it use this evaluator."), Cli("FOLDER|URL")
    ] = "runs"
    set: Annotated[
        tuple[str, ...], Field(description="Set a config path. Repeatable."), Cli("PATH=VALUE")
    ] = ()


class EvaluateOptions(Options):
    """What `raydistill evaluate` is given."""

    given: Annotated[
        tuple[str, ...],
        Field(
            description="What is scored: folders of networks, trials or checkpoints, ONNX files, or "
            "pictures in folders, zip or npz files."
        ),
        Cli("GIVEN", positional=True),
    ]
    data: Annotated[
        str | None,
        Field(
            description="Data set, as a folder or as prepared data, or the pictures that raydistill draws. "
            "Default: what the trials were trained on."
        ),
        Cli("FOLDER|shapes", REFERENCE),
    ] = None
    split: Annotated[
        Literal["train", "val", "test"],
        Field(description="Split of --data: train, val or test."),
        Cli("NAME", REFERENCE),
    ] = "val"
    set: Annotated[
        tuple[str, ...],
        Field(description="Set a config path of the data. Repeatable."),
        Cli("PATH=VALUE", REFERENCE),
    ] = ()
    real: Annotated[
        str | None,
        Field(description="Instead of --data: a folder, zip or npz file of pictures, as they are."),
        Cli("PICTURES", REFERENCE),
    ] = None
    paired: Annotated[
        bool,
        Field(description="Picture number i of a folder belongs to real picture number i."),
        Cli(panel=REFERENCE),
    ] = False
    store: Annotated[
        str,
        Field(description="Results folder that decoded data are kept in."),
        Cli("FOLDER|URL", REFERENCE),
    ] = "runs"
    extractors: Annotated[
        tuple[str, ...],
        Field(
            description="Network for Frechet and kernel distances, and its weights: inception, vgg16, "
            "squeezenet, torchscript, or a kind of a plug-in. Repeatable. torchscript=FILE RUNS the code in "
            "the file; the first three run nothing."
        ),
        Cli("KIND=FILE", SCORERS, name="--extractor"),
    ] = ()
    segmenters: Annotated[
        tuple[str, ...],
        Field(
            description="Network for mIoU at the size of the label files, and its weights: drn105, "
            "torchscript, or a kind of a plug-in. Repeatable. torchscript=FILE RUNS the code in the file; "
            "drn105 runs nothing."
        ),
        Cli("KIND=FILE", SCORERS, name="--segmenter"),
    ] = ()
    lpips: LpipsFile = None
    real_statistics: RealStatistics = ()
    real_split: RealPictures = "own"
    evaluator: Annotated[
        str | None,
        Field(description="Evaluator. Default: the one that the trials were scored by."),
        Cli("FOLDER", SCORERS, old_name="--judge"),
    ] = None
    num: Annotated[
        NumPictures | None,
        Field(description="Score only so many pictures of each set, drawn from a fixed seed. Default: all."),
        Cli("N", PICTURES),
    ] = None
    resamples: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="Bootstrap resamples for the 95 % interval of each score; 0: no intervals.",
        ),
        Cli("N", PICTURES),
    ] = 200
    against: Annotated[
        str | None,
        Field(
            description="What --json printed before; its scores are shown below, where they can be compared."
        ),
        Cli("FILE", OUTPUT),
    ] = None
    no_record: Annotated[
        bool,
        Field(
            description="Only print it. Else what is measured of a sweep's trial is recorded beside it, and "
            "shown in tables and page of the sweep."
        ),
        Cli(panel=OUTPUT),
    ] = False
    as_json: Annotated[
        bool, Field(description="Print the scores as JSON."), Cli(panel=OUTPUT, name="--json")
    ] = False


# ---- cluster -----------------------------------------------------------------------------------------------


class DoctorOptions(Options):
    """What `raydistill doctor` is given."""

    store: Annotated[
        str,
        Field(description="Results folder, or s3:// address, that sweeps will be given."),
        Cli("FOLDER|URL"),
    ] = "runs"
    mlflow: Annotated[
        str | None,
        Field(
            description="Tracking server or store that sweeps will be given. Default: an sqlite file in "
            "--store."
        ),
        Cli("URI"),
    ] = None
    experiment: Annotated[
        str, Field(description="MLflow experiment that sweeps will be given."), Cli("NAME")
    ] = "raydistill"
    step: Annotated[
        str | None,
        Field(
            description="Count what one training step asks of a GPU, without one, and look at nothing else: "
            "unet256, resnet64, stylegan2-32, or a search space, a name or a .py file."
        ),
        Cli("NAME|SPACE|FILE"),
    ] = None
    set: Annotated[
        tuple[str, ...], Field(description="With --step: set a config path. Repeatable."), Cli("PATH=VALUE")
    ] = ()
    stage: Annotated[
        Literal["student", "teacher", "evaluator"],
        Field(description="With --step: whose training the step is of: student, teacher or evaluator."),
        Cli("STAGE"),
    ] = "student"
    resident: Annotated[
        bool,
        Field(description="With --step: pictures lie on the device. Default: they are read and copied."),
        Cli(),
    ] = False
    as_json: Annotated[bool, Field(description="Print the findings as JSON."), Cli(name="--json")] = False
