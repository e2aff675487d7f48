"""CMYK, 16-bit RGB, a palette, WebP, MPO, upper-case suffixes, an animation, an AVIF, a profile.

Right: what is read has the colours that viewers show.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from kit import WORK, decoded, end, plan, require
from PIL import Image, features

COLOR = (200, 100, 50)
flat = Image.new("RGB", (64, 64), COLOR)
other = [Image.new("RGB", (64, 64))]


def rgb16(path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = bytes([0]) + struct.pack(">3H", *(value * 257 for value in COLOR)) * 64
    header = struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 64)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


kinds: dict[str, Callable[[Path], None]] = {
    "cmyk": lambda path: flat.convert("CMYK").save(path.with_suffix(".jpg"), quality=100),
    "rgb16": lambda path: rgb16(path.with_suffix(".png")),
    "palette": lambda path: flat.quantize(4).save(path.with_suffix(".png")),
    "webp": lambda path: flat.save(path.with_suffix(".webp"), lossless=True),
    "mpo": lambda path: flat.save(
        path.with_suffix(".JPG"), "MPO", save_all=True, append_images=other, quality=100
    ),
    "upper": lambda path: flat.save(path.with_suffix(".PNG")),
    "animated": lambda path: flat.save(
        path.with_suffix(".webp"), save_all=True, append_images=other, lossless=True
    ),
}
if features.check("avif"):
    kinds["avif"] = lambda path: flat.save(path.with_suffix(".avif"), quality=100)
for kind, write in kinds.items():
    data = WORK / kind
    data.mkdir(parents=True)
    for index in range(20):
        write(data / f"{index:03d}")
    for name in (".DS_Store", "._000.png", "Thumbs.db"):
        (data / name).write_bytes(b"x")
    done = plan("sagan", data, store=f"store-{kind}")
    require(f"{kind}: read, and what is hidden is said", done.code == 0 and "3 hidden files" in done.text)
    mean = decoded("train_targets", f"store-{kind}").mean((0, 1, 2))
    require(f"{kind}: {mean}", np.abs(mean - COLOR).max() <= 12)
    require("16 bits are said", kind != "rgb16" or "20 have 16 bits a channel" in done.text)
end()
