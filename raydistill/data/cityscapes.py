"""The classes of Cityscapes."""

from raydistill.data.classes import Classes
from raydistill.data.label_maps import Color

_CITYSCAPES: dict[int, tuple[str, Color]] = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
"""labelId -> name and colour of the 19 classes that are scored, in the order of their train ids."""
_IGNORED: dict[int, Color] = {
    **dict.fromkeys(range(5), (0, 0, 0)),
    5: (111, 74, 0),
    6: (81, 0, 81),
    9: (250, 170, 160),
    10: (230, 150, 140),
    14: (180, 165, 180),
    15: (150, 100, 100),
    16: (150, 120, 90),
    18: (153, 153, 153),
    29: (0, 0, 90),
    30: (0, 0, 110),
}
"""labelId -> colour of the classes that are not scored, in the pictures *_gtFine_color.png."""


def cityscapes_classes() -> Classes:
    """The 19 classes that Cityscapes scores; the other label ids below 34 are ignored."""
    names, palette = zip(*_CITYSCAPES.values())
    ignored = tuple(index for index in range(34) if index not in _CITYSCAPES)
    return Classes(names, palette, tuple(_CITYSCAPES), ignored, ignored_colors=tuple(_IGNORED.items()))
