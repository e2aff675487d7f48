"""A student out of its teacher by pruning: the channels that matter most are kept, all others are cut out.

`Family.channels` says which tensors a channel is cut out of. The score of a channel is the L1 norm of the
weights that make it (Li et al. 2017) or, for StyleGAN2, CAGC's: how much the content of pictures depends on
it (Liu et al. 2021). A student that is as wide as its teacher is its teacher.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.parametrizations import _SpectralNorm

from raydistill.config.architectures import Generator, StyleganGenerator
from raydistill.config.training import DistillTraining
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, input_channels, stylegan2
from raydistill.models.channel_groups import LayerChannels
from raydistill.models.saved import with_weights

State = dict[str, Tensor]
"""Parameters and buffers by name."""
Scores = dict[str, Tensor]
"""Group -> a score for each of its channels; those with the largest scores are kept."""
_POWER_ITERATIONS = 15
"""For the spectral norm of a weight that was cut: as many as PyTorch does when it makes one."""


def student_state(
    teacher: Generator, weights: State, student: Generator, where: str, scores: Scores | None = None
) -> State:
    """Weights for a student, cut out of those of its teacher.

    Args:
        teacher: config of the teacher.
        weights: weights of the teacher.
        student: config of the student, which differs from the teacher's by smaller widths alone.
        where: what to call the student in a message.
        scores: which channels are kept; None: by `l1_scores`.

    Raises:
        ConfigError: the student is no narrower copy of the teacher.
    """
    require_narrower(teacher, student, where)
    layers = layer_channels(teacher)
    scores = l1_scores(teacher, weights) if scores is None else scores
    with torch.device("meta"):
        target = GENERATORS[student.family].build(student, input_channels(teacher, weights)).state_dict()
    sizes = _group_sizes(layers, target)
    indices = {group: score.topk(sizes[group]).indices.sort().values for group, score in scores.items()}
    return _with_new_norms(_cut(layers, weights, indices), weights)


def require_narrower(teacher: Generator, student: Generator, where: str) -> None:
    """Raises ConfigError, which calls the student `where`, if it cannot be cut out of the teacher."""
    if (found := _unlike(teacher, student, where)) is not None:
        what, advice = found
        raise ConfigError(f"{what}; {advice}start at random (student.init=random)")


def _unlike(teacher: Generator, student: Generator, where: str) -> tuple[str, str] | None:
    """Why a student cannot be cut out of its teacher, and what else could be given; None: it can."""
    if student.family != teacher.family:
        other = f"{where}.family: {student.family!r}, but the teacher it starts from is a {teacher.family!r}"
        return other, "use that family, or "
    if GENERATORS[teacher.family].channels is None:
        return f"{where}: students of the family {teacher.family!r} cannot start from their teacher", ""
    for name, value in student:
        theirs = getattr(teacher, name)
        if name not in ("widths", "truncation", "dropout") and value != theirs:
            other = f"{where}.{name}: {value}, but the teacher it starts from has {theirs}"
            return other, "give the same, or "
    for name, width in student.widths:
        most = getattr(teacher.widths, name)
        if (width is None) != (most is None) or (width is not None and width > most):
            other = f"{where}.widths.{name}: {width}, but the teacher it starts from has {most}"
            return other, "give at most that, or "
    return None


def why_at_random(teacher: Generator, student: DistillTraining) -> str | None:
    """Why a student starts with random weights; None: it starts with channels of its teacher, see
    `DistillTraining.init`.
    """
    if student.init == "random":
        return "student.init is random"
    if student.init == "auto":
        if student.base.trains_teachers or student.base.follows_slabs:
            return f"student.base of kind {student.base.kind!r} learns from other networks than the teacher"
        found = _unlike(teacher, student.generator, "student.generator")
        return None if found is None else found[0]
    return None


def layer_channels(config: Generator) -> list[LayerChannels]:
    """The layers that pruning touches of a generator whose family can be pruned, see `require_narrower`."""
    channels = GENERATORS[config.family].channels
    assert channels is not None
    return list(channels(config))


# ---- scores ------------------------------------------------------------------------------------------------


def l1_scores(config: Generator, weights: State) -> Scores:
    """The sum of absolute weights that make each channel, over all layers that add to it (Li et al. 2017).

    Args:
        config: config of a generator whose family can be pruned.
        weights: its weights.
    """
    scores: Scores = {}
    layers = layer_channels(config)
    sizes = _group_sizes(layers, weights)
    for layer in layers:
        weight = _weight(weights, layer.name)
        is_norm, is_affine = layer.inputs == (), layer.name.endswith(".affine")
        if not layer.output_groups or weight is None or is_norm or is_affine:
            continue
        output_dim = 1 if layer.transposed else 0
        other_dims = [dim for dim in range(weight.ndim) if dim != output_dim]
        norms = weight.float().abs().sum(other_dims).view(-1, layer.per_channel).sum(1)
        groups = layer.output_groups
        for group, norm in zip(groups, norms.split([sizes[group] for group in groups])):
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
    """CAGC's scores for StyleGAN2: how much the content of pictures depends on a channel (Liu et al. 2021).

    A share of the content's pixels is replaced by noise. The score is the mean absolute gradient, with
    respect to the weights that take a channel in, of the L1 distance between the pictures and the noisy ones.

    Args:
        config: config of the network.
        weights: its weights.
        generator: random numbers for latents and noise.
        mask: pictures (B, 3, H, W) -> where their content is, (B, 1, H, W), 0 or 1. By default all of a
            picture is content; CAGC uses a face parser.
        number: how many pictures are generated.
        density: share of the content's pixels that is replaced, each by -1 or 1.
    """
    module = with_weights(config, weights, "teacher").requires_grad_(True)
    assert isinstance(module, stylegan2.Generator)
    pictures = module(torch.randn(number, config.style, generator=generator))
    with torch.no_grad():
        is_noise = (torch.rand(pictures[:, :1].shape, generator=generator) < density) * mask(pictures)
        noise = torch.randint(0, 2, pictures[:, :1].shape, generator=generator) * 2.0 - 1
    ((noise - pictures).abs() * is_noise).sum().backward()
    scores: Scores = {}
    for layer in stylegan2.channels(config):
        if layer.inputs and layer.name.startswith(("convs.", "rgbs.")):
            gradient = module.get_parameter(f"{layer.name}.weight").grad
            assert gradient is not None
            scores[layer.inputs[0]] = scores.get(layer.inputs[0], 0) + gradient.abs().mean((0, 2, 3))
    return scores


SCORES: dict[str, Callable[[Any, State, torch.Generator], Scores]] = {
    "l1": lambda config, weights, generator: l1_scores(config, weights),
    "content": lambda config, weights, generator: content_scores(config, weights, generator),
}
"""`student.init_score` -> scores of (config of the teacher, its weights, random numbers); l1 draws none."""
_CONTENT_FAMILIES = ("stylegan2",)
"""Families that `content_scores` is known for."""


def require_score(config: Generator, score: str, where: str) -> None:
    """Raises ConfigError where a teacher's channels have no such score.

    Args:
        config: config of the teacher.
        score: one of `SCORES`.
        where: dotted path of `score`, for messages.
    """
    if score not in SCORES:
        raise ConfigError(f"{where}: {score!r}; use one of {', '.join(SCORES)}")
    if score == "content" and config.family not in _CONTENT_FAMILIES:
        raise ConfigError(
            f"{where}: 'content', which families {', '.join(_CONTENT_FAMILIES)} have, but the teacher is a "
            f"{config.family!r}; use 'l1'"
        )


# ---- cutting -----------------------------------------------------------------------------------------------


def _weight(state: State, name: str) -> Tensor | None:
    """The weight of a layer, before its spectral norm where it has one; None where it has no weight."""
    return state.get(f"{name}.weight", state.get(f"{name}.parametrizations.weight.original"))


def _group_sizes(layers: list[LayerChannels], state: State) -> dict[str, int]:
    """Group -> number of its channels, from the shapes of the weights that make them."""
    sizes: dict[str, int] = {}
    for layer in layers:
        if isinstance(layer.outputs, str) and (weight := _weight(state, layer.name)) is not None:
            sizes[layer.outputs] = weight.shape[1 if layer.transposed else 0] // layer.per_channel
    return sizes


_NOT_CUT = ("._u", "._v", "num_batches_tracked", "noise", "noise_strength")
"""Endings of tensors without a dimension that counts channels, or that are computed anew."""


def _cut(layers: list[LayerChannels], weights: State, indices: dict[str, Tensor]) -> State:
    """The weights with the channels at `indices` (by group, rising) alone."""
    state, sizes = dict(weights), _group_sizes(layers, weights)
    for layer in layers:
        for name in weights:
            if name != layer.name and not name.startswith(f"{layer.name}."):
                continue
            # an affine layer inside of another one has an entry of its own
            if name.endswith(_NOT_CUT) or name.startswith(f"{layer.name}.affine."):
                continue
            value = state[name]
            output_dim = 1 if layer.transposed and value.ndim > 1 else 0
            if layer.output_groups:
                channels = _concatenated(layer.output_groups, indices, sizes)
                value = value.index_select(output_dim, _repeated(channels, layer.per_channel))
            if layer.inputs and value.ndim > 1:
                input_dim = 1 - output_dim
                before = value.shape[input_dim]
                value = value.index_select(input_dim, _concatenated(layer.inputs, indices, sizes))
                if layer.equalised:
                    value = value * math.sqrt(value.shape[input_dim] / before)
            state[name] = value.contiguous()
    return state


def _concatenated(groups: tuple[str, ...], indices: dict[str, Tensor], sizes: dict[str, int]) -> Tensor:
    """Indices into a dimension that counts the channels of these groups, one after the other."""
    starts = itertools.accumulate((sizes[group] for group in groups), initial=0)
    return torch.cat([indices[group] + start for group, start in zip(groups, starts)])


def _repeated(channels: Tensor, number: int) -> Tensor:
    """Indices into a dimension that has `number` entries for each channel."""
    return (channels[:, None] * number + torch.arange(number)).flatten()


def _with_new_norms(state: State, weights: State) -> State:
    """`state` with new singular vectors for the spectral norms of weights that were cut."""
    ending = ".parametrizations.weight.original"
    for name in [name for name in state if name.endswith(ending)]:
        if state[name].shape == weights[name].shape:
            continue
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            norm = _SpectralNorm(state[name].float(), n_power_iterations=_POWER_ITERATIONS, dim=0)
        prefix = name.removesuffix("original")
        state |= {f"{prefix}0._u": norm._u, f"{prefix}0._v": norm._v}
    return state
