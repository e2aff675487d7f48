"""New networks from configs, with initial weights from a seed.

The weights depend on (seed, purpose) alone: PyTorch's global random state is neither used nor changed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from raydistill import models
from raydistill.config.architectures import EnergyNetwork, EvaluatorNetwork, Generator, PatchDiscriminator
from raydistill.config.features import FeatureNetworkConfig
from raydistill.config.training import DistillTraining, Training
from raydistill.data import DataInfo
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, dropout, patchgan
from raydistill.models.adaptors import AdaptorKind, Adaptors
from raydistill.models.cost import Table
from raydistill.models.energy import EnergyModel
from raydistill.models.evaluator import PictureEvaluator, PixelEvaluator
from raydistill.models.features import FeatureHead, TrainedTaps
from raydistill.models.taps import Shape
from raydistill.models.taps import module_paths as tap_paths
from raydistill.models.taps import shapes as tap_shapes
from raydistill.seeds import stream_key

Module = TypeVar("Module", bound=nn.Module)


def generator(config: Generator, info: DataInfo, seed: int, purpose: str = "generator") -> nn.Module:
    """A generator for these data.

    Args:
        config: its family and widths.
        info: the data, which give the number of input channels.
        seed: seed of the initial weights. They are drawn as in the family's source: for those of pix2pix,
            weights from N(0, 0.02) and biases 0.
        purpose: part of the name of the random stream, so that two generators of one training differ.
    """
    family = GENERATORS[config.family]
    init = _initialiser(config) if family.normal_init else lambda module: module
    made = _seeded(seed, f"init/{purpose}", lambda: init(family.build(config, info.input_channels)))
    dropout.begin(made, seed, purpose)
    return made


def layers(config: Generator, info: DataInfo) -> Table:
    """The generator as a table of layers, at the size of these data."""
    family = GENERATORS[config.family]
    return family.layers(config, info.input_channels, *size_for(config, info))


def size_for(config: Generator, info: DataInfo) -> tuple[int, int]:
    """(height, width) that a generator's table is for: an input's, or a picture's where it takes noise."""
    return info.input_size if GENERATORS[config.family].takes == "picture" else (info.height, info.width)


def discriminator(config: PatchDiscriminator, info: DataInfo, seed: int) -> nn.Module:
    """A discriminator that sees input and picture together, concatenated: (B, input_channels + 3, H, W)."""
    in_channels = info.input_channels + 3
    init = _initialiser(config)
    return _seeded(seed, "init/discriminator", lambda: init(patchgan.build(config, in_channels)))


def picture_discriminator(config: Any, seed: int, purpose: str = "discriminator") -> nn.Module:
    """A discriminator that sees pictures alone, (B, 3, H, W).

    Weights are drawn as in its source: for PatchGANs, from N(0, 0.02) and biases 0. `purpose` is part of the
    name of the random stream, so that two discriminators of one training differ.
    """
    init = _initialiser(config) if isinstance(config, PatchDiscriminator) else lambda module: module
    return _seeded(seed, f"init/{purpose}", lambda: init(models.discriminator(config, 3)))


def energy(config: EnergyNetwork, info: DataInfo, seed: int) -> EnergyModel:
    """An energy network for pictures of these data.

    Raises ConfigError where it is too deep for their size.
    """
    return _seeded(seed, "init/energy", lambda: EnergyModel(config, info.height, info.width))


def critic(config: PatchDiscriminator, seed: int) -> nn.Module:
    """A critic that sees two pictures together, concatenated: (B, 6, H, W)."""
    return _seeded(seed, "init/critic", lambda: _init_normal(patchgan.build(config, 6)))


def adaptors(
    kind: AdaptorKind,
    student_config: Generator,
    teacher_config: Generator,
    taps: Sequence[str] | None,
    info: DataInfo,
    seed: int,
    where: str,
) -> Adaptors:
    """Adaptors from a student's activations to those of its teacher, see `Adaptors`.

    Weights are drawn from N(0, 0.02), biases are 0, as in GAN Compression. Where several workers share a
    batch, `distributed.prepare` gives its norms the statistics of the whole of it.

    Args:
        kind: what an adaptor is.
        student_config: the student, which gives their inputs' widths.
        teacher_config: the teacher, which gives their outputs' widths.
        taps: names that both have; None: the default taps, which must then have the same names in both.
        info: the data, which give the size of pictures.
        seed: seed of the initial weights.
        where: dotted path of the taps in the config, for messages.

    Raises:
        ConfigError: what `tap_widths` refuses.
    """
    widths = tap_widths(student_config, teacher_config, taps, info, where)
    return _seeded(seed, "init/adaptors", lambda: _init_normal(Adaptors(kind, widths)))


def tap_widths(
    student_config: Generator,
    teacher_config: Generator,
    taps: Sequence[str] | None,
    info: DataInfo,
    where: str,
) -> dict[str, tuple[int, int]]:
    """Tap name -> (channels of the student, channels of the teacher). Arguments are those of `adaptors`.

    Nothing but shapes is computed, so that a plan can be checked before any cost.

    Raises:
        ConfigError: one of them lacks a tap, their default taps differ, or a tap has another height or width
            in the student than in the teacher.
    """
    names = {
        whose: tuple(tap_paths(config, taps, where))
        for whose, config in (("student", student_config), ("teacher", teacher_config))
    }
    if names["student"] != names["teacher"]:
        raise ConfigError(
            f"{where}: the default taps of the student are {', '.join(names['student'])}, "
            f"those of the teacher {', '.join(names['teacher'])}; name some that both have"
        )
    student, teacher = (
        tap_shapes(config, names["student"], info.input_channels, *size_for(config, info))
        for config in (student_config, teacher_config)
    )
    for name in names["student"]:
        if student[name][1:] != teacher[name][1:]:
            raise ConfigError(
                f"{where}: {name!r} has {_in_words(student[name])} in the student, and "
                f"{_in_words(teacher[name])} in the teacher; name taps of one height and width"
            )
    return {name: (student[name][0], teacher[name][0]) for name in names["student"]}


def _in_words(shape: Shape) -> str:
    channels, height, width = shape
    return f"{channels} channels of {height}x{width}"


EvaluatorTask = Literal["pixel_class", "input_picture", "picture_class", "rotation"]
"""What an evaluator predicts of a picture: the class of each pixel, the input picture that belongs to it, the
class of the whole picture, or by how many quarter turns it was rotated (Gidaris et al. 2018)."""


def has_pixel_classes(info: DataInfo) -> bool:
    """Whether there are label maps with classes to tell apart: one that all pixels have is no task."""
    return info.num_classes is not None and info.num_classes > 1


def evaluator_task(info: DataInfo) -> EvaluatorTask:
    """What an evaluator of these data predicts: the first of `EvaluatorTask` that they can supervise."""
    if has_pixel_classes(info):
        return "pixel_class"
    if info.layout == "aligned":
        return "input_picture"
    # as above, of pictures
    return "picture_class" if len(info.picture_classes) > 1 else "rotation"


def evaluator(config: EvaluatorNetwork, info: DataInfo, seed: int) -> PixelEvaluator | PictureEvaluator:
    """An evaluator for these data: of pixels or of whole pictures, as `evaluator_task` says."""
    of_pixels, number = _prediction(info)
    kind = PixelEvaluator if of_pixels else PictureEvaluator
    return _seeded(seed, "init/judge", lambda: kind(config, number))


def feature_network(config: FeatureNetworkConfig, seed: int) -> TrainedTaps:
    """The network that stands in for VGG16, with random weights."""
    return _seeded(seed, "init/features", lambda: TrainedTaps(config))


def feature_head(network: TrainedTaps, info: DataInfo, seed: int) -> FeatureHead:
    """What a stand-in is trained through: it predicts the same as an evaluator of these data does."""
    of_pixels, number = _prediction(info)
    return _seeded(seed, "init/feature head", lambda: FeatureHead(network.widths, number, of_pixels))


def _prediction(info: DataInfo) -> tuple[bool, int]:
    """Whether `evaluator_task` predicts something of each pixel, and how many numbers."""
    task, num_quarter_turns = evaluator_task(info), 4
    if task in ("pixel_class", "input_picture"):
        return True, info.num_classes or 3 if task == "pixel_class" else 3
    return False, num_quarter_turns if task == "rotation" else len(info.picture_classes)


def empty(training: Training, info: DataInfo) -> dict[str, nn.Module]:
    """The generator and the discriminators of a training, on the meta device: shapes without weights.

    Keys are paths in the training's config: "generator", "terms.mi.discriminator" and so on; for a network
    whose config has a norm, the path of that norm.
    """
    networks: dict[str, nn.Module] = {}
    owners: list[tuple[str, Any]] = [("", training)]
    if isinstance(training, DistillTraining):
        owners += [("base.", training.base)]
        owners += [(f"terms.{name}.", term) for name, term in training.terms.items()]
    for prefix, owner in owners:
        for name in ("generator", "discriminator"):
            if (config := getattr(owner, name, None)) is None:
                continue
            path = f"{prefix}{name}.norm" if hasattr(config, "norm") else f"{prefix}{name}"
            with torch.device("meta"):
                if name == "generator":
                    networks[path] = generator(config, info, 0)
                else:
                    networks[path] = models.discriminator(config, 3)
    return networks


def _seeded(seed: int, purpose: str, build: Callable[[], Module]) -> Module:
    """The network that `build` makes, with PyTorch's random state seeded for it and then put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(seed, purpose))
        return build()


def _initialiser(config: Any) -> Callable[[nn.Module], nn.Module]:
    """`_init_normal` with the batch norms of this config; a family without the field has them at 1."""
    return partial(_init_normal, norm_std=getattr(config, "norm_std", 0.0))


def _init_normal(module: Module, norm_std: float = 0.0) -> Module:
    """Draws the weights of all convolutions from N(0, 0.02) and sets their biases to 0.

    Args:
        norm_std: weights of batch norms are drawn from N(1, norm_std); 0 leaves them at 1.
    """
    for layer in module.modules():
        # on the meta device there is nothing to draw, and torch would import its compiler for it
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif norm_std and isinstance(layer, nn.BatchNorm2d) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, 1.0, norm_std)
    return module
