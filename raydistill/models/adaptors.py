"""Adaptors: 1x1 convolutions that give a student's activations the widths of its teacher's.

Distances of activations are between an adaptor's output and the teacher's. The student's optimizer moves the
adaptors, too; nothing else needs them, so they are not stored with the student.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

AdaptorKind = Literal["linear", "conv_norm_relu"]
"""linear: a 1x1 convolution with a bias (GAN Compression). conv_norm_relu: one without a bias, then batch
norm and a ReLU (OMGD's channel distillation, which takes spatial means after it)."""


class Adaptors(nn.Module):
    """An adaptor for each tap: its outputs are as wide as the teacher's.

    Source: GAN Compression's `netA`, and the feature connectors of OMGD. What differs: OMGD draws the scales
    of the batch norm from N(1, 0.02); here they start at 1.
    """

    def __init__(self, kind: AdaptorKind, widths: Mapping[str, tuple[int, int]]):
        """`widths`: tap name -> (channels of the student, channels of the teacher)."""
        super().__init__()
        self.taps = tuple(widths)
        for name, (student, teacher) in widths.items():
            self.add_module(_module_name(name), _adaptor(kind, student, teacher))

    def forward(self, taps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The student's activations (B, student's channels, H, W) -> (B, teacher's channels, H, W), by tap.

        Activations of other taps are left out. Raises KeyError where one is missing.
        """
        return {name: self.get_submodule(_module_name(name))(taps[name]) for name in self.taps}


def _module_name(tap: str) -> str:
    """Under which a tap's adaptor is a child of the module; its beginning keeps it apart from attributes."""
    return f"of_{tap}"


def _adaptor(kind: AdaptorKind, student: int, teacher: int) -> nn.Module:
    if kind == "linear":
        return nn.Conv2d(student, teacher, 1)
    return nn.Sequential(nn.Conv2d(student, teacher, 1, bias=False), nn.BatchNorm2d(teacher), nn.ReLU(True))
