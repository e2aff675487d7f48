"""What a person sees on the terminal: lines about a sweep as it runs, and tables that fit its width."""

import errno
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pandas as pd
from rich.cells import cell_len, chop_cells
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raydistill.records.tables import column
from raydistill.records.trials import Trial

_QUALITIES = ("miou", "psnr", "ssim", "kd_evaluator", "fd_evaluator")
_TRIAL_COLUMNS = {
    "trial": "trial_id",
    "what": "label",
    "front": "front.member",
    "MACs": "cost.macs",
    "params": "cost.params",
    "MI weight": "param.student.terms.mi.weight",
    "step size": "param.student.terms.mi.step_size",
    **{f"val {name}": column(f"val/{name}") for name in _QUALITIES},
    "val n": "num_samples",
    "fd biased": "biased",
    **{f"+- {name}": f"se.val/{name}" for name in _QUALITIES},
    "seeds": "front.seeds",
    "P(front)": "front.probability",
    **{f"test {name}": column(f"test/{name}") for name in ("miou", "psnr", "kd_evaluator")},
    "sec": "wall_sec",
}
"""Head of a column of `Terminal.table` -> the column of the trials table that it shows."""
_FURTHER = {
    "val n": {"metric.val/": "val"},
    "seeds": {"se.val/": "+-"},
    "sec": {"metric.test/": "test"},
}
"""Head of a column -> beginnings of the columns of the trials table that come before it, and their heads."""
_GAP = 2
"""Spaces between two columns."""
_NARROW_TEXT = 24
"""A text that wraps takes at least so many columns, where it is that long and the terminal has them."""


# ---- the layout of a table ---------------------------------------------------------------------------------


class Column(NamedTuple):
    """One column of a table, as text."""

    head: str
    cells: list[str]
    justify: Literal["left", "right"] = "left"
    is_key: bool = False
    """It says which row this is: where a table is split into several, each of them has it."""
    wraps: bool = False
    """Its cells may take several lines. A head or a number never does."""

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes where nothing wraps."""
        return max(map(cell_len, [self.head, *self.cells]))


def columns_of_terminal() -> int | None:
    """Columns of the terminal that stdout is; None where it is a pipe or a file: nothing limits a line."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def split_columns(columns: Sequence[Column], width: int | None) -> list[list[Column]]:
    """The tables to print one below the other, so that none is wider than `width` columns of the terminal.

    One table holds everything where it fits, the texts that wrap narrowed if need be. Otherwise the columns
    are dealt out in their order, and every table begins with the key columns. No column is left out, and of a
    number no digit: a single number that is wider than the terminal beside its keys stays as wide as it is.
    `width` None: one table, nothing wraps.
    """
    if width is None or _total([each.width for each in columns]) <= width:
        return [list(columns)]
    narrow = min(_NARROW_TEXT, max(1, width // 4))
    least = {each.head: _least_width(each, narrow) for each in columns}
    if _total(list(least.values())) <= width:
        return [_widened(columns, least, width)]
    keys = [each for each in columns if each.is_key]
    tables = [list(keys)]
    for each in columns:
        if each.is_key:
            continue
        is_full = _total([least[other.head] for other in [*tables[-1], each]]) > width
        if is_full and len(tables[-1]) > len(keys):
            tables.append(list(keys))
        tables[-1].append(each)
    return [_widened(table, least, width) for table in tables]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _least_width(each: Column, narrow: int) -> int:
    return max(cell_len(each.head), min(each.width, narrow)) if each.wraps else each.width


def _widened(table: Sequence[Column], least: Mapping[str, int], width: int) -> list[Column]:
    """The columns with their texts wrapped: from left to right these get what the least widths leave."""
    spare = max(0, width - _total([least[each.head] for each in table]))
    out = []
    for each in table:
        if each.wraps:
            now = min(each.width, least[each.head] + spare)
            spare -= now - least[each.head]
            each = each._replace(cells=["\n".join(wrapped(cell, now)) for cell in each.cells])
        out.append(each)
    return out


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns: broken at spaces, longer words behind slashes, else anywhere."""
    pieces: list[str] = []
    for word in text.split(" "):
        parts = word.replace("/", "/\0").split("\0") if cell_len(word) > width else [word]
        pieces += [*parts[:-1], f"{parts[-1]} "]
    lines, line = [], ""
    for piece in pieces:
        if line and cell_len(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        *full, rest = chop_cells(piece, width) if cell_len(piece.rstrip()) > width else [piece]
        lines += full
        line += rest
    return [*lines, line.rstrip()]


# ---- what is printed ---------------------------------------------------------------------------------------


class _Console(Console):
    """Where nobody reads any more, rich would end the process; the command line says how that is done."""

    def on_broken_pipe(self) -> None:
        """Called by rich where it meets the error, which is passed on."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def left_in_words(seconds: float) -> str:
    """How long something still takes: "about 1.5 min left"."""
    return f"about {seconds / 60:.1f} min left"


class Bar(NamedTuple):
    """How far one thing is."""

    label: str
    share: float
    """From 0 to 1."""
    text: str


class Board:
    """Lines and bars in one place of a terminal, drawn again as they change; elsewhere nothing is shown.

    Used as a context: what was shown last stays when it ends.
    """

    def __init__(self) -> None:
        self._console = _Console(highlight=False)
        self.is_shown = self._console.is_terminal
        """Whether stdout is a terminal."""
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> "Board":
        if self.is_shown:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_shown:
            self._live.stop()

    def show(self, head: Sequence[str], bars: Sequence[Bar], tail: Sequence[str]) -> None:
        """Draws these lines, with the bars between them."""
        grid = Table.grid(padding=(0, _GAP))
        for each in bars:
            drawn = ProgressBar(total=1.0, completed=each.share, width=24)
            grid.add_row(Text(each.label), drawn, Text(each.text))
        self._live.update(Group(*map(Text, head), grid, *map(Text, tail)), refresh=True)


class Terminal:
    """Prints plain lines with the time since the start, and tables; where it is quiet, nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        # Lines and tables come in the width that they shall have; rich looks at neither where both numbers
        # are given.
        self.console = _Console(
            highlight=False, soft_wrap=True, width=sys.maxsize, height=sys.maxsize, quiet=quiet
        )
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line with the time since the start before it, as minutes:seconds."""
        elapsed = int(time.monotonic() - self.started)
        # In one call, as more than one thread may say something.
        self.console.print(Text.assemble((f"{elapsed // 60:3d}:{elapsed % 60:02d}", "dim"), f"  {text}"))

    def entry(self, lead: str, text: str) -> None:
        """Prints `lead` and beside it `text`, which wraps at spaces where the terminal is too narrow."""
        width = columns_of_terminal()
        if width is None or len(lead) >= width // 2:
            self.console.print(f"{lead}{text}", markup=False)
            return
        wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
        wrapper.initial_indent, wrapper.subsequent_indent = lead, " " * len(lead)
        self.console.print(wrapper.fill(text), markup=False)

    def trial_ended(self, trial: Trial, done: int, total: int, front: Sequence[str], left_sec: float) -> None:
        """Prints one line about a trial that ended: its cost and quality, the front so far, the time left.

        Args:
            trial: the trial, with its result.
            done: number of trials that have ended, this one included, of `total` to train.
            front: ids of the trials that are on the Pareto front now.
            left_sec: seconds that the other trials are expected to take.
        """
        result = trial.result
        assert result is not None
        if result.status == "COMPLETE":
            scores = {
                name.partition("/")[2]: value
                for name, value in result.metrics.items()
                if name.startswith("val/")
            }
            outcome = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        else:
            outcome = f"{result.status}: {result.reason}"
        left = left_in_words(left_sec) if done < total else "all trained"
        self.say(
            f"trial {done} of {total}: {trial.trial_id} {trial.label}, "
            f"{trial.macs / 1e6:.2f} M MACs, {outcome}, {result.wall_sec:.0f} s; "
            f"front: {' '.join(front) or 'none yet'}; {left}"
        )

    def table(self, title: str, rows: pd.DataFrame) -> None:
        """Prints trials as a table: cost and quality, on val and, where a trial was scored on it, on test.

        `rows`: rows of the trials table (see `records.tables`). A column without any number is left out;
        members of the front are bold.
        """
        columns = [
            Column(
                head,
                [_trial_cell(head, value) for value in rows[name]],
                justify="left" if head in ("trial", "what") else "right",
                is_key=head == "trial",
                wraps=head == "what",
            )
            for head, name in _trial_columns(rows).items()
            if name in rows and rows[name].notna().any()
        ]
        styles = ["bold" if is_member else "" for is_member in rows["front.member"]]
        self._print_columns(title, columns, styles)

    def rows(self, title: str, rows: pd.DataFrame, *, keys: Sequence[str], texts: Sequence[str] = ()) -> None:
        """Prints any table: numbers with six digits, absent ones empty.

        Args:
            keys: the columns that say which row this is, repeated where the table is wider than the terminal.
            texts: the columns whose cells may wrap then.
        """
        columns = [
            Column(
                str(name),
                [_cell(value) for value in rows[name].astype("object")],
                justify="right" if pd.api.types.is_numeric_dtype(rows[name]) else "left",
                is_key=name in keys,
                wraps=name in texts,
            )
            for name in rows
        ]
        self._print_columns(title, columns, [""] * len(rows))

    def _print_columns(self, title: str, columns: Sequence[Column], styles: Sequence[str]) -> None:
        """Prints one table, or several of them with an empty line after each. `styles`: of each row."""
        width = columns_of_terminal()
        tables = split_columns(columns, width)
        if columns:
            lines = [title] if width is None else wrapped(title, width)
            self.console.print(Text("\n".join(lines), style="italic"))
        for part in tables:
            table = Table(box=None, header_style="bold", pad_edge=False)
            for each in part:
                table.add_column(Text(each.head), justify=each.justify, no_wrap=True)
            for cells, style in zip(zip(*(each.cells for each in part)), styles, strict=True):
                table.add_row(*map(Text, cells), style=style)
            self.console.print(table)
            if len(tables) > 1:
                self.console.print()


def _trial_columns(rows: pd.DataFrame) -> dict[str, str]:
    """`_TRIAL_COLUMNS`, with a column for each score by a network from a file after the evaluator's."""
    known = {*_TRIAL_COLUMNS.values(), *(f"metric.test/{name}" for name in _QUALITIES)}
    columns: dict[str, str] = {}
    for head, name in _TRIAL_COLUMNS.items():
        for beginning, what in _FURTHER.get(head, {}).items():
            further = [each for each in map(str, rows) if each.startswith(beginning) and each not in known]
            columns |= {f"{what} {each.removeprefix(beginning)}": each for each in further}
        columns[head] = name
    return columns


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _trial_cell(head: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if head == "front":
        return "*" if value else ""
    if head == "fd biased":
        return "yes" if value else "no"
    if head in ("MACs", "params", "val n"):
        return f"{int(value):,}"
    if head == "sec":
        return f"{value:.0f}"
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if head in ("MI weight", "step size") else f"{value:.4f}"
