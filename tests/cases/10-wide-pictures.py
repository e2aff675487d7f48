"""Pictures for a generator from noise of which the first is twice as wide as high, and a set of panoramas.

Right: it learns whole pictures. They are blue on the left half and red on the right: halved, no blue is left.
"""

from pathlib import Path

import numpy as np
from kit import WORK, decoded, end, info, plan, refused, require
from PIL import Image


def fill(folder: Path, sizes: list[tuple[int, int]]) -> None:
    folder.mkdir(parents=True)
    for index, (width, height) in enumerate(sizes):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 2, 2] = 220
        picture[:, width // 2 :, 0] = 220
        Image.fromarray(picture).save(folder / f"{index:03d}.png")


fill(WORK / "one panorama", [(128, 64)] + [(64, 64)] * 39)
fill(WORK / "panoramas", [(128, 64)] * 40)
for name in ("one panorama", "panoramas"):
    store = f"store of {name}"
    planned = plan("sagan", WORK / name, store=store)
    require(f"{name}: it can be used", planned.code == 0)
    means = decoded("train_targets", store).mean((0, 1, 2))[[0, 2]]
    require(f"{name}: whole: {means}", np.abs(means - 110).max() < 3 and info(store)["layout"] == "pictures")
    if name == "panoramas":
        require("it is said", "twice as wide as high, as A|B are: taken whole" in planned.text)
detected = "--set", "data.layout=auto"
refused(plan("aligned", WORK / "one panorama", *detected, store="aligned"), "this data is pictures")
planned = plan("aligned", WORK / "panoramas", *detected, store="pairs")
require("a recipe of pairs takes A|B", planned.code == 0 and info("pairs")["layout"] == "aligned")
end()
