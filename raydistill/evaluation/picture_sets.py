"""Sets of pictures to score or to compare with.

A set is a split, the outputs of a generator or of an ONNX file on a split, or the content of a folder, zip or
npz file. Every set gives uint8 pictures (B, 3, H, W), a batch at a time, and holds none of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raydistill.config.base import Stored
from raydistill.data import Split, pictures, to_uint8
from raydistill.data.decode import decode_pictures, is_grey
from raydistill.data.detect import find
from raydistill.data.files import Picture, pictures_of
from raydistill.errors import DataError, DivergenceError, RunError
from raydistill.evaluation.extractors import sha256_of
from raydistill.models.inputs import BATCH, evaluation_batch, minibatches, num_inputs
from raydistill.reading import require_claim
from raydistill.seeds import numpy_stream


class Pictures(NamedTuple):
    """A set of pictures of one size."""

    name: str
    """What messages call it."""
    digest: str
    """Digest of what the pictures come from."""
    indices: np.ndarray
    """The indices of this set's pictures, rising."""
    read: Callable[[np.ndarray], Tensor]
    """Indices (B,) -> uint8 (B, 3, H, W). Raises DivergenceError(`broken`) where one is not finite."""
    in_order_of_split: bool = False
    """Whether picture i is a pair with picture i of the split."""
    is_grey: bool = False
    """Whether the files have one channel."""
    broken: str = ""
    """What is said where a picture is not finite; empty: this cannot be."""

    @property
    def num(self) -> int:
        """How many pictures there are in the set."""
        return len(self.indices)

    def batches(self) -> Iterator[Tensor]:
        """All pictures in order, uint8 (B, 3, H, W) each time; the last batch may be smaller."""
        return (self.read(self.indices[positions]) for positions in minibatches(slice(0, self.num)))

    def subset(self, num: int) -> "Pictures":
        """`num` of the pictures, drawn from a fixed seed: the same positions in every set of this size."""
        positions = np.sort(numpy_stream(0, "subset").permutation(self.num)[:num])
        return self._replace(indices=self.indices[positions], digest=f"{self.digest}[{num} of {self.num}]")


def of_split(split: Split, stored: Stored, device: torch.device) -> Pictures:
    """The real pictures of a split, which is stored as `stored`."""

    def read(indices: np.ndarray) -> Tensor:
        return pictures(split.targets, indices, device=device)

    return Pictures("real pictures", stored.digest, np.arange(len(split)), read, in_order_of_split=True)


def of_generator(
    name: str,
    digest: str,
    generate: Callable[[Tensor], Tensor],
    split: Split,
    device: torch.device,
    latent: int | None = None,
    broken: str = "",
) -> Pictures:
    """The pictures that a generator gives for a split's inputs, or, from noise, as many as the split has.

    Args:
        name, digest: Of the set.
        generate: Inputs (B, C, H, W), or noise (B, latent) -> pictures (B, 3, H, W) in [-1, 1].
        latent: How many numbers a noise input has; None: the generator takes the split's inputs.
        broken: What is said where an output is not finite; empty: that of a generator that is scored as it
            is.

    Raises:
        DataError: the generator needs inputs and the split has none.
        RunError: when read, an output is not a picture of the split's size, or not finite (DivergenceError).
    """
    if latent is None and split.info.pairing == "pictures":
        raise DataError(
            f"{name}: a generator needs inputs, and this data is {split.info.layout}: pictures only. "
            "Give data with inputs."
        )

    broken = broken or f"{name}: a generated picture has NaN or infinity; rounded, it would pass for black"

    def read(indices: np.ndarray) -> Tensor:
        with torch.no_grad():
            output = generate(evaluation_batch(split, latent, indices, device).inputs)
        shape = (len(indices), 3, split.info.height, split.info.width)
        if output.shape != shape:
            raise RunError(
                f"{name}: gives {tuple(output.shape)} where the data's pictures are {shape}; "
                "use the data of its training"
            )
        if not torch.isfinite(output).all():
            raise DivergenceError(broken)
        return to_uint8(output)

    in_order = latent is None and split.info.pairing == "pairs"
    indices = np.arange(num_inputs(split, latent))
    return Pictures(name, digest, indices, read, in_order_of_split=in_order, broken=broken)


def of_onnx(path: Path, split: Split, device: torch.device) -> Pictures:
    """The pictures that an ONNX file gives for a split's inputs.

    Its one input gets (B, C, H, W) float32; its first output is taken as pictures (B, 3, H, W) in [-1, 1].

    Raises:
        DataError: onnxruntime is not installed, there is no such file, or it cannot be run on this data.
        RunError: when read, see `of_generator`.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DataError(f"{path}: to run it, onnxruntime is needed: pip install 'raydistill[onnx]'") from None
    digest = sha256_of(path)[:16]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class
        raise DataError(
            f"{path}: cannot be run as an ONNX file: {' '.join(str(error).split())[:200]}"
        ) from None
    inputs, needed = session.get_inputs(), (split.info.input_channels, *split.info.input_size)
    fits = len(inputs) == 1 and len(inputs[0].shape) == 4
    if fits:  # a size that is not fixed is a name, or None
        sizes = inputs[0].shape[1:]
        fits = not any(isinstance(size, int) and size != wanted for size, wanted in zip(sizes, needed))
    if not fits:
        shapes = ", ".join(f"{value.name} {value.shape}" for value in inputs)
        raise DataError(
            f"{path}: its inputs are {shapes}. "
            f"Needed for this data: one input (B, {', '.join(map(str, needed))})."
        )
    name, fixed = inputs[0].name, inputs[0].shape[0]
    batch_size = fixed if isinstance(fixed, int) else BATCH

    def generate(values: Tensor) -> Tensor:
        """The file's outputs.

        The last part is filled up with its own pictures to the batch size of the file.
        """
        outputs = []
        for part in values.cpu().split(batch_size):
            filled = part[torch.arange(batch_size) % len(part)] if len(part) < batch_size else part
            outputs.append(torch.from_numpy(session.run(None, {name: filled.numpy()})[0])[: len(part)])
        return torch.cat(outputs).to(values.device)

    return of_generator(str(path), digest, generate, split, device)


def of_files(path: Path, *, in_order_of_split: bool, device: torch.device) -> Pictures:
    """All pictures of a folder or zip file, sorted by name, or of an npz file, in order.

    Args:
        in_order_of_split: Whether picture i is a pair with picture i of the split.

    Raises:
        DataError: there are no pictures; or, when read, a file is no picture, has another size than the first
            one, or is grey among coloured ones.
    """
    files = list_pictures(path)
    content = hashlib.sha256()
    for file in files:
        content.update(file.name.encode() + hashlib.sha256(file.read()).digest())
    first = files[0].image()
    try:
        require_claim(BATCH * 3 * first.width * first.height, f"a batch of {BATCH} pictures like it")
    except OSError as error:
        raise DataError(f"{files[0].where}: {error.strerror}. Give smaller pictures.") from None

    def read(indices: np.ndarray) -> Tensor:
        images = []
        for where, image in decode_pictures((files[index] for index in indices), grey=is_grey(first)):
            if image.size != first.size:
                size, needed = (f"{width}x{height}" for width, height in (image.size, first.size))
                raise DataError(
                    f"{where}: {size}, but the first picture is {needed}. Allowed: one size. Resize it."
                )
            images.append(np.asarray(image))
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().to(device)

    digest = content.hexdigest()[:16]
    return Pictures(str(path), digest, np.arange(len(files)), read, in_order_of_split, is_grey(first))


def list_pictures(path: Path) -> Sequence[Picture]:
    """The pictures of a folder, zip or npz file, not read yet: one at least, or DataError is raised."""
    if path.suffix.lower() == ".npz":
        return [sample.picture for samples in find(path).splits.values() for sample in samples]
    return pictures_of(path)
