"""Cut-out pictures with an alpha channel, whose transparent pixels hold arbitrary colours, seen by nobody.

Right: transparent pixels become white, and that is said by inspect and plan.
"""

import numpy as np
from kit import WORK, decoded, end, inspect, plan, require
from PIL import Image

data = WORK / "icons"
data.mkdir(parents=True)
rng = np.random.default_rng(0)
y, x = np.mgrid[:64, :64]
disc = (y - 32) ** 2 + (x - 32) ** 2 < 20**2
for index in range(40):
    pixels = rng.integers(0, 256, (64, 64, 4), np.uint8)
    pixels[disc] = (250, 200, 40, 255)
    pixels[~disc, 3] = 0
    Image.fromarray(pixels).save(data / f"{index:03d}.png")
says = "40 have transparent pixels: these show white (255, 255, 255)"
require("inspect says it", says in inspect(data).text)
planned = plan("sagan", data)
require("plan says it", planned.code == 0 and says in planned.text)
corner = decoded("train_targets")[:, :8, :8]
require(f"corners are white, not {corner.min()} to {corner.max()}", corner.min() == 255)
end()
