"""Pictures in subfolders beside some in the folder itself, and a trainA/ with one subfolder a camera.

Right: all pictures are taken; what is no picture is counted.
"""

from kit import WORK, end, inspect, noise, require

loose, unpaired = WORK / "loose", WORK / "unpaired"
noise(loose, 20)
noise(loose / "part2", 30)
noise(loose / "part3", 30)
noise(unpaired / "trainA", 20)
noise(unpaired / "trainA" / "camera2", 40)
noise(unpaired / "trainB", 25)
(loose / "notes.txt").write_text("")
(loose / ".cache").mkdir()
(loose / "papers").mkdir()
(loose / "papers" / "one.pdf").write_text("")
(loose / "part2" / "scan.heic").write_text("")
found = inspect(loose)
require("80 pictures", found.code == 0 and "train 80" in found.text)
last = found.out.splitlines()[-1]
require(f"what is left out: {last}", "left out: 1 .heic, 1 .txt, 1 folder (papers), 1 hidden file" in last)
found = inspect(unpaired)
require("A 60, B 25", found.code == 0 and "B: train 25; A: train 60" in found.text)
end()
