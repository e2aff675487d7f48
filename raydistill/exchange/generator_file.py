"""A generator on disk: what `raydistill export`, `latency` and `teacher import` share.

It is in the folder of a trial, a checkpoint or a network, or in an exported safetensors file.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raydistill.config.architectures import Generator
from raydistill.config.base import digest
from raydistill.config.experiment import Job
from raydistill.data import load_split, read_info
from raydistill.data.decode import decode_pictures
from raydistill.data.files import pictures_of
from raydistill.data.prepared import has_pictures
from raydistill.errors import CheckpointError, ConfigError
from raydistill.exchange.trained_generator import find_generator, generator_file_of
from raydistill.models import GENERATORS, check, input_channels, input_shape, saved
from raydistill.models.cost import Table
from raydistill.models.inputs import evaluation_batch, num_inputs
from raydistill.models.tensor_files import load_safetensors
from raydistill.reading import parse_json, regular
from raydistill.records.trials import TrialResult, read_result
from raydistill.seeds import torch_stream

NUM_INPUTS = 4
"""Default number of inputs that a generator is tried on."""


class LoadedGenerator(NamedTuple):
    """A generator that was loaded from disk, and what is known about it."""

    path: Path
    """What the user named."""
    config: Generator
    module: nn.Module
    """The network, in eval mode and without gradients."""
    in_channels: int
    """Channels of an input; 3 where it takes noise."""
    height: int
    """Height and width of an input, or of a picture where it takes noise."""
    width: int
    digest: str
    """Digest of config and weights."""
    job: Job | None
    """The job that trained it; None: not known."""
    result: TrialResult | None
    """The result of its trial, with what was measured; None: not known."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch: (in_channels, height, width), or (latent,) for noise."""
        return input_shape(self.config, self.in_channels, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output, without the batch: (3, height, width); super-resolution's is larger than its
        input's.
        """
        with torch.no_grad():
            return tuple(self.module(torch.zeros(1, *self.input_shape)).shape[1:])

    @property
    def layers(self) -> Table:
        """The network as a table, from which its costs are counted."""
        return GENERATORS[self.config.family].layers(self.config, self.in_channels, self.height, self.width)


def open_generator(path: Path, size: tuple[int, int] | None = None) -> LoadedGenerator:
    """The generator at `path`.

    Args:
        path: the folder of a trial, a checkpoint or a network, or an exported .safetensors file.
        size: (height, width) of its pictures; None: that of its data or its family.

    Raises:
        InputError: there is no generator, a file is damaged, or its size is not known.
    """
    try:
        return _open(path, size)
    except CheckpointError as error:  # what the user named cannot be used
        raise ConfigError(str(error)) from None


def load_generator(path: str | Path) -> nn.Module:
    """The generator at `path` as a module, on the CPU, in eval mode and without gradients.

    It maps inputs (B, C, H, W), pictures in [-1, 1] or one-hot labels, or noise (B, latent), to pictures
    (B, 3, H', W'), nominally in [-1, 1], in float32. Inputs have the size of the data that it was trained on.

    Args:
        path: the folder of a trial, a checkpoint, a network or an imported teacher, or an exported
            .safetensors file.

    Raises:
        ConfigError: there is no generator, or a file is damaged.
    """
    try:
        found = read_generator(Path(path))
        return saved.with_weights(found.config, found.state, str(path))
    except CheckpointError as error:  # what the user named cannot be used
        raise ConfigError(str(error)) from None


def _open(path: Path, size: tuple[int, int] | None) -> LoadedGenerator:
    found = read_generator(path)
    config, state, job = found.config, found.state, found.job
    result = None
    if job is not None:
        result = read_result(path if (path / "trial.json").is_file() else found.path.parent)
    module, channels = saved.with_weights(config, state, str(path)), input_channels(config, state)
    height, width = _size(path, config, job, size)
    check(config, channels, height, width, str(path))
    content_digest = digest_of(config, state)
    return LoadedGenerator(path, config, module, channels, height, width, content_digest, job, result)


class GeneratorOnDisk(NamedTuple):
    """Config and weights of a generator."""

    path: Path
    """The folder or file that they were read from."""
    config: Generator
    state: dict[str, Tensor]
    job: Job | None
    """The job that trained it; None: not known."""


def read_generator(path: Path) -> GeneratorOnDisk:
    """Config and weights of the generator at `path`, see `open_generator`.

    Raises:
        ConfigError: there is no generator.
        CheckpointError: a file is damaged, or not a generator's.
    """
    if path.suffix == ".safetensors":
        return GeneratorOnDisk(path, *read_exported(path), None)
    if (trained := find_generator(path)) is None:
        raise ConfigError(
            f"{path}: no generator here. "
            "Give the folder of a trial, a checkpoint or a network, or an exported .safetensors file."
        )
    if trained.is_checkpoint:
        return GeneratorOnDisk(trained.path, *_read_checkpoint(trained.path, trained.job), trained.job)
    stored = saved.stored(trained.path, kind="generator")
    return GeneratorOnDisk(trained.path, *saved.load_generator(stored), trained.job)


def digest_of(config: Generator, state: dict[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 of a generator's config and weights."""
    content = hashlib.sha256(digest(config).encode())
    for name in sorted(state):
        content.update(name.encode() + state[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def _read_checkpoint(folder: Path, job: Job | None) -> tuple[Generator, dict[str, Tensor]]:
    """Config and weights of the generator of a checkpoint. Raises CheckpointError where it has none."""
    config = getattr(job and job.training, "generator", None)
    if job is None or config is None:
        raise CheckpointError(f"{folder}: not the checkpoint of a generator")
    file = generator_file_of(folder, job)
    try:
        return config, load_safetensors(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: not a whole file of a checkpoint ({error})") from None


def _size(path: Path, config: Generator, job: Job | None, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is not None:
        return size
    if (own := GENERATORS[config.family].size) is not None:
        return own(config)
    if job is not None and Path(job.data.path).exists():
        return read_info(job.data).input_size
    raise ConfigError(
        f"{path}: its pictures' size is not known; give --size HEIGHTxWIDTH, for example --size 256x256"
    )


# ---- inputs ------------------------------------------------------------------------------------------------


def inputs_for(
    generator: LoadedGenerator, pictures: Path | None = None, number: int = NUM_INPUTS
) -> tuple[Tensor, str]:
    """Inputs to try a generator on, (number, ...), and a phrase that says what they are.

    Args:
        generator: which generator.
        pictures: a folder or zip file of pictures to use, which a generator of noise does not; None: inputs
            of the val split of its data, if the data are there, else noise of a fixed seed.
        number: how many inputs, or at most so many pictures.

    Raises:
        ConfigError: the generator does not take pictures of 3 channels.
        DataError: `pictures` has no pictures, or damaged ones.
    """
    takes = GENERATORS[generator.config.family].takes
    if takes == "picture":
        if pictures is not None:
            return _pictures(generator, pictures, number)
        if generator.job is not None and has_pictures(Path(generator.job.data.path)):
            split = load_split(generator.job.data, "val")
            chosen = np.linspace(0, num_inputs(split, None) - 1, number).astype(int)
            inputs = evaluation_batch(split, None, chosen, torch.device("cpu")).inputs
            return inputs, f"{number} inputs of the val split of its data ({generator.job.data.digest})"
    noise = torch.randn(number, *generator.input_shape, generator=torch_stream(0, "inputs"))
    if takes == "noise":
        return noise, f"{number} latents, normal, of seed 0"
    return noise.clamp(-1, 1), f"{number} inputs of clamped normal noise of seed 0: no pictures were given"


def _pictures(generator: LoadedGenerator, folder: Path, number: int) -> tuple[Tensor, str]:
    """The first pictures of a folder or zip file as inputs (B, 3, H, W) in [-1, 1], and what they are."""
    if generator.in_channels != 3:
        raise ConfigError(
            f"--pictures {folder}: this generator takes {generator.in_channels} channels, pictures have 3; "
            "leave it out"
        )
    files = pictures_of(folder)[:number]
    size = (generator.width, generator.height)
    arrays = [
        np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
        for _, image in decode_pictures(files)
    ]
    values = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    what = f"{len(files)} pictures of {folder.name}, resized to {generator.height}x{generator.width}"
    return values.contiguous(), what


# ---- exported safetensors ----------------------------------------------------------------------------------

_FORMAT = "raydistill generator 1"
"""Names the format of exported safetensors files."""


def metadata_of(generator: LoadedGenerator) -> dict[str, str]:
    """What an exported safetensors file has beside its weights: format, config and digest."""
    return {"format": _FORMAT, "config": generator.config.model_dump_json(), "digest": generator.digest}


def is_exported(path: Path) -> bool:
    """Whether `path` is a safetensors file that `raydistill export` wrote; its weights are not read."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(regular(path), "pt") as file:
            return bool((file.metadata() or {}).get("format") == _FORMAT)
    except (OSError, SafetensorError):
        return False


def read_exported(path: Path) -> tuple[Generator, dict[str, Tensor]]:
    """Config and weights of a safetensors file that `raydistill export` wrote.

    Raises:
        CheckpointError: it is another file, damaged or changed.
    """
    try:
        with safe_open(regular(path), "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path}: not a file that `raydistill export --format safetensors` wrote; "
                "use raydistill teacher import"
            )
        config = saved.config_of(parse_json(metadata["config"]), str(path))
        state = load_safetensors(path)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole exported file ({error}); export it again") from None
    if digest_of(config, state) != metadata.get("digest"):
        raise CheckpointError(
            f"{path}: the weights are not the ones written (digest differs); export it again"
        )
    return config, state


def load_exported(path: str | Path) -> nn.Module:
    """The network in a safetensors file that `raydistill export` wrote, in eval mode and without gradients.

    Raises:
        CheckpointError: it is another file, damaged or changed.
    """
    return saved.with_weights(*read_exported(Path(path)), str(path))


def plain(generator: LoadedGenerator) -> nn.Module:
    """A new module that is the same function without spectral norms: its weights are divided by them once."""
    module = saved.with_weights(generator.config, generator.module.state_dict(), str(generator.path))
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return module
