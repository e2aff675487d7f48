"""Commands about single networks: teacher import, export and latency. Each returns its exit code."""

from typing import Annotated

from raydistill.commands.cli.options import argument, flag, option
from raydistill.errors import ConfigError

Size = Annotated[
    str | None,
    option(
        "HEIGHTxWIDTH",
        "Size of the pictures in pixels. Default: what the network's data tell; needed where they tell none.",
    ),
]


def size_of(text: str | None) -> tuple[int, int] | None:
    """Height and width in pixels: `256x192` -> (256, 192), None -> None.

    Raises:
        ConfigError: any other text, or a side outside 1 to 8192.
    """
    if text is None:
        return None
    from raydistill.config.bounds import LARGEST_SIDE

    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 1 <= int(side) <= LARGEST_SIDE for side in sides):
        raise ConfigError(
            f"--size {text}: give it as HEIGHTxWIDTH, each 1 to {LARGEST_SIDE}, for example --size 256x256"
        )
    return int(sides[0]), int(sides[1])


def import_teacher(
    file: Annotated[
        str,
        argument("FILE", "Checkpoint: .pth, .pt, .safetensors, or NVlabs' .pkl. Nothing in it is run."),
    ],
    out: Annotated[
        str | None,
        option("FOLDER", "Folder to write. Default: in this folder, named after the file."),
    ] = None,
    size: Annotated[
        str | None,
        option(
            "HEIGHTxWIDTH",
            "Size of pictures in pixels, for counts and for the output's digest. Default: 256x256.",
        ),
    ] = None,
) -> int:
    """Read a generator that was trained elsewhere, so that it can be a sweep's teacher.

    It knows the layouts of pix2pix, CycleGAN, GAN Compression, OMGD, SAGAN and StyleGAN2.
    """
    from raydistill.commands.import_teacher import ImportOptions, run
    from raydistill.config.paths import validated

    options = {"file": file, "out": out, "size": size_of(size)}
    return run(validated(ImportOptions, options, where="command line"))


def export(
    given: Annotated[
        str,
        argument("NETWORK", "Folder of a trial, checkpoint or network, or an exported .safetensors file."),
    ],
    format_: Annotated[str, option("NAME", "onnx, torchscript or safetensors.", name="--format")] = "onnx",
    out: Annotated[
        str | None,
        option("FILE", "File to write. Default: in this folder, named after the trial."),
    ] = None,
    size: Size = None,
    pictures: Annotated[
        str | None,
        option(
            "FOLDER",
            "Pictures that the file is checked on. Default: those that the network was trained on, else "
            "seeded noise.",
        ),
    ] = None,
    licence: Annotated[str, option("TEXT", "Licence that the model card names.")] = "",
) -> int:
    """Write a generator for use elsewhere, checked against PyTorch, with a model card beside it.

    Exit code 1, and no file, where its outputs differ from PyTorch's.
    """
    from raydistill.commands.export import ExportOptions, run
    from raydistill.config.paths import validated

    options = {
        "given": given,
        "format": format_,
        "out": out,
        "size": size_of(size),
        "pictures": pictures,
        "licence": licence,
    }
    return run(validated(ExportOptions, options, where="command line"))


def latency(
    given: Annotated[
        list[str],
        argument("NETWORK", "Folders of trials, checkpoints or networks, or exported .safetensors files."),
    ],
    batch_size: Annotated[
        list[int] | None,
        option("N", "Pictures in a minibatch. Repeatable; default: 1."),
    ] = None,
    threads: Annotated[int, option("N", "CPU threads.")] = 1,
    device: Annotated[str, option("NAME", "cpu or cuda.")] = "cpu",
    repeats: Annotated[int, option("N", "Forwards that are timed, after a warm-up.")] = 30,
    size: Size = None,
    as_json: Annotated[bool, flag("--json", "Print the rows as JSON.")] = False,
) -> int:
    """Measure how long generators take, in milliseconds (p50 and p95), and their peak memory, in MiB.

    They are measured one after the other, each in a process of its own. The machine should do nothing else.
    """
    from raydistill.commands.latency import LatencyOptions, run
    from raydistill.config.paths import validated

    options = {
        "given": tuple(given),
        "batch_sizes": tuple(batch_size or (1,)),
        "threads": threads,
        "device": device,
        "repeats": repeats,
        "size": size_of(size),
        "as_json": as_json,
    }
    return run(validated(LatencyOptions, options, where="command line"))
