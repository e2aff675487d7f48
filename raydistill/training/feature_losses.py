"""Style and content by a feature network, each multiplied by the network's own factor.

So a weight, such as OMGD's 1e4 of style and 10 of content, means the same with VGG16 and with its stand-in.
"""

from collections.abc import Sequence

from torch import Tensor

from raydistill.method import perceptual
from raydistill.models.features import FeatureNetwork


def style(network: FeatureNetwork, of_student: Sequence[Tensor], of_teacher: Sequence[Tensor]) -> Tensor:
    """`method.perceptual.style_loss` of all taps times `network.style_factor`: a scalar.

    Args:
        of_student: what the network gives of the student's pictures, with their graph.
        of_teacher: what it gives of the teacher's, without one.
    """
    return network.style_factor * perceptual.style_loss(of_student, of_teacher)


def content(network: FeatureNetwork, of_student: Sequence[Tensor], of_teacher: Sequence[Tensor]) -> Tensor:
    """`method.perceptual.content_loss` of the tap `content_tap` times `content_factor`: a scalar.

    The arguments are those of `style`.
    """
    tap = network.content_tap
    return network.content_factor * perceptual.content_loss(of_student[tap], of_teacher[tap])
