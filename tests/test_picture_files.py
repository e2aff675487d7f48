"""Pictures as their makers mean them: turned, on white, in sRGB, of the first frame; what is done is said."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from raydistill.config.data import FolderData
from raydistill.data import load_split, prepare, read_info
from raydistill.data.picture_files import Change, opened, rgb, said, size_of
from raydistill.errors import DataError


def content(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def shown(data: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    """The pixels, and what was done."""
    changes: Counter[Change] = Counter()
    picture = np.asarray(rgb(opened(data, "a"), "a", changes))
    return picture, tuple(changes)


def upright() -> np.ndarray:
    """12 x 20: red on the left, blue at the bottom right."""
    pixels = np.full((12, 20, 3), 90, np.uint8)
    pixels[:, :8] = (220, 20, 20)
    pixels[8:, 14:] = (20, 20, 220)
    return pixels


STORED = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}
"""EXIF orientation -> how a camera stores an upright picture."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_orientation_of_every_format_is_turned_once(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "MPO": {"quality": 100},
        "WEBP": {"lossless": True},
    }
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright())))
    data = content(stored, kind, exif=exif, **options.get(kind, {}))
    picture, changes = shown(data)
    assert picture.shape == (12, 20, 3) and changes == ("turned",)
    assert np.abs(picture.astype(int) - upright()).mean() < 12
    if kind != "PNG":  # its EXIF data may stand behind the pixels
        assert size_of(data) == (20, 12)


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_an_upright_picture_and_a_value_that_means_nothing_change_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, changes = shown(content(Image.fromarray(upright()), exif=exif))
    assert changes == () and (picture == upright()).all()


def test_damaged_exif_data_are_passed_over() -> None:
    whole = content(
        Image.fromarray(upright()), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xee" * 30
    )
    assert shown(whole)[1] == ()


def with_hole(mode: str) -> bytes:
    """A red picture whose left half is transparent, over colours that nobody sees."""
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[:, :, 1:3] = 0
    pixels[:, :4] = (7, 130, 9, 0)
    image = Image.fromarray(pixels)
    if mode == "P":
        flat = Image.fromarray((np.arange(8)[None].repeat(8, 0) >= 4).astype(np.uint8))
        flat.putpalette([7, 130, 9, 255, 0, 0])
        return content(flat, transparency=0)
    if mode == "RGB":  # one colour stands for transparent
        return content(Image.fromarray(pixels[..., :3].copy()), transparency=(7, 130, 9))
    if mode == "GIF":
        return content(image, "GIF")
    if mode == "WEBP":
        return content(image, "WEBP", lossless=True, exact=True)
    return content(image.convert(mode), "TIFF" if mode == "RGBa" else "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "GIF", "WEBP"])
def test_what_is_transparent_is_white(mode: str) -> None:
    picture, changes = shown(with_hole(mode))
    assert "background" in changes and (picture[:, :4] == 255).all()
    assert (picture[:, 4:, 0] == 255).all() or mode == "LA"


def test_half_transparent_pixels_are_mixed_and_opaque_ones_are_as_they_were() -> None:
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., 3] = 128
    assert np.abs(shown(content(Image.fromarray(half)))[0].astype(int) - 127).max() <= 1
    opaque = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
    opaque[..., 3] = 255
    picture, changes = shown(content(Image.fromarray(opaque)))
    assert changes == () and (picture == opaque[..., :3]).all()


def test_a_profile_is_applied_that_of_srgb_changes_nothing_and_a_wrong_one_is_said() -> None:
    flat = Image.new("RGB", (8, 8), (200, 100, 50))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "BGR ".encode("utf-16-be"))
    picture, changes = shown(content(flat, icc_profile=swapped))
    assert changes == ("profile",) and np.abs(picture.astype(int) - (50, 100, 200)).max() <= 3
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture, changes = shown(content(flat, icc_profile=srgb))
    assert changes == () and (picture == (200, 100, 50)).all()
    for wrong in (lab, b"no profile", srgb[:200]):
        picture, changes = shown(content(flat, icc_profile=wrong))
        assert changes == ("no profile",) and (picture == (200, 100, 50)).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_or_of_pages_is_taken_and_said(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = content(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture, changes = shown(data)
    assert "first frame" in changes and np.abs(picture.astype(int) - (250, 0, 0)).max() <= 5


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_greys_are_refused_because_their_white_is_not_known(mode: str) -> None:
    data = content(Image.new(mode, (8, 8), 300), "TIFF")
    with pytest.raises(DataError, match=r"not known which of its values are black.*Convert it"):
        shown(data)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "AVIF", "WEBP"])
def test_a_cut_or_scribbled_file_is_refused_in_one_line(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    rng = np.random.default_rng(0)
    whole = content(Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)), kind)
    for place in range(4, len(whole), max(1, len(whole) // 40)):
        scribbled = whole[:place] + rng.bytes(8) + whole[place + 8 :]
        for data in (whole[:place], scribbled):
            try:
                opened(data, "a")
            except DataError as error:
                assert str(error).startswith("a: cannot be read as a picture") and "\n" not in str(error)


def test_what_was_done_is_kept_with_the_decoded_data_and_not_in_their_digest(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for name, options in (("turned", {"exif": exif}), ("plain", {})):
        for index in range(12):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (index, 50, 90)).save(path, **options)
    made = [
        prepare(FolderData(root=str(tmp_path / name), height=8, width=8), tmp_path / "cache")
        for name in ("turned", "plain")
    ]
    assert made[0].digest == made[1].digest  # of one colour, whichever way up
    turned, plain = map(read_info, made)
    assert plain.remarks == () and turned.remarks == said(Counter({"turned": 12}))
    assert len(load_split(made[0], "train")) == 8
