"""Phone pictures whose pixels are stored sideways, with an EXIF orientation, beside upright label maps.

Right: the decoded copy is red exactly where its label is 0, and it is said that pictures were turned. Of wide
pictures, sizes are compared after turning.
"""

import numpy as np
from kit import WORK, decoded, end, inspect, plan, require
from PIL import Image

for name, width in (("square", 32), ("wide", 48)):
    data = WORK / name
    (data / "images").mkdir(parents=True)
    (data / "labels").mkdir()
    label = np.zeros((32, width), np.uint8)
    label[:, width // 2 :] = 1
    upright = np.zeros((32, width, 3), np.uint8)
    upright[:, : width // 2, 0] = 230
    upright[:, width // 2 :, 2] = 230
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    for index in range(40):
        stored = Image.fromarray(np.rot90(upright, 1))
        stored.save(data / "images" / f"{index:03d}.jpg", quality=95, exif=exif)
        Image.fromarray(label).save(data / "labels" / f"{index:03d}.png")
    found = inspect(data)
    require("turned pictures are counted", "40 turned or mirrored" in found.text and found.code == 0)
    require("sizes of upright pictures", f"{width}x32 (40)" in found.text)
    require("it can be used", plan("camvid", data, store=f"store-{name}").code == 0)
    targets, labels = (decoded(f"train_{each}", f"store-{name}") for each in ("targets", "labels"))
    reds = [float(targets[labels == value][:, 0].mean()) for value in (0, 1)]
    require(f"red is where label 0 is: {reds}", reds[0] > 200 and reds[1] < 30)
end()
