"""Key layouts of generators that take noise: SAGAN and StyleGAN2.

Facts: heykeetae's SAGAN (which GCC uses), rosinality's and CAGC's StyleGAN2, NVlabs' stylegan2-ada-pytorch.
Every public function gives the config that the shapes tell, and the tensors under the names that they have
here. It raises DataError where tensors are missing or of widths that the family cannot have, and ConfigError
where a value is out of range.
"""

import math
import re

import torch
from torch import Tensor

from raydistill.config.architectures import Generator, StyleganGenerator
from raydistill.errors import DataError
from raydistill.exchange.checkpoint_keys import Keys, State, generator_config, only_value, require_rgb
from raydistill.models import stylegan2
from raydistill.models.saved import with_weights
from raydistill.seeds import torch_stream

_NUM_STYLES = 4096
"""How many styles the mean style is taken of."""
_MOST_CONVS = 16
"""Convolutions after the first, two for each side from 8 to 1024 pixels."""

# ---- SAGAN -------------------------------------------------------------------------------------------------


def convert_sagan(keys: Keys) -> tuple[Generator, State]:
    """heykeetae's SAGAN.

    The weight that is applied is weight_bar / sigma with sigma = u' W v; it is kept as these three tensors.
    """
    state, widths = State(), []
    for index in range(4):
        source, target = f"l{index + 1}.0.module", f"layers.{index}.0"
        weight = keys.take(f"{source}.weight_bar")
        state[f"{target}.bias"] = keys.take(f"{source}.bias")
        state[f"{target}.parametrizations.weight.original"] = weight
        for part in "uv":
            state[f"{target}.parametrizations.weight.0._{part}"] = keys.take(f"{source}.weight_{part}")
        state |= keys.norm(f"l{index + 1}.1", f"layers.{index}.1", True)
        widths.append(weight.shape[1])
    for source, target in (("attn1", "attention16"), ("attn2", "attention32")):
        for part in ("query", "key", "value"):
            state |= keys.layer(f"{source}.{part}_conv", f"{target}.{part}")
        state[f"{target}.gamma"] = keys.take(f"{source}.gamma")
    state |= keys.layer("last.0", "head")
    require_rgb("last.0.weight", state["head.weight"].shape[1])
    values = {
        "widths": dict(zip(("at4", "at8", "at16", "at32"), widths)),
        "latent": keys.state["l1.0.module.weight_bar"].shape[0],
    }
    return generator_config("sagan", values), state


# ---- StyleGAN2 ---------------------------------------------------------------------------------------------


def convert_rosinality(keys: Keys) -> tuple[Generator, State]:
    """rosinality's StyleGAN2, and CAGC's.

    Noise that a file lacks is drawn from a fixed seed, and the mean style is taken of styles of a fixed seed.
    """
    state: State = {}
    for index, theirs in enumerate(keys.numbers(r"style\.(\d+)\.weight")):
        state |= keys.layer(f"style.{theirs}", f"mapping.{index}")
    state["constant"] = keys.take("input.input")
    number = len(keys.numbers(r"convs\.(\d+)\.conv\.weight"))
    if number > _MOST_CONVS:  # noise of twice the side is drawn for every second one
        raise DataError(f"{number} convolutions; a network for 1024 pixels has {_MOST_CONVS}")
    for index, source in enumerate(("conv1", *(f"convs.{theirs}" for theirs in range(number)))):
        target, noise = f"convs.{index}", f"noises.noise_{index}"
        state[f"{target}.weight"] = keys.take(f"{source}.conv.weight")[0]
        state[f"{target}.bias"] = keys.take(f"{source}.activate.bias").flatten()
        state |= keys.layer(f"{source}.conv.modulation", f"{target}.affine")
        state[f"{target}.noise_strength"] = keys.take(f"{source}.noise.weight").reshape(1)
        state[f"{target}.noise"] = keys.take(noise) if keys.has(noise) else _seeded_noise(index)
        _require_binomial(keys, f"{source}.conv.blur.kernel", 4)
    for index, source in enumerate(("to_rgb1", *(f"to_rgbs.{theirs}" for theirs in range(number // 2)))):
        target = f"rgbs.{index}"
        state[f"{target}.weight"] = keys.take(f"{source}.conv.weight")[0]
        require_rgb(f"{source}.conv.weight", state[f"{target}.weight"].shape[0])
        state[f"{target}.bias"] = keys.take(f"{source}.bias").flatten()
        state |= keys.layer(f"{source}.conv.modulation", f"{target}.affine")
        _require_binomial(keys, f"{source}.upsample.kernel", 4)
    config = _stylegan_config(state)
    state["mean_style"] = torch.zeros(config.style)
    module = with_weights(config, state, "StyleGAN2")
    assert isinstance(module, stylegan2.Generator)
    latents = torch.randn(_NUM_STYLES, config.style, generator=torch_stream(0, "mean_style"))
    state["mean_style"] = module.styles(latents).mean(0)
    return config, state


def convert_nvlabs(keys: Keys) -> tuple[Generator, State]:
    """NVlabs' StyleGAN2."""
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
        require_rgb(f"{source}.weight", keys.take(f"{source}.weight").shape[0])
        state |= keys.layer(source, target) | keys.layer(f"{source}.affine", f"{target}.affine")
    for name in sorted(keys.left):
        if name.endswith("resample_filter"):
            _require_binomial(keys, name, 1)
    mean_style = keys.take("mapping.w_avg")
    config = _stylegan_config(state)
    state["mean_style"] = mean_style
    return config, state


def _stylegan_config(state: State) -> StyleganGenerator:
    """The config that the renamed tensors tell."""
    out = [value.shape[0] for name, value in state.items() if re.fullmatch(r"convs\.\d+\.weight", name)]
    widths = {"at4": only_value([state["constant"].shape[1], out[0]], "the widths at 4")}
    for index in range(1, len(out), 2):
        side = 4 * 2 ** (index // 2 + 1)
        widths[f"at{side}"] = only_value(out[index : index + 2], f"the widths at {side}")
    number = len([name for name in state if re.fullmatch(r"mapping\.\d+\.weight", name)])
    style = state["mapping.0.weight"].shape[1]
    values = {"widths": widths, "style": style, "num_mapping_layers": number}
    config = generator_config("stylegan2", values)
    assert isinstance(config, StyleganGenerator)
    return config


def _seeded_noise(index: int) -> Tensor:
    side = 4 * 2 ** ((index + 1) // 2)
    return torch.randn(1, 1, side, side, generator=torch_stream(0, f"noise/{index}"))


def _require_binomial(keys: Keys, name: str, gain: float) -> None:
    """Drops the kernel of a blur, which is always the same here. Raises DataError where it is another one."""
    if keys.has(name):
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        binomial = torch.outer(line, line) / 64
        kernel = keys.take(name).float()
        if kernel.shape != (4, 4) or not torch.allclose(kernel / kernel.sum(), binomial, atol=1e-5):
            raise DataError(f"{name} is not the blur of 1, 3, 3, 1")
        if not math.isclose(kernel.sum().item(), gain, rel_tol=1e-3):
            raise DataError(f"{name} adds up to {kernel.sum().item():.3g}, expected {gain:g}")
        keys.dropped.append(name)
