"""Label maps as grey PNGs of 2 or 4 bits a pixel, which MATLAB, pypng and PNG optimisers write. Ids 0 to 3.

Right: classes 0 to 3. The PNG is written by hand here, so that no library is in the way.
"""

import struct
import zlib
from pathlib import Path

import numpy as np
from kit import WORK, end, facts, noise, require


def write(path: Path, ids: np.ndarray, bits: int) -> None:
    per = 8 // bits
    rows = b""
    for row in ids.reshape(len(ids), -1, per).astype(int):
        rows += bytes([0]) + bytes(
            sum(value << (bits * (per - 1 - place)) for place, value in enumerate(each)) for each in row
        )

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


rng = np.random.default_rng(0)
for bits in (2, 4):
    data = WORK / f"bits{bits}"
    noise(data / "images", 30)
    (data / "labels").mkdir()
    for index in range(30):
        ids = rng.integers(0, 4, (8, 8)).repeat(4, 0).repeat(4, 1)
        write(data / "labels" / f"{index:03d}.png", ids, bits)
    found = facts(data)
    names = [each["name"] for each in found["classes"]]
    require(f"{bits} bits: {names}", names == [f"class_{index}" for index in range(4)])
    occurs = all(each["pictures"] == 30 for each in found["classes"])
    require("all occur and none is ignored", occurs and found["ignored_share"] is None)
    require(f"no problem: {found['problems']}", not found["problems"])
end()
