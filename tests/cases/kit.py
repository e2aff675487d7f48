"""What the scripts of this folder share: a folder to work in, the command, pictures, and the verdict."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

WORK = Path(os.environ.get("WORK") or tempfile.mkdtemp())
WORK.mkdir(parents=True, exist_ok=True)
_SIDES = {"sagan": 64}
"""Space -> height and width of its pictures; of other spaces 32."""
_WRONG: list[str] = []


class Done(NamedTuple):
    code: int
    text: str
    """What the command printed, on both streams."""
    out: str


def raydistill(*words: str | Path) -> Done:
    """Runs the command; what it printed is printed, too."""
    command = os.environ.get("RAYDISTILL", "raydistill")
    environment = os.environ | {"COLUMNS": "200", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    done = subprocess.run(
        [command, *map(os.fsencode, words)],
        capture_output=True,
        text=True,
        errors="backslashreplace",
        env=environment,
    )
    print(f"{words[0]} {Path(words[-1]).name}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    require("no traceback", "Traceback" not in done.stderr)
    return Done(done.returncode, done.stdout + done.stderr, done.stdout)


def plan(space: str, data: Path, *words: str, store: str = "store") -> Done:
    side = _SIDES.get(space, 32)
    size = ("--set", f"data.height={side}", "--set", f"data.width={side}")
    options = ("--store", WORK / store, *size, "--seconds-per-image", "0.01")
    return raydistill("plan", "--space", space, "--data", data, *options, *words)


def inspect(data: Path, *words: str) -> Done:
    return raydistill("data", "inspect", data, "--sheet", WORK / "sheet.png", *words)


def facts(data: Path) -> dict[str, Any]:
    done = inspect(data, "--json")
    return json.loads(done.out)[0] if done.code < 2 else {}


def decoded(name: str, store: str = "store") -> np.ndarray:
    """An array of the one data set that a store holds decoded."""
    (found,) = (WORK / store / "cache/data").glob(f"*/{name}.npy")
    return np.load(found)


def info(store: str = "store") -> dict[str, Any]:
    (found,) = (WORK / store / "cache/data").glob("*/info.json")
    return json.loads(found.read_text())


def noise(folder: Path, number: int, *, ending: str = "png", side: int = 32, prefix: str = "") -> None:
    """Pictures of noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    for index in range(number):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        kind = {"jfif": "JPEG", "tif": "TIFF"}.get(ending)
        Image.fromarray(pixels).save(folder / f"{prefix}{index:03d}.{ending}", kind)


def require(what: str, is_so: object) -> None:
    if not is_so:
        _WRONG.append(what)


def refused(done: Done, *parts: str) -> None:
    """Wrong input, in one line that has all these parts."""
    line = done.text.strip().splitlines()[-1]
    require(f"exit code 2, not {done.code}", done.code == 2)
    for part in parts:
        require(f"{part!r} in {line!r}", part in line)


def end() -> None:
    print("\n".join(f"WRONG: {what}" for what in _WRONG) or "as it should be")
    sys.exit(int(bool(_WRONG)))
