"""`raydistill export`: writes a trained generator as ONNX, TorchScript or safetensors."""

from pathlib import Path

from raydistill.config.network_options import ExportOptions
from raydistill.errors import ConfigError
from raydistill.exchange.export import FORMATS, export, model_card
from raydistill.exchange.generator_file import inputs_for, open_generator


def run(options: ExportOptions) -> int:
    """Writes the file and its model card, and prints where they are; returns the exit code, 0.

    Raises:
        InputError: something is wrong with what was given.
        RunError: the outputs differ from PyTorch's, or a checkpoint is damaged; no file is left.
    """
    generator = open_generator(Path(options.given), options.size)
    chosen = FORMATS[options.format]
    name = generator.path.parent.name if generator.path.name == "network" else generator.path.stem
    out = Path(options.out or f"{name}{chosen.suffix}")
    if out.suffix != chosen.suffix:
        raise ConfigError(f"--out {out}: a file of format {options.format} ends in {chosen.suffix}")
    pictures = None if options.pictures is None else Path(options.pictures)
    inputs, what = inputs_for(generator, pictures)
    difference = export(generator, inputs, chosen, out)
    card = out.with_suffix(out.suffix + ".md")
    card.write_text(model_card(generator, chosen, out.name, difference, what, licence=options.licence))
    size = out.stat().st_size
    print(f"{out}: {size:,} bytes; largest difference to PyTorch {difference:.2g} on {what}")
    print(f"{card}: its card")
    return 0
