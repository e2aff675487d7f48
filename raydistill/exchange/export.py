"""A generator as an ONNX, TorchScript or safetensors file, checked against PyTorch, and its model card."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.errors import ConfigError, RunError, StoreError
from raydistill.exchange import model_card_facts
from raydistill.exchange.generator_file import (
    LoadedGenerator,
    inputs_for,
    load_exported,
    metadata_of,
    open_generator,
    plain,
)
from raydistill.models import GENERATORS, cost
from raydistill.records import owners

TOLERANCE = 1e-4
"""Largest absolute difference to PyTorch's output, which lies in [-1, 1], that an exported file may have."""


class Format(NamedTuple):
    """A format of exported files."""

    suffix: str
    """How names of its files end, with the dot."""
    write: Callable[[LoadedGenerator, Tensor, Path], None]
    """(generator, example inputs (2, ...), file): writes the file."""
    run: Callable[[Path, Tensor], Tensor]
    """(file, inputs) -> outputs, computed by what users of the file will use."""
    how_to_load: str
    """Three lines of Python for the model card, where `{file}` and `{shape}` are filled in."""


class ExportReport(NamedTuple):
    """A file that `export` wrote."""

    path: Path
    """The file."""
    card: Path
    """Its model card, beside it."""
    difference: float
    """Largest absolute difference to PyTorch's outputs, which lie in [-1, 1]."""
    inputs: str
    """On which inputs that was measured."""


def export(
    network: str | Path,
    out: str | Path | None = None,
    *,
    file_format: Literal["onnx", "torchscript", "safetensors"] = "onnx",
    size: tuple[int, int] | None = None,
    pictures: str | Path | None = None,
    licence: str = "",
) -> ExportReport:
    """Writes a generator as a file for use elsewhere, checked against PyTorch, with a model card beside it.

    Args:
        network: folder of a trial, a checkpoint or a network, or an exported .safetensors file.
        out: the file, whose name ends as those of its format do: .onnx, .pt or .safetensors. It is written
            whole or not at all. None: in the working folder, named after the network.
        file_format: onnx takes the package `raydistill[onnx]`.
        size: (height, width) of the pictures in pixels; None: what the network's data or its family tell.
        pictures: folder or zip file of pictures that the file is checked on; None: inputs of the val split
            that the network was trained on, else seeded noise.
        licence: licence that the model card names; empty: the card says that it is not stated.

    Raises:
        ConfigError: there is no such generator, its size is not known, or the name does not fit the format.
        DataError: there are no `pictures`, or damaged ones.
        RunError: the outputs differ from PyTorch's by more than `TOLERANCE`; there is no file then.
        StoreError: the file cannot be written.
    """
    generator = open_generator(Path(network), size)
    chosen = FORMATS[file_format]
    name = generator.path.parent.name if generator.path.name == "network" else generator.path.stem
    file = Path(out or f"{name}{chosen.suffix}")
    if file.suffix != chosen.suffix:
        raise ConfigError(f"--out {file}: a file of format {file_format} ends in {chosen.suffix}")
    inputs, what = inputs_for(generator, None if pictures is None else Path(pictures))
    difference = write_checked(generator, inputs, chosen, file)
    card = file.with_suffix(file.suffix + ".md")
    card.write_text(model_card(generator, chosen, file.name, difference, what, licence=licence))
    return ExportReport(file, card, difference, what)


def write_checked(generator: LoadedGenerator, inputs: Tensor, file_format: Format, out: Path) -> float:
    """Writes a generator to the file `out`, after its outputs were compared with PyTorch's.

    Args:
        generator: which generator.
        inputs: (B, ...), which it is tried on, all at once and one by one.
        file_format: one of `FORMATS`.
        out: the file, which is written whole or not at all.

    Returns:
        The largest absolute difference to PyTorch's outputs.

    Raises:
        RunError: that difference is above `TOLERANCE`.
        ConfigError: a package that the format needs is not installed.
        StoreError: the file cannot be written.
    """
    with written_whole(out) as temporary:
        file_format.write(generator, inputs[torch.arange(2) % len(inputs)], temporary)
        with torch.no_grad():
            expected = generator.module(inputs)
        at_once = file_format.run(temporary, inputs)
        one_by_one = torch.cat([file_format.run(temporary, one[None]) for one in inputs])
        difference = max((outputs - expected).abs().max().item() for outputs in (at_once, one_by_one))
        if not difference <= TOLERANCE:
            raise RunError(
                f"{out}: not written: its output differs from PyTorch's by {difference:.3g}, "
                f"allowed are {TOLERANCE:g}"
            )
    return difference


@contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """Gives a temporary file to write and to try, which becomes `out` where nothing is raised.

    Raises:
        StoreError: the file cannot be written.
    """
    owners.remove_left(out.parent)
    temporary = out.with_name(f".{owners.mark()}-{out.name}")
    try:
        yield temporary
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_onnx(generator: LoadedGenerator, example: Tensor, file: Path) -> None:
    require_onnx()
    # warnings are about tracing and about the age of this exporter; the result is compared anyway
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            plain(generator),
            (example,),
            str(file),
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["picture"],
            dynamic_axes={"input": {0: "batch"}, "picture": {0: "batch"}},
        )


def _run_onnx(file: Path, inputs: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def require_onnx() -> None:
    """Raises ConfigError where onnx or ONNX Runtime cannot be imported."""
    try:
        __import__("onnx")
        __import__("onnxruntime")
    except ImportError:
        raise ConfigError("ONNX needs onnx and onnxruntime: pip install 'raydistill[onnx]'") from None


def _write_torchscript(generator: LoadedGenerator, example: Tensor, file: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(plain(generator), example), str(file))


def _run_torchscript(file: Path, inputs: Tensor) -> Tensor:
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        outputs: Tensor = torch.jit.load(str(file))(inputs)
    return outputs


def _write_safetensors(generator: LoadedGenerator, example: Tensor, file: Path) -> None:
    state = {name: value.contiguous() for name, value in generator.module.state_dict().items()}
    save_file(state, file, metadata_of(generator))


def _run_safetensors(file: Path, inputs: Tensor) -> Tensor:
    module: nn.Module = load_exported(file)
    with torch.no_grad():
        outputs: Tensor = module(inputs)
    return outputs


FORMATS: dict[str, Format] = {
    "onnx": Format(
        ".onnx",
        _write_onnx,
        _run_onnx,
        """import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{file}")
pictures = session.run(None, {{"input": np.zeros({shape}, np.float32)}})[0]""",
    ),
    "torchscript": Format(
        ".pt",
        _write_torchscript,
        _run_torchscript,
        """import torch
network = torch.jit.load("{file}")
pictures = network(torch.zeros{shape})""",
    ),
    "safetensors": Format(
        ".safetensors",
        _write_safetensors,
        _run_safetensors,
        """import torch
from raydistill.exchange.generator_file import load_exported
pictures = load_exported("{file}")(torch.zeros{shape})""",
    ),
}
"""Name on the command line -> format."""


# ---- the model card ----------------------------------------------------------------------------------------


def model_card(
    generator: LoadedGenerator,
    file_format: Format,
    file: str,
    difference: float,
    inputs: str,
    *,
    licence: str = "",
) -> str:
    """Markdown that says what a file is, where it comes from, what it costs and scores, and how to load it.

    Args:
        generator: the generator in the file.
        file_format: the format of the file.
        file: name of the file.
        difference: largest absolute difference to PyTorch's output.
        inputs: a phrase that says on which inputs.
        licence: licence of the network, as its owner states it; empty: the card says that it is not stated.
    """
    config, layers, input_shape = generator.config, generator.layers, generator.input_shape
    takes = "pictures in [-1, 1] or one-hot labels"
    if GENERATORS[config.family].takes == "noise":
        takes = "latents, normal"
    paragraphs = [
        f"# {file}",
        f"A generator of the family `{config.family}`, digest `{generator.digest}`. "
        f"Licence: {licence or 'not stated'}.",
        "## Input and output",
        f"Input: float32 ({_batch_of(input_shape)}), {takes}. "
        f"Output: float32 ({_batch_of(generator.output_shape)}), pictures, nominally in [-1, 1].",
        *model_card_facts.channels(generator.job, generator.in_channels, takes),
        f"Largest difference to PyTorch: {difference:.3g}, on {inputs}, at once and one by one.",
        f"```python\n{file_format.how_to_load.format(file=file, shape=(1, *input_shape))}\n```",
        "## Cost of one picture",
        f"{cost.params(layers):,} parameters; {cost.macs(layers):,} multiply-accumulates "
        f"(convention `{cost.MACS_CONVENTION}`: {cost.CONVENTIONS[cost.MACS_CONVENTION]}).",
        "## Scores",
        model_card_facts.scores(generator.path, generator.result),
        "## Lineage",
        _lineage(generator),
        "## Config",
        f"```json\n{json.dumps(config.model_dump(mode='json'), indent=1)}\n```",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _batch_of(shape: tuple[int, ...]) -> str:
    return ", ".join(["batch", *map(str, shape)])


def _lineage(generator: LoadedGenerator) -> str:
    """Where the network comes from, as a list."""
    job, result = generator.job, generator.result
    if job is None:
        return "Not known: this network was not trained here."
    facts = {
        "recipe": job.training.recipe,
        "trial key": job.key,
        "images seen": "not known" if result is None else result.nimg,
        "seed": job.training.seed,
        "training data": job.data.digest,
        "teacher": job.teacher.digest if job.teacher else "none",
        "evaluator": job.evaluator.digest if job.evaluator else "none",
        "git revision": (result and result.git_revision) or "not known",
    }
    return "\n".join(f"* {name}: {value}" for name, value in facts.items())
