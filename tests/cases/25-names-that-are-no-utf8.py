"""As case 07, for names of folders: a class folder, the data set's own folder, what is scored.

Right: each is named in one line, with what to do.
"""

import os
from pathlib import Path

from kit import WORK, end, inspect, noise, plan, raydistill, refused

odd = os.fsdecode(b"caf\xe9")
noise(WORK / "all" / "bar", 20)
for folder in (WORK / "classes" / odd, WORK / odd):
    os.makedirs(folder)
    for path in (WORK / "all" / "bar").iterdir():
        Path(folder, path.name).write_bytes(path.read_bytes())
noise(WORK / "classes" / "bar", 20)
says = "caf\\xe9", "this name is not UTF-8", "Rename it"
refused(plan("sagan", WORK / "classes"), *says)
refused(plan("sagan", WORK / odd), *says)
refused(inspect(WORK / odd), *says)
refused(inspect(WORK / "classes"), *says)
scored = raydistill(
    *("evaluate", str(WORK / odd), "--real", str(WORK / "classes" / "bar"), "--paired"), "--resamples", "0"
)
refused(scored, *says)
refused(raydistill("data", "inspect", str(WORK / f"no{odd}")), "this folder cannot be listed: No such file")
end()
