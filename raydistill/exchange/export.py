"""`raydistill export`: a finished generator as ONNX, TorchScript or safetensors, checked against PyTorch, with a model card."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.errors import ConfigError, RunError, StoreError
from raydistill.exchange.generator_file import (
    LoadedGenerator,
    load_exported,
    metadata_of,
    plain,
)
from raydistill.models import GENERATORS, cost

TOLERANCE = 1e-4
"""Largest absolute difference to PyTorch's output, which lies in [-1, 1]."""


class Format(NamedTuple):
    suffix: str
    write: Callable[[LoadedGenerator, Tensor, Path], None]
    """(generator, example inputs (2, ...), file)"""
    run: Callable[[Path, Tensor], Tensor]
    """(file, inputs) -> outputs, by what users of the file will use"""
    how_to_load: str
    """Five lines of Python; `{file}` and `{shape}` are filled in."""


def export(finished: LoadedGenerator, inputs: Tensor, chosen: Format, out: Path) -> float:
    """Writes the file, unless its outputs for `inputs`, at once or one by one, are not PyTorch's; returns the largest difference."""
    temporary = out.with_name(f".{os.getpid()}-{out.name}")
    try:
        chosen.write(finished, inputs[torch.arange(2) % len(inputs)], temporary)
        with torch.no_grad():
            expected = finished.module(inputs)
        outputs = [
            chosen.run(temporary, inputs),
            torch.cat([chosen.run(temporary, one[None]) for one in inputs]),
        ]
        difference = max((output - expected).abs().max().item() for output in outputs)
        if not difference <= TOLERANCE:
            raise RunError(
                f"{out}: not written: its output differs from PyTorch's by {difference:.3g}, allowed are {TOLERANCE:g}"
            )
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _write_onnx(finished: LoadedGenerator, example: Tensor, file: Path) -> None:
    _require("onnx")
    names, batch = ("input", "picture"), {0: "batch"}
    with warnings.catch_warnings(
        action="ignore"
    ):  # of tracing, and of this exporter's age: the result is compared anyway
        torch.onnx.export(
            plain(finished), (example,), str(file), dynamo=False, opset_version=17,
            input_names=names[:1], output_names=names[1:], dynamic_axes=dict.fromkeys(names, batch),
        )  # fmt: skip


def _run_onnx(file: Path, inputs: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": inputs.numpy()})[0])


def _require(package: str) -> None:
    try:
        __import__(package)
        __import__("onnxruntime")
    except ImportError:
        raise ConfigError(
            "--format onnx: needs onnx and onnxruntime: pip install 'raydistill[onnx]'"
        ) from None


def _write_torchscript(finished: LoadedGenerator, example: Tensor, file: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(plain(finished), example), str(file))


def _run_torchscript(file: Path, inputs: Tensor) -> Tensor:
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        outputs: Tensor = torch.jit.load(str(file))(inputs)
    return outputs


def _write_safetensors(finished: LoadedGenerator, example: Tensor, file: Path) -> None:
    save_file(
        {name: value.contiguous() for name, value in finished.module.state_dict().items()},
        file,
        metadata_of(finished),
    )


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
inputs = np.zeros({shape}, np.float32)
pictures = session.run(None, {{"input": inputs}})[0]""",
    ),
    "torchscript": Format(
        ".pt",
        _write_torchscript,
        _run_torchscript,
        """import torch
network = torch.jit.load("{file}")
inputs = torch.zeros{shape}
pictures = network(inputs)""",
    ),
    "safetensors": Format(
        ".safetensors",
        _write_safetensors,
        _run_safetensors,
        """import torch
from raydistill.exchange.generator_file import load_exported
network = load_exported("{file}")
pictures = network(torch.zeros{shape})""",
    ),
}


def model_card(
    finished: LoadedGenerator, chosen: Format, file: str, difference: float, inputs: str, *, licence: str = ""
) -> str:
    """Markdown: what the file is, where it comes from, what it costs and scores, how to load it.

    Args:
        file: name of the exported file.
        difference: largest absolute difference to PyTorch's output on `inputs`, a phrase that says what they are.
        licence: of the network, as its owner states it; empty: the card says that it is not stated.
    """
    config, job, result = finished.config, finished.job, finished.result
    takes = (
        "latents, normal"
        if GENERATORS[config.family].takes == "noise"
        else "pictures in [-1, 1] or one-hot labels"
    )
    shape = (1, *finished.input_shape)
    lines = [
        f"# {file}",
        f"A generator of the family `{config.family}`, digest `{finished.digest}`. Licence: {licence or 'not stated'}.",
        "## Input and output",
        f"Input: float32 {('batch', *finished.input_shape)}, {takes}. Output: pictures of 3 channels, nominally in [-1, 1].",
        f"Largest difference to PyTorch: {difference:.3g}, on {inputs}, at once and one by one.",
        f"```python\n{chosen.how_to_load.format(file=file, shape=shape)}\n```",
        "## Cost of one picture",
        f"{cost.params(finished.layers):,} parameters; {cost.macs(finished.layers):,} multiply-accumulates "
        f"(convention `{cost.MACS_CONVENTION}`: {cost.CONVENTIONS[cost.MACS_CONVENTION]}).",
        "## Scores",
        *(_scores(result) or ["None recorded."]),
        "## Lineage",
        *(_lineage(finished) if job is not None else ["Not known: this network was not trained here."]),
        "## Config",
        f"```json\n{json.dumps(config.model_dump(mode='json'), indent=1)}\n```",
    ]
    return "\n\n".join(lines) + "\n"


def _scores(result: dict[str, object]) -> list[str]:
    metrics, context = result.get("metrics"), result.get("context")
    if not isinstance(metrics, dict) or not isinstance(context, dict):
        return []
    rows = [f"| {name} | {value:.6g} |" for name, value in metrics.items() if name.startswith("val/")]
    measured = ", ".join(f"{name} {value}" for name, value in context.items())
    return (
        ["\n".join(["| metric | value |", "|---|---|", *rows]), f"Measured with: {measured}."] if rows else []
    )


def _lineage(finished: LoadedGenerator) -> list[str]:
    job = finished.job
    assert job is not None
    rows = {
        "recipe": job.training.recipe,
        "trial key": job.key,
        "images seen": finished.result.get("nimg", "not known"),
        "seed": job.training.seed,
        "data": job.data.digest,
        "teacher": job.teacher.digest if job.teacher else "none",
        "evaluator": job.evaluator.digest if job.evaluator else "none",
        "git revision": finished.result.get("git_revision") or "not known",
    }
    return ["\n".join(f"* {name}: {value}" for name, value in rows.items())]
