"""Prediction of a worker's memory before anything is trained, from modules on the meta device: nothing is allocated."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from raydistill import feed, networks
from raydistill.architectures import JudgeNetwork
from raydistill.config import DistillTraining, GeneratorTraining, MutualInformation, PairCritic, Pix2pixTraining
from raydistill.data import DataInfo
from raydistill.models import input_shape

_TRAINED = 16
"""Bytes of a trained parameter: weight, gradient and Adam's two moments, float32."""
_KEPT = 4
"""Bytes of a parameter that is only kept: averages, the judge, frozen weights of Langevin chains."""
_OVERHEAD = 1.6
"""Peak over what is counted, for gradients of activations, workspaces and fragments: 1.4 to 1.8 measured, as resident memory on a CPU."""
PROCESS_BYTES = 600 * 2**20
"""A CUDA context with its libraries' workspaces: an allowance, not measured here."""


def training_bytes(training: DistillTraining | GeneratorTraining, judge: JudgeNetwork, info: DataInfo, num_workers: int = 1) -> int:
    """Peak bytes of one worker of several that share the batch: states, plus what the backward needs or an evaluation holds, plus
    `PROCESS_BYTES`."""
    return states_and_activations(training, judge, info, num_workers) + PROCESS_BYTES


def states_and_activations(training: DistillTraining | GeneratorTraining, judge: JudgeNetwork, info: DataInfo, num_workers: int = 1) -> int:
    """The part of `training_bytes` that the networks and the batch decide."""
    batch = -(-training.batch_size // num_workers)
    config = training.generator
    shape = input_shape(config, info.input_channels, *info.input_size)
    with torch.device("meta"):
        generator = networks.generator(config, info, 0)
        scorer = networks.judge(judge, info, 0)
        inputs, picture = torch.empty(batch, *shape), torch.empty(batch, 3, info.height, info.width)
        states = _TRAINED * _count(generator) + _KEPT * (_count(scorer) + (_count(generator) if training.ema_nimg else 0))
        saved = saved_bytes(generator, inputs)
        if isinstance(training, Pix2pixTraining):
            discriminator = networks.discriminator(training.discriminator, info, 0)
            states += _TRAINED * _count(discriminator)
            saved += saved_bytes(discriminator, torch.cat([torch.cat([inputs, picture], 1)] * 2))
        elif isinstance(training, DistillTraining) and training.mi.weight and isinstance(training.mi, MutualInformation):
            energy = networks.energy(training.mi.energy, info, 0)
            states += (_TRAINED + _KEPT) * _count(energy)
            saved += saved_bytes(energy, torch.cat([picture] * 2), torch.cat([picture] * 2))
        elif isinstance(training, DistillTraining) and training.mi.weight and isinstance(training.mi, PairCritic):
            critic = networks.critic(training.mi.discriminator, 0)
            states += _TRAINED * _count(critic)
            saved += saved_bytes(critic, torch.cat([torch.cat([picture] * 2, 1)] * 2))
        many = [torch.empty(feed.BATCH, *shape), torch.empty(feed.BATCH, 3, info.height, info.width)]
        evaluation = max(largest_step_bytes(generator, many[0]), largest_step_bytes(scorer, many[1]))
        batches = 2 * (inputs.nbytes + 4 * picture.nbytes)  # inputs, pictures and their gradients
        return states + int(_OVERHEAD * (max(saved, evaluation) + batches))


def saved_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Bytes that a forward pass keeps for its backward, beside the parameters. Modules and inputs on the meta device."""
    own = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no later one gets its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(*inputs)
    return sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def largest_step_bytes(module: nn.Module, *inputs: Tensor) -> int:
    """Input and output of the layer where they are largest together: what a forward pass without a graph holds at its peak."""
    sizes = [0]

    def note(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        sizes.append(sum(tensor.nbytes for tensor in itertools.chain(_tensors(given), _tensors(out))))

    handles = [layer.register_forward_hook(note) for layer in module.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return max(sizes)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
