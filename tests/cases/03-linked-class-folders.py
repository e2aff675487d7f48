"""A data set put together from folders elsewhere, by links to folders; a link in a circle.

Right: pictures below linked folders are found. A link to a folder above is not followed, and said; a link
that leads nowhere is named.
"""

import os

from kit import WORK, end, inspect, noise, refused, require

disk, data = WORK / "disk", WORK / "set"
data.mkdir(parents=True)
for name in ("cat", "dog", "bird"):
    noise(disk / name, 20)
(data / "cat").symlink_to(disk / "cat")
(data / "dog").symlink_to(disk / "dog")
os.rename(disk / "bird", data / "bird")
found = inspect(data)
require("all are found", found.code == 0 and "train 60" in found.text and "3, each in 20 to 20" in found.text)
(data / "bird" / "again").symlink_to(data)
found = inspect(data)
require("the circle is said", "train 60" in found.text and "1 link back to a folder above" in found.text)
(data / "fish").symlink_to(disk / "fish")
refused(inspect(data), "fish: this link leads nowhere")
end()
