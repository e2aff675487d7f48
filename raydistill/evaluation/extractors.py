"""Feature networks for distances between sets of pictures, loaded from files that the user names.

Features are computed from uint8 pictures, resized by one filter. The SHA-256 of a file says which weights it
holds: a file that is not in `KNOWN` is used, and called unknown. The names `fid` and `kid` stand for the
TF-2015 Inception with the published weights, and for nothing else.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.config.variants import PLUGIN_DIGESTS
from raydistill.errors import DataError
from raydistill.models.backbones import inception, squeezenet, vgg
from raydistill.models.tensor_files import load_weights, sha256_of

Resize = Literal["none", "tf_bilinear", "bilinear"]
"""How pictures are resized. Neither filter smooths before it shrinks.

none: the network resizes them itself. tf_bilinear: as TensorFlow 1, which samples at i * in / out.
bilinear: samples at pixel centres.
"""

TF_INCEPTION = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_SQUEEZENET = "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261"
_VGG16 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
KNOWN = {
    TF_INCEPTION: "InceptionV3 of TensorFlow 2015-12-05",
    _SQUEEZENET: "SqueezeNet 1.0, ImageNet, deep-compressed",
    _VGG16: "VGG16 of torchvision, ImageNet",
}
"""SHA-256 of published weights -> what they are."""


class Extractor(NamedTuple):
    """A feature network with what decides whether two of its distances can be compared."""

    name: str
    """As it stands in the names of metrics: `fd_<name>`."""
    sha256: str
    """Digest of the file of weights, see `with_code`."""
    resize: Resize
    num_features: int
    """D."""
    network: Callable[[Tensor], Tensor]
    """uint8 pictures (B, 3, H, W) of any size -> features (B, D)"""

    @property
    def weights(self) -> str:
        """What the weights are, as far as their digest tells."""
        return KNOWN.get(self.sha256, f"weights of unknown digest {self.sha256[:16]}")

    def metric(self, kind: Literal["fd", "kd"]) -> str:
        """The name of its Frechet distance (fd) or kernel distance (kd)."""
        return distance_name(kind, self.name, self.sha256)


def load_extractor(option: str, device: torch.device) -> Extractor:
    """The extractor of `KIND=FILE`, for example `inception=pt_inception-2015-12-05-6726825d.pth`.

    Raises:
        DataError: the kind is unknown, there is no such file, or its weights are not those of the network.
    """
    kind, path = kind_and_file("--extractor", option, EXTRACTORS)
    return open_extractor(kind, path, scorer_name(kind, path), device)


def kind_and_file(option: str, given: str, kinds: Iterable[str]) -> tuple[str, Path]:
    """The two parts of `KIND=FILE`. Raises DataError where it is something else."""
    kind, equals, file = given.partition("=")
    if kind not in kinds or not equals or not file:
        allowed = f"Allowed kinds: {', '.join(kinds)}; one of a plug-in needs --plugin"
        raise DataError(f"{option} {given}: give it as KIND=FILE. {allowed}.")
    return kind, Path(file)


def scorer_name(kind: str, path: Path) -> str:
    """How the metrics of a network from a file are called: a TorchScript file is named after itself."""
    return f"script_{path.stem}" if kind == "torchscript" else kind


def open_extractor(kind: str, path: Path, name: str, device: torch.device) -> Extractor:
    """The extractor of a file, whose metrics have `name`. Raises DataError as `load_extractor` does."""
    entry = EXTRACTORS[kind]
    sha256, inner = with_code(sha256_of(path), entry), entry.load(path, device)

    def network(pictures: Tensor) -> Tensor:
        return inner(
            pictures if entry.resize == "none" else resize_pictures(pictures, entry.resize, entry.size)
        )

    return Extractor(name, sha256, entry.resize, _num_features(path, network, device), network)


def with_code(sha256: str, entry: object) -> str:
    """The digest that a network from a file is known by: that of the file, and for an entry of a plug-in one
    of the file and of the plug-in, whose code decides as much about the numbers."""
    plugin = PLUGIN_DIGESTS.get(entry)
    return sha256 if plugin is None else hashlib.sha256(f"{sha256} {plugin}".encode()).hexdigest()


def distance_name(kind: Literal["fd", "kd"], name: str, sha256: str) -> str:
    """The name of the Frechet (fd) or kernel distance (kd) of an extractor of this name and file."""
    if name == "inception" and sha256 == TF_INCEPTION:
        return {"fd": "fid", "kd": "kid"}[kind]
    return f"{kind}_{name}"


def load_script(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The network of a TorchScript file, in eval mode. The file is code, which is run.

    Raises:
        DataError: the file is not a TorchScript file.
    """
    try:
        network: Callable[[Tensor], Tensor] = torch.jit.load(path, map_location=device).eval()
    except RuntimeError as error:
        raise DataError(
            f"{path}: not a TorchScript file: {' '.join(str(error).split())[:200]}. "
            "Write it with torch.jit.save."
        ) from None
    return network


def resize_pictures(pictures: Tensor, resize: Resize, size: int) -> Tensor:
    """Pictures (B, 3, H, W) uint8 -> (B, 3, size, size) float32 in [0, 255]. `resize` is not none."""
    pictures = pictures.float()
    if resize == "tf_bilinear":
        for dimension in (2, 3):
            pictures = _tf_bilinear(pictures, dimension, size)
        return pictures
    assert resize == "bilinear", resize
    return F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False)


def _tf_bilinear(pictures: Tensor, dimension: int, size: int) -> Tensor:
    """Resizes along one dimension: output i lies at i * in / out between two inputs; past the last,
    the last is repeated.
    """
    positions = torch.arange(size, device=pictures.device) * (pictures.shape[dimension] / size)
    low = positions.long()
    high = (low + 1).clamp_max(pictures.shape[dimension] - 1)
    share = (positions - low).view(-1, 1) if dimension == 2 else positions - low
    below, above = pictures.index_select(dimension, low), pictures.index_select(dimension, high)
    return below + (above - below) * share


def _num_features(path: Path, network: Callable[[Tensor], Tensor], device: torch.device) -> int:
    """D of the features (B, D) that the network gives. Raises DataError where it gives anything else."""
    try:
        with torch.no_grad():
            features: Any = network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))
    except RuntimeError as error:  # of a TorchScript file
        reason = " ".join(str(error).split())[-200:]
        raise DataError(f"{path}: cannot score colour pictures of 64x64: {reason}") from None
    if not isinstance(features, Tensor) or features.shape[:1] != (1,) or features.dim() != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise DataError(
            f"{path}: one picture gives {shape}. Needed: uint8 pictures (B, 3, H, W) -> features (B, D)."
        )
    return features.shape[1]


# ---- kinds -------------------------------------------------------------------------------------------------


class ExtractorKind(NamedTuple):
    """A kind of extractor: how its files are loaded, and what the network is given."""

    resize: Resize
    size: int
    """Side of the resized pictures in pixels; not used where `resize` is none."""
    load: Callable[[Path, torch.device], Callable[[Tensor], Tensor]]
    """(file, device) -> network. Raises DataError where the file is none for it.

    It takes float32 pictures (B, 3, size, size) in [0, 255] and gives features (B, D). Where `resize` is
    none, it takes uint8 pictures as they are.
    """
    network: Callable[[], nn.Module] | None
    """-> the network without its weights, by which memory is predicted. None: only a file has it; then its
    weights are counted, and what lives inside of it is not known."""


def _inception(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The features of pool3 of the TF-2015 InceptionV3, whose graph scales pictures to (x - 128) / 128."""
    network = load_weights(path, inception.Inception(), "the TF-2015 InceptionV3").to(device)
    return lambda pictures: network((pictures - 128) / 128)


def _vgg16(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The features of VGG16, of pictures normalised by ImageNet's mean and deviation."""
    network = load_weights(path, vgg.VGG16(), "VGG16").to(device)
    statistics = (vgg.IMAGENET_MEAN, vgg.IMAGENET_STD)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in statistics)
    return lambda pictures: network((pictures - mean) / std)


def _squeezenet(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The average of fire9 of pictures of 128x128, divided by 20, which brings the features near 1."""
    network = squeezenet.read_compressed(path).to(device).eval().requires_grad_(False)
    mean = torch.tensor(squeezenet.MEAN_BGR, device=device).view(3, 1, 1)
    return lambda pictures: network(pictures.flip(1) - mean) / 20


EXTRACTORS: dict[str, ExtractorKind] = {
    "inception": ExtractorKind("tf_bilinear", inception.SIZE, _inception, inception.Inception),
    "squeezenet": ExtractorKind("bilinear", 128, _squeezenet, squeezenet.SqueezeNet),
    "vgg16": ExtractorKind("bilinear", vgg.SIZE, _vgg16, vgg.VGG16),
    "torchscript": ExtractorKind("none", 0, load_script, None),
}
"""Kind -> how it is loaded. torchscript: any network that takes uint8 pictures and resizes them itself; it
is named after its file, and its code is run. The others run nothing of their file.
"""
