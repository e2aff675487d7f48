"""What a person sees on the terminal while a sweep runs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raydistill.records.tables import column

_TABLE_WIDTH = 150


class Terminal:
    """Plain lines, one a finished trial: k of n, its numbers, the front so far, the time left."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if self.console.width < _TABLE_WIDTH:  # a line that wraps is easier to read than a column cut off
            self.console.width = _TABLE_WIDTH
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        elapsed = int(time.monotonic() - self.started)
        self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim]  ", end="")
        self.console.print(text, markup=False)

    def trial_ended(
        self, trial: Mapping[str, Any], done: int, total: int, front: Sequence[str], left_sec: float
    ) -> None:
        """One line: which trial, its cost and quality, the front so far, the time left."""
        result = trial["result"]
        if result["status"] == "COMPLETE":
            scores = {
                name.partition("/")[2]: value
                for name, value in result["metrics"].items()
                if name.startswith("val/")
            }
            outcome = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
        else:
            outcome = f"{result['status']}: {result['reason']}"
        left = f"about {left_sec / 60:.1f} min left" if done < total else "all trained"
        self.say(
            f"trial {done} of {total}: {trial['trial_id']} {trial['label']}, {trial['costs']['macs'] / 1e6:.2f} M MACs, {outcome}, "
            f"{result['wall_sec']:.0f} s; front: {' '.join(front) or 'none yet'}; {left}"
        )

    def table(self, title: str, rows: pd.DataFrame) -> None:
        """Trials as a table: cost and quality, on val and where it was scored on test."""
        columns = {
            "trial": "trial_id",
            "what": "label",
            "front": "front.member",
            "MACs": "cost.macs",
            "params": "cost.params",
            "MI weight": "param.student.mi.weight",
            "step size": "param.student.mi.step_size",
            **{
                f"val {name}": column(f"val/{name}")
                for name in ("miou", "psnr", "ssim", "kd_evaluator", "fd_evaluator")
            },
            "val n": "num_samples",
            "fd biased": "biased",
            **{
                f"+- {name}": f"se.val/{name}"
                for name in ("miou", "psnr", "ssim", "kd_evaluator", "fd_evaluator")
            },
            "seeds": "front.seeds",
            "P(front)": "front.probability",
            **{f"test {name}": column(f"test/{name}") for name in ("miou", "psnr", "kd_evaluator")},
            "sec": "wall_sec",
        }
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        present = {head: name for head, name in columns.items() if name in rows and rows[name].notna().any()}
        for head in present:
            table.add_column(
                head, justify="left" if head in ("trial", "what") else "right", no_wrap=head != "what"
            )
        for _, row in rows.iterrows():
            table.add_row(
                *(_cell(head, row[name]) for head, name in present.items()),
                style="bold" if row["front.member"] else None,
            )
        self.console.print(table)

    def rows(self, title: str, rows: pd.DataFrame) -> None:
        """A table as it is; numbers with six digits, absent ones empty."""
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for name in rows:
            table.add_column(
                str(name), justify="right" if pd.api.types.is_numeric_dtype(rows[name]) else "left"
            )
        for _, row in rows.astype("object").iterrows():
            table.add_row(
                *(
                    "" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
                    for value in row
                )
            )
        self.console.print(table, markup=False)


def _cell(head: str, value: Any) -> str:
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
