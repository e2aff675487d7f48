"""The counts of generators and discriminators that others published or that their own modules give, for tests
and `benchmarks/counts.py`.

Parameters exclude buffers; multiply-accumulates are those of one forward of one picture, by convention
(`raydistill.models.cost.CONVENTIONS`).
"""

from typing import Any, NamedTuple

from raydistill.config.architectures import (
    Generator,
    MobileResnetGenerator,
    MobileResnetWidths,
    PatchDiscriminator,
    ResnetGenerator,
    ResnetWidths,
    SaganDiscriminator,
    SaganGenerator,
    SaganWidths,
    StyleganDiscriminator,
    StyleganGenerator,
    StyleganWidths,
    UnetGenerator,
    UnetWidths,
)


class Published(NamedTuple):
    name: str
    config: Generator
    side: int
    params: int
    conv_out: int | None = None
    true: int | None = None
    conv_out_norm: int | None = None
    cagc: int | None = None

    @property
    def macs(self) -> dict[str, int]:
        """Convention -> count, of those that are known."""
        counts = {
            "conv_out": self.conv_out,
            "true": self.true,
            "conv_out+norm": self.conv_out_norm,
            "cagc": self.cagc,
        }
        return {convention: count for convention, count in counts.items() if count is not None}


def _resnet(blocks: int, norm: Any, *counts: int) -> Published:
    config = ResnetGenerator(widths=ResnetWidths.uniform(64), num_blocks=blocks, norm=norm)
    return Published(f"ResNet-{blocks} ngf 64, {norm}", config, 256, *counts)


def _mobile(widths: int | str, *counts: int) -> Published:
    chosen = (
        MobileResnetWidths.parse(widths) if isinstance(widths, str) else MobileResnetWidths.uniform(widths)
    )
    return Published(f"mobile ResNet-9 {widths}", MobileResnetGenerator(widths=chosen), 256, *counts)


def _unet(ngf: int, norm: Any, *counts: int) -> Published:
    return Published(
        f"U-Net-256 ngf {ngf}, {norm}", UnetGenerator(widths=UnetWidths.uniform(ngf), norm=norm), 256, *counts
    )


def _sagan(ngf: int, *counts: int) -> Published:
    return Published(f"SAGAN ngf {ngf}", SaganGenerator(widths=SaganWidths.uniform(ngf)), 64, *counts)


def _stylegan(size: int, multiplier: int, share: float, params: int, cagc: int) -> Published:
    config = StyleganGenerator(widths=StyleganWidths.published(size, multiplier, share))
    return Published(
        f"StyleGAN2 {size}, multiplier {multiplier}, {share:.0%} of widths", config, size, params, cagc=cagc
    )


GENERATORS = (
    _resnet(9, "instance", 11_378_179, 56_799_264_768, 49_551_507_456, 56_831_770_624),
    _resnet(9, "batch", 11_383_427, 56_799_264_768, 49_551_507_456),
    _resnet(6, "instance", 7_837_699, 42_303_750_144, 35_055_992_832),
    _mobile(96, 4_418_307, 40_155_217_920, 23_847_763_968),
    _mobile(64, 1_987_075, 18_314_428_416, 11_066_671_104, 18_365_808_640),
    _mobile(48, 1_130_883, 10_564_927_488, 6_488_064_000),
    _mobile(32, 514_307, 4_929_355_776, 3_117_416_448),
    _mobile(24, 295_875, 2_904_293_376, 1_885_077_504),
    _mobile(16, 137_347, 1_407_713_280, 954_728_448),
    _mobile(12, 80_547, 857_604_096, 602_800_128),
    _mobile(8, 38_723, 439_615_488, 326_369_280),
    _mobile("16_16_32_16_32_32_16_16", 356_867, 2_525_233_152, 1_845_755_904, 2_546_204_672),
    _mobile("32_32_48_32_48_48_16_16", 822_051, 4_961_599_488, 4_055_629_824, 4_993_843_200),
    _mobile("32_32_48_32_32_48_24_24", 780_819, 5_560_074_240, 4_031_250_432, 5_591_531_520),
    _unet(64, "batch", 54_413_955, 18_140_364_800, 6_048_186_368),
    _unet(64, "instance", 54_409_603, 18_140_364_800, 6_048_186_368),
    _unet(32, "batch", 13_608_259, 4_648_337_408, 1_549_795_328),
    _unet(16, "batch", 3_404_451, 1_218_707_456, 406_323_200, 1_219_449_856),
    _unet(12, "batch", 1_915_899, 706_756_608, 235_634_688),
    _unet(8, "batch", 852_307, 332_988_416, 111_017_984),
    _sagan(64, 3_832_885, 442_499_072, 200_278_016),
    _sagan(48, 2_353_769, 254_410_752, 129_368_064),
    _stylegan(256, 2, 1.0, 30_034_338, 45_124_673_536),
    _stylegan(256, 1, 1.0, 24_767_458, 14_903_009_280),
    _stylegan(512, 2, 1.0, 30_276_583, 59_670_650_880),
    _stylegan(1024, 2, 1.0, 30_370_060, 74_266_894_336),
    _stylegan(256, 2, 0.3, 5_573_364, 4_123_578_080),
    _stylegan(1024, 2, 0.3, 5_647_891, 6_990_183_648),
)
ATTENTION = {"SAGAN ngf 64": 84_934_656, "SAGAN ngf 48": 63_700_992, "SAGAN D ndf 64": 1_327_104}
"""Of `true`, the part that is attention's products."""


class PublishedCritic(NamedTuple):
    name: str
    config: PatchDiscriminator | SaganDiscriminator | StyleganDiscriminator
    channels: int
    side: int
    params: int
    macs: int | None = None
    """Convention `true`."""


def _patch(ndf: int, norm: Any, channels: int, params: int, macs: int) -> PublishedCritic:
    name = f"PatchGAN ndf {ndf}, {norm}, {channels} channels"
    return PublishedCritic(name, PatchDiscriminator(width=ndf, norm=norm), channels, 256, params, macs)


def _stylegan_critic(size: int, multiplier: int, params: int) -> PublishedCritic:
    config = StyleganDiscriminator(widths=StyleganWidths.published(size, multiplier))
    return PublishedCritic(f"StyleGAN2 D {size}, multiplier {multiplier}", config, 3, size, params)


DISCRIMINATORS = (
    _patch(64, "batch", 6, 2_768_705, 3_197_140_992),
    _patch(64, "batch", 3, 2_765_633, 3_146_809_344),
    _patch(64, "instance", 6, 2_767_809, 3_197_140_992),
    _patch(64, "instance", 3, 2_764_737, 3_146_809_344),
    _patch(128, "batch", 6, 11_042_433, 12_572_491_776),
    _patch(128, "batch", 3, 11_036_289, 12_471_828_480),
    _patch(128, "instance", 6, 11_040_641, 12_572_491_776),
    _patch(128, "instance", 3, 11_034_497, 12_471_828_480),
    PublishedCritic("SAGAN D ndf 64", SaganDiscriminator(), 3, 64, 3_175_299, 115_630_080),
    _stylegan_critic(256, 1, 24_001_089),
    _stylegan_critic(256, 2, 28_864_129),
    _stylegan_critic(512, 2, 28_982_849),
    _stylegan_critic(1024, 2, 29_012_513),
)
