"""The options of the commands about single networks: teacher import, generate, export and latency."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.bounds import LARGEST_SIDE, BatchSize, Interval, NumPictures, NumWorkers, Seed, Side
from raydistill.config.options import Cli, Options
from raydistill.errors import ConfigError


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


def shard_of(text: str) -> tuple[int, int]:
    """Number of a shard, and how many there are: `2/8` -> (2, 8).

    Raises:
        ConfigError: any other text, or a number outside of 1 to how many there are.
    """
    numbers = text.split("/")
    if len(numbers) == 2 and all(number.isdecimal() and len(number) < 7 for number in numbers):
        shard, shards = int(numbers[0]), int(numbers[1])
        if 1 <= shard <= shards:
            return shard, shards
    raise ConfigError(f"--shard {text}: give it as K/N, K from 1 to N, for example --shard 2/8")


_HeightAndWidth = Annotated[tuple[Side, Side] | None, Cli("HEIGHTxWIDTH", read=size_of)]
_Size = Annotated[
    _HeightAndWidth,
    Field(
        description="Size of the pictures in pixels. Default: what the network's data tell; needed where "
        "they tell none."
    ),
]


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
    network: Annotated[
        str | None,
        Field(description="Which network, where the file holds several: netG_A. Default: its generator."),
        Cli("NAME"),
    ] = None
    size: Annotated[
        _HeightAndWidth,
        Field(
            description="Size of pictures in pixels, for counts and for the output's digest. Default: "
            "256x256."
        ),
    ] = None


class GenerateOptions(Options):
    """What `raydistill generate` is given."""

    given: Annotated[
        str,
        Field(
            description="Folder of a trial, checkpoint, network or teacher, or an exported .safetensors or "
            ".onnx file. torchscript=FILE RUNS the code in the file."
        ),
        Cli("NETWORK", positional=True),
    ]
    out: Annotated[
        str, Field(description="Folder to write: pictures/, grid.png and generate.json."), Cli("FOLDER")
    ]
    data: Annotated[
        str | None,
        Field(
            description="The inputs: of a data set those of --split, else every picture in the folder, zip "
            "or npz file; or the pictures that raydistill draws. Default: what the trial was trained on."
        ),
        Cli("FOLDER|shapes"),
    ] = None
    split: Annotated[
        Literal["train", "val", "test"],
        Field(description="Split of a data set: train, val or test."),
        Cli("NAME"),
    ] = "val"
    set: Annotated[
        tuple[str, ...], Field(description="Set a config path of the data. Repeatable."), Cli("PATH=VALUE")
    ] = ()
    num: Annotated[
        NumPictures | None,
        Field(description="Pictures to make, for a network that takes noise."),
        Cli("N"),
    ] = None
    seed: Annotated[Seed, Field(description="Seed of the noise."), Cli("N")] = 0
    truncation: Annotated[
        Annotated[float, Field(ge=0, le=1)] | None,
        Field(description="Pull styles towards their mean, 0 to 1; StyleGAN2. Default: the network's own."),
        Cli("SHARE"),
    ] = None
    shard: Annotated[
        tuple[Interval, Interval] | None,
        Field(
            description="Make only part K of N, in minibatches of 64 pictures; run the other parts "
            "elsewhere, into the same folder. Default: all."
        ),
        Cli("K/N", read=shard_of),
    ] = None
    store: Annotated[
        str, Field(description="Results folder that decoded data are kept in."), Cli("FOLDER|URL")
    ] = "runs"


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
    no_record: Annotated[
        bool,
        Field(
            description="Only print it. Else what is measured of a sweep's trial is recorded beside it, and "
            "shown in tables and page of the sweep."
        ),
        Cli(),
    ] = False
    as_json: Annotated[bool, Field(description="Print the rows as JSON."), Cli(name="--json")] = False
