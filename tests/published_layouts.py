"""Tiny folders in the real layouts of the published data, one for each published experiment.

Each function draws one and returns what a sweep is given as `--data`. As a script, it draws them all:
`python tests/published_layouts.py FOLDER`.
"""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def scene(rng: np.random.Generator, width: int, height: int) -> tuple[Image.Image, Image.Image, Image.Image]:
    """A picture of two things on a ground, its edges (black on white), and its map of ids 7, 24 and 26."""
    y, x = np.mgrid[:height, :width]
    shade = np.stack([90 + 60 * x / width, 120 + 80 * y / height, 200 - 90 * y / height], 2)
    picture = Image.fromarray((shade + rng.normal(0, 6, shade.shape)).clip(0, 255).astype(np.uint8))
    edges, ids = Image.new("RGB", (width, height), "white"), Image.new("L", (width, height), 7)
    for fill, number in (((180, 40, 40), 24), ((40, 40, 170), 26)):
        left, top = rng.uniform(0, 0.6, 2) * (width, height)
        box = (left, top, left + rng.uniform(0.2, 0.4) * width, top + rng.uniform(0.2, 0.4) * height)
        ImageDraw.Draw(picture).ellipse(box, fill=fill)
        ImageDraw.Draw(edges).ellipse(box, outline="black")
        ImageDraw.Draw(ids).ellipse(box, fill=number)
    return picture, edges, ids


def _write(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def edges2shoes(root: Path, number: int = 12) -> Path:
    """train/ and val/ of A|B pictures, 512x256."""
    rng, data = np.random.default_rng(0), root / "edges2shoes"
    for split, count in (("train", number), ("val", 4)):
        for index in range(count):
            picture, edges, _ = scene(rng, 256, 256)
            both = Image.new("RGB", (512, 256))
            both.paste(edges, (0, 0))
            both.paste(picture, (256, 0))
            _write(both, data / split / f"{index + 1}_AB.jpg")
    return data


def cityscapes(root: Path, number: int = 12) -> Path:
    """leftImg8bit/ and gtFine/ with ids of labels, by split and city."""
    rng, data = np.random.default_rng(1), root / "cityscapes"
    for split, city, count in (("train", "ulm", number), ("val", "lindau", 4)):
        for frame in range(count):
            picture, _, ids = scene(rng, 512, 256)
            name = f"{city}_{frame:06d}_000019"
            _write(picture, data / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            _write(ids, data / "gtFine" / split / city / f"{name}_gtFine_labelIds.png")
    return data


def unpaired(root: Path, name: str, number: int = 12) -> Path:
    """trainA/, trainB/, testA/ and testB/ of pictures, 256x256."""
    rng, data = np.random.default_rng(2), root / name
    for folder, count in (("trainA", number), ("trainB", number + 2), ("testA", 4), ("testB", 5)):
        for index in range(count):
            picture, _, _ = scene(rng, 256, 256)
            picture = Image.eval(picture, lambda value: 255 - value) if folder.endswith("B") else picture
            _write(picture, data / folder / f"n02381460_{index}.jpg")
    return data


def celeba(root: Path, number: int = 80) -> Path:
    """A zip file of pictures, 178x218."""
    return _zipped(root / "img_align_celeba.zip", (178, 218), "img_align_celeba/{:06d}.jpg", number, {})


def ffhq(root: Path, number: int = 24) -> Path:
    """A zip file of NVlabs' `dataset_tool`, 256x256."""
    extra = {"dataset.json": json.dumps({"labels": None})}
    return _zipped(root / "ffhq256.zip", (256, 256), "00000/img{:08d}.png", number, extra)


def _zipped(path: Path, size: tuple[int, int], name: str, number: int, extra: dict[str, str]) -> Path:
    rng, one = np.random.default_rng(3), path.parent / f"one{Path(name).suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(number):
            _write(scene(rng, *size)[0], one)
            archive.write(one, name.format(index + 1))
        for inside, content in extra.items():
            archive.writestr(inside, content)
    one.unlink()
    return path


def pictures(root: Path, number: int = 24) -> Path:
    """A folder of pictures of 256x256."""
    rng, data = np.random.default_rng(4), root / "pictures"
    for index in range(number):
        _write(scene(rng, 256, 256)[0], data / f"{index}.png")
    return data


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "pix2pix_edges2shoes_unet": edges2shoes,
    "pix2pix_edges2shoes_resnet": edges2shoes,
    "pix2pix_cityscapes_unet": cityscapes,
    "pix2pix_cityscapes_resnet": cityscapes,
    "cyclegan_horse2zebra": lambda root: unpaired(root, "horse2zebra"),
    "cyclegan_summer2winter": lambda root: unpaired(root, "summer2winter_yosemite"),
    "sagan_celeba64": celeba,
    "stylegan2_ffhq256": ffhq,
    "enhance_x2": pictures,
}
"""Published experiment -> what draws its data."""


if __name__ == "__main__":
    for experiment, draw in LAYOUTS.items():
        print(experiment, draw(Path(sys.argv[1])))
