"""A student from its teacher: the channels that matter most are kept, all others cut out of every tensor that knows them.

A group is a set of channels that must be cut alike: what a convolution puts out, and every tensor after it that takes it in. Its score is
the L1 norm of what makes each channel (Li et al. 2017), or, for StyleGAN2, CAGC's: how much the picture's content depends on it (Liu et
al. 2021). A student as wide as its teacher is its teacher.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from raydistill.config.architectures import (
    EnhanceGenerator,
    Generator,
    MobileResnetGenerator,
    ResnetGenerator,
    SaganGenerator,
    StyleganGenerator,
    UnetGenerator,
)
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, input_channels, stylegan2
from raydistill.models.saved import with_weights

State = dict[str, Tensor]
Scores = dict[str, Tensor]
"""Group -> a score a channel, larger is kept."""
_SETTLE = 15
"""Power iterations after a spectral norm's weight has been cut; as many as torch does at the start."""


class Place(NamedTuple):
    """The tensors below one name, and whose channels their axes count."""

    name: str
    out: str | tuple[str, ...] | None
    """The group that its first axis counts (its second, of a transposed convolution), or several, one after the other; None: what is
    never cut."""
    into: tuple[str, ...] | None = ()
    """The groups that the other axis counts, one after the other; None: what is never cut; (): each channel is alone, as in norms."""
    transposed: bool = False
    each: int = 1
    """Numbers of the first axis for each channel of `out`."""
    equalised: bool = False
    """Its weight is divided by the root of its fan-in when used: fewer channels in would make it louder."""


def student_state(
    teacher: Generator, weights: State, student: Generator, where: str, scores: Scores | None = None
) -> State:
    """Weights for a student of the teacher's family and depth and of widths up to the teacher's.

    `scores`: of `l1_scores` where None. Raises ConfigError where the student is no narrower copy of the teacher.
    """
    require_narrower(teacher, student, where)
    places = list(PLACES[type(teacher)](teacher))
    scores = l1_scores(teacher, weights) if scores is None else scores
    with torch.device("meta"):
        target = GENERATORS[student.family].build(student, input_channels(teacher, weights)).state_dict()
    sizes = _sizes(places, target)
    kept = {group: score.topk(sizes[group]).indices.sort().values for group, score in scores.items()}
    return _settled(
        _cut(places, weights, target, kept), {name: tensor.shape for name, tensor in weights.items()}
    )


def require_narrower(teacher: Generator, student: Generator, where: str) -> None:
    """Raises ConfigError where `student_state` could not cut the student out of the teacher."""
    if student.family != teacher.family:
        raise ConfigError(
            f"{where}.family: {student.family!r}, but the teacher it starts from is a {teacher.family!r}; use that family"
        )
    if type(teacher) not in PLACES:
        raise ConfigError(
            f"{where}: students of the family {teacher.family!r} cannot start from their teacher; start at random"
        )
    for name, value in student:
        if name not in ("widths", "truncation") and value != getattr(teacher, name):
            mine = getattr(teacher, name)
            raise ConfigError(
                f"{where}.{name}: {value}, but the teacher it starts from has {mine}; give the same, or start at random"
            )
    for name, number in student.widths:
        most = getattr(teacher.widths, name)
        if (number is None) != (most is None) or (number is not None and number > most):
            raise ConfigError(
                f"{where}.widths.{name}: {number}, but the teacher it starts from has {most}; give at most that"
            )


def l1_scores(config: Generator, weights: State) -> Scores:
    """The sum of absolute weights that make each channel, over all layers that add to it."""
    scores: Scores = {}
    places = list(PLACES[type(config)](config))
    full = _sizes(places, weights)
    for place in places:
        weight = _weight(weights, place.name)
        if (
            place.out is not None
            and place.into != ()
            and weight is not None
            and not place.name.endswith(".affine")
        ):
            axis = 1 if place.transposed else 0
            norms = (
                weight.float()
                .abs()
                .sum([other for other in range(weight.ndim) if other != axis])
                .view(-1, place.each)
                .sum(1)
            )
            groups = _groups(place.out)
            for group, norm in zip(groups, norms.split([full[group] for group in groups])):
                scores[group] = scores.get(group, 0) + norm
    return scores


def content_scores(
    config: StyleganGenerator,
    weights: State,
    generator: torch.Generator,
    mask: Callable[[Tensor], Tensor] = lambda pictures: torch.ones_like(pictures[:, :1]),
    number: int = 16,
    density: float = 0.05,
) -> Scores:
    """CAGC's score: mean |gradient| of the weights that take a channel in, of the distance to the pictures with noise on their content.

    `mask`: pictures (B, 3, H, W) -> where their content is (B, 1, H, W), 0 or 1; the default takes the whole picture for it, where CAGC
    has a face parser. `density`: the share of that area that is replaced by -1 or 1.
    """
    module = with_weights(config, weights, "teacher").requires_grad_(True)
    assert isinstance(module, stylegan2.Generator)
    pictures = module(torch.randn(number, config.style, generator=generator))
    with torch.no_grad():
        hit = (torch.rand(pictures[:, :1].shape, generator=generator) < density) * mask(pictures)
        noise = torch.randint(0, 2, pictures[:, :1].shape, generator=generator) * 2.0 - 1
    ((noise - pictures).abs() * hit).sum().backward()
    scores: Scores = {}
    for place in PLACES[StyleganGenerator](config):
        if place.into and place.name.startswith(("convs.", "rgbs.")):
            gradient = module.get_parameter(f"{place.name}.weight").grad
            assert gradient is not None
            scores[place.into[0]] = scores.get(place.into[0], 0) + gradient.abs().mean((0, 2, 3))
    return scores


# ---- cutting -----------------------------------------------------------------------------------------------


def _weight(state: State, name: str) -> Tensor | None:
    return state.get(f"{name}.weight", state.get(f"{name}.parametrizations.weight.original"))


def _sizes(places: list[Place], target: State) -> dict[str, int]:
    """Group -> channels of the student, from the shapes of what makes them."""
    sizes: dict[str, int] = {}
    for place in places:
        if isinstance(place.out, str) and (weight := _weight(target, place.name)) is not None:
            sizes[place.out] = weight.shape[1 if place.transposed else 0] // place.each
    return sizes


def _cut(places: list[Place], weights: State, target: State, kept: dict[str, Tensor]) -> State:
    state, full = dict(weights), _sizes(places, weights)
    for place in places:
        for name in [name for name in weights if name.startswith(f"{place.name}.") or name == place.name]:
            value, leaf = state[name], name.removeprefix(f"{place.name}.")
            if leaf.endswith(
                ("._u", "._v", "num_batches_tracked", "noise", "noise_strength")
            ) or leaf.startswith("affine."):
                continue
            first = 1 if place.transposed and value.ndim > 1 else 0
            if place.out is not None:
                value = value.index_select(
                    first, _each(_after_one_another(_groups(place.out), kept, full), place.each)
                )
            if place.into and value.ndim > 1:
                before = value.shape[1 - first]
                value = value.index_select(1 - first, _after_one_another(place.into, kept, full))
                if place.equalised:
                    value = value * math.sqrt(value.shape[1 - first] / before)
            state[name] = value.contiguous()
    return state


def _groups(out: str | tuple[str, ...]) -> tuple[str, ...]:
    return (out,) if isinstance(out, str) else out


def _after_one_another(groups: tuple[str, ...], kept: dict[str, Tensor], full: dict[str, int]) -> Tensor:
    """Which places of an axis are kept that counts these groups, one after the other."""
    starts = itertools.accumulate((full[group] for group in groups), initial=0)
    return torch.cat([kept[group] + start for group, start in zip(groups, starts)])


def _each(index: Tensor, number: int) -> Tensor:
    return (index[:, None] * number + torch.arange(number)).flatten()


def _settled(state: State, before: dict[str, torch.Size]) -> State:
    """With the singular vectors of the weights that were cut found anew."""
    for name in [
        name
        for name in state
        if name.endswith(".parametrizations.weight.original") and state[name].shape != before[name]
    ]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            norm = _SpectralNorm(state[name].float(), n_power_iterations=_SETTLE, dim=0)
        prefix = name.removesuffix("original")
        state |= {f"{prefix}0._u": norm._u, f"{prefix}0._v": norm._v}
    return state


# ---- whose channels every axis counts ----------------------------------------------------------------------


def _resnet(config: Generator) -> Iterator[Place]:
    assert isinstance(config, (ResnetGenerator, MobileResnetGenerator))
    number = config.num_blocks
    yield from (
        Place("1", "stem", None),
        Place("2", "stem"),
        Place("4", "down", ("stem",)),
        Place("5", "down"),
    )
    yield from (Place("7", "trunk", ("down",)), Place("8", "trunk"))
    for block in range(10, 10 + number):
        inside = f"hidden{block}"
        first, second = f"{block}.conv_block.1", f"{block}.conv_block.5"
        if isinstance(config, MobileResnetGenerator):
            yield from (Place(f"{first}.conv.0", "trunk"), Place(f"{second}.conv.0", inside))
            first, second = f"{first}.conv.2", f"{second}.conv.2"
        yield from (Place(first, inside, ("trunk",)), Place(f"{block}.conv_block.2", inside))
        yield from (Place(second, "trunk", (inside,)), Place(f"{block}.conv_block.6", "trunk"))
    yield from (Place(f"{10 + number}", "up", ("trunk",), transposed=True), Place(f"{11 + number}", "up"))
    yield from (Place(f"{13 + number}", "head", ("up",), transposed=True), Place(f"{14 + number}", "head"))
    yield Place(f"{17 + number}", None, ("head",))


def _unet(config: Generator) -> Iterator[Place]:
    assert isinstance(config, UnetGenerator)
    last, number = config.num_levels - 1, config.blocks_per_level
    for level in range(last + 1):
        down, up, blocks = f"downs.{level}", f"ups.{last - level}", 0 if level == last else number
        given = (f"down{level}",) if level == last else (f"down{level}", f"up{level}")
        yield Place(f"{down}.0", f"down{level}", (f"down{level - 1}",) if level else None)
        if 0 < level < last:
            yield Place(f"{down}.1", f"down{level}")
        for index in range(blocks):
            yield from _bottleneck(f"{down}.{index + (2 if level else 1)}", (f"down{level}",))
        if level:
            yield from (
                Place(f"{up}.1", f"up{level - 1}", given, transposed=True),
                Place(f"{up}.2", f"up{level - 1}"),
            )
        else:
            yield Place(f"{up}.{blocks + 1}", None, given, transposed=True)
        for index in range(blocks):
            yield from _bottleneck(
                *((f"{up}.{index + 3}", (f"up{level - 1}",)) if level else (f"{up}.{index}", given))
            )


def _bottleneck(name: str, groups: tuple[str, ...]) -> Iterator[Place]:
    """Its shortcut adds what comes out to what goes in, so that both are the same groups."""
    layers = {1: groups, 4: (f"{name}.first",), 7: (f"{name}.second",), 11: (f"{name}.third",)}
    for (index, into), out in zip(layers.items(), (*list(layers.values())[1:], groups)):
        made = out[0] if len(out) == 1 else out
        yield from (
            Place(f"{name}.conv_block.{index}", made, into),
            Place(f"{name}.conv_block.{index + 1}", made),
        )


def _enhance(config: Generator) -> Iterator[Place]:
    assert isinstance(config, EnhanceGenerator)
    yield from (Place("stem", "trunk", None), Place("fuse", "trunk", ("trunk",)))
    for index in range(config.num_blocks):
        yield Place(f"blocks.{index}.first", f"hidden{index}", ("trunk",))
        yield Place(f"blocks.{index}.second", "trunk", (f"hidden{index}",))
    before = "trunk"
    for index in range({1: 0, 2: 1, 4: 2}[config.scale]):
        yield Place(f"doublings.{index}.0", f"up{index}", (before,), each=4)
        before = f"up{index}"
    yield Place("head", None, (before,))


def _sagan(config: Generator) -> Iterator[Place]:
    groups = (None, "at4", "at8", "at16", "at32")
    for index, (before, after) in enumerate(itertools.pairwise(groups)):
        yield Place(f"layers.{index}.0", after, None if before is None else (before,), transposed=True)
        yield Place(f"layers.{index}.1", after)
    for side in (16, 32):
        yield from _attention(f"attention{side}", f"at{side}")
    yield Place("head", None, ("at32",), transposed=True)


def _attention(name: str, group: str) -> Iterator[Place]:
    """Keys and queries are compared channel by channel: one group."""
    yield from (Place(f"{name}.{part}", f"{name}.pairs", (group,)) for part in ("query", "key"))
    yield Place(f"{name}.value", group, (group,))


def _stylegan(config: Generator) -> Iterator[Place]:
    """An affine layer's outputs scale the channels that its convolution takes in."""
    assert isinstance(config, StyleganGenerator)
    yield Place("constant", "at4", transposed=True)
    sides, index = list(config.widths.sides), 0
    for number, side in enumerate(sides):
        here, before = f"at{side}", f"at{max(4, side // 2)}"
        for taken in [here] if side == 4 else [before, here]:
            yield from (
                Place(f"convs.{index}", here, (taken,), equalised=True),
                Place(f"convs.{index}.affine", taken, None),
            )
            index += 1
        yield from (
            Place(f"rgbs.{number}", None, (here,), equalised=True),
            Place(f"rgbs.{number}.affine", here, None),
        )


PLACES: dict[type, Callable[[Generator], Iterator[Place]]] = {
    ResnetGenerator: _resnet,
    MobileResnetGenerator: _resnet,
    UnetGenerator: _unet,
    EnhanceGenerator: _enhance,
    SaganGenerator: _sagan,
    StyleganGenerator: _stylegan,
}
"""Config class -> the places of a generator of it."""
