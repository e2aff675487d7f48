"""Sets of pictures to score or to compare with: a split, a generator's or an ONNX file's outputs on it, or a folder or zip of files.

Every set gives uint8 pictures (B, 3, H, W) in order, a batch at a time; nothing is held.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.config import Stored
from raydistill.data import Split, pictures, to_float, to_uint8
from raydistill.data.files import decode_pictures, is_grey, pictures_of
from raydistill.errors import DataError, RunError
from raydistill.evaluate import BATCH, batches
from raydistill.extractors import sha256_of
from raydistill.parallel import Workers

ALONE = Workers(0, 1)


class Pictures(NamedTuple):
    name: str
    num: int
    digest: str
    """Of what the pictures come from."""
    in_order_of_split: bool
    """Whether picture i belongs to the split's picture i."""
    is_grey: bool
    """Whether the files have one channel."""
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

    def read() -> Iterator[Tensor]:
        return (pictures(split.targets, slice(start, start + BATCH), device=device) for start in range(0, len(split), BATCH))

    return Pictures("real pictures", len(split), stored.digest, True, False, read)


def of_generator(name: str, digest: str, generate: Callable[[Tensor], Tensor], split: Split, device: torch.device) -> Pictures:
    """What a function of inputs (B, C, H, W) gives on a split. Raises RunError, when read, where that is no picture or not finite."""
    if split.info.pairing == "pictures":
        raise DataError(f"{name}: a generator needs inputs, and this data is {split.info.layout}: pictures only. Give data with inputs.")

    def generated() -> Iterator[Tensor]:
        for inputs in _inputs(split, device):
            with torch.no_grad():
                yield _checked(generate(inputs), (len(inputs), 3, split.info.height, split.info.width), name)

    is_paired = split.info.pairing == "pairs"
    return Pictures(name, len(split) if split.inputs is None else len(split.inputs), digest, is_paired, False, generated)


def _inputs(split: Split, device: torch.device) -> Iterator[Tensor]:
    if split.info.pairing == "pairs":
        return (part.inputs for part in batches(split, device, ALONE))
    array = split.inputs
    assert array is not None
    return (to_float(pictures(array, slice(start, start + BATCH), device=device)) for start in range(0, len(array), BATCH))


def _checked(output: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    if output.shape != shape:
        raise RunError(f"{name}: gives {tuple(output.shape)} where the data's pictures are {shape}; use the data of its training")
    if not torch.isfinite(output).all():
        raise RunError(f"{name}: a generated picture has NaN or infinity; rounded, it would pass for black")
    return to_uint8(output)


def of_onnx(path: Path, split: Split, device: torch.device) -> Pictures:
    """An ONNX file's outputs: its one input gets (B, C, H, W) float32, its first output is taken as pictures in [-1, 1].

    Raises:
        DataError: no ONNX runtime, no such file, or a file that cannot be run on this data.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DataError(f"{path}: to run it, onnxruntime is needed: pip install 'raydistill[onnx]'") from None
    digest = sha256_of(path)[:16]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class
        raise DataError(f"{path}: cannot be run as an ONNX file: {' '.join(str(error).split())[:200]}") from None
    inputs, needed = session.get_inputs(), (split.info.input_channels, split.info.height, split.info.width)
    fits = len(inputs) == 1 and len(inputs[0].shape) == 4
    if not fits or any(isinstance(given, int) and given != size for given, size in zip(inputs[0].shape[1:], needed)):
        shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
        raise DataError(f"{path}: its inputs are {shapes}. Needed for this data: one input (B, {', '.join(map(str, needed))}).")
    name, batch_size = inputs[0].name, inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else BATCH

    def generate(values: Tensor) -> Tensor:
        """The last part is filled up with its own pictures to the file's fixed batch size."""
        outputs = []
        for part in values.cpu().split(batch_size):
            filled = part[torch.arange(batch_size) % len(part)] if len(part) < batch_size else part
            outputs.append(torch.from_numpy(session.run(None, {name: filled.numpy()})[0])[: len(part)])
        return torch.cat(outputs).to(values.device)

    return of_generator(str(path), digest, generate, split, device)


def of_files(path: Path, *, in_order_of_split: bool, device: torch.device) -> Pictures:
    """All pictures of a folder or zip file, sorted by name.

    Raises:
        DataError: nothing there, or, when read, a file that is no picture, of another size, or grey among coloured ones.
    """
    files = pictures_of(path)
    content = hashlib.sha256()
    for file in files:
        content.update(file.name.encode() + hashlib.sha256(file.read()).digest())

    def decoded() -> Iterator[Tensor]:
        held: list[np.ndarray] = []
        size = None
        for where, image in decode_pictures(files):
            size = size or image.size
            if image.size != size:
                given, others = (f"{width}x{height}" for width, height in (image.size, size))
                raise DataError(f"{where}: {given}, but the pictures before it are {others}. Allowed: one size. Resize it.")
            held.append(np.asarray(image))
            if len(held) == BATCH:
                yield _stacked(held, device)
                held = []
        if held:
            yield _stacked(held, device)

    return Pictures(str(path), len(files), content.hexdigest()[:16], in_order_of_split, is_grey(files[0].image()), decoded)


def _stacked(images: list[np.ndarray], device: torch.device) -> Tensor:
    """(B, 3, H, W) from (H, W, 3) each."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(device)
