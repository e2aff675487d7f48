"""Binary masks as painting programs and segmentation tools write them: 0 for background, 255 for the object.

Right: two classes, said. Masks of 0, 127 and 254, and smoothly resized ones, are refused with what settles
them.
"""

import numpy as np
from kit import WORK, end, info, inspect, plan, refused, require
from PIL import Image

rng = np.random.default_rng(0)
y, x = np.mgrid[:32, :32]


def make(name: str, values: tuple[int, ...], side: int = 32) -> None:
    data = WORK / name
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    for index in range(40):
        row, column = rng.integers(8, 24, 2)
        distance = (y - row) ** 2 + (x - column) ** 2
        mask = np.array(values, np.uint8)[np.minimum(distance // 60, len(values) - 1)]
        picture = np.stack([mask, 255 - mask, mask // 2], 2)
        size, smooth = (side, side), Image.Resampling.BILINEAR
        Image.fromarray(picture).resize(size).save(data / "images" / f"{index:03d}.png")
        Image.fromarray(mask).resize(size, smooth).save(data / "labels" / f"{index:03d}.png")


make("two", (255, 0))
make("three", (254, 127, 0))
make("smooth", (255, 0), 80)
found = plan("camvid", WORK / "two")
require("it is said", found.code == 0 and "0 and 255: background and object" in found.text)
classes = info()["class_names"], info()["ignore_index"], info()["num_classes"]
require(f"two classes: {classes}", classes == (["background", "object"], None, 2))
settled = '{"classes": ["class_0", "class_127", "class_254"], "ids": [0, 127, 254]}'
refused(plan("camvid", WORK / "three"), "the label values 0, 127, 254", settled)
(WORK / "three" / "classes.json").write_text(settled)
require("what the message says settles it", plan("camvid", WORK / "three", store="three-store").code == 0)
require("three classes", info("three-store")["num_classes"] == 3)
refused(plan("camvid", WORK / "smooth"), "only at edges between others", "nearest pixel")
found = inspect(WORK / "smooth")
require("inspect names it as a problem", found.code == 1 and "only at edges between others" in found.text)
end()
