"""Networks as configs: every generator family, discriminators, the energy, the evaluator. Widths are named by layer or stage.

`Widths.uniform(ngf)` gives a family's published proportions at base width `ngf`: what the uniform baselines are.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from raydistill.config.base import Frozen
from raydistill.config.variants import Variants

Width = Annotated[int, Field(ge=1, le=4096)]
Blocks = Annotated[int, Field(ge=1, le=256)]
Norm = Literal["instance", "batch"]


class Widths(Frozen):
    """Channels of a network by layer or stage."""

    @classmethod
    def uniform(cls, ngf: int) -> Self:
        """The published proportions at base width `ngf`."""
        return cls(**cls.uniform_values(ngf))

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        raise NotImplementedError

    def values_at(self, ngf: int) -> dict[str, Any]:
        """The values of such a network at base width `ngf`."""
        return self.uniform_values(ngf)


class Generator(Frozen):
    """What every generator's config has. A family is a subclass with a `family` of its own."""

    family: str
    widths: Any
    """Named channels: what is searched."""


# ---- pictures -> pictures ---------------------------------------------------------------------------------------------


class ResnetWidths(Widths):
    """`hidden` is the width between the two convolutions of a residual block."""

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
    """CycleGAN's generator; heights and widths divisible by 4."""

    family: Literal["resnet"] = "resnet"
    widths: ResnetWidths = ResnetWidths.uniform(64)
    num_blocks: Blocks = 9
    norm: Norm = "instance"


class MobileResnetWidths(Widths):
    """`hidden1` to `hidden3`: the width inside the blocks of each third of the trunk."""

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
        """GAN Compression's string of eight numbers, such as 16_16_32_16_32_32_16_16, which counts in units of 1, 2, 4, 4, 4, 4, 2, 1."""
        numbers = [int(number) for number in text.split("_")]
        return cls(
            **{
                name: unit * number
                for (name, unit), number in zip(cls.uniform_values(1).items(), numbers, strict=True)
            }
        )


class MobileResnetGenerator(Generator):
    """GAN Compression's generator: the ResNet with separable convolutions in its blocks."""

    family: Literal["mobile_resnet"] = "mobile_resnet"
    widths: MobileResnetWidths = MobileResnetWidths.uniform(64)
    num_blocks: Blocks = 9
    norm: Norm = "instance"


class UnetWidths(Widths):
    """Level n is a picture halved n times. `down*`: after the halvings; `up*`: after the doublings; `deep`: both, from level 4 on."""

    down1: Width
    down2: Width
    down3: Width
    deep: Width
    up3: Width
    up2: Width
    up1: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        ways = {f"{way}{level}": 2 ** (level - 1) * ngf for way in ("down", "up") for level in (1, 2, 3)}
        return {"deep": 8 * ngf, **ways}


class UnetGenerator(Generator):
    """pix2pix's U-Net; heights and widths divisible by 2 ** num_levels."""

    family: Literal["unet"] = "unet"
    widths: UnetWidths = UnetWidths.uniform(64)
    num_levels: Annotated[int, Field(ge=4, le=12)] = 8
    """Halvings: 7, 8 and 9 are the U-Nets for 128, 256 and 512 pixels."""
    blocks_per_level: Annotated[int, Field(ge=0, le=8)] = 0
    """Residual bottlenecks after each halving and at each doubling; 2: OMGD's deep teacher."""
    norm: Norm = "batch"


class EnhanceWidths(Widths):
    """`hidden`: between the two convolutions of a residual block; `up`: after each doubling (unused at scale 1)."""

    trunk: Width
    hidden: Width
    up: Width

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"trunk": ngf, "hidden": ngf, "up": ngf}


class EnhanceGenerator(Generator):
    """Image enhancement: residual blocks without norms at the input's resolution, then doublings; the input is added at the end.
    scale 1: denoising and the like; 2 or 4: super-resolution."""

    family: Literal["enhance"] = "enhance"
    widths: EnhanceWidths = EnhanceWidths.uniform(64)
    num_blocks: Blocks = 16
    scale: Literal[1, 2, 4] = 1


# ---- noise -> pictures ------------------------------------------------------------------------------------------------

AttentionWidth = Annotated[int, Field(ge=8, le=4096)]
"""Keys and queries of an attention have an eighth of the width."""


class SaganWidths(Widths):
    """By the side of the picture after the layer."""

    at4: Width
    at8: Width
    at16: AttentionWidth
    at32: AttentionWidth

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"at4": 8 * ngf, "at8": 4 * ngf, "at16": 2 * ngf, "at32": ngf}


class SaganGenerator(Generator):
    """Self-attention GAN, 64x64."""

    family: Literal["sagan"] = "sagan"
    widths: SaganWidths = SaganWidths.uniform(64)
    latent: Width = 128


class SaganDiscriminatorWidths(Widths):
    """By the side of the picture after the layer."""

    at32: Width
    at16: Width
    at8: AttentionWidth
    at4: AttentionWidth

    @staticmethod
    def uniform_values(ngf: int) -> dict[str, int]:
        return {"at32": ngf, "at16": 2 * ngf, "at8": 4 * ngf, "at4": 8 * ngf}


class SaganDiscriminator(Frozen):
    widths: SaganDiscriminatorWidths = SaganDiscriminatorWidths.uniform(64)


class StyleganWidths(Widths):
    """By the side of the picture. Those beyond the network's own size are None."""

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
        """Side -> channels, from 4 to the network's size."""
        return {
            4 * 2**index: value for index, value in enumerate(self.__dict__.values()) if value is not None
        }

    def values_at(self, ngf: int) -> dict[str, Any]:
        """Of the same size; 64: the published network with multiplier 2."""
        return {f"at{side}": max(1, 8 * ngf * 64 // max(64, side)) for side in self.sides}

    @classmethod
    def published(cls, size: int, multiplier: int = 2, share: float = 1.0) -> Self:
        """StyleGAN2's widths for pictures of `size`; `share`: of each, rounded up."""
        sides = [4 * 2**index for index in range(9) if 4 * 2**index <= size]
        full: dict[str, Any] = {
            f"at{side}": 512 if side < 64 else 16_384 // side * multiplier for side in sides
        }
        return cls(**{name: math.ceil(share * value) for name, value in full.items()})


class StyleganGenerator(Generator):
    """StyleGAN2 with skip connections."""

    family: Literal["stylegan2"] = "stylegan2"
    widths: StyleganWidths = StyleganWidths.published(64)
    style: Width = 512
    """Width of latents and styles."""
    num_mapping_layers: Annotated[int, Field(ge=1, le=16)] = 8
    truncation: Annotated[float, Field(ge=0, le=1)] = 1.0
    """In eval mode: how far styles may be from their mean; below 1, pictures are better and more alike."""


STYLEGAN_GROUP = 4
"""Pictures that the discriminator sees together."""


class StyleganDiscriminator(Frozen):
    widths: StyleganWidths = StyleganWidths.published(64)


PICTURE_VARIANTS = Variants("family", ResnetGenerator, MobileResnetGenerator, UnetGenerator, EnhanceGenerator)
NOISE_VARIANTS = Variants("family", SaganGenerator, StyleganGenerator)
PictureGenerator = Annotated[Generator, PICTURE_VARIANTS]
NoiseGenerator = Annotated[Generator, NOISE_VARIANTS]
AnyGenerator = Annotated[Generator, Variants("family", PICTURE_VARIANTS, NOISE_VARIANTS)]


# ---- the others -------------------------------------------------------------------------------------------------------


class PatchDiscriminator(Frozen):
    """A score a patch; `num_layers` 0: a score a pixel."""

    width: Width = 64
    num_layers: Annotated[int, Field(ge=0)] = 3
    norm: Norm = "instance"


class EnergyNetwork(Frozen):
    channels: Width = 8
    num_blocks: PositiveInt | None = None
    """None: floor(log2(min(height, width))) - 1."""


class EvaluatorNetwork(Frozen):
    width: Width = 16
    feature_width: Width = 64
