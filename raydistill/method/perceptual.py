"""Losses between pictures, and between their features: style, content, total variation, channels, scales.

They take tensors and know no network: `models.features` gives the features. Every loss is a mean over the
batch, so that of a batch is the mean of those of its equal parts, as microbatches and several workers need
it. Letters: features F (B, C, H, W), pictures s and t.
"""

import functools
import operator
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """How channels occur together: F F^T / (C H W) of each picture, (B, C, C), symmetric.

    Args:
        features: (B, C, H, W).

    Source: Gatys et al. 2016; the divisor is that of Johnson et al. 2016, equation 3, and of OMGD's code.
    """
    channels, height, width = features.shape[1:]
    flat = features.flatten(2)
    return flat @ flat.mT / (channels * height * width)


def style_loss(of_student: Sequence[Tensor], of_teacher: Sequence[Tensor]) -> Tensor:
    """The sum over taps of the mean |Gram(student) - Gram(teacher)|: a scalar, 0 or more.

    Args:
        of_student: features (B, C, H, W) of each tap; taps differ in their sizes. A gradient may reach them.
        of_teacher: the same of the teacher's pictures.

    Raises:
        ValueError: the two have different numbers of taps.

    Source: OMGD (Ren et al. 2021), whose code has the absolute difference; Johnson et al. 2016, equation 4,
    squares it.
    """
    pairs = zip(of_student, of_teacher, strict=True)
    return functools.reduce(operator.add, (F.l1_loss(gram(own), gram(other)) for own, other in pairs))


def content_loss(of_student: Tensor, of_teacher: Tensor) -> Tensor:
    """mean |F(student) - F(teacher)| of one tap, (B, C, H, W) each: a scalar.

    Source: OMGD's code, with the second tap of VGG16, relu2_2; Johnson et al. 2016, equation 2, squares it.
    """
    return F.l1_loss(of_student, of_teacher)


def total_variation(pictures: Tensor) -> Tensor:
    """The sum of |differences| of vertical and of horizontal neighbours over pixels and channels: a scalar.

    Of a batch it is the mean over its pictures. OMGD's code adds the pictures up, too: at its batch of 4 its
    weight of 1e-5 is 4e-5 here, at a batch of 1 both are the same.

    Args:
        pictures: (B, 3, H, W) in [-1, 1].

    Source: OMGD's code. A mean over pixels would be 200,000 times smaller at 256x256.
    """
    down = (pictures[:, :, 1:] - pictures[:, :, :-1]).abs().sum()
    along = (pictures[:, :, :, 1:] - pictures[:, :, :, :-1]).abs().sum()
    return (down + along) / len(pictures)


def spatial_means(activation: Tensor) -> Tensor:
    """The mean of each channel over all pixels: (B, C, H, W) -> (B, C)."""
    return activation.mean((2, 3))


def channel_distillation(student_means: Tensor, teacher_means: Tensor) -> Tensor:
    """mean (student - teacher)^2 of the spatial means of activations, (B, C) each: a scalar.

    Args:
        student_means: of the student's activation, brought to the teacher's number of channels.
        teacher_means: of the teacher's, see `spatial_means`.

    Source: OMGD (Ren et al. 2021), equation 8 and its code.
    """
    return F.mse_loss(student_means, teacher_means)


def charbonnier(s: Tensor, t: Tensor, epsilon: float = 1e-3) -> Tensor:
    """mean sqrt((s - t)^2 + epsilon^2): L1 that is smooth at 0, where it is epsilon; a scalar.

    Args:
        s, t: tensors of one shape, such as pictures (B, 3, H, W).
        epsilon: above 0, in units of the pictures' values.

    Source: Charbonnier et al. 1994; as a loss of pictures Lai et al. 2017, with the same epsilon.
    """
    return ((s - t).square() + epsilon**2).sqrt().mean()


def multiscale_l1(s: Tensor, t: Tensor, scales: int = 3) -> Tensor:
    """The mean over k = 0 .. scales - 1 of mean |s - t| of pictures averaged over 2^k x 2^k pixels: a scalar.

    Where a side is not divisible by 2^k, the last blocks are cut off at the border and average the pixels
    that they have (`ceil_mode`), so every pixel counts, also of pictures smaller than a block.

    Args:
        s, t: (B, C, H, W) each.
        scales: 1 or more; 1: the plain L1.
    """
    difference = s - t  # averaging is linear: one pooling serves both
    each = [F.avg_pool2d(difference, 2**k, ceil_mode=True).abs().mean() for k in range(scales)]
    return torch.stack(each).mean()
