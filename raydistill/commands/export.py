"""`raydistill export`: a finished generator as ONNX, TorchScript or safetensors."""

from pathlib import Path
from typing import Literal

from raydistill.config.base import Frozen
from raydistill.errors import ConfigError
from raydistill.exchange.export import FORMATS, export, model_card
from raydistill.exchange.generator_file import inputs_for, open_generator


class ExportOptions(Frozen):
    """What the command line gives. See `raydistill export --help`."""

    given: str
    format: Literal["onnx", "torchscript", "safetensors"]
    out: str | None = None
    size: tuple[int, int] | None = None
    pictures: str | None = None
    licence: str = ""


def run(options: ExportOptions) -> int:
    """Writes the file and its card, prints where; 0. Raises InputError, CheckpointError, or RunError where outputs differ."""
    generator = open_generator(Path(options.given), options.size)
    file_format = FORMATS[options.format]
    name = generator.path.parent.name if generator.path.name == "network" else generator.path.stem
    out = Path(options.out or f"{name}{file_format.suffix}")
    if out.suffix != file_format.suffix:
        raise ConfigError(f"--out {out}: a file of format {options.format} ends in {file_format.suffix}")
    inputs, what = inputs_for(generator, None if options.pictures is None else Path(options.pictures))
    difference = export(generator, inputs, file_format, out)
    card = out.with_suffix(out.suffix + ".md")
    card.write_text(model_card(generator, file_format, out.name, difference, what, licence=options.licence))
    print(
        f"{out}: {out.stat().st_size:,} bytes; largest difference to PyTorch {difference:.2g} on {what}\n{card}: its card"
    )
    return 0
