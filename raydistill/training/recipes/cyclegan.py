"""CycleGAN on unpaired pictures: a generator in each direction and a discriminator for each domain.

Trained for is the generator from inputs (domain A) to targets (domain B). The two generators move first,
together, then the discriminators, which see pictures of a pool. Source: Zhu et al. 2017.
"""

import torch
from torch import Tensor, nn

from raydistill.config.training import CycleganTraining
from raydistill.data import DataInfo, noise
from raydistill.distributed import Workers, gather_rows
from raydistill.method.adversarial import GAN_LOSSES
from raydistill.method.penalties import cycle_loss, identity_loss
from raydistill.models import networks
from raydistill.training.steps import Networks, Phase, RecipeKind, Schedule, Setup, Step, phase
from raydistill.training.terms import Numbers


class Pool(nn.Module):
    """A pool of older pictures, the same on every worker.

    The first images of a training fill it. Each later one is exchanged for one of the pool with probability
    1/2. A pool of size 0 gives every picture back.
    """

    pictures: Tensor

    def __init__(self, size: int, name: str, seed: int, height: int, width: int):
        super().__init__()
        self.name, self.seed = name, seed
        self.register_buffer("pictures", torch.zeros(size, 3, height, width))

    def exchange(self, fresh: Tensor, nimg: int, workers: Workers) -> Tensor:
        """What the discriminator sees in place of this worker's pictures, (B, 3, H, W). Collective.

        Args:
            fresh: This worker's pictures, (B, 3, H, W).
            nimg: Images seen before the minibatch, over all workers.
        """
        shown, size = list(gather_rows(fresh, workers).unbind()), len(self.pictures)
        keys = noise.image_keys(self.seed, f"pool/{self.name}", range(nimg, nimg + len(shown)), fresh.device)
        is_exchanged = noise.uniform(noise.keyed(keys, torch.zeros_like(keys))) < 0.5
        chosen = noise.integers(noise.keyed(keys, torch.ones_like(keys)), max(size, 1))
        for place in range(len(shown) if size else 0):
            if nimg + place < size:
                self.pictures[nimg + place] = shown[place]
                continue
            older, picture = self.pictures.index_select(0, chosen[place : place + 1])[0], shown[place]
            shown[place] = torch.where(is_exchanged[place], older, picture)
            kept = torch.where(is_exchanged[place], picture, older)
            self.pictures.index_copy_(0, chosen[place : place + 1], kept[None])
        return torch.stack(shown[workers.slice(len(shown))])


def build(config: CycleganTraining, info: DataInfo) -> Networks:
    """The generators of both directions, a discriminator and a pool for each domain."""
    seed, size = config.seed, config.pool_size
    other = networks.picture_discriminator(config.discriminator, seed, "back_discriminator")
    return {
        "generator": networks.generator(config.generator, info, seed),
        "back": networks.generator(config.generator, info, seed, "back"),
        "discriminator": networks.picture_discriminator(config.discriminator, seed),
        "back_discriminator": other,
        "pool": Pool(size, "pool", seed, info.height, info.width),
        "back_pool": Pool(size, "back_pool", seed, info.height, info.width),
    }


def schedule(config: CycleganTraining, modules: Networks, setup: Setup) -> Schedule:
    """Both generators together, then the discriminator of each domain."""
    forth, back = modules["generator"], modules["back"]
    of_targets, of_inputs = modules["discriminator"], modules["back_discriminator"]
    gan_loss = GAN_LOSSES[config.gan_loss]
    pools = {name: module for name, module in modules.items() if isinstance(module, Pool)}

    def forward(step: Step) -> None:
        step.output = forth(step.batch.inputs)

    def generators_loss(step: Step) -> tuple[Tensor, Numbers]:
        a, b, fake_b = step.batch.inputs, step.batch.target, step.output
        fake_a = back(b)
        step.shared_tensors["fake_a"] = fake_a.detach()
        cycle = cycle_loss(forth, back, a, b, fake_a, fake_b)
        gan = gan_loss.generator(of_targets(fake_b)) + gan_loss.generator(of_inputs(fake_a))
        loss, numbers = gan + config.cycle_weight * cycle, {"train/gan_loss": gan, "train/cycle": cycle}
        if config.identity_weight:
            identity = identity_loss(forth, back, a, b)
            loss = loss + config.cycle_weight * config.identity_weight * identity
            numbers["train/identity"] = identity
        return loss, numbers

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        seen = pools["pool"].exchange(step.output.detach(), step.nimg, setup.workers)
        loss = gan_loss.discriminator(of_targets(step.batch.target), of_targets(seen))
        return loss, {"train/discriminator_loss": loss}

    def back_discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        seen = pools["back_pool"].exchange(step.shared_tensors["fake_a"], step.nimg, setup.workers)
        loss = gan_loss.discriminator(of_inputs(step.batch.inputs), of_inputs(seen))
        return loss, {"train/back_discriminator_loss": loss}

    return Schedule(
        forward,
        (
            Phase("generator", ("generator", "back"), config.optimizer, generators_loss),
            phase("discriminator", config.discriminator_optimizer, discriminator_loss),
            phase("back_discriminator", config.discriminator_optimizer, back_discriminator_loss),
        ),
    )


KIND = RecipeKind(CycleganTraining, build, schedule, pairing="unpaired", stored_beside=("discriminator",))
