"""What a data set is before it is decoded: its splits and classes, and what reads its pictures."""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from raydistill.config.data import Degradation, ShapesData
from raydistill.data import shapes
from raydistill.data.classes import Classes

SplitName = Literal["train", "val", "test"]
FileLayout = Literal[
    "labelled", "cityscapes", "aligned", "unpaired", "nvlabs", "lmdb", "idx", "npz", "classes", "pictures"
]
"""The layouts of files; `detect` says what each looks like."""
Layout = Literal["shapes", FileLayout]
Pairing = Literal["pairs", "unpaired", "pictures"]
"""How inputs and targets belong together.

"pairs": input i belongs to target i. "unpaired": inputs and targets are two sets of pictures. "pictures":
there are targets, but no inputs.
"""

SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Source:
    """A data set whose files are there and fit together, but are not decoded yet."""

    layout: Layout
    identity: Any
    """JSON data that changes when the content may have changed. It does not say where the data lie."""
    counts: dict[SplitName, int]
    """Number of targets of each split."""
    split_rule: str
    """The sentence that says how the splits came about."""
    classes: Callable[[], Classes | None]
    """Returns the classes of the label maps, for which it may read all of these; None if there are none."""
    read: Callable[[SplitName], Iterable[tuple[np.ndarray, ...]]]
    """Decodes the targets of a split, uint8 (H, W, 3).

    Each comes alone, or with its label map uint8 (H, W), its input picture uint8 (H, W, 3), both in this
    order, or its class id int32 (). What is no `rows.Rows` is drawn again from the start where it broke off.
    """
    read_inputs: Callable[[SplitName], Iterable[np.ndarray]] | None = None
    """Decodes the inputs of unpaired data, uint8 (H, W, 3); None for other data."""
    input_counts: dict[SplitName, int] | None = None
    """Number of these inputs of each split; None for other data."""
    picture_classes: tuple[str, ...] = ()
    """Names of the classes that whole pictures belong to; empty if they have none."""
    remarks: tuple[str, ...] = ()
    """What a person should know of how the data were understood, in sentences."""
    left_out: str = ""
    """What lies beside the data and belongs to none of its samples, in words; empty: nothing."""
    changes: Callable[[], tuple[str, ...]] = tuple
    """Returns what was changed in the pictures that were read so far, in words."""


def shapes_source(config: ShapesData) -> Source:
    """The embedded data set. Its identity is the text of the code that draws it."""
    classes = Classes(shapes.CLASSES, shapes.PALETTE, tuple(range(len(shapes.CLASSES))))
    return Source(
        layout="shapes",
        identity=hashlib.sha256(inspect.getsource(shapes).encode()).hexdigest(),
        counts={"train": config.num_train, "val": config.num_val, "test": config.num_test},
        split_rule="Each of train, val and test is drawn from a random stream of its own.",
        classes=lambda: classes,
        read=lambda split: zip(*shapes.draw(config, split)),
    )


def remarks_on(classes: Classes | None, picture_classes: tuple[str, ...]) -> tuple[str, ...]:
    """What a person should know of the classes of label maps or of whole pictures, in sentences."""
    remarks = [classes.note] if classes is not None and classes.note else []
    one = picture_classes if classes is None else classes.names
    if len(one) == 1:
        what = "pictures" if classes is None else "pixels"
        remarks.append(
            f"All {what} are of one class, {one[0]}: an evaluator learns by how many quarter turns pictures "
            "are turned instead."
        )
    return tuple(remarks)


def pairing_of(layout: Layout, degrade: Degradation) -> Pairing:
    """How inputs and targets of a layout belong together. Degraded targets are the inputs of their pairs."""
    if degrade.is_on or layout in ("shapes", "labelled", "cityscapes", "aligned"):
        return "pairs"
    return "unpaired" if layout == "unpaired" else "pictures"
