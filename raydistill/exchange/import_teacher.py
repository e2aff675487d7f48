"""A generator out of another project's checkpoint file, as the folder of a network."""

import hashlib
import json
import os
from pathlib import Path

import torch

from raydistill.config.base import Frozen
from raydistill.data import to_uint8
from raydistill.errors import CheckpointError, ConfigError, DataError, StoreError
from raydistill.exchange.checkpoint_files import read_weights
from raydistill.exchange.generator_file import (
    LoadedGenerator,
    inputs_for,
    is_exported,
    open_generator,
    read_exported,
)
from raydistill.exchange.key_layouts import ConvertedGenerator, recognise
from raydistill.exchange.networks_in_file import generator_in, plain_weights, require_plain
from raydistill.models import GENERATORS, check, cost, input_channels, saved
from raydistill.reading import file_hash
from raydistill.records import owners

DEFAULT_SIZE = (256, 256)
"""(height, width) of pictures, for counts and the output digest, where the family has no size of its own."""


class ImportReport(Frozen):
    """`import.json` beside the network: what was read, and what to compare it with."""

    source: str
    """Name of the file."""
    source_sha256: str
    """SHA-256 of its bytes, 64 hex digits."""
    network: str | None = None
    """Which of the file's networks it is, as it was asked for or found; None: the file has nothing else."""
    layout: str
    """Name of the key layout by which the file was recognised."""
    family: str
    """Family of generators that it belongs to, such as "resnet"."""
    takes: str
    """What one input is, such as "picture 3x256x256"."""
    height: int
    """Height and width of pictures, for which macs are counted."""
    width: int
    """See `height`: pixels."""
    params: int
    """Number of parameters."""
    macs: int
    """Multiply-accumulates of one picture, counted by `macs_convention`."""
    macs_convention: str = cost.MACS_CONVENTION
    """Which operations count, see `models.cost.CONVENTIONS`."""
    output_digest: str
    """Digest of the 8-bit output for one input of seed 0.

    Rounding may differ between machines, so compare the mean and the deviation too.
    """
    output_mean: float
    """Mean of that output, before it was rounded."""
    output_deviation: float
    """Standard deviation of it."""
    dropped: tuple[str, ...]
    """Names in the file that mean nothing in an eval network."""


def import_teacher(
    file: str | Path,
    out: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    network: str | None = None,
) -> ImportReport:
    """Reads a generator that was trained elsewhere, and writes it as a folder that a sweep takes as teacher.

    It knows the layouts of pix2pix, CycleGAN, GAN Compression, OMGD, SAGAN and StyleGAN2. Nothing in the file
    is run.

    Args:
        file: a checkpoint: .pth, .pt, .safetensors, or NVlabs' .pkl.
        out: the folder to write, which must not be there; None: `default_folder(file)`. Give it to
            `SweepOptions(teacher=...)`.
        size: (height, width) of pictures in pixels, for the counts and the output's digest; None: that of the
            family, or `DEFAULT_SIZE`.
        network: which one, where the file holds several; None: it holds one generator.

    Returns:
        What was read, as `import.json` in the folder has it: parameters, multiply-accumulates of one picture.

    Raises:
        ConfigError: the folder is there already, or the generator cannot be used at this size.
        DataError: the file is not understood, holds several networks and none is named, or its generator
            gives numbers that are not finite.
        StoreError: the folder cannot be written.
    """
    folder = default_folder(file) if out is None else Path(out)
    if folder.exists():
        raise ConfigError(f"--out {folder}: exists already; give another folder, or remove it")
    return import_file(Path(file), folder, size, network)


def default_folder(file: str | Path) -> Path:
    """Where a generator is imported to that nobody named a folder for: in the working folder."""
    return Path(f"{Path(file).stem}-imported")


def import_file(
    file: Path,
    out: Path,
    size: tuple[int, int] | None = None,
    network: str | None = None,
    default_size: tuple[int, int] = DEFAULT_SIZE,
) -> ImportReport:
    """Reads the generator in `file`, tries it, and writes it to the folder `out`, whole or not at all.

    Args:
        file: a checkpoint file of any project in `key_layouts`, or one that `raydistill export --format
            safetensors` wrote.
        out: the folder, which must not be there.
        size: (height, width) of pictures; None: that of the family, or `default_size`.
        network: which network of the file, see `read_weights`.

    Raises:
        DataError: the file is not understood or holds several generators, or its generator gives numbers that
            are not finite.
        ConfigError: the generator cannot be used at this size.
        StoreError: the folder cannot be written.
    """
    converted, network = _converted(file, network)
    config = converted.config
    state = {
        name: value.float() if value.is_floating_point() else value for name, value in converted.state.items()
    }
    if size is None and GENERATORS[config.family].takes == "picture":
        size = default_size
    module = saved.with_weights(config, state, str(file))
    if size is not None:
        check(config, input_channels(config, state), *size, str(file))
    owners.remove_left(out.parent)
    temporary = out.with_name(f".{owners.mark()}-{out.name}")
    try:
        saved.save(temporary, "generator", module, config)
        report = _report(open_generator(temporary, size), file, network, converted)
        (temporary / "import.json").write_text(json.dumps(report.model_dump(mode="json"), indent=1))
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        owners.remove(temporary)
    return report


def _converted(file: Path, network: str | None) -> tuple[ConvertedGenerator, str | None]:
    """The generator in the file, under the names that its tensors have here, and which one it is.

    Raises DataError.
    """
    if is_exported(file):
        if network is not None:
            raise DataError(f"{file}: exported by raydistill, so it has one network; leave --network out")
        try:
            config, state = read_exported(file)
        except CheckpointError as error:
            raise DataError(str(error)) from None
        return ConvertedGenerator("exported by raydistill", config, state, ()), None
    try:
        state, place = generator_in(file, read_weights(file, network))
        state = plain_weights(state)
        require_plain(state)
        return recognise(state), network if network is not None else place or None
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _report(
    generator: LoadedGenerator, file: Path, network: str | None, converted: ConvertedGenerator
) -> ImportReport:
    """Raises DataError where the generator's output is not finite."""
    family = generator.config.family
    with torch.no_grad():
        output = generator.module(inputs_for(generator, number=1)[0])
    if not bool(output.isfinite().all()):
        raise DataError(f"{file}: its output is not finite")
    return ImportReport(
        source=file.name,
        source_sha256=file_hash(file),
        network=network,
        layout=converted.layout,
        family=family,
        takes=f"{GENERATORS[family].takes} {'x'.join(map(str, generator.input_shape))}",
        height=generator.height,
        width=generator.width,
        params=cost.params(generator.layers),
        macs=cost.macs(generator.layers),
        output_digest=hashlib.sha256(to_uint8(output).numpy().tobytes()).hexdigest()[:16],
        output_mean=output.mean().item(),
        output_deviation=output.std().item(),
        dropped=converted.dropped,
    )
