"""Configs of networks: every generator family, the discriminators, the energy network and the evaluator.

A width is the number of channels of a layer or stage and has its name. `Widths.uniform(ngf)` gives the
proportions that a family was published with, at base width `ngf`; the uniform baselines of a sweep are such
networks. The file is long because it lists every family; its classes are short.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import Frozen
from raydistill.config.bounds import NumHalvings
from raydistill.config.variants import Variants

Width = Annotated[int, Field(ge=1, le=4096)]
"""Channels of a layer."""
Blocks = Annotated[int, Field(ge=1, le=256)]
"""Number of residual blocks."""
Norm = Literal["instance", "batch"]
"""Which normalisation layer follows the convolutions."""
NormStd = Annotated[float, Field(ge=0, le=1, exclude_if=lambda std: std == 0)]
"""Standard deviation of the initial weights of batch norms, around 1. pix2pix's published code has 0.02."""


class Widths(Frozen):
    """Channels of a network by layer or stage. Base class of every family's widths."""

    @classmethod
    def uniform(cls, ngf: int) -> Self:
        """Widths in the published proportions at base width `ngf`."""
        return cls(**cls.uniform_values(ngf))

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        """Name of each width -> its value in the published proportions at base width `ngf`."""
        raise NotImplementedError

    def values_at(self, ngf: int) -> dict[str, int]:
        """The same for a network of the same shape as this one, for families whose widths depend on it."""
        return self.uniform_values(ngf)


class Generator(Frozen):
    """What the configs of all generators have. A family is a subclass with its own value of `family`."""

    family: str
    widths: Widths
    """The family's subclass of `Widths`: what a search varies."""


# ---- pictures -> pictures ----------------------------------------------------------------------------------


class ResnetWidths(Widths):
    """Widths of `ResnetGenerator`; `hidden` is the width between the two convolutions of a residual block."""

    stem: Width
    down: Width
    trunk: Width
    hidden: Width
    up: Width
    head: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"stem": ngf, "down": 2 * ngf, "trunk": 4 * ngf, "hidden": 4 * ngf, "up": 2 * ngf, "head": ngf}


class ResnetGenerator(Generator):
    """CycleGAN's generator. Heights and widths of pictures must be divisible by 4."""

    family: Literal["resnet"] = "resnet"
    widths: ResnetWidths = ResnetWidths.uniform(64)
    num_blocks: Blocks = 9
    norm: Norm = "instance"
    norm_std: NormStd = 0.0


class MobileResnetWidths(Widths):
    """Widths of `MobileResnetGenerator`; `hidden1` to `hidden3` are in the blocks of the trunk's thirds."""

    stem: Width
    down: Width
    trunk: Width
    hidden1: Width
    hidden2: Width
    hidden3: Width
    up: Width
    head: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        hidden = dict.fromkeys(("hidden1", "hidden2", "hidden3"), 4 * ngf)
        return {"stem": ngf, "down": 2 * ngf, "trunk": 4 * ngf, **hidden, "up": 2 * ngf, "head": ngf}

    @classmethod
    def parse(cls, text: str) -> Self:
        """Widths from GAN Compression's notation, such as 16_16_32_16_32_32_16_16.

        Its eight numbers are base widths: the width of a layer is its number times 1, 2, 4, 4, 4, 4, 2 or 1.

        Raises:
            ValueError: the text does not have eight integers.
        """
        numbers = [int(number) for number in text.split("_")]
        units = cls.uniform_values(1)
        widths = {name: unit * number for (name, unit), number in zip(units.items(), numbers, strict=True)}
        return cls(**widths)


class MobileResnetGenerator(Generator):
    """GAN Compression's generator: the ResNet generator with separable convolutions in its blocks."""

    family: Literal["mobile_resnet"] = "mobile_resnet"
    widths: MobileResnetWidths = MobileResnetWidths.uniform(64)
    num_blocks: Blocks = 9
    norm: Norm = "instance"
    norm_std: NormStd = 0.0


class UnetWidths(Widths):
    """Widths of `UnetGenerator`. Level n has the picture halved n times.

    `down1` to `down3` follow the halvings and `up1` to `up3` the doublings of levels 1 to 3; `deep` is the
    width of both from level 4 on.
    """

    down1: Width
    down2: Width
    down3: Width
    deep: Width
    up3: Width
    up2: Width
    up1: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        shallow = {f"{way}{level}": 2 ** (level - 1) * ngf for way in ("down", "up") for level in (1, 2, 3)}
        return {"deep": 8 * ngf, **shallow}


class UnetGenerator(Generator):
    """pix2pix's U-Net. Heights and widths of pictures must be divisible by 2 ** num_levels."""

    family: Literal["unet"] = "unet"
    widths: UnetWidths = UnetWidths.uniform(64)
    num_levels: Annotated[int, Field(ge=4, le=12)] = 8
    """Number of halvings: 7, 8 and 9 give the U-Nets for 128, 256 and 512 pixels."""
    blocks_per_level: Annotated[int, Field(ge=0, le=8)] = 0
    """Residual bottlenecks after each halving and at each doubling. OMGD's deep teacher has 2."""
    norm: Norm = "batch"
    norm_std: NormStd = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1, exclude_if=lambda share: share == 0)] = 0.0
    """Share of values that are dropped while it is trained, after the doublings of level 4 to the last but
    one: three of a U-Net of 8 levels. pix2pix has 0.5 there, OMGD 0."""


class EnhanceWidths(Widths):
    """Widths of `EnhanceGenerator`.

    `hidden` is the width between the two convolutions of a residual block, `up` the width after each
    doubling; at scale 1 there is no doubling and `up` is not used.
    """

    trunk: Width
    hidden: Width
    up: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"trunk": ngf, "hidden": ngf, "up": ngf}


class EnhanceGenerator(Generator):
    """Image enhancement: residual blocks without norms at the input's resolution, then doublings.

    The input, enlarged, is added at the end. Scale 1 is for denoising and the like, 2 or 4 for
    super-resolution.
    """

    family: Literal["enhance"] = "enhance"
    widths: EnhanceWidths = EnhanceWidths.uniform(64)
    num_blocks: Blocks = 16
    scale: Literal[1, 2, 4] = 1


# ---- noise -> pictures -------------------------------------------------------------------------------------

AttentionWidth = Annotated[int, Field(ge=8, le=4096)]
"""Channels of a layer with attention, whose keys and queries have an eighth of them."""


class SaganWidths(Widths):
    """Widths of `SaganGenerator`, named by the side of the picture in pixels after the layer."""

    at4: Width
    at8: Width
    at16: AttentionWidth
    at32: AttentionWidth

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"at4": 8 * ngf, "at8": 4 * ngf, "at16": 2 * ngf, "at32": ngf}


class SaganGenerator(Generator):
    """Generator of the self-attention GAN for pictures of 64x64."""

    family: Literal["sagan"] = "sagan"
    widths: SaganWidths = SaganWidths.uniform(64)
    latent: Width = 128
    """Size of the noise vector."""


class SaganDiscriminatorWidths(Widths):
    """Widths of `SaganDiscriminator`, named by the side of the picture in pixels after the layer."""

    at32: Width
    at16: Width
    at8: AttentionWidth
    at4: AttentionWidth

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"at32": ngf, "at16": 2 * ngf, "at8": 4 * ngf, "at4": 8 * ngf}


class SaganDiscriminator(Frozen):
    """Discriminator of the self-attention GAN."""

    widths: SaganDiscriminatorWidths = SaganDiscriminatorWidths.uniform(64)


class StyleganWidths(Widths):
    """Widths of StyleGAN2's networks by the side of the picture in pixels; None beyond the network's size."""

    at4: Width
    at8: Width
    at16: Width | None = None
    at32: Width | None = None
    at64: Width | None = None
    at128: Width | None = None
    at256: Width | None = None
    at512: Width | None = None
    at1024: Width | None = None

    @model_validator(mode="after")
    def _leaves_no_gap(self) -> Self:
        values = list(self.__dict__.values())
        if None in values and any(value is not None for value in values[values.index(None) :]):
            raise ValueError(
                "a width is None below one that is given; give every width up to the network's size"
            )
        return self

    @property
    def sides(self) -> dict[int, int]:
        """Side of the picture -> channels, from 4 to the network's size."""
        widths = enumerate(self.__dict__.values())
        return {4 * 2**index: value for index, value in widths if value is not None}

    def values_at(self, ngf: int) -> dict[str, int]:
        """Widths for a network of the same size. `ngf` 64 gives the published network with multiplier 2."""
        return {f"at{side}": max(1, 8 * ngf * 64 // max(64, side)) for side in self.sides}

    @classmethod
    def published(cls, size: int, multiplier: int = 2, share: float = 1.0) -> Self:
        """The published widths for pictures of `size` x `size`.

        Args:
            multiplier: StyleGAN2's channel multiplier: how much wider the layers from side 64 on are.
            share: each width is this share of the published one, rounded up.
        """
        sides = [4 * 2**index for index in range(9) if 4 * 2**index <= size]
        full = {f"at{side}": 512 if side < 64 else 16_384 // side * multiplier for side in sides}
        return cls(**{name: math.ceil(share * value) for name, value in full.items()})


class StyleganGenerator(Generator):
    """StyleGAN2's generator with skip connections."""

    family: Literal["stylegan2"] = "stylegan2"
    widths: StyleganWidths = StyleganWidths.published(64)
    style: Width = 512
    """Size of the noise vector and of the style vectors."""
    num_mapping_layers: Annotated[int, Field(ge=1, le=16)] = 8
    truncation: Annotated[float, Field(ge=0, le=1)] = 1.0
    """In eval mode styles are moved towards their mean: only this share of their distance is left. Below 1
    pictures are better and more alike."""


STYLEGAN_GROUP = 4
"""Number of pictures over which the discriminator computes its minibatch standard deviation."""


class StyleganDiscriminator(Frozen):
    """StyleGAN2's residual discriminator."""

    widths: StyleganWidths = StyleganWidths.published(64)


PICTURE_VARIANTS = Variants("family", ResnetGenerator, MobileResnetGenerator, UnetGenerator, EnhanceGenerator)
"""The families that turn pictures into pictures; a plug-in adds to it."""
NOISE_VARIANTS = Variants("family", SaganGenerator, StyleganGenerator)
"""The families that turn noise into pictures; a plug-in adds to it."""
PictureGenerator = Annotated[Generator, PICTURE_VARIANTS]
"""Type of a section that holds a generator of pictures from pictures, of any family."""
NoiseGenerator = Annotated[Generator, NOISE_VARIANTS]
"""The same, of pictures from noise."""
AnyGenerator = Annotated[Generator, Variants("family", PICTURE_VARIANTS, NOISE_VARIANTS)]


# ---- the others --------------------------------------------------------------------------------------------


class PatchDiscriminator(Frozen):
    """PatchGAN's discriminator, which gives one score for each patch; with `num_layers` 0, for each pixel."""

    width: Width = 64
    num_layers: Annotated[int, Field(ge=0, le=16)] = 3
    norm: Norm = "instance"
    norm_std: NormStd = 0.0


class EnergyNetwork(Frozen):
    """The network that gives a pair of pictures an energy, of the energy-based term of mutual information."""

    channels: Width = 8
    """Width of the first convolution; the blocks after it have two and then four times as many channels."""
    num_blocks: NumHalvings | None = None
    """Number of residual blocks. None: floor(log2(min(height, width))) - 1."""


class EvaluatorNetwork(Frozen):
    """The network whose predictions and features score generated pictures."""

    width: Width = 16
    """Width at the input's resolution."""
    feature_width: Width = 64
    """Number of features that a picture has."""
