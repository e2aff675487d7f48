"""`raydistill teacher import`: a generator out of someone else's checkpoint file."""

from pathlib import Path

from raydistill.config.base import Frozen
from raydistill.errors import ConfigError
from raydistill.exchange.import_teacher import import_file


class ImportOptions(Frozen):
    """What the command line gives. See `raydistill teacher import --help`."""

    file: str
    out: str | None = None
    size: tuple[int, int] | None = None


def run(options: ImportOptions) -> int:
    """Writes the network's folder and prints what it is; 0. Raises InputError and leaves nothing where the file is not understood."""
    file = Path(options.file)
    out = Path(options.out or f"{file.stem}-imported")
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; give another folder, or remove it")
    imported = import_file(file, out, options.size)
    print(
        f"{file.name}: {imported.layout}\n"
        f"family {imported.family}, takes {imported.takes}\n"
        f"{imported.params:,} parameters, {imported.macs:,} multiply-accumulates at {imported.height}x{imported.width} "
        f"(convention {imported.macs_convention})\n"
        f"output of seed 0: digest {imported.output_digest}, mean {imported.output_mean:.6f}, deviation {imported.output_deviation:.6f}\n"
        + (
            f"left out: {', '.join(imported.dropped[:6])}{' ...' if len(imported.dropped) > 6 else ''}\n"
            if imported.dropped
            else ""
        )
        + f"{out}: weights.safetensors, meta.json, import.json"
    )
    return 0
