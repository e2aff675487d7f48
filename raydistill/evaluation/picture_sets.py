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
from raydistill.config.scoring import RealSplit
from raydistill.data import Split, load_split, pictures, to_uint8
from raydistill.data.decode import decode_pictures
from raydistill.data.detect import find
from raydistill.data.files import Picture, pictures_of
from raydistill.data.picture_files import is_grey
from raydistill.data.source import SplitName
from raydistill.errors import DataError, DivergenceError, RunError
from raydistill.evaluation import generated
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


def real_pictures(
    split: Split, stored: Stored, name: SplitName, which: RealSplit, device: torch.device
) -> Pictures:
    """The real pictures that those made for a split are compared with. `split`: of that name, of `stored`."""
    own = of_split(split, stored, device)
    if which == "own" or name == "train":
        return own
    train = of_split(load_split(stored, "train"), stored, device)
    return joined(own, train, f"{name} and train")


def joined(first: Pictures, second: Pictures, name: str) -> Pictures:
    """Two sets as one, whose first pictures are those of the first set. `name` tells it from other sets."""

    def read(indices: np.ndarray) -> Tensor:
        is_first = indices < first.num
        parts = [
            part.read(part.indices[own]) if len(own) else None
            for part, own in ((first, indices[is_first]), (second, indices[~is_first] - first.num))
        ]
        found = [part for part in parts if part is not None]
        order = np.argsort(np.concatenate([np.flatnonzero(is_first), np.flatnonzero(~is_first)]))
        return torch.cat(found)[torch.from_numpy(order).to(found[0].device)]

    digest = f"{first.digest} {second.digest} {name}"
    return Pictures(f"real pictures of {name}", digest, np.arange(first.num + second.num), read)


class Inputs(NamedTuple):
    """What a generator gets, an image at a time by its number."""

    read: Callable[[np.ndarray], Tensor]
    """Numbers (B,) -> inputs (B, *shape)."""
    num: int
    """How many there are: the numbers are 0 to num - 1."""
    shape: tuple[int, ...]
    """Of one input: (C, H, W), or (latent,) for noise."""
    picture_size: tuple[int, int] | None
    """(height, width) that the pictures must have; None: any."""
    in_order_of_split: bool = False
    """Whether input i belongs to picture i of the split."""


def inputs_of_split(name: str, split: Split, latent: int | None, device: torch.device) -> Inputs:
    """The inputs of a split, or noise for as many pictures as it has.

    Args:
        name: what messages call the generator.
        latent: how many numbers a noise input has; None: the generator takes the split's inputs.

    Raises:
        DataError: the generator needs inputs and the split has none.
    """
    info = split.info
    if latent is None and info.pairing == "pictures":
        raise DataError(
            f"{name}: a generator needs inputs, and this data is {info.layout}: pictures only. "
            "Give data with inputs."
        )

    def read(indices: np.ndarray) -> Tensor:
        return evaluation_batch(split, latent, indices, device).inputs

    shape = (info.input_channels, *info.input_size) if latent is None else (latent,)
    in_order = latent is None and info.pairing == "pairs"
    return Inputs(read, num_inputs(split, latent), shape, (info.height, info.width), in_order)


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
    return of_outputs(name, digest, generate, inputs_of_split(name, split, latent, device), broken)


def of_outputs(
    name: str, digest: str, generate: Callable[[Tensor], Tensor], inputs: Inputs, broken: str = ""
) -> Pictures:
    """The pictures that a generator gives for `inputs`; see `of_generator`."""
    broken = broken or f"{name}: a generated picture has NaN or infinity; rounded, it would pass for black"

    def read(indices: np.ndarray) -> Tensor:
        with torch.no_grad():
            output = generate(inputs.read(indices))
        size = inputs.picture_size or tuple(output.shape[2:])
        shape = (len(indices), 3, *size)
        if output.dim() != 4 or output.shape != shape:
            raise RunError(
                f"{name}: gives {tuple(output.shape)} where the data's pictures are {shape}; "
                "use the data of its training"
            )
        if not torch.isfinite(output).all():
            raise DivergenceError(broken)
        return to_uint8(output)

    return Pictures(name, digest, np.arange(inputs.num), read, inputs.in_order_of_split, broken=broken)


class OnnxFile(NamedTuple):
    """A generator as an ONNX file."""

    path: Path
    digest: str
    shapes: tuple[tuple[object, ...], ...]
    """Of each of its inputs, with the batch; a size that is not fixed is a name, or None."""
    generate: Callable[[Tensor], Tensor]
    """Inputs (B, ...) -> its first output, for a file of one input."""

    def require(self, shape: tuple[int, ...]) -> None:
        """Raises DataError where the file does not take one input of this shape, batch not counted."""
        fits = len(self.shapes) == 1 and len(self.shapes[0]) == 1 + len(shape)
        if fits:
            sizes = self.shapes[0][1:]
            fits = not any(isinstance(size, int) and size != wanted for size, wanted in zip(sizes, shape))
        if not fits:
            shapes = ", ".join(map(str, self.shapes))
            raise DataError(
                f"{self.path}: its inputs are {shapes}. "
                f"Needed for this data: one input (B, {', '.join(map(str, shape))})."
            )


def load_onnx(path: Path) -> OnnxFile:
    """The generator in an ONNX file.

    Raises:
        DataError: onnxruntime is not installed, there is no such file, or it is no ONNX file.
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
    inputs = session.get_inputs()
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

    return OnnxFile(path, digest, tuple(tuple(value.shape) for value in inputs), generate)


def of_onnx(path: Path, split: Split, device: torch.device) -> Pictures:
    """The pictures that an ONNX file gives for a split's inputs.

    Its one input gets (B, C, H, W) float32; its first output is taken as pictures (B, 3, H, W) in [-1, 1].

    Raises:
        DataError: see `load_onnx`; or it cannot be run on this data.
        RunError: when read, see `of_generator`.
    """
    file, inputs = load_onnx(path), inputs_of_split(str(path), split, None, device)
    file.require(inputs.shape)
    return of_outputs(str(path), file.digest, file.generate, inputs)


def of_files(path: Path, *, in_order_of_split: bool, device: torch.device) -> Pictures:
    """All pictures of a folder or zip file, sorted by name, or of an npz file or `generate`, in order.

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
    """The pictures of a folder, zip or npz file, not read yet: one at least, or DataError is raised.

    Those of a folder that `raydistill generate` wrote are in the order of their inputs.
    """
    if path.suffix.lower() == ".npz":
        return [sample.picture for samples in find(path).splits.values() for sample in samples]
    return generated.pictures_in(path) or pictures_of(path)
