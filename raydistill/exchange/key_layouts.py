"""Key layouts of published code: how a state dict is recognised, which config its shapes tell, and what its tensors are called here.

Facts: junyanz's pytorch-CycleGAN-and-pix2pix, GAN Compression, OMGD, heykeetae's SAGAN (which GCC uses), rosinality's and CAGC's
StyleGAN2, NVlabs' stylegan2-ada-pytorch. Layouts differ by names and small conventions; where the same function needs other numbers, that
is said.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raydistill.config.architectures import Generator
from raydistill.config.paths import validated
from raydistill.errors import CheckpointError, ConfigError, DataError
from raydistill.models import GENERATORS, stylegan2
from raydistill.models.saved import with_weights
from raydistill.seeds import torch_stream

State = dict[str, Tensor]


class Converted(NamedTuple):
    layout: str
    config: Generator
    state: State
    """By our names."""
    dropped: tuple[str, ...]
    """Names in the file that mean nothing in a finished network."""


class Layout(NamedTuple):
    name: str
    signature: tuple[str, ...]
    """Names that every file of it has, with N for numbers."""
    convert: Callable[["_Keys"], tuple[Generator, State]]


class _Keys:
    """The tensors of a file, each taken once: what is left over at the end was not understood."""

    def __init__(self, state: State):
        self.state, self.left, self.dropped = state, set(state), list[str]()

    def take(self, name: str) -> Tensor:
        if name not in self.state:
            raise DataError(f"{name} is missing")
        self.left.discard(name)
        return self.state[name]

    def has(self, name: str) -> bool:
        return name in self.state

    def drop(self, pattern: str) -> None:
        """Leaves out what matches."""
        found = sorted(name for name in self.left if re.fullmatch(pattern, name))
        self.left -= set(found)
        self.dropped += found

    def numbers(self, pattern: str) -> list[int]:
        """The numbers at the one group of `pattern`, in order."""
        return sorted({int(match[1]) for name in self.state if (match := re.fullmatch(pattern, name))})

    def layer(self, source: str, target: str) -> State:
        """Weight and, where there is one, bias."""
        return {
            f"{target}.{part}": self.take(f"{source}.{part}")
            for part in ("weight", "bias")
            if part == "weight" or self.has(f"{source}.bias")
        }

    def norm(self, source: str, target: str, batch: bool) -> State:
        """A batch norm's five tensors (old files have no count); nothing for an instance norm, whose old statistics are left out."""
        if not batch:
            self.drop(re.escape(source) + r"\.(running_mean|running_var|num_batches_tracked)")
            return {}
        state = {
            f"{target}.{part}": self.take(f"{source}.{part}")
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        count = (
            self.take(f"{source}.num_batches_tracked")
            if self.has(f"{source}.num_batches_tracked")
            else torch.tensor(0)
        )
        return {**state, f"{target}.num_batches_tracked": count}


def recognise(state: State) -> Converted:
    """Config and renamed tensors of a generator of any known layout.

    Raises:
        DataError: no known layout, with the nearest; or a known one whose tensors are missing, left over or of widths that it cannot have.
    """
    patterns = {_pattern(name) for name in state}
    for layout in LAYOUTS:
        if set(layout.signature) <= patterns:
            keys = _Keys(state)
            try:
                config, converted = layout.convert(keys)
                with_weights(config, converted, "its shapes")
            except (CheckpointError, ConfigError, DataError) as error:
                raise DataError(f"looks like {layout.name}, but: {error}") from None
            if keys.left:
                raise DataError(
                    f"looks like {layout.name}, but {len(keys.left)} tensors are not understood: {_some(sorted(keys.left))}"
                )
            return Converted(layout.name, config, converted, tuple(keys.dropped))
    for name, signature in DISCRIMINATORS.items():
        if set(signature) <= patterns:
            raise DataError(f"this is a discriminator ({name}); give the file of its generator")
    near = max(LAYOUTS, key=lambda layout: len(set(layout.signature) & patterns) / len(set(layout.signature)))
    missing = sorted(set(near.signature) - patterns)
    raise DataError(
        f"no known layout: {len(state)} tensors, such as {_some(sorted(state))}. Known: {'; '.join(layout.name for layout in LAYOUTS)}. "
        f"Nearest: {near.name}, which also has {_some(missing)}."
    )


def _pattern(name: str) -> str:
    """With N for numbers, and the nested levels of a U-Net as one star."""
    return re.sub(r"^(model\.model\.)(N\.model\.)+", r"\1*.", re.sub(r"\d+", "N", name))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _one_of(values: Iterable[int], what: str) -> int:
    """The value that all have."""
    if len(found := set(values)) != 1:
        raise DataError(f"{what} differ ({sorted(found)}); this family has one width there")
    return found.pop()


def _config(family: str, values: dict[str, Any]) -> Generator:
    config: Generator = validated(GENERATORS[family].config, values, where="its widths")
    return config


# ---- ResNets -----------------------------------------------------------------------------------------------


def _resnet(keys: _Keys) -> tuple[Generator, State]:
    return _any_resnet(keys, is_mobile=False)


def _mobile_resnet(keys: _Keys) -> tuple[Generator, State]:
    return _any_resnet(keys, is_mobile=True)


def _any_resnet(keys: _Keys, is_mobile: bool) -> tuple[Generator, State]:
    batch = keys.has("model.2.weight")
    blocks = keys.numbers(r"model\.(\d+)\.conv_block\..*")
    number = len(blocks)
    if blocks != list(range(10, 10 + number)):
        raise DataError(f"residual blocks at {blocks}, expected 10 to {9 + number}")
    state: State = {}
    convs = (1, 4, 7, 10 + number, 13 + number)
    for index in convs:
        state |= keys.layer(f"model.{index}", f"{index}") | keys.norm(
            f"model.{index + 1}", f"{index + 1}", batch
        )
    state |= keys.layer(f"model.{17 + number}", f"{17 + number}")
    hidden = []
    for index in blocks:
        source, target = f"model.{index}.conv_block", f"{index}.conv_block"
        leaf = ".conv.0" if is_mobile else ""
        second = next(
            (at for at in (5, 6) if keys.has(f"{source}.{at}{leaf}.weight")), 5
        )  # 6 with a dropout before it
        for at, ours in ((1, 1), (second, 5)):
            if is_mobile:
                state |= keys.layer(f"{source}.{at}.conv.0", f"{target}.{ours}.conv.0") | keys.norm(
                    f"{source}.{at}.conv.1", "", False
                )
                state |= keys.layer(f"{source}.{at}.conv.2", f"{target}.{ours}.conv.2")
            else:
                state |= keys.layer(f"{source}.{at}", f"{target}.{ours}")
            state |= keys.norm(f"{source}.{at + 1}", f"{target}.{ours + 1}", batch)
        hidden.append(state[f"{target}.1{'.conv.2' if is_mobile else ''}.weight"].shape[0])
    stem, down, trunk = (state[f"{index}.weight"].shape[0] for index in convs[:3])
    up, head = (state[f"{index}.weight"].shape[1] for index in convs[3:])
    widths = {"stem": stem, "down": down, "trunk": trunk, "up": up, "head": head}
    values = {"widths": widths, "num_blocks": number, "norm": "batch" if batch else "instance"}
    if not is_mobile:
        widths["hidden"] = _one_of(hidden, "the widths inside the blocks")
        return _config("resnet", values), state
    third = number // 3
    thirds = hidden[:third], hidden[third : 2 * third], hidden[2 * third :]
    for index, part in enumerate(thirds, 1):
        widths[f"hidden{index}"] = _one_of(
            part or [1], f"the widths inside the blocks of the trunk's part {index}"
        )
    return _config("mobile_resnet", values), state


# ---- U-Nets ------------------------------------------------------------------------------------------------


def _unet(keys: _Keys) -> tuple[Generator, State]:
    """Level n lies inside level n - 1: `model.model.1.model.3.model...`."""
    number = len(keys.numbers(r"model\.model\.(\d+)\.conv_block\.1\.weight")) // 2
    prefixes, inner = ["model.model."], f"{1 + number}.model."
    while keys.has(f"{prefixes[-1]}{inner}1.weight"):
        prefixes.append(prefixes[-1] + inner)
        inner = f"{3 + number}.model."
    last, state = len(prefixes) - 1, State()
    batch = keys.has(f"{prefixes[1]}2.weight") if last else False
    for level, prefix in enumerate(prefixes):
        down, up = f"downs.{level}", f"ups.{last - level}"
        if level == 0:
            state |= keys.layer(f"{prefix}0", f"{down}.0")
            for index in range(number):
                state |= _bottleneck(keys, f"{prefix}{1 + index}", f"{down}.{1 + index}", batch)
                state |= _bottleneck(keys, f"{prefix}{2 + number + index}", f"{up}.{index}", batch)
            state |= keys.layer(f"{prefix}{3 + 2 * number}", f"{up}.{1 + number}")
        elif level == last:
            state |= keys.layer(f"{prefix}1", f"{down}.0") | keys.layer(f"{prefix}3", f"{up}.1")
            state |= keys.norm(f"{prefix}4", f"{up}.2", batch)
        else:
            state |= keys.layer(f"{prefix}1", f"{down}.0") | keys.norm(f"{prefix}2", f"{down}.1", batch)
            state |= keys.layer(f"{prefix}{5 + number}", f"{up}.1") | keys.norm(
                f"{prefix}{6 + number}", f"{up}.2", batch
            )
            for index in range(number):
                state |= _bottleneck(keys, f"{prefix}{3 + index}", f"{down}.{2 + index}", batch)
                state |= _bottleneck(keys, f"{prefix}{7 + number + index}", f"{up}.{3 + index}", batch)
    down_widths = [state[f"downs.{level}.0.weight"].shape[0] for level in range(last + 1)]
    up_widths = [
        state[f"ups.{last - level}.1.weight"].shape[1] for level in range(1, last + 1)
    ]  # what comes up to level - 1
    widths = {f"down{level}": width for level, width in enumerate(down_widths[:3], 1)}
    widths |= {f"up{level}": width for level, width in enumerate(up_widths[:3], 1)}
    if last >= 3:
        widths["deep"] = _one_of([*down_widths[3:], *up_widths[3:]], "the widths from level 4 on")
    values = {
        "widths": widths,
        "num_levels": last + 1,
        "blocks_per_level": number,
        "norm": "batch" if batch else "instance",
    }
    return _config("unet", values), state


def _bottleneck(keys: _Keys, source: str, target: str, batch: bool) -> State:
    state: State = {}
    for at, ours in ((1, 1), (4, 4), (7, 7), (12, 11)):  # theirs has a dropout before the last
        state |= keys.layer(f"{source}.conv_block.{at}", f"{target}.conv_block.{ours}")
        state |= keys.norm(f"{source}.conv_block.{at + 1}", f"{target}.conv_block.{ours + 1}", batch)
    return state


# ---- SAGAN -------------------------------------------------------------------------------------------------


def _sagan(keys: _Keys) -> tuple[Generator, State]:
    """The weight that is applied is weight_bar / sigma, sigma = u' W v: kept as these three."""
    state, widths = State(), []
    for index in range(4):
        source, target = f"l{index + 1}.0.module", f"layers.{index}.0"
        weight = keys.take(f"{source}.weight_bar")
        state |= {
            f"{target}.bias": keys.take(f"{source}.bias"),
            f"{target}.parametrizations.weight.original": weight,
        }
        state |= {
            f"{target}.parametrizations.weight.0._{part}": keys.take(f"{source}.weight_{part}")
            for part in "uv"
        }
        state |= keys.norm(f"l{index + 1}.1", f"layers.{index}.1", True)
        widths.append(weight.shape[1])
    for source, target in (("attn1", "attention16"), ("attn2", "attention32")):
        for part in ("query", "key", "value"):
            state |= keys.layer(f"{source}.{part}_conv", f"{target}.{part}")
        state[f"{target}.gamma"] = keys.take(f"{source}.gamma")
    state |= keys.layer("last.0", "head")
    values = {
        "widths": dict(zip(("at4", "at8", "at16", "at32"), widths)),
        "latent": keys.state["l1.0.module.weight_bar"].shape[0],
    }
    return _config("sagan", values), state


# ---- StyleGAN2 ---------------------------------------------------------------------------------------------


def _rosinality(keys: _Keys) -> tuple[Generator, State]:
    state: State = {}
    mapping = keys.numbers(r"style\.(\d+)\.weight")
    for index, at in enumerate(mapping):
        state |= keys.layer(f"style.{at}", f"mapping.{index}")
    state["constant"] = keys.take("input.input")
    number = len(keys.numbers(r"convs\.(\d+)\.conv\.weight"))
    for index, source in enumerate(("conv1", *(f"convs.{at}" for at in range(number)))):
        target = f"convs.{index}"
        state |= {
            f"{target}.weight": keys.take(f"{source}.conv.weight")[0],
            f"{target}.bias": keys.take(f"{source}.activate.bias").flatten(),
        }
        state |= keys.layer(f"{source}.conv.modulation", f"{target}.affine")
        state[f"{target}.noise_strength"] = keys.take(f"{source}.noise.weight").reshape(1)
        name = f"noises.noise_{index}"
        state[f"{target}.noise"] = keys.take(name) if keys.has(name) else _noise(index)
        _require_binomial(keys, f"{source}.conv.blur.kernel", 4)
    for index, source in enumerate(("to_rgb1", *(f"to_rgbs.{at}" for at in range(number // 2)))):
        target = f"rgbs.{index}"
        state[f"{target}.weight"] = keys.take(f"{source}.conv.weight")[0]
        state[f"{target}.bias"] = keys.take(f"{source}.bias").flatten()
        state |= keys.layer(f"{source}.conv.modulation", f"{target}.affine")
        _require_binomial(keys, f"{source}.upsample.kernel", 4)
    return _stylegan(state, None)


def _nvlabs(keys: _Keys) -> tuple[Generator, State]:
    state: State = {}
    for index in keys.numbers(r"mapping\.fc(\d+)\.weight"):
        state |= keys.layer(f"mapping.fc{index}", f"mapping.{index}")
    state["constant"] = keys.take("synthesis.b4.const")[None]
    sides = keys.numbers(r"synthesis\.b(\d+)\.conv1\.weight")
    layers = [(side, name) for side in sides for name in ("conv0", "conv1") if (side, name) != (4, "conv0")]
    for index, (side, name) in enumerate(layers):
        source, target = f"synthesis.b{side}.{name}", f"convs.{index}"
        state |= keys.layer(source, target) | keys.layer(f"{source}.affine", f"{target}.affine")
        state[f"{target}.noise_strength"] = keys.take(f"{source}.noise_strength").reshape(1)
        state[f"{target}.noise"] = keys.take(f"{source}.noise_const")[None, None]
    for index, side in enumerate(sides):
        source, target = f"synthesis.b{side}.torgb", f"rgbs.{index}"
        state |= keys.layer(source, target) | keys.layer(f"{source}.affine", f"{target}.affine")
    for name in sorted(keys.left):
        if name.endswith("resample_filter"):
            _require_binomial(keys, name, 1)
    return _stylegan(state, keys.take("mapping.w_avg"))


def _stylegan(state: State, mean_style: Tensor | None) -> tuple[Generator, State]:
    """The config that the renamed tensors tell; `mean_style`, where the file has none, is the mean of 4096 seeded styles."""
    out = [value.shape[0] for name, value in state.items() if re.fullmatch(r"convs\.\d+\.weight", name)]
    widths = {"at4": _one_of([state["constant"].shape[1], out[0]], "the widths at 4")}
    for index in range(1, len(out), 2):
        side = 4 * 2 ** (index // 2 + 1)
        widths[f"at{side}"] = _one_of(out[index : index + 2], f"the widths at {side}")
    number = len([name for name in state if re.fullmatch(r"mapping\.\d+\.weight", name)])
    style = state["mapping.0.weight"].shape[1]
    config = _config("stylegan2", {"widths": widths, "style": style, "num_mapping_layers": number})
    state["mean_style"] = torch.zeros(style) if mean_style is None else mean_style
    if mean_style is None:
        module = with_weights(config, state, "StyleGAN2")
        assert isinstance(module, stylegan2.Generator)
        state["mean_style"] = module.styles(
            torch.randn(4096, style, generator=torch_stream(0, "mean_style"))
        ).mean(0)
    return config, state


def _noise(index: int) -> Tensor:
    side = 4 * 2 ** ((index + 1) // 2)
    return torch.randn(1, 1, side, side, generator=torch_stream(0, f"noise/{index}"))


def _require_binomial(keys: _Keys, name: str, gain: float) -> None:
    """Takes a blur's kernel, which is always the same here. Raises DataError where it is another one."""
    if keys.has(name):
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = keys.take(name).float()
        if kernel.shape != (4, 4) or not torch.allclose(
            kernel / kernel.sum(), torch.outer(line, line) / 64, atol=1e-5
        ):
            raise DataError(f"{name} is not the blur of 1, 3, 3, 1")
        if not math.isclose(kernel.sum().item(), gain, rel_tol=1e-3):
            raise DataError(f"{name} adds up to {kernel.sum().item():.3g}, expected {gain:g}")
        keys.dropped.append(name)


LAYOUTS = (
    Layout(
        "mobile ResNet (GAN Compression, OMGD)",
        ("model.N.weight", "model.N.conv_block.N.conv.N.weight"),
        _mobile_resnet,
    ),
    Layout(
        "U-Net (pix2pix, GAN Compression, OMGD)", ("model.model.N.weight", "model.model.*.N.weight"), _unet
    ),
    Layout(
        "ResNet (CycleGAN, pix2pix, GAN Compression)",
        ("model.N.weight", "model.N.conv_block.N.weight"),
        _resnet,
    ),
    Layout(
        "SAGAN (heykeetae, GCC)",
        (
            "lN.N.module.weight_bar",
            "lN.N.running_mean",
            "attnN.query_conv.weight",
            "attnN.gamma",
            "last.N.weight",
        ),
        _sagan,
    ),
    Layout(
        "StyleGAN2 (rosinality, CAGC)",
        (
            "style.N.weight",
            "input.input",
            "convN.conv.weight",
            "convs.N.conv.modulation.weight",
            "to_rgbs.N.conv.weight",
        ),
        _rosinality,
    ),
    Layout(
        "StyleGAN2 (NVlabs)",
        (
            "mapping.fcN.weight",
            "mapping.w_avg",
            "synthesis.bN.const",
            "synthesis.bN.convN.noise_strength",
            "synthesis.bN.torgb.weight",
        ),
        _nvlabs,
    ),
)
DISCRIMINATORS = {
    "StyleGAN2, rosinality": ("convs.N.conv1.N.weight", "final_conv.N.weight", "final_linear.N.weight"),
    "StyleGAN2, NVlabs": ("bN.conv0.weight", "bN.fc.weight"),
    "SAGAN": ("lN.N.module.weight_bar", "last.N.weight"),
    "PatchGAN": ("model.N.weight", "model.N.bias"),
}
"""Name -> signature, as of layouts."""
