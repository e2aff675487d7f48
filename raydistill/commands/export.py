"""`raydistill export`: a generator as ONNX, TorchScript or safetensors, an evaluator as TorchScript."""

from pathlib import Path

from raydistill.config.network_options import ExportOptions
from raydistill.errors import ConfigError
from raydistill.exchange.evaluator_file import export_evaluator, find_evaluator
from raydistill.exchange.export import export


def run(options: ExportOptions) -> int:
    """Writes the file and its model card, and prints where they are; returns the exit code, 0.

    Raises:
        InputError: something is wrong with what was given.
        RunError: the outputs differ from PyTorch's, or a checkpoint is damaged; no file is left.
    """
    if (evaluator := find_evaluator(Path(options.given))) is not None:
        return _export_evaluator(evaluator, options)
    out, card, difference, inputs = export(
        options.given,
        options.out,
        file_format=options.format,
        size=options.size,
        pictures=options.pictures,
        licence=options.licence,
    )
    size = out.stat().st_size
    print(f"{out}: {size:,} bytes; largest difference to PyTorch {difference:.2g} on {inputs}")
    print(f"{card}: its card")
    return 0


def _export_evaluator(folder: Path, options: ExportOptions) -> int:
    """Writes an evaluator, and prints which option takes the file; returns the exit code, 0."""
    named = folder.parent.name if folder.name == "network" else folder.name
    out = Path(options.out or f"evaluator-{named}.pt")
    if options.format != "torchscript" or out.suffix != ".pt":
        raise ConfigError(f"{folder}: an evaluator; give --format torchscript and --out FILE.pt")
    export_evaluator(folder, options.gives, out)
    option = "--segmenter" if options.gives == "classes" else "--extractor"
    print(f"{out}: {out.stat().st_size:,} bytes; it gives {options.gives}: {option} torchscript={out}")
    return 0
