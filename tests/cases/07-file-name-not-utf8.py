"""A file name whose bytes are not UTF-8: an old zip file unpacked on Linux, a share of another charset.

Right: the file is named in one line, with what to do.
"""

import os

from kit import WORK, end, inspect, noise, plan, refused

data = WORK / "old"
noise(data, 40)
os.rename(data / "000.png", os.fsencode(data) + b"/caf\xe9.png")
for done in (inspect(data), inspect(data, "--json"), plan("sagan", data)):
    refused(done, "caf\\xe9.png: this name is not UTF-8", "Rename it")
end()
