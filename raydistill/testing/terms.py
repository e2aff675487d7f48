"""What every mutual-information term, or distillation loss, has to hold. Nothing is trained."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining
from raydistill.data import batch, load_split
from raydistill.data.augment import SampleIndex
from raydistill.distributed import Workers
from raydistill.models import networks
from raydistill.testing.recipes import require_no_waits
from raydistill.testing.trainings import states
from raydistill.training import assembly, loop, teacher, terms
from raydistill.training.minibatches import held
from raydistill.training.recipes import Setup, Step
from raydistill.training.terms import OwnLoss, Pairs, TermSetup


class TermContract:
    """The contract of a term. A subclass, whose name begins with Test, has a fixture `job`, the training of a
    student with the term:

        class TestLaplace(TermContract):
            @pytest.fixture
            def job(self, tmp_path):
                return begin(tmp_path, tiny_experiment({"student.terms.mi.kind": "laplace"}), "student").job
    """

    def test_losses_and_logged_numbers_are_finite_scalars(self, job: Job) -> None:
        """A term that learns names its phase after one of its networks."""
        term, pairs = term_and_pairs(job)
        numbers = []
        if term.setup.networks:  # its loss comes first
            own = term.own_loss(pairs)
            numbers += [own.loss, *own.numbers.values()]
            assert term.name in term.setup.networks
            pairs = dataclasses.replace(pairs, shared=own.shared)
        numbers.append(term.student_loss(pairs))
        for number in numbers:
            assert number.shape == () and bool(torch.isfinite(number))

    def test_the_same_minibatch_gives_the_same_losses_bit_for_bit(self, job: Job) -> None:
        """All random numbers come from the seed and the number of the picture."""
        found = []
        for _ in range(2):
            term, pairs = term_and_pairs(job, 8)
            own = term.own_loss(pairs) if term.setup.networks else OwnLoss(torch.zeros(()), {})
            student = term.student_loss(dataclasses.replace(pairs, shared=own.shared))
            found.append((own.loss, student))
        assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])

    def test_the_students_gradient_flows_through_s_alone(self, job: Job) -> None:
        """Neither what s is paired with nor the term's own networks get one."""
        term, pairs = term_and_pairs(job)
        pairs = dataclasses.replace(pairs, positive=pairs.positive.clone().requires_grad_(True))
        if term.setup.networks:
            pairs = dataclasses.replace(pairs, shared=term.own_loss(pairs).shared)
        loss = term.student_loss(pairs)
        to_s, to_positive = torch.autograd.grad(
            loss, (pairs.s, pairs.positive), allow_unused=True, retain_graph=True
        )
        assert float(to_s.norm()) > 0 and to_positive is None
        assert all(
            parameter.grad is None
            for module in term.setup.networks.values()
            for parameter in module.parameters()
        )

    def test_the_terms_own_loss_gives_the_student_nothing(self, job: Job) -> None:
        """It moves the term's networks alone."""
        term, pairs = term_and_pairs(job)
        if not term.setup.networks:
            pytest.skip("the term learns nothing")
        assert torch.autograd.grad(term.own_loss(pairs).loss, pairs.s, allow_unused=True) == (None,)

    def test_each_phase_moves_its_own_network_alone(self, job: Job) -> None:
        """First all of the term's, where it has some, then the student."""
        setup, step = setup_of(job), step_of(job)
        trained = assembly.build(job, setup)
        loop.begin(trained, [step])
        own = {f"mi.{name}" for name in term_networks(job, setup)}
        expected = [own, {"generator"}] if own else [{"generator"}]
        for phase, allowed in zip(trained.phases, expected, strict=True):
            before = states(trained.networks)
            loop.advance(phase, trained, [step], job.training, setup.workers)
            after = states(trained.networks)
            changed = [key for key, value in after.items() if not torch.equal(value, before[key])]
            assert {
                network for network in trained.networks for key in changed if key.startswith(f"{network}.")
            } == allowed

    def test_a_step_never_waits_for_the_device(self, job: Job) -> None:
        """Nor are random numbers drawn on the host, and a minibatch is copied to the device at once."""
        require_no_waits(job)

    def test_the_term_runs_in_no_evaluation(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network that gives a loss never scores."""
        setup = setup_of(job)
        trained = assembly.build(job, setup)

        def refuse(*args: Any) -> None:
            raise AssertionError("the term ran in an evaluation")

        for name in term_networks(job, setup):
            monkeypatch.setattr(trained.networks[f"mi.{name}"], "forward", refuse)
        scores = trained.evaluate(trained.networks["generator"])
        assert scores and all(math.isfinite(value) for value in scores.values() if isinstance(value, float))


def setup_of(job: Job) -> Setup:
    """One worker on the CPU."""
    return Setup(load_split(job.data, "train").info, torch.device("cpu"), Workers(0, 1))


def step_of(job: Job, nimg: int = 0) -> Step:
    """A minibatch of the first four training pictures, the second and the fourth mirrored."""
    shown = SampleIndex(
        torch.arange(4), torch.tensor([False, True, False, True]), torch.arange(nimg, nimg + 4)
    )
    pictures = batch(load_split(job.data, "train"), slice(0, 4), flips=shown.flips.numpy())
    return Step(pictures, shown, nimg)


def term_networks(job: Job, setup: Setup) -> dict[str, torch.nn.Module]:
    """The term's networks and buffers, by name."""
    return terms.networks(student_of(job).terms["mi"], setup.info, 0)


def student_of(job: Job) -> DistillTraining:
    """The student's training that a job is."""
    assert isinstance(job.training, DistillTraining)
    return job.training


def term_and_pairs(job: Job, nimg: int = 0) -> tuple[terms.MiTerm, Pairs]:
    """A fresh term, and pairs whose s comes from a student with a graph.

    `nimg`: images of the training that came before.
    """
    training, setup, step = student_of(job), setup_of(job), step_of(job, nimg)
    data = held(load_split(job.data, "train"), teacher.stored_outputs(job), training, setup.device)
    around = TermSetup(0, *setup[:3], teacher.trained_teacher(job, data, setup.device, setup.workers))
    # of another seed than the teacher of `begin`: where both are the same network, s is t
    student = networks.generator(training.generator, setup.info, 1)
    t = around.teacher(step.sample)
    config, batch = training.terms["mi"], step.batch
    positive = t if config.positive == "teacher" else batch.target
    around = dataclasses.replace(around, networks=term_networks(job, setup))
    pairs = Pairs(
        s=student(batch.inputs),
        t=t,
        positive=positive,
        sample=step.sample,
        first_image=nimg,
        is_reported=True,
        inputs=batch.inputs,
        target=batch.target,
    )
    return terms.build(config, around), pairs
