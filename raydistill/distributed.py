"""Several workers: what a process knows of the others, and everything that they do together.

This is the only file that imports `torch.distributed`, which is why it is a long one. A function whose
docstring says "Collective" must be called by all workers.

Networks are not wrapped in DDP: Langevin differentiates through them with `torch.autograd.grad`, which DDP
does not support. After the backward of a phase, its gradients are averaged by one flattened all-reduce;
networks that FSDP2 shards over the workers average their own. Random numbers belong to an image, not to a
worker, so the number of workers changes nothing but the order of sums.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

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

Result = TypeVar("Result")
_PLAIN = ("energy",)
"""Networks that are never sharded and always float32; a term's are called `TERM.NETWORK`.

Langevin calls them many times in a minibatch, and energies differ by little.
"""


def is_plain(network: str) -> bool:
    """Whether the network of this name is never sharded and always float32."""
    return network.rpartition(".")[2] in _PLAIN


class Workers(NamedTuple):
    """This worker and how many there are."""

    rank: int
    """This worker's place among all, from 0."""
    number: int
    """How many workers share a minibatch."""

    @property
    def is_main(self) -> bool:
        """Whether this worker is the one that writes files."""
        return self.rank == 0

    def slice(self, total: int) -> slice:
        """Which of `total` items are this worker's; the parts of all workers cover them in order."""
        return slice(self.rank * total // self.number, (self.rank + 1) * total // self.number)


ALONE = Workers(0, 1)
"""The only worker."""


def current() -> Workers:
    """This worker in the process group of this process; without a group, the only worker."""
    return Workers(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def check(workers: Workers, training: Training, networks: dict[str, nn.Module]) -> None:
    """Raises ConfigError where workers cannot share the batch evenly, or where an option
    would change a result.
    """
    if (misfit := training.misfit(workers.number, f"{workers.number} workers")) is not None:
        raise ConfigError(f"training.batch_size: {misfit}")
    for name, network in networks.items():
        refuse_execution(training.execution, network, "training", f"the network {name}")


def refuse_execution(execution: Execution, network: nn.Module, stage: str, where: str) -> None:
    """Raises ConfigError where an option of `execution` would change the results of a network,
    or cannot be followed.

    With batch norm, batch statistics would be those of a microbatch, or would be counted twice. With spectral
    norms, power iterations would be counted twice, and FSDP2 cannot shard a parametrized weight.

    Args:
        stage: Dotted path of the training's config.
        where: What the message calls the network.
    """
    options = {
        "microbatch": execution.microbatch is not None,
        "activation_checkpointing": execution.activation_checkpointing,
    }
    if has_batch_norm(network):
        for option in (name for name, is_on in options.items() if is_on):
            raise ConfigError(
                f"{stage}.execution.{option}: "
                f"with batch norm ({where}) it would change the batch statistics; "
                "leave it out or set norm to 'instance'"
            )
    options |= {"sharding": execution.sharding == "fsdp", "compile": execution.compile}
    if any(is_parametrized(module) for module in network.modules()):
        for option, is_on in options.items():
            if is_on:
                raise ConfigError(
                    f"{stage}.execution.{option}: "
                    f"not with spectral norms ({where}), whose power iteration moves once a step"
                )


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network takes statistics of its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


# ---- networks ----------------------------------------------------------------------------------------------


def prepare(
    networks: dict[str, nn.Module], training: Training, device: torch.device, workers: Workers
) -> None:
    """Changes networks in place, as `training.execution` and `training.precision` ask. Collective.

    Names of parameters and buffers stay. Parameters may be replaced, so optimizers must
    be given the new ones.

    Raises:
        ConfigError: the GPU does not know the precision.
    """
    if training.precision == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"training.precision: bfloat16, which {name} does not know; use float32")
    for name, network in networks.items():
        if workers.number > 1:
            _use_cross_rank_batch_norm(network)
        if training.execution.activation_checkpointing:
            options = {"use_reentrant": False, "preserve_rng_state": False}
            for block in _blocks(network):
                block.forward = functools.partial(checkpoint, block.forward, **options)  # type: ignore
        if training.precision == "bfloat16" and not is_plain(name):
            _use_bfloat16(network, device)
        if training.execution.compile:
            # The gradient of a term at s is taken before that of the loss, from one graph.
            torch._functorch.config.donated_buffer = False
            network.forward = torch.compile(network.forward, dynamic=False)  # type: ignore[method-assign]
        if not is_plain(name):
            shard(network, training.execution, device, workers)


def shard(network: nn.Module, execution: Execution, device: torch.device, workers: Workers) -> None:
    """Shards a network over the workers by FSDP2, in place, where `execution` asks for it. Collective.

    Networks, and blocks in them, of fewer than `execution.fsdp_min_params` parameters stay whole.

    Raises:
        ConfigError: there is no process group.
    """
    if execution.sharding != "fsdp":
        return
    if not dist.is_initialized():
        raise ConfigError(
            "training.execution.sharding: fsdp splits networks over the workers of Ray Train; "
            "use --executor train"
        )
    if _num_parameters(network) < execution.fsdp_min_params:
        return
    mesh = init_device_mesh(device.type, (workers.number,))
    for block in _blocks(network):
        if _num_parameters(block) >= execution.fsdp_min_params:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def is_sharded(network: nn.Module) -> bool:
    """Whether the workers hold parts of the network, by FSDP2."""
    return isinstance(network, FSDPModule)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The children of a network that have children themselves; in a generator, its residual blocks.

    Children in a list count as the network's own: a list has no forward.
    """
    children: list[nn.Module] = []
    for child in network.children():
        children += child if isinstance(child, nn.ModuleList) else [child]
    return [child for child in children if any(True for _ in child.children())]


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _use_bfloat16(network: nn.Module, device: torch.device) -> None:
    """Puts an autocast around the forward, in place; outputs are float32 again."""
    forward = network.forward

    def in_bfloat16(*inputs: Any) -> Any:
        with torch.autocast(_autocast_type(device), torch.bfloat16):
            outputs = forward(*inputs)
        if isinstance(outputs, Tensor):
            return outputs.float()
        if isinstance(outputs, dict):
            return {name: output.float() for name, output in outputs.items()}
        return type(outputs)(*(output.float() for output in outputs))

    network.forward = in_bfloat16  # type: ignore[method-assign]


def _autocast_type(device: torch.device) -> str:
    """The device type to name to autocast, which knows no meta device."""
    return "cpu" if device.type == "meta" else device.type


class _Total(torch.autograd.Function):
    """The sum over workers, which can be differentiated any number of times. Collective.

    The gradient of a sum over workers is a sum over workers, too.
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
    """Batch norm with the statistics of the minibatch of all workers.

    It gives the same numbers as an `nn.BatchNorm2d` on one worker, running statistics included. All workers'
    parts must have one size. The variance is taken around the global mean, so there are two all-reduces in a
    forward. Collective in training mode, in forward and backward.
    """

    def forward(self, x: Tensor) -> Tensor:
        """This worker's part (B, C, H, W), normalised."""
        if not self.training:
            return super().forward(x)
        with torch.autocast(_autocast_type(x.device), enabled=False):
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
    """Replaces every `nn.BatchNorm2d` in the network, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                norm = CrossRankBatchNorm(child.num_features, child.eps, child.momentum)
                norm.to(child.weight.device).load_state_dict(child.state_dict())
                setattr(module, name, norm)


# ---- gradients ---------------------------------------------------------------------------------------------


def average_gradients(
    parameters: Sequence[nn.Parameter], workers: Workers, holds: Tensor | None = None
) -> Tensor | None:
    """Replaces each gradient by its mean over workers, in one all-reduce, which `holds` joins. Collective.

    Gradients of sharded parameters stay: FSDP2 has averaged them.

    Args:
        holds: bool (n,), what holds on this worker; None: nothing is asked.

    Returns:
        bool (n,), what holds on all workers; None where nothing is asked.
    """
    gradients = [gradient for gradient in _gradients(parameters) if not isinstance(gradient, DTensor)]
    if workers.number == 1 or (not gradients and holds is None):
        return holds
    failures = [] if holds is None else [(~holds).float()]
    sent = [*(gradient.flatten() for gradient in gradients), *failures]
    flat = torch.cat(sent)
    dist.all_reduce(flat)
    received = flat.split([part.numel() for part in sent])
    if gradients:
        means = received[: len(gradients)]
        torch._foreach_div_(means, workers.number)
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(means, gradients, strict=True)])
    return received[-1] == 0 if failures else None


def move_average(average: nn.Module, network: nn.Module, beta: float) -> None:
    """average <- beta * average + (1 - beta) * network, for parameters; buffers are copied."""
    with torch.no_grad():
        targets, sources = (_own_parts(each.parameters()) for each in (average, network))
        torch._foreach_lerp_(targets, sources, 1 - beta)
        if buffers := _own_parts(average.buffers()):
            torch._foreach_copy_(buffers, _own_parts(network.buffers()))


def _own_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Of sharded tensors this worker's parts, of others the whole."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The 2-norm of all gradients together: a scalar. Collective where parameters are sharded."""
    gradients = _gradients(parameters)
    if any(isinstance(gradient, DTensor) for gradient in gradients):
        norm = torch.nn.utils.get_total_norm(gradients)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))


def _gradients(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


# ---- state -------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """Everything that moves in a training, whole.

    It depends neither on the number of workers nor on how they share networks.
    """

    networks: dict[str, dict[str, Tensor]]
    """Name of a network -> its state dict."""
    optimizers: dict[str, dict[str, Any]]
    """Name of a network -> the state dict of its optimizer; tensors and numbers only."""


def gather_state(networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> State:
    """The whole state, on every worker. Tensors that are not sharded are the networks' own. Collective."""
    of_networks = {}
    for name, network in networks.items():
        of_networks[name] = {key: _whole(value) for key, value in network.state_dict().items()}
    of_optimizers = {name: _whole_state(optimizer.state_dict()) for name, optimizer in optimizers.items()}
    return State(of_networks, of_optimizers)


def restore_state(
    state: State, networks: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]
) -> None:
    """Loads the state that `gather_state` gave into networks and optimizers.

    Neither the number of workers nor the sharding needs to be what it was then.
    """
    for name, network in networks.items():
        own, whole = network.state_dict(), state.networks[name]
        parts = {key: _like(value, own[key]) if key in own else value for key, value in whole.items()}
        network.load_state_dict(parts)
    for name, optimizer in optimizers.items():
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        rates = [group["lr"] for group in optimizer.param_groups]
        whole_optimizer = state.optimizers[name]
        moments = {}
        for index, values in whole_optimizer["state"].items():
            moments[index] = {key: _like(value, parameters[index]) for key, value in values.items()}
        optimizer.load_state_dict({**whole_optimizer, "state": moments})
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate  # a tensor on the device; every step sets it before it is used


def _whole_state(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state dict with whole tensors."""
    moments = {}
    for index, values in state["state"].items():
        moments[index] = {key: _whole(value) for key, value in values.items()}
    return {**state, "state": moments}


def _whole(value: Tensor) -> Tensor:
    """The whole of a tensor. A sharded one is gathered and moved to main memory.

    So the device holds one whole tensor at a time.
    """
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _like(value: Tensor, own: Tensor) -> Tensor:
    """This worker's part of a whole tensor, where its own one is sharded; elsewhere the whole tensor.

    Every worker holds the whole tensor, so nothing is sent.
    """
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


# ---- numbers -----------------------------------------------------------------------------------------------


def mean_numbers(numbers: dict[str, Tensor], workers: Workers) -> dict[str, float]:
    """The mean of each scalar over workers, who all have the same names. Collective."""
    if not numbers:
        return {}
    stacked = torch.stack([number.detach().double().cpu() for number in numbers.values()])
    if workers.number > 1:
        dist.all_reduce(stacked)
        stacked /= workers.number
    return dict(zip(numbers, stacked.tolist(), strict=True))


def total(value: Tensor, workers: Workers) -> Tensor:
    """The sum of a tensor over workers, in a new tensor where there are several. Collective."""
    if workers.number > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def computed_once(compute: Callable[[], Result], workers: Workers) -> Result:
    """What `compute` gives on the main worker, on all of them. Collective.

    Where it raises an error there, all workers raise it.
    """
    if workers.number == 1:
        return compute()
    found: list[Any] = [None, None]
    if workers.is_main:
        try:
            found[0] = compute()
        except Exception as error:  # whatever it is, the others wait for it
            found[1] = error
    dist.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]  # type: ignore[no-any-return]


def gather_rows(rows: Tensor, workers: Workers) -> Tensor:
    """The rows (N, ...) of all workers, in order of rank, on the device of these. Collective.

    Every worker has the same number of rows, as in a minibatch.
    """
    if workers.number == 1:
        return rows
    everyone = rows.new_empty(workers.number * len(rows), *rows.shape[1:])
    dist.all_gather(list(everyone.chunk(workers.number)), rows.contiguous())
    return everyone


def gather_unequal_rows(rows: Tensor, workers: Workers) -> Tensor:
    """`gather_rows` where workers may hold different numbers of rows, as in an evaluation. It waits.
    Collective.
    """
    if workers.number == 1:
        return rows
    counts = gather_rows(torch.tensor([len(rows)], device=rows.device), workers).tolist()
    filled = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    everyone = gather_rows(filled, workers).split(max(counts))
    return torch.cat([part[:count] for part, count in zip(everyone, counts, strict=True)])


@contextmanager
def pretended(number: int) -> Iterator[Workers]:
    """In this context, this process is the first of so many workers, and collectives do nothing: to count
    them.
    """
    from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the backend "fake"

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=number)
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def barrier(workers: Workers) -> None:
    """Returns when all workers have come here. Collective."""
    if workers.number > 1:
        dist.barrier()
