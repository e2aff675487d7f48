"""What a data set is before it is decoded: its splits and classes, and what reads its pictures."""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from raydistill.config.data import Degradation, ShapesData
from raydistill.data import shapes
from raydistill.errors import DataError

SplitName = Literal["train", "val", "test"]
Layout = Literal[
    "shapes", "labelled", "cityscapes", "aligned", "unpaired", "nvlabs", "idx", "npz", "classes", "pictures"
]
Pairing = Literal["pairs", "unpaired", "pictures"]
"""pairs: input i belongs to target i. unpaired: as many inputs as there are, of their own. pictures: no inputs."""
Color = tuple[int, int, int]
"""RGB, 0..255."""

SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Classes:
    """K classes. They are stored as 0..K-1 and "ignored" as K, whatever the ids in the label files are."""

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    ids: tuple[int, ...]
    """The id in the label files of each class."""
    ignored_ids: tuple[int, ...] = ()

    @property
    def ignore_index(self) -> int | None:
        return len(self.names) if self.ignored_ids else None

    def encode(self, label: np.ndarray, path: str) -> np.ndarray:
        """File ids (H, W) uint8 -> stored ids (H, W) uint8. Raises DataError for an id that is not a class."""
        unknown = sorted(ids_in(label) - {*self.ids, *self.ignored_ids})
        if unknown:
            ignored = ", ".join(map(str, self.ignored_ids))
            allowed = f"{min(self.ids)} to {max(self.ids)}" + f", and {ignored} for ignored" * bool(ignored)
            raise DataError(
                f"{path}: the label id {unknown[0]} is not a class. Allowed: {allowed}. Correct the label or classes.json."
            )
        table = np.full(256, len(self.names), np.uint8)
        table[list(self.ids)] = range(len(self.ids))
        return table[label]


def ids_in(label: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist())


@dataclass(frozen=True)
class Source:
    """A data set that was found and checked, but not decoded."""

    layout: Layout
    identity: Any
    """JSON data that changes when the content may have changed. Says nothing about where the data lie."""
    counts: dict[SplitName, int]
    split_rule: str
    classes: Callable[[], Classes | None]
    """None: the input is a picture. May read all label files."""
    read: Callable[[SplitName], Iterable[tuple[np.ndarray, ...]]]
    """Decodes targets (H, W, 3), each with a label (H, W) or an input picture (H, W, 3), all uint8, or with its class id ()."""
    read_inputs: Callable[[SplitName], Iterable[np.ndarray]] | None = None
    """Decodes inputs (H, W, 3) uint8 that belong to no target."""
    input_counts: dict[SplitName, int] | None = None
    """Of those."""
    picture_classes: tuple[str, ...] = ()
    """Names of the class ids."""


def shapes_source(config: ShapesData) -> Source:
    """The embedded data set. Its identity is the code that draws it."""
    classes = Classes(shapes.CLASSES, shapes.PALETTE, tuple(range(len(shapes.CLASSES))))
    return Source(
        layout="shapes",
        identity=hashlib.sha256(inspect.getsource(shapes).encode()).hexdigest(),
        counts={"train": config.num_train, "val": config.num_val, "test": config.num_test},
        split_rule="Each of train, val and test is drawn from a random stream of its own.",
        classes=lambda: classes,
        read=lambda split: zip(*shapes.draw(config, split)),
    )


def pairing_of(layout: Layout, degrade: Degradation) -> Pairing:
    if degrade.is_on or layout in ("shapes", "labelled", "cityscapes", "aligned"):
        return "pairs"
    return "unpaired" if layout == "unpaired" else "pictures"
