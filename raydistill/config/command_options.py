"""The options of every command but those of a sweep, which are in `sweep_options.py`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.bounds import (
    LARGEST_SIDE,
    BatchSize,
    Interval,
    NumImages,
    NumPictures,
    NumTrials,
    NumWorkers,
    Seed,
    Side,
)
from raydistill.config.data import FolderLayout
from raydistill.config.options import Cli, Options
from raydistill.config.scorer_options import Extractors, LpipsFile, NumScored, ScoreEvery, Segmenters
from raydistill.errors import ConfigError

REFERENCE, SCORERS = "What it is compared with", "What scores it"
PICTURES, OUTPUT = "Pictures and intervals", "Output"


def size_of(text: str) -> tuple[int, int]:
    """Height and width in pixels: `256x192` -> (256, 192).

    Raises:
        ConfigError: any other text, or a side outside 1 to 8192.
    """
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 1 <= int(side) <= LARGEST_SIDE for side in sides):
        raise ConfigError(
            f"--size {text}: give it as HEIGHTxWIDTH, each 1 to {LARGEST_SIDE}, for example --size 256x256"
        )
    return int(sides[0]), int(sides[1])


_HeightAndWidth = Annotated[tuple[Side, Side] | None, Cli("HEIGHTxWIDTH", read=size_of)]
_Size = Annotated[
    _HeightAndWidth,
    Field(
        description="Size of the pictures in pixels. Default: what the network's data tell; needed where "
        "they tell none."
    ),
]


# ---- sweeps ------------------------------------------------------------------------------------------------


class BatchOptions(Options):
    """What `raydistill batch` is given."""

    file: Annotated[
        Path,
        Field(description="A .py file that defines BATCH = Batch(...)."),
        Cli("FILE", positional=True),
    ]
    resume: Annotated[
        bool, Field(description="Go on with the batch of that name; finished sweeps are skipped."), Cli()
    ] = False
    plan: Annotated[bool, Field(description="Check every sweep, print the plan and stop."), Cli()] = False


class RetrainOptions(Options):
    """What `raydistill retrain` is given."""

    sweep: Annotated[
        str,
        Field(description="Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME."),
        Cli("SWEEP", positional=True),
    ]
    trial: Annotated[NumTrials, Field(description="Number of the trial."), Cli("N")]
    nimg: Annotated[
        NumImages, Field(description="Images to train on: more than the trial had."), Cli("IMAGES")
    ]
    seed: Annotated[Seed | None, Field(description="Another seed. Default: the trial's own."), Cli("N")] = (
        None
    )
    extractors: Extractors = ()
    segmenters: Segmenters = ()
    lpips: LpipsFile = None
    num_scored: NumScored = None
    score_every: ScoreEvery = False


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


class FrontierOptions(Options):
    """What `raydistill frontier` is given."""

    sweep: Annotated[
        Path,
        Field(description="Folder of a finished sweep: STORE/sweeps/NAME."),
        Cli("SWEEP", positional=True),
    ]


class TrackOptions(Options):
    """What `raydistill track` is given."""

    sweep: Annotated[
        str,
        Field(description="Folder of a sweep, STORE/sweeps/NAME; also s3://bucket/prefix/sweeps/NAME."),
        Cli("SWEEP", positional=True),
    ]
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
            "squeezenet or torchscript. Repeatable. torchscript=FILE RUNS the code in the file; the others "
            "run nothing."
        ),
        Cli("KIND=FILE", SCORERS, name="--extractor"),
    ] = ()
    segmenters: Annotated[
        tuple[str, ...],
        Field(
            description="Network for mIoU at the size of the label files, and its weights: drn105 or "
            "torchscript. Repeatable. torchscript=FILE RUNS the code in the file; drn105 runs nothing."
        ),
        Cli("KIND=FILE", SCORERS, name="--segmenter"),
    ] = ()
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
    as_json: Annotated[
        bool, Field(description="Print the scores as JSON."), Cli(panel=OUTPUT, name="--json")
    ] = False


# ---- networks ----------------------------------------------------------------------------------------------


class ImportOptions(Options):
    """What `raydistill teacher import` is given."""

    file: Annotated[
        str,
        Field(description="Checkpoint: .pth, .pt, .safetensors, or NVlabs' .pkl. Nothing in it is run."),
        Cli("FILE", positional=True),
    ]
    out: Annotated[
        str | None,
        Field(description="Folder to write. Default: in this folder, named after the file."),
        Cli("FOLDER"),
    ] = None
    size: Annotated[
        _HeightAndWidth,
        Field(
            description="Size of pictures in pixels, for counts and for the output's digest. Default: "
            "256x256."
        ),
    ] = None


class ExportOptions(Options):
    """What `raydistill export` is given."""

    given: Annotated[
        str,
        Field(
            description="Folder of a trial, checkpoint or network, or an exported .safetensors file; or the "
            "folder of an evaluator, for --format torchscript."
        ),
        Cli("NETWORK", positional=True),
    ]
    format: Annotated[
        Literal["onnx", "torchscript", "safetensors"],
        Field(description="onnx, torchscript or safetensors."),
        Cli("NAME"),
    ] = "onnx"
    out: Annotated[
        str | None,
        Field(description="File to write. Default: in this folder, named after the trial."),
        Cli("FILE"),
    ] = None
    size: _Size = None
    pictures: Annotated[
        str | None,
        Field(
            description="Pictures that the file is checked on. Default: those that the network was trained "
            "on, else seeded noise."
        ),
        Cli("FOLDER"),
    ] = None
    gives: Annotated[
        Literal["classes", "features"],
        Field(
            description="What the file of an evaluator gives: classes of pixels, as --segmenter takes it, or "
            "features, as --extractor takes it."
        ),
        Cli("WHAT"),
    ] = "classes"
    licence: Annotated[str, Field(description="Licence that the model card names."), Cli("TEXT")] = ""


class LatencyOptions(Options):
    """What `raydistill latency` is given."""

    given: Annotated[
        tuple[str, ...],
        Field(description="Folders of trials, checkpoints or networks, or exported .safetensors files."),
        Cli("NETWORK", positional=True),
    ]
    batch_sizes: Annotated[
        tuple[BatchSize, ...],
        Field(description="Pictures in a minibatch. Repeatable; default: 1."),
        Cli("N", name="--batch-size"),
    ] = (1,)
    threads: Annotated[NumWorkers, Field(description="CPU threads."), Cli("N")] = 1
    device: Annotated[str, Field(description="cpu or cuda."), Cli("NAME")] = "cpu"
    repeats: Annotated[Interval, Field(description="Forwards that are timed, after a warm-up."), Cli("N")] = (
        30
    )
    size: _Size = None
    as_json: Annotated[bool, Field(description="Print the rows as JSON."), Cli(name="--json")] = False


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
    as_json: Annotated[bool, Field(description="Print the findings as JSON."), Cli(name="--json")] = False
