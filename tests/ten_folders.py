"""Ten folders as people have them: phone pictures, masks of Kaggle, VOC, COCO-stuff, CelebA and so on.

Each function makes one and returns what a sweep on it is given beside `--data`. Run as a script, it takes
each from `data inspect` to the end of a smoke sweep, and prints what each said:
`python tests/ten_folders.py WORK [NAME ...]`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from raydistill.config.architectures import ResnetGenerator
from raydistill.models import GENERATORS

RNG = np.random.default_rng(0)
SMALL = ("--trials", "1", "--nimg", "32", "--seconds-per-image", "0.01")
BUDGETS = {
    **{f"{stage}.budget_nimg": 64 for stage in ("evaluator", "teacher")},
    **{f"{stage}.report_every_nimg": 32 for stage in ("evaluator", "teacher", "student")},
}


def scene(width: int = 96, height: int = 64) -> tuple[Image.Image, Image.Image]:
    """A picture of sky, ground and two things, and its label map of ids 0 to 3."""
    y, x = np.mgrid[:height, :width]
    shade = np.stack([90 + 60 * x / width, 120 + 80 * y / height, 200 - 90 * y / height], 2)
    picture = Image.fromarray((shade + RNG.normal(0, 6, shade.shape)).clip(0, 255).astype(np.uint8))
    label = Image.new("L", (width, height), 0)
    horizon = int(height * RNG.uniform(0.4, 0.7))
    for image, ground, things in (
        (picture, (90, 110, 40), ((180, 40, 40), (40, 40, 170))),
        (label, 1, (2, 3)),
    ):
        ImageDraw.Draw(image).rectangle((0, horizon, width, height), fill=ground)
        state = np.random.default_rng(horizon)
        for fill in things:
            left, top = int(state.uniform(0, width * 0.7)), int(state.uniform(0, height * 0.6))
            size = int(state.uniform(height * 0.2, height * 0.4))
            ImageDraw.Draw(image).ellipse((left, top, left + size, top + size), fill=fill)
    return picture, label


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def phone(root: Path) -> list[str]:
    """Pictures stored in all directions, with label maps that are upright."""
    for index in range(24):
        picture, label = scene(64, 64)
        exif, orientation = Image.Exif(), (1, 3, 6, 8)[index % 4]
        exif[0x0112] = orientation
        turned = np.rot90(np.asarray(picture), {1: 0, 3: 2, 6: 1, 8: 3}[orientation])
        name = f"IMG_{index:04d}"
        Image.fromarray(turned).save(folder(root / "images") / f"{name}.JPG", "JPEG", exif=exif)
        label.save(folder(root / "labels") / f"{name}.png")
    return ["--space", "camvid"]


def kaggle_masks(root: Path) -> list[str]:
    """Carvana: masks/xxx_mask.gif of 0 and 255."""
    for index in range(24):
        picture, label = scene()
        picture.save(folder(root / "imgs") / f"car{index:02d}_01.jpg")
        mask = Image.fromarray(np.where(np.asarray(label) >= 2, 255, 0).astype(np.uint8))
        mask.save(folder(root / "masks") / f"car{index:02d}_01_mask.gif")
    (root / "metadata.csv").write_text("id\n")
    return ["--space", "camvid"]


def voc(root: Path) -> list[str]:
    """Palette label maps with a border of 255, lists with Windows line ends, boxes as XML."""
    colors = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 753 + [224, 224, 192]
    names = [f"2007_{index:06d}" for index in range(30)]
    for name in names:
        picture, label = scene()
        picture.save(folder(root / "JPEGImages") / f"{name}.jpg")
        (folder(root / "Annotations") / f"{name}.xml").write_text("<annotation/>")
        ids = np.array(label)
        ids[0], ids[-1] = 255, 255
        marked = Image.fromarray(ids)
        marked.putpalette(colors)
        for place in ("SegmentationClass", "SegmentationObject"):
            marked.save(folder(root / place) / f"{name}.png")
    lists = folder(root / "ImageSets" / "Segmentation")
    for split, listed in (("train", names[:16]), ("val", names[16:24]), ("trainval", names[:24])):
        (lists / f"{split}.txt").write_bytes("\r\n".join([*listed, ""]).encode())
    return ["--space", "camvid"]


def coco_stuff(root: Path) -> list[str]:
    """Ids of which few occur, named by classes.json; splits with years, inside of images."""
    ids = np.array([0, 91, 123, 181], np.uint8)
    for split, number in (("train2017", 20), ("val2017", 6)):
        for index in range(number):
            picture, label = scene()
            picture.save(folder(root / "images" / split) / f"{index:012d}.jpg")
            stuff = Image.fromarray(ids[np.asarray(label)])
            stuff.save(folder(root / "annotations" / split) / f"{index:012d}.png")
    classes = {"classes": ["person", "banner", "floor", "wood"], "ids": ids.tolist(), "ignore_index": 255}
    (root / "classes.json").write_text(json.dumps(classes))
    return ["--space", "camvid"]


def celeba(root: Path) -> list[str]:
    """One folder in a folder, with lists beside it."""
    for index in range(40):
        scene(89, 109)[0].save(folder(root / "img_align_celeba") / f"{index:06d}.jpg")
    (root / "list_attr_celeba.txt").write_text("40\n")
    return ["--space", "sagan"]


def horses(root: Path) -> list[str]:
    """Two domains of unequal sizes, with a subfolder in one."""
    for place, number in (("trainA", 12), ("trainA/more", 8), ("trainB", 16), ("testA", 4), ("testB", 5)):
        for index in range(number):
            picture = scene()[0] if "A" in place else scene()[0].convert("L").convert("RGB")
            picture.save(folder(root / place) / f"n0238_{index}.jpg")
    return ["--space", "cyclegan"]


def facades(root: Path) -> list[str]:
    """A|B in split folders, with what macOS leaves behind."""
    for split, number in (("train", 20), ("val", 4), ("test", 4)):
        for index in range(number):
            picture, label = scene(64, 64)
            both = Image.new("RGB", (128, 64))
            both.paste(picture, (0, 0))
            both.paste(label.point([value * 80 for value in range(256)]), (64, 0))
            both.save(folder(root / split) / f"{index + 1}.jpg")
        (root / split / ".DS_Store").write_bytes(b"\0")
    return ["--space", "aligned", "--set", "data.direction=BtoA"]


def icons(root: Path) -> list[str]:
    """Cut-out pictures with transparent pixels, in class folders, of which one is a link."""
    for name in ("cats", "dogs"):
        for index in range(20):
            picture, label = scene(64, 64)
            picture.putalpha(label.point([0 if value < 2 else 255 for value in range(256)]))
            picture.save(
                folder(root.parent / f"{root.name}-{name}" if name == "dogs" else root / name)
                / f"{index}.png"
            )
    (root / "dogs").symlink_to(root.parent / f"{root.name}-dogs")
    return ["--space", "sagan"]


def scans(root: Path) -> list[str]:
    """TIFF files of several sizes, a HEIC that is not read, a table."""
    for index in range(24):
        scene(*((96, 64), (120, 80), (64, 64))[index % 3])[0].save(folder(root) / f"scan {index}.TIF", "TIFF")
    (root / "IMG_1.HEIC").write_bytes(b"ftypheic")
    (root / "scans.xlsx").write_bytes(b"PK")
    return ["--space", "enhance"]


def lightning_teacher(root: Path) -> list[str]:
    """A|B, and a teacher in a checkpoint of Lightning, with its critic."""
    facades(root)
    widths = {"stem": 8, "down": 8, "trunk": 16, "hidden": 16, "up": 8, "head": 8}
    config = ResnetGenerator.model_validate({"widths": widths, "num_blocks": 6})
    torch.manual_seed(0)
    names = GENERATORS["resnet"].build(config, 3).state_dict()
    state = {f"model.netG.module.model.{name}": value for name, value in names.items()}
    state |= {"model.netD.model.0.weight": torch.zeros(8, 6, 4, 4), "model.netD.model.0.bias": torch.zeros(8)}
    file = root.with_name(f"{root.name}-epoch=9.pth")
    torch.save({"epoch": 9, "pytorch-lightning_version": "2.4", "state_dict": state}, file)
    return ["--space", "aligned", "--teacher", str(file)]


FOLDERS: dict[str, Callable[[Path], list[str]]] = {
    each.__name__: each
    for each in (
        *(phone, kaggle_masks, voc, coco_stuff, celeba, horses, facades, icons, scans, lightning_teacher),
    )
}


def said(command: list[str], work: Path) -> tuple[int, str]:
    """Exit code of a command of raydistill, and what it printed on both streams."""
    line = [sys.executable, "-m", "raydistill", *command]
    done = subprocess.run(line, cwd=work, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def through(name: str, work: Path) -> tuple[int, str]:
    """Makes a folder and takes it from `data inspect` to the end of a smoke sweep: the first exit code that
    is not 0, else 0; and all that was printed."""
    root = work / name
    options = FOLDERS[name](root)
    code, text = said(["data", "inspect", str(root), "--sheet", str(work / f"{name}.png")], work)
    if code:
        return code, text
    budgets = dict(BUDGETS)
    if "--teacher" in options:
        budgets = {path: value for path, value in budgets.items() if not path.startswith("teacher.")}
    settings = [word for path, value in budgets.items() for word in ("--set", f"{path}={value}")]
    sweep = ["sweep", *options, "--data", str(root), "--store", str(work / "store"), "--name", name]
    code, more = said([*sweep, *SMALL, *settings], work)
    return code, text + more


def main(arguments: list[str]) -> int:
    work, failed = folder(Path(arguments[0]).absolute()), 0
    for name in arguments[1:] or FOLDERS:
        code, text = through(name, work)
        failed += bool(code)
        print(f"==== {name}: exit code {code}\n{text}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
