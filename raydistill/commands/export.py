"""`raydistill export`: writes a trained generator as ONNX, TorchScript or safetensors."""

from raydistill.config.command_options import ExportOptions
from raydistill.exchange.export import export


def run(options: ExportOptions) -> int:
    """Writes the file and its model card, and prints where they are; returns the exit code, 0.

    Raises:
        InputError: something is wrong with what was given.
        RunError: the outputs differ from PyTorch's, or a checkpoint is damaged; no file is left.
    """
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
