"""A generator on disk, of a trial, checkpoint, network folder or exported file: what export, latency and import share."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from raydistill.config.architectures import Generator
from raydistill.config.base import digest
from raydistill.config.experiment import Job
from raydistill.data import load_split, read_info
from raydistill.data.decode import decode_pictures
from raydistill.data.files import pictures_of
from raydistill.errors import CheckpointError, ConfigError
from raydistill.exchange.trained import trained_at
from raydistill.models import GENERATORS, check, input_channels, input_shape, saved
from raydistill.models.cost import Table
from raydistill.models.inputs import evaluation_batch, num_inputs
from raydistill.records.trials import read_result
from raydistill.seeds import torch_stream

NUM_INPUTS = 4


class LoadedGenerator(NamedTuple):
    path: Path
    config: Generator
    module: nn.Module
    in_channels: int
    height: int
    width: int
    digest: str
    """Of config and weights."""
    job: Job | None
    """What it was trained by, where that is known."""
    result: dict[str, Any]
    """Its trial's, with what was measured; empty where that is not known."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, without the batch."""
        return input_shape(self.config, self.in_channels, self.height, self.width)

    @property
    def layers(self) -> Table:
        """What its costs are counted from."""
        return GENERATORS[self.config.family].layers(self.config, self.in_channels, self.height, self.width)


def open_generator(path: Path, size: tuple[int, int] | None = None) -> LoadedGenerator:
    """The generator at `path`. `size`: (height, width) of its pictures, where neither its data nor its family tells.

    Raises:
        InputError: nothing there that is a generator, a damaged file, or no size.
    """
    try:
        return _opened(path, size)
    except CheckpointError as error:  # what the user named cannot be used
        raise ConfigError(str(error)) from None


def _opened(path: Path, size: tuple[int, int] | None) -> LoadedGenerator:
    job, result = None, dict[str, Any]()
    if path.suffix == ".safetensors":
        config, state = read_exported(path)
    elif (found := trained_at(path)) is None:
        raise ConfigError(
            f"{path}: no generator here. Give the folder of a trial, a checkpoint or a network, or an exported .safetensors file."
        )
    else:
        job = found.job
        if (found.path / "optimizers.pt").is_file():
            config, state = _of_checkpoint(found.path, job)
        else:
            config, state = saved.load_generator(saved.stored(found.path, kind="generator"))
        result = (job and read_result(path if (path / "trial.json").is_file() else found.path.parent)) or {}
    module, channels = saved.with_weights(config, state, str(path)), input_channels(config, state)
    height, width = _size(path, config, job, size)
    check(config, channels, height, width, str(path))
    return LoadedGenerator(
        path, config, module, channels, height, width, digest_of(config, state), job, result
    )


def digest_of(config: Generator, state: dict[str, Tensor]) -> str:
    content = hashlib.sha256(digest(config).encode())
    for name in sorted(state):
        content.update(name.encode() + state[name].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]


def _of_checkpoint(folder: Path, job: Job | None) -> tuple[Generator, dict[str, Tensor]]:
    config = getattr(job and job.training, "generator", None)
    if job is None or config is None:
        raise CheckpointError(f"{folder}: not the checkpoint of a generator")
    file = folder / ("average.safetensors" if job.training.ema_nimg else "generator.safetensors")
    try:
        return config, load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: not a whole file of a checkpoint ({error})") from None


def _size(path: Path, config: Generator, job: Job | None, size: tuple[int, int] | None) -> tuple[int, int]:
    if size is not None:
        return size
    if (own := GENERATORS[config.family].size) is not None:
        return own(config)
    if job is not None:
        return read_info(job.data).input_size
    raise ConfigError(
        f"{path}: its pictures' size is not known; give --size HEIGHTxWIDTH, for example --size 256x256"
    )


# ---- inputs ------------------------------------------------------------------------------------------------


def inputs_for(
    finished: LoadedGenerator, pictures: Path | None = None, number: int = NUM_INPUTS
) -> tuple[Tensor, str]:
    """Inputs (number, ...) to try a generator on, and what they are: its data's, given pictures, or seeded noise."""
    if GENERATORS[finished.config.family].takes == "picture":
        if pictures is not None:
            return _pictures(finished, pictures, number)
        if finished.job is not None and Path(finished.job.data.path).is_dir():
            split = load_split(finished.job.data, "val")
            chosen = np.linspace(0, num_inputs(split, None) - 1, number).astype(int)
            return evaluation_batch(
                split, None, chosen, torch.device("cpu")
            ).inputs, f"{number} inputs of the val split of its data ({finished.job.data.digest})"
    noise = torch.randn(number, *finished.input_shape, generator=torch_stream(0, "inputs"))
    if GENERATORS[finished.config.family].takes == "noise":
        return noise, f"{number} latents, normal, of seed 0"
    return noise.clamp(-1, 1), f"{number} inputs of clamped normal noise of seed 0: no pictures were given"


def _pictures(finished: LoadedGenerator, folder: Path, number: int) -> tuple[Tensor, str]:
    if finished.in_channels != 3:
        raise ConfigError(
            f"--pictures {folder}: this generator takes {finished.in_channels} channels, pictures have 3; leave it out"
        )
    files = pictures_of(folder)[:number]
    size = (finished.width, finished.height)
    arrays = [
        np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
        for _, image in decode_pictures(files)
    ]
    values = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
    return (
        values.contiguous(),
        f"{len(files)} pictures of {folder.name}, resized to {finished.height}x{finished.width}",
    )


# ---- exported safetensors ----------------------------------------------------------------------------------

_FORMAT = "raydistill generator 1"


def metadata_of(finished: LoadedGenerator) -> dict[str, str]:
    """What an exported safetensors file carries beside its weights."""
    return {"format": _FORMAT, "config": finished.config.model_dump_json(), "digest": finished.digest}


def read_exported(path: Path) -> tuple[Generator, dict[str, Tensor]]:
    """Config and weights of a safetensors file that `raydistill export` wrote. Raises CheckpointError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path}: not a file that `raydistill export --format safetensors` wrote; use raydistill teacher import"
            )
        config = saved.config_of(json.loads(metadata["config"]), str(path))
        state = load_file(path)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a whole exported file ({error}); export it again") from None
    if digest_of(config, state) != metadata.get("digest"):
        raise CheckpointError(
            f"{path}: the weights are not the ones written (digest differs); export it again"
        )
    return config, state


def load_exported(path: str | Path) -> nn.Module:
    """The generator of a safetensors file that `raydistill export` wrote, in eval mode."""
    return saved.with_weights(*read_exported(Path(path)), str(path))


def plain(finished: LoadedGenerator) -> nn.Module:
    """The same function as a new module without spectral norms: their quotients, once divided, are the weights."""
    module = saved.with_weights(finished.config, finished.module.state_dict(), str(finished.path))
    for layer in module.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return module
