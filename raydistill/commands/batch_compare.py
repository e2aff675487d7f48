"""The end of a batch: its methods compared, space by space, as `raydistill compare` does it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from raydistill.commands.batch_plan import FINISHED, Sweep
from raydistill.commands.compare import show
from raydistill.errors import InputError
from raydistill.sweep.sweep_result import load_sweep
from raydistill.terminal import Terminal


def report(table: pd.DataFrame, sweeps: Sequence[Sweep], folder: Path, terminal: Terminal) -> None:
    """Compares the methods of each space whose finished sweeps have two or more, and writes a page for each.

    What cannot be compared is said, and ends nothing.

    Args:
        table: a row for each sweep: sweep, space, method, state.
        sweeps: of the batch.
        folder: the batch's.
    """
    from analysis.compare import compare
    from analysis.report import write_comparison

    folders = {each.name: each.folder for each in sweeps}
    for space, part in table[table["state"] == FINISHED].groupby("space", sort=False):
        methods = list(dict.fromkeys(part["method"]))
        if len(methods) < 2:
            continue
        try:
            loaded = [load_sweep(folders[name]) for name in part["sweep"]]
            compared = compare(loaded)
            if len(compared.sides) == len(methods):  # each side is a method, in their order
                compared = compare(loaded, labels=methods)
        except InputError as error:
            terminal.say(f"methods of {space} are not compared: {error}")
            continue
        page = folder / f"compare-{space}.html"
        write_comparison(compared, page)
        terminal.console.print()
        show(compared, terminal)
        terminal.say(f"page of this comparison: {page}")
