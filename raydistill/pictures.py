"""Sets of pictures to score or to compare with: a split, a generator's or an ONNX file's outputs on it, or a folder or zip of files.

Every set gives uint8 pictures (B, 3, H, W) in order, a batch at a time; nothing is held.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.config import Stored
from raydistill.data import Split, to_uint8
from raydistill.data.folders import LFS_POINTER, PICTURES
from raydistill.errors import DataError, RunError
from raydistill.evaluate import batches
from raydistill.parallel import Workers

_BATCH = 64
ALONE = Workers(0, 1)


class Pictures(NamedTuple):
    name: str
    num: int
    digest: str
    """Of what the pictures come from."""
    in_order_of_split: bool
    """Whether picture i belongs to the split's picture i."""
    batches: Callable[[], Iterable[Tensor]]
    """uint8 (B, 3, H, W), from the first to the last"""

    def first(self, num: int) -> "Pictures":
        """The first `num`; all where there are no more."""
        if num >= self.num:
            return self

        def shortened() -> Iterator[Tensor]:
            left = num
            for part in self.batches():
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return

        return self._replace(num=num, digest=f"{self.digest}[:{num}]", batches=shortened)


def of_split(split: Split, stored: Stored, device: torch.device) -> Pictures:
    """The real pictures of a split."""
    return Pictures(
        "real pictures", len(split), stored.digest, True, lambda: (to_uint8(part.target) for part in batches(split, device, ALONE))
    )


def of_generator(name: str, digest: str, generate: Callable[[Tensor], Tensor], split: Split, device: torch.device) -> Pictures:
    """What a function of inputs (B, C, H, W) gives on a split. Raises RunError, when read, where that is no picture or not finite."""

    def generated() -> Iterator[Tensor]:
        for part in batches(split, device, ALONE):
            with torch.no_grad():
                yield _checked(generate(part.inputs), part.target, name)

    return Pictures(name, len(split), digest, True, generated)


def _checked(pictures: Tensor, target: Tensor, name: str) -> Tensor:
    if pictures.shape != target.shape:
        raise RunError(
            f"{name}: gives {tuple(pictures.shape)} where the data's pictures are {tuple(target.shape)}; use the data of its training"
        )
    if not torch.isfinite(pictures).all():
        raise RunError(f"{name}: a generated picture has NaN or infinity; rounded, it would pass for black")
    return to_uint8(pictures)


def of_onnx(path: Path, split: Split, device: torch.device) -> Pictures:
    """An ONNX file's outputs: its one input gets (B, C, H, W) float32, its first output is taken as pictures in [-1, 1].

    Raises:
        DataError: no ONNX runtime, no such file, or a file that cannot be run on this data.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DataError(f"{path}: to run it, onnxruntime is needed: pip install 'raydistill[onnx]'") from None
    digest = _sha256(path)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class
        raise DataError(f"{path}: cannot be run as an ONNX file: {' '.join(str(error).split())[:200]}") from None
    inputs = session.get_inputs()
    needed = split.info.input_channels
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[1] not in (needed, None) and isinstance(inputs[0].shape[1], int):
        shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
        raise DataError(f"{path}: its inputs are {shapes}. Needed for this data: one input (B, {needed}, H, W).")

    def generate(values: Tensor) -> Tensor:
        fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else len(values)
        outputs: Any = [session.run(None, {inputs[0].name: part.cpu().numpy()})[0] for part in values.split(fixed)]
        return torch.from_numpy(np.concatenate(outputs)).to(values.device)

    return of_generator(str(path), digest, generate, split, device)


def of_files(path: Path, *, in_order_of_split: bool, device: torch.device) -> Pictures:
    """All pictures of a folder or zip file, sorted by name; they must have one size.

    Raises:
        DataError: nothing there, or, when read, a file that is no picture or of another size.
    """
    entries = _zip_entries(path) if path.suffix.lower() == ".zip" else _folder_entries(path)
    if not entries:
        raise DataError(f"{path}: no {', '.join(PICTURES)} here. Give a folder or zip file of pictures.")
    content = hashlib.sha256()
    for name, read in entries:
        content.update(name.encode() + hashlib.sha256(read()).digest())

    def decoded() -> Iterator[Tensor]:
        size = None
        for start in range(0, len(entries), _BATCH):
            arrays = []
            for name, read in entries[start : start + _BATCH]:
                array = _decoded(read(), f"{path}/{name}")
                size = size or array.shape
                if array.shape != size:
                    raise DataError(
                        f"{path}/{name}: {_size(array.shape)}, but the pictures before it are {_size(size)}. Allowed: one size."
                    )
                arrays.append(array)
            yield torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous().to(device)

    return Pictures(str(path), len(entries), content.hexdigest()[:16], in_order_of_split, decoded)


_Entries = list[tuple[str, Callable[[], bytes]]]


def _folder_entries(path: Path) -> _Entries:
    if not path.is_dir():
        raise DataError(f"{path}: there is no such folder.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES and not file.name.startswith("."))
    return [(file.relative_to(path).as_posix(), file.read_bytes) for file in files]


def _zip_entries(path: Path) -> _Entries:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as a zip file: {error}. Give it anew.") from None
    names = sorted(name for name in archive.namelist() if name.lower().endswith(PICTURES))
    return [(name, lambda name=name: archive.read(name)) for name in names]  # type: ignore[misc]


def _decoded(content: bytes, where: str) -> np.ndarray:
    """(H, W, 3) uint8."""
    if content.startswith(LFS_POINTER):
        raise DataError(f"{where}: this is a git-LFS pointer, not a picture. Run `git lfs pull` where the pictures lie.")
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: cannot be read as a picture: {error}. Replace or remove it.") from None
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{where}: the picture has mode {image.mode}. Allowed: 8 bits per channel. Convert it.")
    return np.asarray(image.convert("RGB"))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
