"""`raydistill teacher import`: reads a generator out of someone else's checkpoint file."""

from pathlib import Path

from raydistill.config.network_options import ImportOptions
from raydistill.exchange.import_teacher import default_folder, import_teacher

_SHOWN = 6
"""Keys of the file that are printed as left out."""


def run(options: ImportOptions) -> int:
    """Writes the network's folder, and prints what it is; returns the exit code, 0.

    Raises:
        InputError: the file is not understood, or the folder exists already; nothing is left.
    """
    file = Path(options.file)
    out = Path(options.out or default_folder(file))
    imported = import_teacher(file, out, size=options.size, network=options.network)
    size = f"{imported.height}x{imported.width}"
    lines = [
        f"{file.name}: {imported.layout}" + f", its network {imported.network}" * bool(imported.network),
        f"family {imported.family}, takes {imported.takes}",
        f"{imported.params:,} parameters, {imported.macs:,} multiply-accumulates at {size} "
        f"(convention {imported.macs_convention})",
        f"output of seed 0: digest {imported.output_digest}, mean {imported.output_mean:.6f}, "
        f"deviation {imported.output_deviation:.6f}",
    ]
    if imported.dropped:
        more = " ..." if len(imported.dropped) > _SHOWN else ""
        lines.append(f"left out: {', '.join(imported.dropped[:_SHOWN])}{more}")
    print("\n".join([*lines, f"{out}: weights.safetensors, meta.json, import.json"]))
    return 0
