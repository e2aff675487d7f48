"""`raydistill teacher import`: a generator out of someone else's checkpoint file, as a network of ours."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import torch

from raydistill.config.base import Frozen
from raydistill.data import to_uint8
from raydistill.errors import DataError, StoreError
from raydistill.exchange.checkpoint_files import read_weights, sha256
from raydistill.exchange.generator_file import LoadedGenerator, inputs_for, open_generator
from raydistill.exchange.key_layouts import recognise
from raydistill.models import GENERATORS, check, cost, input_channels, saved

DEFAULT_SIZE = (256, 256)
"""Of pictures, for counts and the output digest, where the family has no size of its own."""


class Imported(Frozen):
    """`import.json` beside the network: what was read, and what to compare it with."""

    source: str
    source_sha256: str
    layout: str
    family: str
    takes: str
    """What one input is, without the batch."""
    height: int
    width: int
    params: int
    macs: int
    macs_convention: str = cost.MACS_CONVENTION
    output_digest: str
    """Of the 8-bit output for one input of seed 0. Rounding may differ between machines: compare the mean and deviation too."""
    output_mean: float
    output_deviation: float
    dropped: tuple[str, ...]
    """Names in the file that mean nothing in a finished network."""


def import_file(file: Path, out: Path, size: tuple[int, int] | None = None) -> Imported:
    """Reads, recognises and tries the generator in `file`, then writes it to the folder `out`, whole or not at all."""
    try:
        found = recognise(read_weights(file))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(file)) else f"{file}: {text}") from None
    config, state = (
        found.config,
        {name: value.float() if value.is_floating_point() else value for name, value in found.state.items()},
    )
    if size is None and GENERATORS[config.family].takes == "picture":
        size = DEFAULT_SIZE
    module = saved.with_weights(config, state, str(file))
    if size is not None:
        check(config, input_channels(config, state), *size, str(file))
    temporary = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        saved.save(temporary, "generator", module, config)
        finished = open_generator(temporary, size)
        imported = _facts(finished, file, found.layout, found.dropped)
        (temporary / "import.json").write_text(json.dumps(imported.model_dump(mode="json"), indent=1))
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return imported


def _facts(finished: LoadedGenerator, file: Path, layout: str, dropped: tuple[str, ...]) -> Imported:
    config = finished.config
    with torch.no_grad():
        output = finished.module(inputs_for(finished, number=1)[0])
    if not bool(output.isfinite().all()):
        raise DataError(f"{file}: its output is not finite")
    return Imported(
        source=file.name,
        source_sha256=sha256(file),
        layout=layout,
        family=config.family,
        takes=f"{GENERATORS[config.family].takes} {'x'.join(map(str, finished.input_shape))}",
        height=finished.height,
        width=finished.width,
        params=cost.params(finished.layers),
        macs=cost.macs(finished.layers),
        output_digest=hashlib.sha256(to_uint8(output).numpy().tobytes()).hexdigest()[:16],
        output_mean=output.mean().item(),
        output_deviation=output.std().item(),
        dropped=dropped,
    )
