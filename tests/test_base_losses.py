"""The losses of every base distillation against references in plain Python, and against closed forms.

References loop over pictures, channels, pixels and taps, in float64, as the papers' tables of losses say.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydistill.config.bases import Base, GanBase, OmgdBase
from raydistill.config.features import FeatureNetworkConfig
from raydistill.config.presets import PRESETS, cyclegan
from raydistill.config.training import GeneratorTraining
from raydistill.data import DataInfo
from raydistill.data.augment import SampleIndex
from raydistill.distributed import ALONE
from raydistill.models.features import TrainedTaps
from raydistill.testing import tiny_experiment
from raydistill.training import bases
from raydistill.training.bases import BaseDistillation, BaseSetup
from raydistill.training.terms import Numbers, Pairs

B, SIDE = 4, 10
TAPS = ("down", "block1")
Array = np.ndarray[Any, np.dtype[np.float64]]


def info_of(pairing: str) -> DataInfo:
    """Pictures with pictures for inputs."""
    return DataInfo(
        layout="aligned" if pairing == "pairs" else "unpaired",
        height=SIDE,
        width=SIDE,
        class_names=(),
        palette=(),
        ignore_index=None,
        counts={"train": 8},
        split_rule="",
        num_classes=None,
    )


def config_of(pairing: str, values: dict[str, Any]) -> tuple[Base, Any]:
    """The resolved config of a base, and that of the student."""
    experiment = tiny_experiment({f"student.base.{name}": value for name, value in values.items()})
    return experiment.student.base.resolved(teacher_of(pairing)), experiment.student.generator


def teacher_of(pairing: str) -> GeneratorTraining:
    """The training of a teacher: pix2pix or CycleGAN."""
    paired: GeneratorTraining = tiny_experiment().teacher
    if pairing != "unpaired":
        return paired
    discriminator = paired.discriminator  # type: ignore[attr-defined]
    changes = {"generator": paired.generator, "discriminator": discriminator}
    return cyclegan().teacher.model_copy(update=changes)


def base_of(pairing: str = "pairs", batch_size: int = B, **values: Any) -> BaseDistillation:
    """A base whose networks have weights that are large enough for every part of a loss to matter."""
    config, student = config_of(pairing, values)
    info, kind = info_of(pairing), bases.BASES[config.kind]
    networks = kind.networks(config, student, info, 3)
    for network in networks.values():
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    torch.manual_seed(5)
    features = TrainedTaps(FeatureNetworkConfig(width=2)).eval().requires_grad_(False)
    setup = BaseSetup(
        info=info,
        device=torch.device("cpu"),
        workers=ALONE,
        student=student,
        batch_size=batch_size,
        features=features,
        networks=networks,
    )
    return kind.build(config, setup)


def pairs_of(seed: int = 0) -> Pairs:
    """A minibatch of random pictures and activations."""
    random = torch.Generator().manual_seed(seed)

    def pictures(channels: int = 3, side: int = SIDE) -> Tensor:
        return torch.rand(B, channels, side, side, generator=random) * 2 - 1

    s, t, target, inputs = (pictures() for _ in range(4))
    made = {"wide": t.clone().requires_grad_(True), "deep": pictures().requires_grad_(True)}
    sample = SampleIndex(torch.arange(B), torch.zeros(B, dtype=torch.bool), torch.arange(B))
    return Pairs(
        s=s.requires_grad_(True),
        t=t,
        positive=t,
        sample=sample,
        first_image=0,
        inputs=inputs,
        target=target,
        shared=made,
        activations={name: pictures(4, 5).requires_grad_(True) for name in TAPS},
        teacher_activations={name: pictures(4, 5) for name in TAPS},
    )


def part(pairs: Pairs, images: slice) -> Pairs:
    """The minibatch of these pictures alone."""
    of_tensors = {name: getattr(pairs, name)[images] for name in ("s", "t", "positive", "inputs", "target")}
    of_names = {
        name: {key: value[images] for key, value in getattr(pairs, name).items()}
        for name in ("shared", "activations", "teacher_activations")
    }
    return dataclasses.replace(pairs, **of_tensors, **of_names)


# ---- references --------------------------------------------------------------------------------------------


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def mean_abs(a: Array, b: Array) -> float:
    total = 0.0
    for x, y in zip(a.ravel(), b.ravel(), strict=True):
        total += abs(x - y)
    return total / a.size


def mean_square(a: Array, b: Array) -> float:
    return sum((x - y) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)) / a.size


def robust(a: Array, b: Array) -> float:
    return sum(math.sqrt((x - y) ** 2 + 1e-6) for x, y in zip(a.ravel(), b.ravel(), strict=True)) / a.size


def halved(pictures: Array) -> Array:
    """Means of 2x2 pixels; of what there is at an odd border."""
    count, channels, height, width = pictures.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    out = np.zeros((count, channels, rows, columns))
    for row, column in itertools.product(range(rows), range(columns)):
        block = pictures[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        out[:, :, row, column] = block.mean((2, 3))
    return out


def mirrored(position: int, size: int) -> int:
    """The pixel that stands at a position which may lie outside of 0 .. size - 1."""
    return -position if position < 0 else 2 * (size - 1) - position if position >= size else position


def ssim_loss(a: Array, b: Array) -> float:
    """1 - the mean over windows of 7x7 pixels of (2ab + c1)(2cov + c2) / ((a^2 + b^2 + c1)(va + vb + c2)).

    The means a and b count from black.
    """
    count, channels, height, width = a.shape
    total = 0.0
    for row, column in itertools.product(range(height), range(width)):
        rows = [mirrored(row + k, height) for k in range(-3, 4)]
        columns = [mirrored(column + k, width) for k in range(-3, 4)]
        for n, c in itertools.product(range(count), range(channels)):
            x, y = a[n, c][np.ix_(rows, columns)] + 1, b[n, c][np.ix_(rows, columns)] + 1
            mx, my = x.mean(), y.mean()
            cov = ((x - mx) * (y - my)).mean()
            above = (2 * mx * my + 0.02**2) * (2 * cov + 0.06**2)
            total += above / ((mx**2 + my**2 + 0.02**2) * (x.var() + y.var() + 0.06**2))
    return 1 - total / (count * channels * height * width)


def gram(features: Array) -> Array:
    count, channels, height, width = features.shape
    out = np.zeros((count, channels, channels))
    for n, i, j in itertools.product(range(count), range(channels), range(channels)):
        out[n, i, j] = (features[n, i] * features[n, j]).sum() / (channels * height * width)
    return out


def total_variation(pictures: Array) -> float:
    """The published sum over the batch, channels and pixels."""
    total = 0.0
    for n, c, row, column in itertools.product(*map(range, pictures.shape)):
        value = pictures[n, c, row, column]
        if row:
            total += abs(value - pictures[n, c, row - 1, column])
        if column:
            total += abs(value - pictures[n, c, row, column - 1])
    return total


def adapted(network: nn.Module, activation: Array, tap: str, *, normed: bool) -> Array:
    """A 1x1 convolution over channels; `normed`: then batch norm of the batch and a ReLU."""
    state = {name: array(value) for name, value in network.state_dict().items()}
    prefix = f"of_{tap}."
    weight = state[f"{prefix}0.weight" if normed else f"{prefix}weight"][:, :, 0, 0]
    out = np.zeros((len(activation), len(weight), *activation.shape[2:]))
    for o, i in itertools.product(range(len(weight)), range(weight.shape[1])):
        out[:, o] += weight[o, i] * activation[:, i]
    if not normed:
        return out + state[f"{prefix}bias"][None, :, None, None]
    for o in range(len(weight)):
        values = (out[:, o] - out[:, o].mean()) / math.sqrt(out[:, o].var() + 1e-5)
        out[:, o] = np.maximum(values * state[f"{prefix}1.weight"][o] + state[f"{prefix}1.bias"][o], 0)
    return out


def hinge(real: Array, fake: Array) -> float:
    """Half of the sum of the mean max(0, 1 - real) and the mean max(0, 1 + fake)."""
    of_real = sum(max(0.0, 1 - x) for x in real.ravel()) / real.size
    return (of_real + sum(max(0.0, 1 + x) for x in fake.ravel()) / fake.size) / 2


def squares(scores: Array, aim: float) -> float:
    return sum((x - aim) ** 2 for x in scores.ravel()) / scores.size


def scores(base: BaseDistillation, name: str, *seen: Tensor) -> Array:
    """Of a discriminator that sees these side by side."""
    with torch.no_grad():
        return array(base.setup.networks[name](torch.cat(seen, 1)))


def features_of(base: BaseDistillation, pictures: Tensor) -> list[Array]:
    assert base.setup.features is not None
    with torch.no_grad():
        return [array(tap) for tap in base.setup.features(pictures)]


def distances(base: BaseDistillation, s: Tensor, ts: Sequence[Tensor]) -> dict[str, float]:
    """OMGD's, each summed over the teachers, with its weight."""
    config, features = base.config, base.setup.features
    assert features is not None
    found = dict.fromkeys(("ssim", "style", "content", "tv"), 0.0)
    for t in ts:
        found["ssim"] += config.ssim_weight * ssim_loss(array(s), array(t))
        of_s, of_t = features_of(base, s), features_of(base, t)
        for own, other in zip(of_s, of_t, strict=True):
            found["style"] += config.style_weight * features.style_factor * mean_abs(gram(own), gram(other))
        found["content"] += config.content_weight * features.content_factor * mean_abs(of_s[1], of_t[1])
        found["tv"] += config.tv_weight * total_variation(array(s))
    return found


def channels(base: BaseDistillation, pairs: Pairs) -> float:
    """Of all taps: mean squared differences of the spatial means of each channel."""
    total = 0.0
    for tap in TAPS:
        own = adapted(base.setup.networks["adaptors"], array(pairs.activations[tap]), tap, normed=True)
        other = array(pairs.teacher_activations[tap])
        for n, c in itertools.product(range(B), range(other.shape[1])):
            total += (own[n, c].mean() - other[n, c].mean()) ** 2 / (B * other.shape[1])
    return total


def close(found: tuple[Tensor, Numbers] | Tensor, expected: float) -> None:
    loss = found[0] if isinstance(found, tuple) else found
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-7)


# ---- against references ------------------------------------------------------------------------------------


def test_plain_is_the_weighted_sum_of_five_distances_of_pictures() -> None:
    weights = {
        "l1_weight": 10.0,
        "ssim_weight": 1.0,
        "mse_weight": 0.7,
        "robust_weight": 0.3,
        "multiscale_weight": 2.0,
    }
    base, pairs = base_of(kind="plain", **weights), pairs_of()
    s, t = array(pairs.s), array(pairs.t)
    scales = [mean_abs(s, t), mean_abs(halved(s), halved(t))]
    scales.append(mean_abs(quartered(s), quartered(t)))
    expected = 10 * mean_abs(s, t) + ssim_loss(s, t) + 0.7 * mean_square(s, t)
    expected += 0.3 * robust(s, t) + 2 * sum(scales) / 3
    loss, numbers = base.student_loss(pairs)
    close(loss, expected)
    assert set(numbers) == {
        "train/l1",
        "train/dissimilarity",
        "train/mse",
        "train/robust",
        "train/multiscale",
    }


def quartered(pictures: Array) -> Array:
    """Means of 4x4 pixels; of what there is at the border."""
    size = math.ceil(SIDE / 4)
    out = np.zeros((B, 3, size, size))
    for row, column in itertools.product(range(size), range(size)):
        out[:, :, row, column] = pictures[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean(
            (2, 3)
        )
    return out


def test_gan_on_pairs_is_hinge_and_100_l1_to_the_target_and_activations() -> None:
    base, pairs = base_of(kind="gan", taps=TAPS), pairs_of()
    fake = scores(base, "discriminator", pairs.inputs, pairs.s)
    expected = -fake.mean() + 100 * mean_abs(array(pairs.s), array(pairs.target))
    for tap in TAPS:
        own = adapted(base.setup.networks["adaptors"], array(pairs.activations[tap]), tap, normed=False)
        expected += 1.0 * mean_square(own, array(pairs.teacher_activations[tap]))
    close(base.student_loss(pairs), expected)
    real = scores(base, "discriminator", pairs.inputs, pairs.target)
    (phase,) = base.phases()
    close(phase.loss(pairs), hinge(real, fake))


def test_gan_on_unpaired_pictures_is_least_squares_and_10_l1_to_the_teacher_and_activations() -> None:
    base, pairs = base_of("unpaired", kind="gan", taps=TAPS), pairs_of()
    fake = scores(base, "discriminator", pairs.s)
    expected = squares(fake, 1) + 10 * mean_abs(array(pairs.s), array(pairs.t))
    for tap in TAPS:
        own = adapted(base.setup.networks["adaptors"], array(pairs.activations[tap]), tap, normed=False)
        expected += 0.01 * mean_square(own, array(pairs.teacher_activations[tap]))
    close(base.student_loss(pairs), expected)
    real = scores(base, "discriminator", pairs.target)
    (phase,) = base.phases()
    close(phase.loss(pairs), (squares(real, 1) + squares(fake, 0)) / 2)


def test_a_gan_base_has_the_loss_that_its_config_names() -> None:
    base, pairs = (
        base_of(kind="gan", taps=TAPS, gan_loss="vanilla", l1_weight=0, activation_weight=0),
        pairs_of(),
    )
    fake = scores(base, "discriminator", pairs.inputs, pairs.s)
    real = scores(base, "discriminator", pairs.inputs, pairs.target)
    close(base.student_loss(pairs), np.log1p(np.exp(-fake)).mean())
    (phase,) = base.phases()
    close(phase.loss(pairs), (np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean()) / 2)


def test_omgds_teachers_have_the_gan_loss_that_the_config_names() -> None:
    base, pairs = (
        base_of(kind="omgd", taps=TAPS, num_teachers=1, teacher_gan_loss="least_squares"),
        pairs_of(),
    )
    real = scores(base, "teacher_discriminator", pairs.inputs, pairs.target)
    fake = scores(base, "teacher_discriminator", pairs.inputs, pairs.shared["wide"])
    of_discriminator, of_teachers = base.phases()
    close(of_discriminator.loss(pairs), (squares(real, 1) + squares(fake, 0)) / 2)
    l1 = mean_abs(array(pairs.shared["wide"]), array(pairs.target))
    close(of_teachers.loss(pairs), 100 * l1 + squares(fake, 1))


def test_a_base_has_its_teachers_gan_loss_and_a_default_stays_out_of_the_digest() -> None:
    """A loss that the teacher's config names goes to the bases; the recipe's own leaves them as they were."""
    experiment = PRESETS["aligned"]()
    vanilla = experiment.teacher.model_copy(update={"gan_loss": "vanilla"})
    assert GanBase().resolved(vanilla).gan_loss == "vanilla"
    assert OmgdBase().resolved(vanilla).teacher_gan_loss == "vanilla"
    assert GanBase(gan_loss="hinge").resolved(vanilla).gan_loss == "hinge"
    for base in (GanBase(), OmgdBase()):
        assert not [name for name in base.resolved(experiment.teacher).model_dump() if "gan_loss" in name]


@pytest.mark.parametrize("num_teachers", [1, 2])
def test_omgd_is_four_distances_to_every_teacher_and_channels_of_the_wide_one(num_teachers: int) -> None:
    base, pairs = base_of(kind="omgd", taps=TAPS, num_teachers=num_teachers), pairs_of()
    ts = [pairs.shared[name] for name in ("wide", "deep")[:num_teachers]]
    parts = distances(base, pairs.s, ts)
    assert min(parts.values()) > 1e-3
    close(base.student_loss(pairs), sum(parts.values()) + 10 * channels(base, pairs))


@pytest.mark.parametrize("num_teachers", [1, 2])
def test_omgds_teachers_are_trained_by_pix2pix_with_one_discriminator(num_teachers: int) -> None:
    base, pairs = base_of(kind="omgd", taps=TAPS, num_teachers=num_teachers), pairs_of()
    ts = [pairs.shared[name] for name in ("wide", "deep")[:num_teachers]]
    real = scores(base, "teacher_discriminator", pairs.inputs, pairs.target)
    fakes = [scores(base, "teacher_discriminator", pairs.inputs, t) for t in ts]
    of_discriminator, of_teachers = base.phases()
    assert of_discriminator.moves == ("teacher_discriminator",)
    assert of_teachers.moves == ("wide", "deep")[:num_teachers]
    close(of_discriminator.loss(pairs), sum(hinge(real, fake) for fake in fakes))
    l1 = sum(mean_abs(array(t), array(pairs.target)) for t in ts)
    close(of_teachers.loss(pairs), 100 * l1 - sum(fake.mean() for fake in fakes))


def test_omgd_for_cyclegan_has_the_same_distances_to_one_teacher_and_500_of_channels() -> None:
    base, pairs = base_of("unpaired", kind="omgd_cyclegan", taps=TAPS), pairs_of()
    expected = sum(distances(base, pairs.s, [pairs.t]).values()) + 500 * channels(base, pairs)
    close(base.student_loss(pairs), expected)
    assert base.phases() == ()


def test_the_table_of_weights_in_the_documents_has_every_default() -> None:
    """A row for each weight of each base, on each kind of data; a value that is None is the teacher's."""
    page = (Path(__file__).parent.parent / "docs/explanation/base-distillations.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\w+) \| ([\d.e-]+) \|", page, re.MULTILINE)
    told = {(kind, name, on): float(value) for kind, name, on, value in rows}
    assert len(told) == len(rows)
    found: dict[tuple[str, str, str], float] = {}
    for kind in ("plain", "gan", "omgd", "omgd_cyclegan"):
        for on in ["any"] if kind == "plain" else set(bases.BASES[kind].pairings) - {"pictures"}:
            config = bases.BASES[kind].config().resolved(teacher_of(on))
            weights = {name: value for name, value in config if name.endswith(("_weight", "_steps"))}
            found |= {(kind, name, on): value for name, value in weights.items()}
    assert told == found and set(bases.BASES) == {kind for kind, _, _ in found} | {"none"}


# ---- the published sum, however a minibatch is shared ------------------------------------------------------

ONLY_TV = {"ssim_weight": 0.0, "style_weight": 0.0, "content_weight": 0.0, "channel_weight": 0.0}


@pytest.mark.parametrize("num_teachers", [1, 2])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_mean_over_workers_of_total_variation_is_the_published_sum(
    num_teachers: int, workers: int
) -> None:
    """Gradients of workers are averaged, so the loss of the minibatch is the mean of those of its shares."""
    base, pairs = base_of(kind="omgd", num_teachers=num_teachers, **ONLY_TV), pairs_of()
    shares = [slice(k * B // workers, (k + 1) * B // workers) for k in range(workers)]
    losses = [base.student_loss(part(pairs, share))[0] for share in shares]
    published = num_teachers * 1e-5 * total_variation(array(pairs.s))
    close(torch.stack(losses).mean(), published)


def test_microbatches_of_omgd_for_cyclegan_give_the_published_sum_too() -> None:
    """The loop adds (share of the images) * loss."""
    base, pairs = base_of("unpaired", kind="omgd_cyclegan", **ONLY_TV), pairs_of()
    parts = [(1, slice(0, 1)), (3, slice(1, 4))]
    loss = sum(count / B * float(base.student_loss(part(pairs, images))[0]) for count, images in parts)
    assert loss == pytest.approx(1e-5 * total_variation(array(pairs.s)), rel=1e-5)


# ---- closed forms ------------------------------------------------------------------------------------------


def of_constants(a: float, b: float) -> Pairs:
    """s is a everywhere, t and the target are b."""
    pairs = pairs_of()
    s, t = (torch.full_like(pairs.t, value) for value in (a, b))
    return dataclasses.replace(
        pairs,
        s=s.requires_grad_(True),
        t=t,
        positive=t,
        target=t,
        shared={name: t.clone().requires_grad_(True) for name in ("wide", "deep")},
    )


def test_plain_of_constant_pictures() -> None:
    weights = dict.fromkeys(("ssim_weight", "mse_weight", "robust_weight", "multiscale_weight"), 1.0)
    _, numbers = base_of(kind="plain", **weights).student_loss(of_constants(0.5, -0.875))
    ssim = (2 * 1.5 * 0.125 + 4e-4) / (1.5**2 + 0.125**2 + 4e-4)
    expected = {
        "train/l1": 1.375,
        "train/dissimilarity": 1 - ssim,
        "train/mse": 1.375**2,
        "train/robust": math.sqrt(1.375**2 + 1e-6),
        "train/multiscale": 1.375,
    }
    assert {name: float(value) for name, value in numbers.items()} == pytest.approx(expected, rel=1e-5)
    same, _ = base_of(kind="plain", **weights | {"ssim_weight": 0.0}).student_loss(of_constants(0.5, 0.5))
    close(same, 1e-3)  # the robust distance alone is not 0 there


def test_a_discriminator_that_says_0_gives_hinge_1_and_least_squares_a_half() -> None:
    for pairing, of_discriminator, of_student in (("pairs", 1.0, 0.0), ("unpaired", 0.5, 1.0)):
        base = base_of(pairing, kind="gan", activation_weight=0.0)
        for parameter in base.setup.networks["discriminator"].parameters():
            nn.init.zeros_(parameter)
        (phase,) = base.phases()
        pairs = of_constants(0.5, 0.5)
        close(phase.loss(pairs), of_discriminator)
        close(base.student_loss(pairs), of_student)


def test_of_omgd_with_a_perfect_student_total_variation_alone_is_left() -> None:
    """Columns of 1 and -1: 2 for each pair of horizontal neighbours, of 3 channels and B pictures."""
    stripes = torch.ones(B, 3, SIDE, SIDE)
    stripes[..., ::2] = -1
    made = {name: stripes.clone().requires_grad_(True) for name in ("wide", "deep")}
    pairs = dataclasses.replace(pairs_of(), s=stripes.requires_grad_(True), t=stripes.detach(), shared=made)
    base = base_of(kind="omgd", channel_weight=0.0, ssim_weight=0.0)  # rounding leaves 1e-4 of 1 - SSIM
    close(base.student_loss(pairs), 2 * 1e-5 * B * 3 * SIDE * (SIDE - 1) * 2)


def test_no_base_is_0_with_a_gradient_of_0() -> None:
    pairs = pairs_of()
    loss, numbers = base_of(kind="none").student_loss(pairs)
    (gradient,) = torch.autograd.grad(loss, pairs.s)
    assert float(loss) == 0 and not gradient.any() and numbers == {}
