"""Minibatches and evaluations on the meta device, for the bytes of the tensors that live in them.

The order of forwards and backwards is that of `training/recipes/`; `tests/test_memory.py` compares the two.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork, Generator
from raydistill.config.terms import MutualInformation, PairCritic, VariationalInformation
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import DataInfo, to_float, to_uint8
from raydistill.distributed import Workers
from raydistill.method.vem import alignment, draw_negatives, ebm_loss, pair_energies, student_mi_loss
from raydistill.models import GENERATORS, networks
from raydistill.models.energy import EnergyModel
from raydistill.models.inputs import BATCH
from raydistill.planning.meta_networks import (
    META,
    generator_of,
    gradients_of,
    inputs_of,
    module_of,
    other_networks,
    pictures_of,
)
from raydistill.planning.recipe_phases import rehearse
from raydistill.planning.tensor_bytes import LiveTensorBytes
from raydistill.training import terms
from raydistill.training.recipes.distill import base_loss

History = NDArray[np.int64]
"""Bytes that live at first (0) and after each tensor was made or gone."""


# ---- an evaluation -----------------------------------------------------------------------------------------


def evaluation_batch_size(config: Generator, info: DataInfo, num_workers: int) -> int:
    """How many pictures a worker evaluates at a time."""
    counts = info.counts
    if info.input_counts is not None and GENERATORS[config.family].takes != "noise":
        counts = info.input_counts
    return min(BATCH, -(-counts["val"] // num_workers))


def evaluation_history(config: Generator, info: DataInfo, number: int) -> History:
    """Bytes that live while a generator makes `number` pictures for an evaluation."""
    generator, inputs = generator_of(config, info).eval(), inputs_of(config, info, number)
    with torch.no_grad(), LiveTensorBytes() as live:
        generator(inputs)
    return live.history()


def evaluator_bytes(config: EvaluatorNetwork, info: DataInfo, number: int) -> int:
    """Most bytes that live while the evaluator sees `number` pictures, these included."""
    with META:
        evaluator = networks.evaluator(config, info, 0)
    pictures = pictures_of(info, number)
    with torch.no_grad(), LiveTensorBytes() as live:
        evaluator(to_float(to_uint8(pictures)))
    return pictures.nbytes + int(live.history().max())


# ---- the teacher of a student ------------------------------------------------------------------------------


def teacher_runs_in_loop(teacher: Generator, info: DataInfo) -> bool:
    """Whether the teacher makes its pictures in every minibatch, which it does where inputs never repeat.

    Elsewhere its pictures are stored, or are made by fours.
    """
    return GENERATORS[teacher.family].takes == "noise" or info.degrade.is_on or info.load_size is not None


def teacher_pictures(teacher: Generator, info: DataInfo, number: int) -> Tensor:
    """A batch of `number` pictures of the teacher, (B, 3, H, W)."""
    network = generator_of(teacher, info).eval()
    with torch.no_grad():
        return network(inputs_of(teacher, info, number)).clamp(-1, 1)


def teacher_bytes(teacher: Generator, info: DataInfo, number: int) -> int:
    """Most bytes that live while the teacher makes `number` pictures."""
    with LiveTensorBytes() as live:
        teacher_pictures(teacher, info, number)
    return int(live.history().max())


# ---- a student ---------------------------------------------------------------------------------------------


class StudentBytes(NamedTuple):
    """One minibatch by plain distillation: forward, loss, backward."""

    history: History
    after_forward: int
    """Index in `history` at which the forward has ended."""
    after_loss: int
    """Index in `history` at which the loss is computed."""


def student_bytes(training: DistillTraining, info: DataInfo, batch: int) -> StudentBytes:
    """Bytes that live in a minibatch of `batch` images, without those of the term."""
    generator = generator_of(training.generator, info)
    x, t = inputs_of(training.generator, info, batch), pictures_of(info, batch)
    with LiveTensorBytes() as live:
        s = generator(x)
        after_forward = live.mark()
        loss = base_loss(training, s, t)[0]
        after_loss = live.mark()
        loss.backward()
    return StudentBytes(live.history(gradients_of(generator)), after_forward, after_loss)


class TermBytes(NamedTuple):
    """Bytes of a mutual-information term, beside what the student holds."""

    own_phase: int = 0
    """The most that live up to the end of the term's own phase."""
    student_loss: int = 0
    """The most that live while the term gives the student its loss."""
    backward: int = 0
    """What lives from then on, through the student's backward."""


def term_bytes(training: DistillTraining, info: DataInfo, batch: int, teacher: Generator) -> TermBytes:
    """Bytes of the term in a minibatch of `batch` images; 0 for a term of a plug-in, of
    which nothing is known.
    """
    mi = training.mi
    if not mi.weight or not isinstance(mi, MutualInformation | VariationalInformation | PairCritic):
        return TermBytes()
    s, t = pictures_of(info, batch).requires_grad_(True), pictures_of(info, batch)
    if isinstance(mi, MutualInformation):
        return _energy_bytes(mi, info, s, t, teacher)
    with META:
        term = terms.build(mi, terms.TermSetup(0, info, META, Workers(0, 1), lambda sample: t))
    network = term.networks[term.name]
    pairs = terms.Pairs(s, t, t, np.arange(batch), np.zeros(batch, bool), 0)
    with LiveTensorBytes() as live:
        term.own_loss(pairs)[0].backward()
        after_own_phase = live.mark()
        network.requires_grad_(False)
        loss = term.student_loss(pairs)
        alignment(loss, s, t)
    return _term_bytes(live, after_own_phase, network)


def _energy_bytes(
    mi: MutualInformation, info: DataInfo, s: Tensor, t: Tensor, teacher: Generator
) -> TermBytes:
    """Of the VEM term, by hand: on the meta device, there are no energies that it could
    compare with its limit.
    """
    energy: Any = module_of(EnergyModel, mi.energy, info.height, info.width)
    # Further Langevin steps hold what the second one holds.
    config = mi.model_copy(update={"num_steps": min(mi.num_steps, 2)})
    with LiveTensorBytes() as live:
        start = None if mi.start == "student" else torch.empty_like(t)
        if mi.start == "other" and teacher_runs_in_loop(teacher, info):
            start = teacher_pictures(teacher, info, len(t))
        negatives = draw_negatives(energy, s, config, lambda: torch.empty_like(t), start)
        energy.train()
        ebm_loss(*pair_energies(energy, t, negatives.samples, s.detach()), mi.l2_weight).backward()
        after_own_phase = live.mark()
        energy.requires_grad_(False)
        loss = student_mi_loss(energy, t, negatives.samples, s)
        alignment(loss, s, t)
    return _term_bytes(live, after_own_phase, energy)


def _term_bytes(live: LiveTensorBytes, after_own_phase: int, network: nn.Module) -> TermBytes:
    history = live.history(gradients_of(network))
    own_phase, student_loss = history[: after_own_phase + 1].max(), history[after_own_phase:].max()
    return TermBytes(int(own_phase), int(student_loss), int(history[-1]))


# ---- a generator without a teacher -------------------------------------------------------------------------


def generator_bytes(training: GeneratorTraining, info: DataInfo, batch: int) -> int:
    """Most bytes that live in one minibatch of `batch` images, with all phases."""
    generator = generator_of(training.generator, info)
    critics, _ = other_networks(training, info)
    x, real = inputs_of(training.generator, info, batch), pictures_of(info, batch)
    with LiveTensorBytes() as live:
        rehearse(training, generator, critics, x, real)
    return int(live.history(gradients_of(generator, *critics)).max())
