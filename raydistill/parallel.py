"""The only place that knows several workers.

No wrapper around networks: Langevin differentiates through them with `torch.autograd.grad`, which DDP does not support. After a
phase's backward, its gradients are averaged by one flattened all-reduce. Random numbers are drawn for the whole global batch on
every worker, which then takes its slice, so that the number of workers changes nothing but the order of sums.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raydistill.errors import ConfigError
from raydistill.seeds import torch_stream


class Workers(NamedTuple):
    rank: int
    number: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def slice(self, total: int) -> slice:
        """This worker's part of `total` items; the parts cover everything in order."""
        return slice(self.rank * total // self.number, (self.rank + 1) * total // self.number)


def current() -> Workers:
    """The process group this process is in; one worker without one."""
    return Workers(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Workers(0, 1)


def check(workers: Workers, batch_size: int, networks: dict[str, nn.Module]) -> None:
    """Raises ConfigError where several workers would not equal one: uneven slices, or statistics of a local batch."""
    if batch_size % workers.number:
        raise ConfigError(
            f"training.batch_size: {batch_size} is not divisible by {workers.number} workers; use a multiple of {workers.number}"
        )
    for name, network in networks.items():
        if workers.number > 1 and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            raise ConfigError(f"{name}: batch norm with {workers.number} workers would use local statistics; set norm to 'instance'")


def average_gradients(parameters: Sequence[nn.Parameter], workers: Workers) -> None:
    """Replaces each gradient by its mean over workers, in one all-reduce. Collective."""
    if workers.number == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers.number
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def mean_numbers(numbers: dict[str, Tensor], workers: Workers) -> dict[str, float]:
    """Each scalar's mean over workers. Collective."""
    stacked = torch.stack([number.detach().double().cpu() for number in numbers.values()])
    if workers.number > 1:
        dist.all_reduce(stacked)
        stacked /= workers.number
    return dict(zip(numbers, stacked.tolist(), strict=True))


def total(value: Tensor, workers: Workers) -> Tensor:
    """The sum over workers. Collective."""
    if workers.number > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def gather_rows(rows: Tensor, workers: Workers) -> Tensor:
    """All workers' rows, in rank order; workers may hold different numbers of them. Collective."""
    if workers.number == 1:
        return rows
    parts: list[Tensor | None] = [None] * workers.number
    dist.all_gather_object(parts, rows.cpu())
    return torch.cat([part for part in parts if part is not None])


def barrier(workers: Workers) -> None:
    if workers.number > 1:
        dist.barrier()


def normal_stream(seed: int, purpose: str, nimg: int, like: Tensor, workers: Workers) -> Callable[[], Tensor]:
    """A function drawing N(0, I) of the shape of `like`, this worker's part of a batch that starts at image `nimg`."""
    generator = torch_stream(seed, purpose, nimg)
    global_shape = (len(like) * workers.number, *like.shape[1:])

    def normal() -> Tensor:
        return torch.randn(global_shape, generator=generator)[workers.slice(global_shape[0])].to(like.device)

    return normal
