"""Pictures as their makers mean them: the one place that opens picture files, and what is changed in them.

A picture is turned as its EXIF orientation says, and of an animation the first frame is taken. Its colours
become 8-bit sRGB: transparent pixels show `BACKGROUND`, a colour profile is applied. Each change is counted,
and said where the data are looked at.
"""

import functools
import io
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

from PIL import Image, ImageCms, UnidentifiedImageError

from raydistill.errors import DataError

PICTURES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".webp", ".jpe", ".jfif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".avif"),
)
"""Endings of picture files."""
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "AVIF")
"""Pillow's formats that are decoded, whatever a file is called: none of them runs a program, as EPS does.
AVIF needs a Pillow that has it."""
MOST_PIXELS = 2**27
"""Pixels of one picture: 8192 x 8192 twice, for A|B. Decoded, with its RGB copy and its array, it takes 12
bytes a pixel: 1.5 GiB."""
MOST_PIXELS_OF_A_SIDE = 2**16
"""Pixels of one side, because resizing a picture takes memory for the one side before and the other after."""
BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white."""
GREY = ("1", "L", "LA", "La")
"""Pillow's modes of pictures without colour."""
_ORIENTATION = 0x0112
"""The EXIF tag; 1: the picture is upright."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation -> what makes the picture upright."""

Change = Literal["turned", "first frame", "background", "profile", "no profile", "16 bits", "narrow halves"]
"""What is changed in a picture, or left as it is where that matters."""
_SAID: dict[Change, str] = {
    "turned": "turned or mirrored, as their EXIF orientation says",
    "first frame": "are animations or have several pages: the first one is taken",
    "background": f"have transparent pixels: these show white {BACKGROUND}, by their alpha",
    "profile": "have a colour profile other than sRGB: converted to sRGB",
    "no profile": "have a colour profile that does not fit them or is damaged: left as they are",
    "16 bits": "have 16 bits a channel: the upper 8 are taken",
    "narrow halves": "are not wider than high, and are halved, as data.layout=aligned says; "
    "data.layout=pictures takes them whole",
}


def said(changes: Mapping[Change, int]) -> tuple[str, ...]:
    """The changes with the numbers of their pictures, in words."""
    return tuple(f"{changes[change]:,} {text}" for change, text in _SAID.items() if changes.get(change))


class Opened(NamedTuple):
    """A picture out of its file, upright."""

    image: Image.Image
    changes: tuple[Change, ...] = ()
    """What was done to it."""
    num_levels: int = 256
    """Values that a pixel of a grey file may have: 4 for 2 bits. Pillow spreads them over 0 to 255."""


def opened(content: bytes, where: str) -> Opened:
    """The picture in the content of a file.

    Raises DataError, which calls it `where`, for what is none of `FORMATS`, damaged, or too large.
    """
    try:
        with _without_warnings():
            image: Image.Image = Image.open(io.BytesIO(content), formats=_known_formats())
            _require_size(image)
            raw, orientation = _raw_mode(image), _orientation(image)
            # a phone's MPO is one picture with a depth map or a second view behind it
            is_animated = image.format != "MPO" and getattr(image, "is_animated", False)
            image.load()
    except Exception as error:  # readers of damaged files raise anything
        why = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # its own text names a buffer
            why = f"it is none of {', '.join(FORMATS)}"
        raise DataError(f"{where}: cannot be read as a picture: {why}. Replace or remove it.") from error
    changes: list[Change] = ["first frame"] if is_animated else []
    if ";16" in raw and not image.mode.startswith("I"):
        changes.append("16 bits")
    num_levels = _num_levels(image, raw)
    if orientation != 1:
        changes.append("turned")
        image = _upright(image, orientation)
    return Opened(image, tuple(changes), num_levels)


def size_of(content: bytes) -> tuple[int, int] | None:
    """(width, height) of the upright picture in the content of a file, by its header; None: it is none."""
    try:
        with _without_warnings():
            image = Image.open(io.BytesIO(content), formats=_known_formats())
            # a PNG would be decoded for EXIF data that may stand behind its pixels
            is_turned = image.format not in ("PNG", "TIFF") and _orientation(image) >= 5  # TIFF: done
            return image.size[::-1] if is_turned else image.size
    except Exception:  # readers of damaged files raise anything
        return None


_WARNINGS = ExitStack()
"""What ends the silence of warnings."""
_SILENCE = threading.Lock()
_num_silent = 0
"""Threads that open a picture now."""


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow's warnings are not shown. They belong to the process, so the last thread puts them back."""
    global _num_silent
    with _SILENCE:
        if _num_silent == 0:
            _WARNINGS.enter_context(warnings.catch_warnings(action="ignore"))
        _num_silent += 1
    try:
        yield
    finally:
        with _SILENCE:
            _num_silent -= 1
            if _num_silent == 0:
                _WARNINGS.close()


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _require_size(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS or max(image.size) > MOST_PIXELS_OF_A_SIDE:
        raise ValueError(
            f"{image.width}x{image.height} pixels, at most {MOST_PIXELS:,} are decoded, "
            f"and {MOST_PIXELS_OF_A_SIDE:,} of a side"
        )


def _orientation(image: Image.Image) -> int:
    """How the picture lies, 1 to 8; 1 also where it does not say so, or in damaged EXIF data."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data make its reader raise anything; viewers show the picture as it is
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture, turned where Pillow has not done so itself, as it does for TIFF."""
    if image.format == "TIFF" and _orientation(image) == 1:
        return image
    return image.transpose(_TURNS[orientation])


def _raw_mode(image: Image.Image) -> str:
    """How pixels lie in the file, in Pillow's words, such as "L;2"; empty where Pillow does not say so."""
    for tile in getattr(image, "tile", []):
        arguments = tile[3] if isinstance(tile[3], (tuple, list)) else (tile[3],)
        if tile[0] in ("ppm", "ppm_plain") and isinstance(arguments[-1], int):
            return f"{image.mode};max {arguments[-1]}"
        if arguments and isinstance(arguments[0], str):
            return str(arguments[0])
    return ""


def _num_levels(image: Image.Image, raw: str) -> int:
    if image.mode == "1":
        return 2
    if match := re.fullmatch(r"L;([24])\w*", raw):
        return int(2 ** int(match[1]))
    if match := re.fullmatch(r"L;max (\d+)", raw):
        return min(256, int(match[1]) + 1)
    return 256


# ---- colours -----------------------------------------------------------------------------------------------


def is_grey(image: Image.Image) -> bool:
    """Whether the picture is stored without colour."""
    return image.mode in GREY


def rgb(picture: Opened, where: str, changes: Counter[Change] | None = None) -> Image.Image:
    """The picture in 8-bit sRGB, as viewers show it on a page of `BACKGROUND`. Grey: three equal channels.

    Args:
        picture: the picture.
        where: what messages call it.
        changes: its changes are added to these.

    Raises:
        DataError: it is grey with more than 8 bits, or in colours that Pillow cannot convert.
    """
    image, made = picture.image, list(picture.changes)
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{where}: the picture has mode {image.mode}, and it is not known which of its values are black "
            "and white. Allowed: 8 bits per channel. Convert it."
        )
    if image.has_transparency_data:
        rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            page = Image.new("RGBA", image.size, (*BACKGROUND, 255))
            rgba.info, image = dict(image.info), Image.alpha_composite(page, rgba)
            image.info = rgba.info
            made.append("background")
    converted = None
    if (profile := image.info.get("icc_profile")) and not is_grey(picture.image):
        converted, change = _in_srgb(image, profile)
        made += [change] if change else []
    try:
        converted = image.convert("RGB") if converted is None else converted
    except ValueError as error:
        raise DataError(
            f"{where}: the picture has mode {image.mode}: {error}. Allowed: grey, RGB, CMYK or a palette. "
            "Convert it."
        ) from None
    if changes is not None:
        changes.update(made)
    return converted


def _in_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image | None, Change | None]:
    """The picture in sRGB, and what was done; None: its own numbers are left."""
    try:
        opened_profile = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened_profile).lower():
            return None, None
        space = opened_profile.profile.xcolor_space.strip()
        source = image if image.mode == space == "CMYK" else image.convert("RGB")
        if source.mode != space:
            return None, "no profile"
        made = ImageCms.profileToProfile(source, opened_profile, _srgb(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, "no profile"
    return made, "profile"


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
