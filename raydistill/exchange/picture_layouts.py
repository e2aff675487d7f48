"""Key layouts of generators that take pictures: the ResNets and the U-Nets.

Facts: junyanz's pytorch-CycleGAN-and-pix2pix, GAN Compression and OMGD. Every public function gives the
config that the shapes tell, and the tensors under the names that they have here. It raises DataError where
tensors are missing or of widths that the family cannot have, and ConfigError where a value is out of range.
"""

from raydistill.config.architectures import Generator
from raydistill.errors import DataError
from raydistill.exchange.checkpoint_keys import Keys, State, generator_config, only_value, require_rgb

# ---- ResNets -----------------------------------------------------------------------------------------------


def convert_resnet(keys: Keys) -> tuple[Generator, State]:
    """The ResNet generator of CycleGAN and pix2pix."""
    return _any_resnet(keys, is_mobile=False)


def convert_mobile_resnet(keys: Keys) -> tuple[Generator, State]:
    """GAN Compression's ResNet with separable convolutions."""
    return _any_resnet(keys, is_mobile=True)


def _any_resnet(keys: Keys, is_mobile: bool) -> tuple[Generator, State]:
    batch = keys.has("model.2.weight")
    blocks = keys.numbers(r"model\.(\d+)\.conv_block\..*")
    number = len(blocks)
    if blocks and keys.has(f"model.{blocks[0]}.conv_block.0.weight"):
        raise DataError(
            f"model.{blocks[0]}.conv_block.0.weight is a convolution at the place of a padding: blocks with "
            "zero padding. This family pads by reflection (padding_type reflect)"
        )
    if blocks != list(range(10, 10 + number)):
        raise DataError(f"residual blocks at {blocks}, expected 10 to {9 + number}")
    state: State = {}
    convs = (1, 4, 7, 10 + number, 13 + number)
    for index in convs:
        state |= keys.layer(f"model.{index}", f"{index}")
        state |= keys.norm(f"model.{index + 1}", f"{index + 1}", batch)
    state |= keys.layer(f"model.{17 + number}", f"{17 + number}")
    require_rgb(f"model.{17 + number}.weight", state[f"{17 + number}.weight"].shape[0])
    for index in blocks:
        state |= _resnet_block(keys, index, batch, is_mobile)
    stem, down, trunk = (state[f"{index}.weight"].shape[0] for index in convs[:3])
    up, head = (state[f"{index}.weight"].shape[1] for index in convs[3:])
    widths = {"stem": stem, "down": down, "trunk": trunk, "up": up, "head": head}
    values = {"widths": widths, "num_blocks": number, "norm": "batch" if batch else "instance"}
    first = "conv_block.1.conv.2" if is_mobile else "conv_block.1"
    hidden = [state[f"{index}.{first}.weight"].shape[0] for index in blocks]
    if not is_mobile:
        widths["hidden"] = only_value(hidden, "the widths inside the blocks")
        return generator_config("resnet", values), state
    third = number // 3
    thirds = hidden[:third], hidden[third : 2 * third], hidden[2 * third :]
    for index, part in enumerate(thirds, 1):
        what = f"the widths inside the blocks of the trunk's part {index}"
        widths[f"hidden{index}"] = only_value(part or [1], what)
    return generator_config("mobile_resnet", values), state


def _resnet_block(keys: Keys, index: int, batch: bool, is_mobile: bool) -> State:
    source, target = f"model.{index}.conv_block", f"{index}.conv_block"
    leaf = ".conv.0" if is_mobile else ""
    # the second convolution is one further where a dropout comes before it
    second = next((at for at in (5, 6) if keys.has(f"{source}.{at}{leaf}.weight")), 5)
    state: State = {}
    for theirs, ours in ((1, 1), (second, 5)):
        if is_mobile:
            state |= keys.layer(f"{source}.{theirs}.conv.0", f"{target}.{ours}.conv.0")
            state |= keys.norm(f"{source}.{theirs}.conv.1", "", False)
            state |= keys.layer(f"{source}.{theirs}.conv.2", f"{target}.{ours}.conv.2")
        else:
            state |= keys.layer(f"{source}.{theirs}", f"{target}.{ours}")
        state |= keys.norm(f"{source}.{theirs + 1}", f"{target}.{ours + 1}", batch)
    return state


# ---- U-Nets ------------------------------------------------------------------------------------------------


def convert_unet(keys: Keys) -> tuple[Generator, State]:
    """The U-Net of pix2pix, and OMGD's with residual bottlenecks."""
    number = len(keys.numbers(r"model\.model\.(\d+)\.conv_block\.1\.weight")) // 2
    prefixes = _unet_prefixes(keys, number)
    last, state = len(prefixes) - 1, State()
    batch = keys.has(f"{prefixes[1]}2.weight") if last else False
    for level, prefix in enumerate(prefixes):
        down, up = f"downs.{level}", f"ups.{last - level}"
        if level == 0:
            state |= keys.layer(f"{prefix}0", f"{down}.0")
            state |= keys.layer(f"{prefix}{3 + 2 * number}", f"{up}.{1 + number}")
            require_rgb(f"{prefix}{3 + 2 * number}.weight", state[f"{up}.{1 + number}.weight"].shape[1])
            first_down, first_up = (1, 1), (2 + number, 0)
        elif level == last:
            state |= keys.layer(f"{prefix}1", f"{down}.0")
            state |= keys.layer(f"{prefix}3", f"{up}.1")
            state |= keys.norm(f"{prefix}4", f"{up}.2", batch)
            continue
        else:
            state |= keys.layer(f"{prefix}1", f"{down}.0")
            state |= keys.norm(f"{prefix}2", f"{down}.1", batch)
            state |= keys.layer(f"{prefix}{5 + number}", f"{up}.1")
            state |= keys.norm(f"{prefix}{6 + number}", f"{up}.2", batch)
            first_down, first_up = (3, 2), (7 + number, 3)
        for index in range(number):
            for side, (theirs, ours) in ((down, first_down), (up, first_up)):
                state |= _bottleneck(keys, f"{prefix}{theirs + index}", f"{side}.{ours + index}", batch)
    down_widths = [state[f"downs.{level}.0.weight"].shape[0] for level in range(last + 1)]
    # the layer that doubles a level puts out the width of what comes up to the level above it
    up_widths = [state[f"ups.{last - level}.1.weight"].shape[1] for level in range(1, last + 1)]
    widths = {f"down{level}": width for level, width in enumerate(down_widths[:3], 1)}
    widths |= {f"up{level}": width for level, width in enumerate(up_widths[:3], 1)}
    if last >= 3:
        widths["deep"] = only_value([*down_widths[3:], *up_widths[3:]], "the widths from level 4 on")
    values = {
        "widths": widths,
        "num_levels": last + 1,
        "blocks_per_level": number,
        "norm": "batch" if batch else "instance",
    }
    return generator_config("unet", values), state


def _unet_prefixes(keys: Keys, num_blocks: int) -> list[str]:
    """How the names of each level begin.

    Level n lies inside of level n - 1: `model.model.1.model.3.model...`.
    """
    prefixes, inner = ["model.model."], f"{1 + num_blocks}.model."
    while keys.has(f"{prefixes[-1]}{inner}1.weight"):
        prefixes.append(prefixes[-1] + inner)
        inner = f"{3 + num_blocks}.model."
    return prefixes


def _bottleneck(keys: Keys, source: str, target: str, batch: bool) -> State:
    state: State = {}
    for theirs, ours in ((1, 1), (4, 4), (7, 7), (12, 11)):  # theirs has a dropout before the last
        state |= keys.layer(f"{source}.conv_block.{theirs}", f"{target}.conv_block.{ours}")
        state |= keys.norm(f"{source}.conv_block.{theirs + 1}", f"{target}.conv_block.{ours + 1}", batch)
    return state
