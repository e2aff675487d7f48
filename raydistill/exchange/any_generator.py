"""A generator in whatever form a person has it: trained, imported, exported, as ONNX or TorchScript."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.experiment import Job
from raydistill.config.paths import validated
from raydistill.errors import CheckpointError, ConfigError
from raydistill.evaluation.extractors import load_script, sha256_of
from raydistill.evaluation.picture_sets import load_onnx
from raydistill.exchange.generator_file import digest_of, read_generator
from raydistill.models import GENERATORS, check, input_channels, saved
from raydistill.models.inputs import latent_size

SCRIPT = "torchscript="
"""What a TorchScript file is given with: a person says so that its code may be run."""


class AnyGenerator(NamedTuple):
    """A generator that can be run."""

    name: str
    """As it was given."""
    digest: str
    """Digest of its config and weights, or of its file."""
    generate: Callable[[Tensor], Tensor]
    """Inputs (B, ...) -> pictures (B, 3, H, W) in [-1, 1], without gradients."""
    latent: int | None
    """How many numbers it takes for a picture; None: it takes pictures."""
    input_size: tuple[int, int] | None
    """(height, width) that its file demands of inputs; None: not known, or any."""
    picture_size: tuple[int, int] | None
    """(height, width) of pictures that it makes of noise; None: not known before one is made."""
    job: Job | None
    """The job that trained it; None: not known."""
    require: Callable[[tuple[int, ...]], None]
    """Raises InputError where it cannot take inputs of this shape, the batch not counted."""


def load_any(given: str, device: torch.device, truncation: float | None = None) -> AnyGenerator:
    """The generator that a person names.

    Args:
        given: the folder of a trial, a checkpoint or a network, an exported .safetensors or .onnx file, or
            `torchscript=FILE`, whose code is run.
        device: where it runs.
        truncation: of the styles; None: its own.

    Raises:
        InputError: there is no generator, a file is damaged, or the family has no truncation.
    """
    if given.startswith(SCRIPT):
        return _script(given, device, truncation)
    path = Path(given)
    if path.suffix.lower() == ".onnx":
        return _onnx(path, truncation)
    if path.is_file() and path.suffix in (".pt", ".pth", ".pkl"):
        raise ConfigError(
            f"{path}: a TorchScript file is given as {SCRIPT}{path}, which RUNS its code; the checkpoint of "
            "another project is imported by raydistill teacher import"
        )
    try:
        return _trained(path, device, truncation)
    except CheckpointError as error:  # what the user named cannot be used
        raise ConfigError(str(error)) from None


def _trained(path: Path, device: torch.device, truncation: float | None) -> AnyGenerator:
    found = read_generator(path)
    config, channels = found.config, input_channels(found.config, found.state)
    if truncation is not None:
        config = _truncated(path, config, truncation)
    module = saved.with_weights(config, found.state, str(path)).to(device)
    latent, own = latent_size(config), GENERATORS[config.family].size
    size = None if latent is None or own is None else own(config)

    def require(shape: tuple[int, ...]) -> None:
        if latent is not None:
            return
        if shape[0] != channels:
            raise ConfigError(
                f"{path}: takes inputs of {channels} channels, this data has {shape[0]}; "
                "use data like its own"
            )
        check(config, channels, shape[1], shape[2], str(path))

    digest = digest_of(found.config, found.state)
    return AnyGenerator(str(path), digest, module, latent, None, size, found.job, require)


def _truncated(path: Path, config: Generator, truncation: float) -> Generator:
    """The config with another truncation. Raises ConfigError where its family has none."""
    if "truncation" not in type(config).model_fields:
        having = [name for name, family in GENERATORS.items() if "truncation" in family.config.model_fields]
        raise ConfigError(
            f"--truncation {truncation:g}: {path} is a {config.family}, which has none; "
            f"families with one: {', '.join(having)}"
        )
    changed: Generator = validated(
        type(config), config.model_dump() | {"truncation": truncation}, where="--truncation"
    )
    return changed


def _onnx(path: Path, truncation: float | None) -> AnyGenerator:
    _refuse_truncation(str(path), truncation)
    file = load_onnx(path)
    sizes = file.shapes[0][1:] if len(file.shapes) == 1 else ()
    latent = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else None
    fixed = [size for size in sizes[1:] if isinstance(size, int)]
    size = (fixed[0], fixed[1]) if len(sizes) == 3 and len(fixed) == 2 else None
    return AnyGenerator(str(path), file.digest, file.generate, latent, size, None, None, file.require)


def _script(given: str, device: torch.device, truncation: float | None) -> AnyGenerator:
    _refuse_truncation(given, truncation)
    path = Path(given.removeprefix(SCRIPT))
    digest = sha256_of(path)[:16]
    module = load_script(path, device)

    def generate(inputs: Tensor) -> Tensor:
        try:
            return module(inputs)
        except RuntimeError as error:  # what its code raises
            reason = " ".join(str(error).split())[-200:]
            raise ConfigError(
                f"{given}: cannot run on inputs {tuple(inputs.shape)}: {reason}; use data of its training"
            ) from None

    return AnyGenerator(given, digest, generate, None, None, None, None, lambda shape: None)


def _refuse_truncation(given: str, truncation: float | None) -> None:
    if truncation is not None:
        raise ConfigError(
            f"--truncation {truncation:g}: {given} was exported with the one it has; "
            "give the folder of its network, or its .safetensors file"
        )
