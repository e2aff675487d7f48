"""Feature networks for distances between sets of pictures, loaded from files that the user names.

Every feature comes from uint8 pictures, by one resize filter. What the weights are is told by their SHA-256: a file that is not one of
`KNOWN` is used and said to be unknown. `fid` and `kid` are the names of the TF-2015 Inception with the published weights, and of
nothing else.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill.data.files import LFS_POINTER
from raydistill.errors import DataError
from raydistill.models.backbones import inception, squeezenet, vgg

Network = TypeVar("Network", bound=nn.Module)
Resize = Literal["none", "tf_bilinear", "bilinear"]
"""tf_bilinear: TensorFlow 1's, which samples at i * in / out. bilinear: at pixel centres. Neither smooths before it shrinks."""

KNOWN = {
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": "InceptionV3 of TensorFlow 2015-12-05",
    "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261": "SqueezeNet 1.0, ImageNet, deep-compressed",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0": "VGG16 of torchvision, ImageNet",
}
"""SHA-256 of published weights -> what they are."""
TF_INCEPTION = next(iter(KNOWN))


class Extractor(NamedTuple):
    name: str
    """As it stands in metric names: `fd_<name>`."""
    sha256: str
    """Of the file of weights."""
    resize: Resize
    num_features: int
    network: Callable[[Tensor], Tensor]
    """uint8 pictures (B, 3, H, W) -> features (B, D)"""

    @property
    def weights(self) -> str:
        """What the weights are, as far as their digest tells."""
        return KNOWN.get(self.sha256, f"weights of unknown digest {self.sha256[:16]}")

    def metric(self, kind: Literal["fd", "kd"]) -> str:
        """The name of its Frechet or kernel distance."""
        if self.name == "inception" and self.sha256 == TF_INCEPTION:
            return {"fd": "fid", "kd": "kid"}[kind]
        return f"{kind}_{self.name}"


def load_extractor(given: str, device: torch.device) -> Extractor:
    """The extractor of `KIND=FILE`, for example `inception=pt_inception-2015-12-05-6726825d.pth`.

    Raises:
        DataError: an unknown kind, no such file, or other weights than those of the network.
    """
    kind, equals, file = given.partition("=")
    if kind not in EXTRACTORS or not equals or not file:
        raise DataError(f"--extractor {given}: give it as KIND=FILE. Allowed kinds: {', '.join(EXTRACTORS)}.")
    path = Path(file)
    sha256 = sha256_of(path)
    resize, size, load = EXTRACTORS[kind]
    inner = load(path, device)

    def network(pictures: Tensor) -> Tensor:
        return inner(pictures if resize == "none" else resized(pictures, resize, size))

    name = f"script_{path.stem}" if kind == "torchscript" else kind
    return Extractor(name, sha256, resize, _num_features(path, network, device), network)


def sha256_of(path: Path) -> str:
    """Raises DataError where the file cannot be read, or stands for one that git-LFS has not brought."""
    try:
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise DataError(
                    f"{path}: this is a git-LFS pointer, not weights. Run `git lfs pull` where the file lies."
                )
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}. Give the path of a file of weights; nothing is downloaded."
        ) from None


def load_weights(path: Path, network: Network, what: str) -> Network:
    """`network` in eval mode with the weights of a .pth or .safetensors file, whose names must be exactly the network's.

    Raises:
        DataError: the file is damaged, runs code when read, or is of another network.
    """
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        state = {name.removeprefix("module."): value for name, value in state.items()}
        network.load_state_dict(state)
    except (
        Exception
    ) as error:  # torch.load has no common error: zip, pickle, key and runtime errors all mean the wrong file
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{path}: these are not the weights of {what}: {reason}. Give the file as it was published."
        ) from None
    return network.eval().requires_grad_(False)


def load_script(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A TorchScript file. Raises DataError where it is none."""
    try:
        network: Callable[[Tensor], Tensor] = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise DataError(
            f"{path}: not a TorchScript file: {' '.join(str(error).split())[:200]}. Write it with torch.jit.save."
        ) from None
    return network


def resized(pictures: Tensor, resize: Resize, size: int) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 (B, 3, size, size), 0..255."""
    pictures = pictures.float()
    if resize == "tf_bilinear":
        for dimension in (2, 3):
            pictures = _tf_bilinear(pictures, dimension, size)
        return pictures
    assert resize == "bilinear", resize
    return F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False)


def _tf_bilinear(pictures: Tensor, dimension: int, size: int) -> Tensor:
    """Output i is at i * in / out between two inputs; past the last it repeats the last."""
    places = torch.arange(size, device=pictures.device) * (pictures.shape[dimension] / size)
    low = places.long()
    high = (low + 1).clamp_max(pictures.shape[dimension] - 1)
    share = (places - low).view(-1, 1) if dimension == 2 else places - low
    below, above = pictures.index_select(dimension, low), pictures.index_select(dimension, high)
    return below + (above - below) * share


def _num_features(path: Path, network: Callable[[Tensor], Tensor], device: torch.device) -> int:
    with torch.no_grad():
        features: Any = network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
    if not isinstance(features, Tensor) or features.shape[:1] != (1,) or features.dim() != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise DataError(
            f"{path}: one picture gives {shape}. Needed: uint8 pictures (B, 3, H, W) -> features (B, D)."
        )
    return features.shape[1]


# ---- kinds ----------------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    resize: Resize
    size: int
    """To which pictures are resized; none: not used."""
    load: Callable[[Path, torch.device], Callable[[Tensor], Tensor]]
    """(file, device) -> network: float32 pictures (B, 3, size, size), 0..255 -> features; none: uint8 pictures as they are -> features."""


def _inception(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """pool3 of the TF-2015 InceptionV3; input scaled as its graph does, (x - 128) / 128."""
    network = load_weights(path, inception.Inception(), "the TF-2015 InceptionV3").to(device)
    return lambda pictures: network((pictures - 128) / 128)


def _vgg16(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    network = load_weights(path, vgg.VGG16(), "VGG16").to(device)
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1) * 255
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return lambda pictures: network((pictures - mean) / std)


def _squeezenet(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The average of fire9 at 128x128 over 20, which brings the features near 1."""
    network = squeezenet.read_compressed(path).to(device).eval().requires_grad_(False)
    mean = torch.tensor(squeezenet.MEAN_BGR, device=device).view(3, 1, 1)
    return lambda pictures: network(pictures.flip(1) - mean) / 20


EXTRACTORS: dict[str, _Kind] = {
    "inception": _Kind("tf_bilinear", inception.SIZE, _inception),
    "squeezenet": _Kind("bilinear", 128, _squeezenet),
    "vgg16": _Kind("bilinear", vgg.SIZE, _vgg16),
    "torchscript": _Kind("none", 0, load_script),
}
"""torchscript: any network that takes uint8 pictures and resizes them itself; named by its file."""
