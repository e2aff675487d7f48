"""`raydistill generate`: writes the pictures that a network makes, of a folder's inputs or of noise."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.commands.named_data import data_config, prepared_data
from raydistill.config.base import Stored
from raydistill.config.data import FolderData
from raydistill.config.network_options import GenerateOptions
from raydistill.config.paths import parse_assignments
from raydistill.data import Split, load_split, prepare, read_info, render_inputs, to_float, to_uint8
from raydistill.data.contact_sheet import contact_sheet
from raydistill.data.decode import resized_pictures
from raydistill.data.detect import look
from raydistill.data.files import file_at
from raydistill.data.folder import input_names
from raydistill.data.picture_files import is_grey
from raydistill.data.source import FileLayout
from raydistill.errors import ConfigError, DataError
from raydistill.evaluation import generated, picture_sets
from raydistill.evaluation.generated import FOLDER, Manifest
from raydistill.evaluation.picture_sets import Inputs, Pictures
from raydistill.exchange.any_generator import AnyGenerator, load_any
from raydistill.models.inputs import latents, minibatches
from raydistill.records import store
from raydistill.terminal import Terminal

_NUM_SHOWN = 24
"""Pictures on the grid."""
_EVERY_SEC = 60.0
"""Between two lines that say how far it is."""
_WITH_INPUTS: tuple[FileLayout, ...] = ("cityscapes", "labelled", "unpaired")
"""Layouts of data sets whose files say what the inputs are. A|B pictures are told by their shapes."""


class _Source(NamedTuple):
    """What the pictures are made of."""

    inputs: Inputs
    names: tuple[str, ...]
    """Of the pictures, in order."""
    digest: str | None
    """Of the data; None: noise."""
    split: str | None
    show: Callable[[Tensor], np.ndarray] | None
    """Inputs (B, ...) -> uint8 (B, H, W, 3) for the grid; None: noise."""


def run(options: GenerateOptions) -> int:
    """Writes the pictures that are not there yet; returns the exit code, 0.

    Raises:
        InputError: something is wrong with what was given; raised before any picture is made.
        RunError: the outputs of the network are no pictures.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out, shard = Path(options.out), options.shard or (1, 1)
    network = load_any(options.given, device, options.truncation)
    source = _source(options, network, device)
    network.require(source.inputs.shape)
    manifest = Manifest(
        network=network.digest,
        data=source.digest,
        split=source.split,
        seed=None if network.latent is None else options.seed,
        truncation=options.truncation,
        names=source.names,
    )
    generated.claim(out, manifest)
    pictures = picture_sets.of_outputs(network.name, network.digest, network.generate, source.inputs)
    made, there = _write(pictures, source.names, out / FOLDER, shard)
    if shard[0] == 1:
        generated.write_picture(out / "grid.png", _grid(source, out / FOLDER))
    part = "" if options.shard is None else f", part {shard[0]} of {shard[1]}"
    kept = f", {there:,} were there" if there else ""
    print(f"{out / FOLDER}: {made:,} of {len(source.names):,} pictures made{kept}{part}")
    return 0


# ---- inputs ------------------------------------------------------------------------------------------------


def _source(options: GenerateOptions, network: AnyGenerator, device: torch.device) -> _Source:
    """Raises InputError where the network takes something else than what was given."""
    if network.latent is not None:
        if options.num is None or options.data is not None or options.set:
            raise ConfigError(
                f"{network.name}: takes noise, not pictures; give --num N and no --data or --set"
            )
        return _noise(network.latent, options.num, options.seed, network.picture_size, device)
    if options.num is not None or options.seed:
        raise ConfigError(
            f"{network.name}: takes pictures, not noise; give --data FOLDER, no --num and --seed"
        )
    if options.data is None:
        if network.job is None:
            raise ConfigError(
                f"{network.name}: of which pictures? Give --data FOLDER, or --num N for a network of noise"
            )
        return _of_split(options, network, network.job.data, None, device)
    if (stored := prepared_data(options.data)) is not None:
        return _of_split(options, network, stored, None, device)
    path = Path(options.data)
    values = parse_assignments(list(options.set))
    has_size = {"data.height", "data.width"} <= set(values)
    config = data_config(options.data, values, lambda: (1, 1) if has_size else _size(network))
    if isinstance(config, FolderData):
        if not path.exists():
            raise ConfigError(f"--data {path}: there is no such folder, zip or npz file")
        _refuse_inside(Path(options.out), path)
        if not _has_inputs(config):
            return _of_pictures(path, config, device)
    stored = prepare(config, store.open_store(options.store) / "cache" / "data")
    names = None
    if isinstance(config, FolderData):
        names = generated.output_names(input_names(config, options.split))
    return _of_split(options, network, stored, names, device)


def _noise(latent: int, num: int, seed: int, size: tuple[int, int] | None, device: torch.device) -> _Source:
    """Noise, keyed by the number of the picture; that of seed 0 is what `raydistill evaluate` draws."""

    def read(indices: np.ndarray) -> Tensor:
        return latents(seed, "latent/evaluation", torch.from_numpy(indices), latent, device)

    inputs = Inputs(read, num, (latent,), size)
    return _Source(inputs, generated.numbered_names(num), None, None, None)


def _of_split(
    options: GenerateOptions,
    network: AnyGenerator,
    stored: Stored,
    names: tuple[str, ...] | None,
    device: torch.device,
) -> _Source:
    """The inputs of a split of prepared data, which `raydistill evaluate` scores on."""
    split: Split = load_split(stored, options.split)
    inputs = picture_sets.inputs_of_split(network.name, split, None, device)
    names = generated.numbered_names(inputs.num) if names is None else names
    assert len(names) == inputs.num
    return _Source(
        inputs, names, stored.digest, options.split, lambda batch: render_inputs(batch, split.info)
    )


def _of_pictures(path: Path, config: FolderData, device: torch.device) -> _Source:
    """Every picture of a folder, at any depth, or of a zip or npz file; decoded when it is its turn."""
    files = picture_sets.list_pictures(path)
    content = hashlib.sha256(f"{config.height}x{config.width}".encode())
    for file in files:
        content.update(file.name.encode() + hashlib.sha256(file.read()).digest())
    grey = is_grey(files[0].image())

    def read(indices: np.ndarray) -> Tensor:
        chosen = (files[index] for index in indices)
        arrays = np.stack([*resized_pictures(chosen, config.height, config.width, grey=grey)])
        return to_float(torch.from_numpy(arrays).to(device).permute(0, 3, 1, 2).contiguous())

    def show(batch: Tensor) -> np.ndarray:
        return to_uint8(batch).permute(0, 2, 3, 1).cpu().numpy()

    names = generated.output_names([file.name for file in files])
    inputs = Inputs(read, len(files), (3, config.height, config.width), None)
    return _Source(inputs, names, content.hexdigest()[:16], None, show)


def _has_inputs(config: FolderData) -> bool:
    """Whether the files of a data set say what its inputs are; else every picture is one."""
    root = Path(config.root)
    if config.degrade.is_on or config.layout in (*_WITH_INPUTS, "aligned"):
        return True
    if config.layout != "auto" or root.suffix.lower() == ".npz":
        return False
    if any(look(root, layout) is not None for layout in _WITH_INPUTS):
        return True
    try:
        found = look(root)
    except DataError:  # splits beside other folders, and so on: each picture is an input all the same
        return False
    return found is not None and found.layout == "aligned"


def _size(network: AnyGenerator) -> tuple[int, int]:
    """(height, width) that a folder is decoded at: that of the network's data, or what its file demands."""
    if network.job is not None:
        info = read_info(network.job.data)
        return info.height, info.width
    if network.input_size is not None:
        return network.input_size
    raise ConfigError(
        f"{network.name}: at which size are the pictures of --data read? "
        "Give --set data.height=H --set data.width=W, as the network was trained."
    )


def _refuse_inside(out: Path, data: Path) -> None:
    """Raises ConfigError where one of the two folders is in the other: outputs would become inputs."""
    written, read = out.resolve(), data.resolve()
    if written.is_relative_to(read) or read.is_relative_to(written):
        raise ConfigError(f"--out {out}: inside of --data {data}, or around it; give another folder")


# ---- outputs -----------------------------------------------------------------------------------------------


def _write(
    pictures: Pictures, names: tuple[str, ...], folder: Path, shard: tuple[int, int]
) -> tuple[int, int]:
    """Writes the pictures of a shard that are not there; how many were made, and how many were there.

    Whole minibatches are run, always the same ones, as `raydistill evaluate` runs them: so a picture has the
    same bits whatever the shards are, and after an interrupt.
    """
    made, there, terminal = 0, 0, Terminal()
    start = said = time.monotonic()
    number, shards = shard
    for positions in list(minibatches(slice(0, len(names))))[number - 1 :: shards]:
        missing = [index for index in positions if not generated.is_whole(folder / names[index])]
        there += len(positions) - len(missing)
        if not missing:
            continue
        batch = pictures.read(positions).permute(0, 2, 3, 1).cpu().numpy()
        for index in missing:
            generated.write_picture(folder / names[index], batch[index - positions[0]])
        made += len(missing)
        if (now := time.monotonic()) - said >= _EVERY_SEC:
            said = now
            terminal.say(f"{made + there:,} pictures, {made / (now - start):.3g} a second")
    return made, there


def _grid(source: _Source, folder: Path) -> Image.Image:
    """The first pictures on one sheet, each beside its input."""
    names = source.names[:_NUM_SHOWN]
    shown = [[file_at(folder / name).image()] for name in names]
    if source.show is not None:
        first = source.show(source.inputs.read(np.arange(len(names))))
        shown = [[Image.fromarray(image), *group] for image, group in zip(first, shown)]
    return contact_sheet(shown)
