"""Taps: layers of a generator, by name, whose outputs base distillations compare.

Each family lists its own, see `Family.taps`. `tapped` takes their outputs out of one forward pass. A network
computes the same bits with taps and without.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from raydistill.config.architectures import Generator
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, input_shape

Shape = tuple[int, int, int]
"""(channels, height, width) of a tap's output for one image."""


def module_paths(config: Generator, names: Sequence[str] | None, where: str) -> dict[str, str]:
    """Tap name -> path of its module in the generator, in the order of `names`.

    Args:
        config: the generator's config.
        names: the taps that are wanted; None: the defaults of the family.
        where: dotted path of the taps in the config, for messages.

    Raises:
        ConfigError: the family has no taps, or no defaults where `names` is None; a name is not one of its
            taps, or is given twice; or there is none.
    """
    family = GENERATORS[config.family]
    if family.taps is None:
        raise ConfigError(
            f"{where}: the family {config.family!r} lists no layers whose outputs can be compared; give its "
            "Family a function `taps` (docs/how-to/plug-ins.md), or use a base without activations"
        )
    known = family.taps(config)
    if names is None:
        if family.default_taps is None:
            raise ConfigError(
                f"{where}: the family {config.family!r} has no default taps; name some of {', '.join(known)}"
            )
        names = family.default_taps(config)
    if not names:
        raise ConfigError(f"{where}: empty; name some of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where}: {name!r} is no layer of this {config.family}; use some of {', '.join(known)}"
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ConfigError(f"{where}: {twice!r} is given twice; give it once")
    return {name: known[name] for name in names}


@contextmanager
def tapped(network: nn.Module, paths: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Inside, one forward pass of the network fills in the outputs of its taps, with their graphs; afterwards
    they are in the order of `paths`.

        with tapped(student, paths) as taps:
            s = student(x)
        taps["down"]  # (B, C, H, W)

    Nothing is left in the network afterwards, nor after an error. Where the network runs in bfloat16, taps
    are of that type, whatever its pictures are. Where it is sharded, a loss of taps must reach its pictures,
    too: their gradient is what makes FSDP2 gather the weights.

    Args:
        network: the generator, on any device; it may be sharded by FSDP2.
        paths: tap name -> path of its module, see `module_paths`.

    Raises:
        RuntimeError: a tap was not reached, or was reached twice: the network was not called once. Or it is
            compiled, which `training.bases` refuses before any cost.
    """
    if hasattr(network.forward, "_torchdynamo_orig_callable"):
        raise RuntimeError("a compiled network has no taps: it may call none of its layers as it did before")
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for name, path in paths.items():
            handles.append(network.get_submodule(path).register_forward_hook(_taker(found, name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in paths if name not in found]:
        raise RuntimeError(f"the network was not called, or has no output at {', '.join(missing)}")
    in_order = {name: found[name] for name in paths}
    found.clear()
    found.update(in_order)


def _taker(found: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], None]:
    """A forward hook that puts a module's output into `found`. It returns None, so the output stays."""

    def take(module: nn.Module, inputs: Any, output: Any) -> None:
        if name in found:
            raise RuntimeError(f"{name} was reached twice; call the network once inside `tapped`")
        if not isinstance(output, Tensor):
            raise RuntimeError(f"{name} puts out {type(output).__name__}; a tap puts out one tensor")
        found[name] = output

    return take


def shapes(
    config: Generator, names: Sequence[str] | None, in_channels: int, height: int, width: int
) -> dict[str, Shape]:
    """Tap name -> (channels, height, width) of its output, found by a forward pass on the meta device.

    Args:
        config: the generator's config.
        names: as in `module_paths`, whose errors are raised.
        in_channels: channels of an input; of no use where the family takes noise.
        height: height of an input in pixels, or of a picture where the family takes noise.
        width: its width in pixels.
    """
    paths = module_paths(config, names, "taps")
    with torch.device("meta"), torch.no_grad():
        network = GENERATORS[config.family].build(config, in_channels).eval()
        with tapped(network, paths) as found:
            network(torch.empty(1, *input_shape(config, in_channels, height, width)))
    return {name: _shape(output) for name, output in found.items()}


def _shape(output: Tensor) -> Shape:
    _, channels, height, width = output.shape
    return channels, height, width
