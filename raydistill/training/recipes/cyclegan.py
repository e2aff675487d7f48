"""CycleGAN on unpaired pictures: a generator in each direction and a discriminator for each domain.

Trained for is the generator from inputs (domain A) to targets (domain B). The two generators move first,
together, then the discriminators, which see pictures of a pool. Source: Zhu et al. 2017.
"""

import torch
from torch import Tensor, nn

from raydistill.config.experiment import Job
from raydistill.config.training import CycleganTraining
from raydistill.distributed import gather_rows
from raydistill.method.adversarial import least_squares_discriminator, least_squares_generator
from raydistill.method.penalties import cycle_loss, identity_loss
from raydistill.models import networks
from raydistill.seeds import numpy_stream
from raydistill.training.recipes.parts import Recipe, Setup, Step, generator_recipe, phase, start_of
from raydistill.training.terms import Numbers


class Pool(nn.Module):
    """A pool of older pictures, the same on every worker.

    Once it is full, each new picture is exchanged for one of the pool with probability 1/2. A pool of size 0
    gives every picture back.
    """

    pictures: Tensor
    count: Tensor

    def __init__(self, size: int, name: str, seed: int, setup: Setup):
        super().__init__()
        self.name, self.seed, self.workers = name, seed, setup.workers
        self.register_buffer("pictures", torch.zeros(size, 3, setup.info.height, setup.info.width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def exchange(self, fresh: Tensor, nimg: int) -> Tensor:
        """What the discriminator sees in place of this worker's pictures, (B, 3, H, W). Collective.

        Args:
            fresh: This worker's pictures, (B, 3, H, W).
            nimg: Images seen before the minibatch, over all workers.
        """
        shown = gather_rows(fresh, self.workers).to(fresh.device).clone()
        size = len(self.pictures)
        for place in range(len(shown) if size else 0):
            picture = shown[place].clone()
            if int(self.count) < size:
                self.pictures[int(self.count)] = picture
                self.count += 1
                continue
            stream = numpy_stream(self.seed, f"pool/{self.name}", nimg + place)
            if stream.random() < 0.5:
                chosen = int(stream.integers(size))
                shown[place] = self.pictures[chosen]
                self.pictures[chosen] = picture
        return shown[self.workers.slice(len(shown))]


def build(job: Job, setup: Setup) -> Recipe:
    """The recipe of a `CycleganTraining`: both generators, then the discriminator of each domain."""
    training = job.training
    assert isinstance(training, CycleganTraining)
    seed = training.seed
    forth = start_of(training, training.generator, setup)
    back = networks.generator(training.generator, setup.info, seed, "back").to(setup.device)
    of_targets = networks.picture_discriminator(training.discriminator, seed).to(setup.device)
    of_inputs = networks.picture_discriminator(training.discriminator, seed, "back_discriminator").to(
        setup.device
    )
    pools = {
        name: Pool(training.pool_size, name, seed, setup).to(setup.device) for name in ("pool", "back_pool")
    }

    def forward(step: Step) -> None:
        step.output = forth(step.batch.inputs)

    def generators_loss(step: Step) -> tuple[Tensor, Numbers]:
        a, b, fake_b = step.batch.inputs, step.batch.target, step.output
        fake_a = back(b)
        step.shared_tensors["fake_a"] = fake_a.detach()
        cycle = cycle_loss(forth, back, a, b, fake_a, fake_b)
        gan = least_squares_generator(of_targets(fake_b)) + least_squares_generator(of_inputs(fake_a))
        loss, numbers = gan + training.cycle_weight * cycle, {"train/gan_loss": gan, "train/cycle": cycle}
        if training.identity_weight:
            identity = identity_loss(forth, back, a, b)
            loss = loss + training.cycle_weight * training.identity_weight * identity
            numbers["train/identity"] = identity
        return loss, numbers

    def discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        seen = pools["pool"].exchange(step.output.detach(), step.nimg)
        loss = least_squares_discriminator(of_targets(step.batch.target), of_targets(seen))
        return loss, {"train/discriminator_loss": loss}

    def back_discriminator_loss(step: Step) -> tuple[Tensor, Numbers]:
        seen = pools["back_pool"].exchange(step.shared_tensors["fake_a"], step.nimg)
        loss = least_squares_discriminator(of_inputs(step.batch.inputs), of_inputs(seen))
        return loss, {"train/back_discriminator_loss": loss}

    both = nn.ModuleList([forth, back])
    phases = (
        phase("generator", both, training.optimizer, generators_loss)._replace(also=("back",)),
        phase("discriminator", of_targets, training.discriminator_optimizer, discriminator_loss),
        phase("back_discriminator", of_inputs, training.discriminator_optimizer, back_discriminator_loss),
    )
    modules: dict[str, nn.Module] = {
        "generator": forth,
        "back": back,
        "discriminator": of_targets,
        "back_discriminator": of_inputs,
        **pools,
    }
    return generator_recipe(job, setup, modules, phases, forward)
