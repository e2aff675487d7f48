"""A discriminator of pairs as a term."""

import torch
from torch import Tensor, nn

from raydistill.config.terms import PairCritic
from raydistill.data import DataInfo
from raydistill.method.adversarial import hinge_discriminator, hinge_generator
from raydistill.models import networks, patchgan
from raydistill.training.terms.parts import MiTerm, OwnLoss, Pairs, TermSetup


class Critic(MiTerm):
    """A hinge discriminator D of the pairs (t, s) against (s, s), with a score for each patch.

    The student descends -D(s, s) through the FIRST argument alone. Through the second, the pair could also
    look real by moving s away from t.
    """

    name = "critic"

    def __init__(self, config: PairCritic, setup: TermSetup):
        super().__init__(config, setup)
        self.critic = setup.networks["critic"]

    def own_loss(self, pairs: Pairs) -> OwnLoss:
        """The hinge loss of the discriminator: (t, s) is real, (s, s) is fake."""
        s = pairs.s.detach()
        both = torch.cat([torch.cat([pairs.positive.detach(), s], 1), torch.cat([s, s], 1)])
        real, fake = self.critic(both).chunk(2)
        loss = hinge_discriminator(real, fake)
        return OwnLoss(loss, {"train/critic_loss": loss, "train/critic_gap": real.mean() - fake.mean()})

    def student_loss(self, pairs: Pairs) -> Tensor:
        """-mean D(s, s), whose gradient flows through the first s."""
        return hinge_generator(self.critic(torch.cat([pairs.s, pairs.s.detach()], 1)))


def networks_of(config: PairCritic, info: DataInfo, seed: int) -> dict[str, nn.Module]:
    """The discriminator."""
    return {"critic": networks.critic(config.discriminator, seed)}


def check_critic(config: PairCritic, height: int, width: int, batch_size: int) -> None:
    """Raises ConfigError where pictures are too small for the discriminator."""
    patchgan.check(config.discriminator, height, width, where="discriminator.num_layers")
