"""Links into an annex of which one file was not fetched; a folder named like a picture.

Right: the file is named, and the command ends with exit code 2; inspect lists it as a problem.
"""

import numpy as np
from kit import WORK, end, inspect, noise, plan, refused, require
from PIL import Image

loose, pairs, named = WORK / "loose", WORK / "pairs", WORK / "named"
noise(loose, 40)
(loose / "020.png").unlink()
(loose / "020.png").symlink_to(WORK / "annex" / "gone.png")
noise(pairs / "images", 40)
(pairs / "labels").mkdir()
for index in range(40):
    ids = np.arange(32 * 32, dtype=np.int64).reshape(32, 32) // 512
    Image.fromarray(ids.astype(np.uint8)).save(pairs / "labels" / f"{index:03d}.png")
(pairs / "labels" / "007.png").unlink()
(pairs / "labels" / "007.png").symlink_to(WORK / "annex" / "gone.png")
noise(named, 40)
(named / "folder.png").mkdir()
refused(plan("sagan", loose), "020.png: cannot be read: No such file")
refused(plan("camvid", pairs), "007.png: cannot be read: No such file")
refused(plan("sagan", named), "folder.png: this is a folder, named like a picture")
for data, name in ((loose, "020.png"), (pairs, "007.png")):
    found = inspect(data)
    require(f"{name} is a problem", found.code == 1 and f"{name}: cannot be read" in found.text)
end()
