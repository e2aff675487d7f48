"""Which of the networks in a checkpoint file is the generator, whatever wraps it.

Projects save a generator alone, in a dictionary beside others, or as a part of one module with everything in
it, as Lightning does: then its names begin with where it stands, such as `model.netG.module.`.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from raydistill.errors import DataError
from raydistill.exchange.checkpoint_files import State, several_networks
from raydistill.exchange.key_layouts import looks_like_a_generator

_DEEPEST = 6
"""Parts of a name that may say where a generator stands."""
_AVERAGED = re.compile(r"(^|[._])(ema|averaged|avg|swa|shadow)([._]|$)|_ema$|^ema_", re.IGNORECASE)
"""Where an average of a generator stands."""


def generator_in(path: Path, state: State) -> tuple[State, str]:
    """The generator among the tensors of a file, and where it stands in their names; empty: it is alone.

    The averaged one, where there are two of the same shapes.

    Raises:
        DataError: there are several.
    """
    state = _without_wrappers(state)
    if looks_like_a_generator(state):
        return state, ""
    found = _generators(state)
    if not found:
        return state, ""
    names = list(found)
    if len(found) == 2 and _shapes(found[names[0]]) == _shapes(found[names[1]]):
        averaged = [name for name in names if _AVERAGED.search(name)]
        names = averaged if len(averaged) == 1 else names
    if len(names) > 1:
        raise several_networks(path, names)
    return found[names[0]], names[0]


def _generators(state: State) -> dict[str, State]:
    """Where generators stand -> their tensors; none lies inside of another."""
    found: dict[str, State] = {}
    for depth in range(1, _DEEPEST + 1):
        below: dict[str, State] = {}
        for name, value in state.items():
            parts = name.split(".")
            place = ".".join(parts[:depth])
            if len(parts) > depth and not any(f"{place}.".startswith(f"{each}.") for each in found):
                below.setdefault(place, {})[".".join(parts[depth:])] = value
        found |= {place: part for place, part in below.items() if looks_like_a_generator(part)}
    return {_plain(place): part for place, part in found.items()}


def _plain(place: str) -> str:
    """A place without what wrappers and dictionaries add behind it: what a person calls the network."""
    place = re.sub(r"(\.(state_dict|params))+$", "", place)
    return ".".join(part for part in place.split(".") if part not in ("module", "_orig_mod"))


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _without_wrappers(state: State) -> State:
    """Names without what compiling and data parallelism add to them, at any depth.

    SAGAN's published code calls a part of its own layers module.
    """
    pattern = r"(^|(?<=\.))_orig_mod\."
    if not any(name.endswith(".weight_bar") for name in state):
        pattern = r"(^|(?<=\.))(_orig_mod|module)\."
    return {re.sub(pattern, "", name): value for name, value in state.items()}


# ---- values ------------------------------------------------------------------------------------------------

_REPARAMETRISED = re.compile(r".*(\.weight_(orig|g)|\.parametrizations\..*)")


def plain_weights(state: State) -> State:
    """The tensors as numbers that a layer multiplies by: masks of torch.nn.utils.prune are applied.

    Raises:
        DataError: a tensor is complex, boolean or whole numbers that are no count, has NaN or infinity, or
            belongs to a weight that is computed in another way.
    """
    masked = {name.removesuffix("_mask") for name in state if name.endswith("_mask")}
    pruned = {name for name in masked if f"{name}_orig" in state}
    plain = {name: value for name, value in state.items() if name.removesuffix("_mask") not in pruned}
    plain = {name: value for name, value in plain.items() if name.removesuffix("_orig") not in pruned}
    plain |= {name: state[f"{name}_orig"] * state[f"{name}_mask"] for name in pruned}
    _require_numbers(plain)
    return plain


def _require_numbers(state: Mapping[str, torch.Tensor]) -> None:
    for name, value in state.items():
        if value.is_complex() or not (value.is_floating_point() or name.endswith("num_batches_tracked")):
            raise DataError(
                f"{name} has the type {value.dtype}. Allowed: floating point. Quantised weights are no "
                "numbers to multiply by: save the network in float32"
            )
        if name.endswith("running_var") and bool((value < 0).any()):
            raise DataError(
                f"{name} has negative variances, so its output is not finite; give a checkpoint from before "
                "the training diverged"
            )
        odd = 0 if not value.is_floating_point() else int((~torch.isfinite(value.float())).sum())
        if odd:
            raise DataError(
                f"{name} has {odd:,} of {value.numel():,} values that are NaN or infinite, so its output is "
                "not finite; give a checkpoint from before the training diverged"
            )


def require_plain(names: Iterable[str]) -> None:
    """Raises DataError where a weight is not stored, but made of others: by spectral or weight norm."""
    if odd := next((name for name in names if _REPARAMETRISED.fullmatch(name)), None):
        raise DataError(
            f"{odd} is part of a weight that is made when it is used (spectral or weight norm). Take that "
            "off before saving: torch.nn.utils.remove_spectral_norm, remove_weight_norm or "
            "parametrize.remove_parametrizations"
        )
