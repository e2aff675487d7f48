"""The only place that knows several workers.

No DDP around networks: Langevin differentiates through them with `torch.autograd.grad`, which DDP does not
support. After a phase's backward, its gradients are averaged by one flattened all-reduce; networks that FSDP2
splits over the workers average their own. Random numbers belong to an image, not to a worker, so that the
number of workers changes nothing but the order of sums.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.checkpoint import checkpoint

from raydistill.config.training import Execution, Training
from raydistill.errors import ConfigError
from raydistill.seeds import torch_stream

PLAIN = ("energy",)
"""Networks that are never split and always float32: Langevin calls them many times a minibatch, and
energies differ by little.
"""


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


def check(workers: Workers, training: Training, networks: dict[str, nn.Module]) -> None:
    """Raises ConfigError where the batch cannot be shared evenly, or where an option would change a result."""
    if (misfit := training.misfit(workers.number, f"{workers.number} workers")) is not None:
        raise ConfigError(f"training.batch_size: {misfit}")
    for name, network in networks.items():
        refuse_execution(training.execution, network, "training", f"the network {name}")


def refuse_execution(execution: Execution, network: nn.Module, stage: str, where: str) -> None:
    """Raises ConfigError where an option would change a network's results: batch statistics would be those of
    a microbatch, or counted twice; FSDP2 cannot split a parametrized weight, as of a spectral norm.
    """
    modules = list(network.modules())
    options = {
        "microbatch": execution.microbatch is not None,
        "activation_checkpointing": execution.activation_checkpointing,
    }
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        for option in (name for name, is_on in options.items() if is_on):
            raise ConfigError(
                f"{stage}.execution.{option}: with batch norm ({where}) it would change the batch statistics; "
                "leave it out or set norm to 'instance'"
            )
    if any(is_parametrized(module) for module in modules):
        for option, is_on in (
            options | {"sharding": execution.sharding == "fsdp", "compile": execution.compile}
        ).items():
            if is_on:
                raise ConfigError(
                    f"{stage}.execution.{option}: not with spectral norms ({where}), whose power iteration moves once a step"
                )


# ---- networks -------------------------------------------------------------------------------------------------------


def prepare(
    networks: dict[str, nn.Module], training: Training, device: torch.device, workers: Workers
) -> None:
    """Changes networks in place into what `training.execution` and `training.precision` ask for. Collective.

    Names of parameters and buffers stay. Parameters may be replaced: optimisers must be given the new ones.
    """
    for name, network in networks.items():
        if workers.number > 1:
            _use_cross_rank_batch_norm(network)
        if training.execution.activation_checkpointing:
            for block in _blocks(network):
                block.forward = functools.partial(
                    checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
                )  # type: ignore[method-assign]
        if training.precision == "bfloat16" and name not in PLAIN:
            _use_bfloat16(network, device)
        if training.execution.compile:
            torch._functorch.config.donated_buffer = (
                False  # the term's gradient at s is taken before the loss's, from one graph
            )
            network.forward = torch.compile(network.forward, dynamic=False)  # type: ignore[method-assign]
        if name not in PLAIN:
            shard(network, training.execution, device, workers)


def shard(network: nn.Module, execution: Execution, device: torch.device, workers: Workers) -> None:
    """By FSDP2, in place, where asked for and large enough.

    Collective. Raises ConfigError where there is no process group.
    """
    if execution.sharding != "fsdp":
        return
    if not dist.is_initialized():
        raise ConfigError(
            "training.execution.sharding: fsdp splits networks over the workers of Ray Train; use --executor train"
        )
    if _num_parameters(network) < execution.fsdp_min_params:
        return
    mesh = init_device_mesh(device.type, (workers.number,))
    for block in _blocks(network):
        if _num_parameters(block) >= execution.fsdp_min_params:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def is_sharded(network: nn.Module) -> bool:
    return isinstance(network, FSDPModule)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """A network's direct parts that have parts themselves; residual blocks for a generator."""
    return [child for child in network.children() if any(True for _ in child.children())]


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _use_bfloat16(network: nn.Module, device: torch.device) -> None:
    """Autocast around the forward; what comes out is float32 again."""
    forward = network.forward

    def in_bfloat16(*inputs: Tensor) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = forward(*inputs)
        return (
            outputs.float()
            if isinstance(outputs, Tensor)
            else type(outputs)(*(output.float() for output in outputs))
        )

    network.forward = in_bfloat16  # type: ignore[method-assign]


class _Total(torch.autograd.Function):
    """The sum over workers, differentiable any number of times: the gradient of a sum over workers is
    one too. Collective.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Total.apply(gradient)


class CrossRankBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the global batch; the same numbers as one worker's `nn.BatchNorm2d`,
    running statistics included.

    Every worker's part must have the same size. The variance is taken around the global mean, so two
    all-reduces a forward. Collective in training mode, in forward and backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x.float()
            count = values.numel() // values.shape[1] * dist.get_world_size()
            mean = _Total.apply(values.sum((0, 2, 3), keepdim=True)) / count
            centred = values - mean
            variance = _Total.apply(centred.square().sum((0, 2, 3), keepdim=True)) / count
            normalised = centred * torch.rsqrt(variance + self.eps)
            out = normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        self._move_running(mean.detach().flatten(), variance.detach().flatten() * count / (count - 1))
        return out.to(x.dtype)

    def _move_running(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def _use_cross_rank_batch_norm(network: nn.Module) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                norm = CrossRankBatchNorm(child.num_features, child.eps, child.momentum).to(
                    child.weight.device
                )
                norm.load_state_dict(child.state_dict())
                setattr(module, name, norm)


# ---- gradients ------------------------------------------------------------------------------------------------------


def average_gradients(parameters: Sequence[nn.Parameter], workers: Workers) -> None:
    """Replaces each gradient by its mean over workers, in one all-reduce; FSDP2 has done so with its own.

    Collective.
    """
    gradients = [gradient for gradient in _gradients(parameters) if not isinstance(gradient, DTensor)]
    if workers.number == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= workers.number
    for gradient, part in zip(
        gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together; a scalar. Collective for networks that are split."""
    norm = torch.nn.utils.get_total_norm(_gradients(parameters))
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


# ---- state ----------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Everything that moves, whole: independent of the number of workers and of how they share networks."""

    networks: dict[str, dict[str, Tensor]]
    optimizers: dict[str, dict[str, Any]]
    """As `Optimizer.state_dict` gives it; tensors and numbers only."""


def gather_state(networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> State:
    """The whole state, on every worker. Tensors that are not split are the networks' own. Collective."""
    return State(
        {
            name: {key: _whole(value) for key, value in network.state_dict().items()}
            for name, network in networks.items()
        },
        {name: _whole_state(optimizer.state_dict()) for name, optimizer in optimizers.items()},
    )


def restore_state(
    state: State, networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> None:
    """Loads what `gather_state` gave, with any number of workers then, into networks of any sharding now."""
    for name, network in networks.items():
        own = network.state_dict()
        network.load_state_dict(
            {
                key: _like(value, own[key]) if key in own else value
                for key, value in state.networks[name].items()
            }
        )
    for name, optimizer in optimizers.items():
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        given = state.optimizers[name]
        moments = {
            index: {key: _like(value, parameters[index]) for key, value in values.items()}
            for index, values in given["state"].items()
        }
        optimizer.load_state_dict({**given, "state": moments})


def _whole_state(state: dict[str, Any]) -> dict[str, Any]:
    moments = {
        index: {key: _whole(value) for key, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": moments}


def _whole(value: Tensor) -> Tensor:
    """A split tensor is gathered and moved to main memory, so that the device holds one whole one at a time."""
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _like(value: Tensor, own: Tensor) -> Tensor:
    """This worker's part of a whole tensor, where its own is split; every worker holds the whole
    one, so nothing is sent.
    """
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


# ---- numbers --------------------------------------------------------------------------------------------------------


def mean_numbers(numbers: dict[str, Tensor], workers: Workers) -> dict[str, float]:
    """The mean of each scalar over workers.

    Every worker has the same names; without any the result is empty. Collective.
    """
    if not numbers:
        return {}
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


def normal_stream(seed: int, purpose: str, first_image: int, like: Tensor) -> Callable[[], Tensor]:
    """A function drawing N(0, I) of the shape of `like`, whose pictures are those from
    number `first_image` on.

    Each picture has a stream of its own, so that its numbers depend neither on the other pictures
    nor on who draws them.
    """
    generators = [torch_stream(seed, purpose, first_image + index) for index in range(len(like))]

    def normal() -> Tensor:
        drawn = torch.empty(like.shape)
        for picture, generator in zip(drawn, generators, strict=True):
            picture.normal_(generator=generator)
        return drawn.to(like.device)

    return normal
