"""A set of .tif and .jfif scans into which a few PNGs slipped; animations among pictures.

Right: all are read; of an animation the first frame is, and that is said.
"""

from kit import WORK, end, inspect, noise, plan, require
from PIL import Image

data = WORK / "scans"
noise(data, 40, ending="tif")
noise(data, 20, ending="jfif", prefix="b")
noise(data, 20, prefix="c")
frames = [Image.new("RGB", (32, 32), (index * 9, 80, 200 - index)) for index in range(4)]
frames[0].save(data / "moving.gif", save_all=True, append_images=frames[1:])
found = inspect(data)
require("all 81", found.code == 0 and "train 81" in found.text and "left out" not in found.text)
says = "1 are animations or have several pages: the first one is taken"
require("the first frame is said", says in found.text)
require("plan says it", says in plan("sagan", data).text)
end()
