"""What a person sees on the terminal while a sweep runs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raydistill.results import column
from raydistill.space import Objective


class Progress:
    """Plain lines, one a finished trial: k of n, its numbers, the front so far, the time left."""

    def __init__(self, objectives: Sequence[Objective]):
        self.console = Console(highlight=False, soft_wrap=True)
        self.objectives = objectives
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        elapsed = int(time.monotonic() - self.started)
        self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim]  ", end="")
        self.console.print(text, markup=False)

    def trial_ended(
        self, trial: Mapping[str, Any], result: Mapping[str, Any], done: int, total: int, front: Sequence[str], left_sec: float
    ) -> None:
        if result["status"] == "COMPLETE":
            shown = {name.replace("val/", "final/"): value for name, value in result["metrics"].items() if name.startswith("val/")}
            numbers = "  ".join(f"{name.split('/')[1]} {value:.4g}" for name, value in shown.items())
        else:
            numbers = f"{result['status']}: {result['reason']}"
        macs = f"{trial['costs']['macs'] / 1e6:.2f} M MACs"
        left = f"about {left_sec / 60:.0f} min left" if left_sec >= 60 else f"about {left_sec:.0f} s left"
        self.say(
            f"trial {done} of {total}: {trial['trial_id']} {trial['label']}, {macs}, {numbers}, {result['wall_sec']:.0f} s; "
            f"front: {' '.join(front) or 'none yet'}; {left if done < total else 'all trained'}"
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
            **{f"{split} {name}": column(f"{split}/{name}") for split in ("val", "test") for name in ("miou", "kd_judge", "fd_judge")},
            "sec": "wall_sec",
        }
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        present = {head: name for head, name in columns.items() if name in rows and rows[name].notna().any()}
        for head in present:
            table.add_column(head, justify="left" if head in ("trial", "what") else "right", no_wrap=head != "what")
        for _, row in rows.iterrows():
            table.add_row(*(_cell(head, row[name]) for head, name in present.items()), style="bold" if row["front.member"] else None)
        self.console.print(table)


def _cell(head: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if head == "front":
        return "*" if value else ""
    if head in ("MACs", "params"):
        return f"{int(value):,}"
    if head == "sec":
        return f"{value:.0f}"
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if head in ("MI weight", "step size") else f"{value:.4f}"
