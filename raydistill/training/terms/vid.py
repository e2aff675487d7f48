"""Variational information distillation as a term."""

from torch import Tensor, nn

from raydistill.config.terms import VariationalInformation
from raydistill.data import DataInfo
from raydistill.method.vid import ChannelVariance, gaussian_nll
from raydistill.training.terms.parts import MiTerm, OwnLoss, Pairs, TermSetup


class Vid(MiTerm):
    """VID: -log q(t|s) of a Gaussian around s. Its variances descend it, then the student does."""

    name = "variance"

    def __init__(self, config: VariationalInformation, setup: TermSetup):
        super().__init__(config, setup)
        self.variance = setup.networks["variance"]

    def own_loss(self, pairs: Pairs) -> OwnLoss:
        """-log q(t|s), for the variances."""
        variance = self.variance()
        loss = gaussian_nll(pairs.positive, pairs.s.detach(), variance)
        return OwnLoss(loss, {"train/vid_nll": loss, "train/vid_variance": variance.mean()})

    def student_loss(self, pairs: Pairs) -> Tensor:
        """-log q(t|s), for s."""
        return gaussian_nll(pairs.positive, pairs.s, self.variance().detach())


def networks_of(config: VariationalInformation, info: DataInfo, seed: int) -> dict[str, nn.Module]:
    """The variances."""
    return {"variance": ChannelVariance(3, config.initial_variance)}
