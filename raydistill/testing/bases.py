"""What every base distillation has to hold. Nothing is trained."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from raydistill.config.experiment import Job
from raydistill.testing.recipes import require_no_waits
from raydistill.testing.terms import setup_of, student_of
from raydistill.testing.trainings import states
from raydistill.training import assembly, bases, loop
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Step


class BaseContract:
    """The contract of a base. A subclass, whose name begins with Test, has a fixture `job`, the training of a
    student with the base and without a term:

        class TestSquares(BaseContract):
            @pytest.fixture
            def job(self, tmp_path):
                values = {"student.base.kind": "squares", "student.terms.mi.weight": 0.0, "student.seed": 1}
                return begin(tmp_path, tiny_experiment(values), "student").job
    """

    def test_every_loss_and_logged_number_is_a_finite_scalar(self, job: Job) -> None:
        """Of the base's own phases and of the student's."""
        trained, step = begun(job)
        for phase in trained.phases:
            loss, numbers = phase.loss(step)
            for number in (loss, *numbers.values()):
                assert number.shape == () and bool(torch.isfinite(number))

    def test_the_same_minibatch_gives_the_same_losses_bit_for_bit(self, job: Job) -> None:
        """All random numbers come from the seed and the number of the picture."""
        found = []
        for _ in range(2):
            trained, step = begun(job)
            found.append([phase.loss(step)[0] for phase in trained.phases])
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))

    def test_gradients_reach_the_networks_that_a_phase_moves_and_no_other(self, job: Job) -> None:
        """The student is moved by the last phase, together with the networks in `moves`."""
        trained, step = begun(job)
        for phase in trained.phases:
            loop.descend(phase, trained, [step])
            reached = {
                name
                for name, network in trained.networks.items()
                for parameter in network.parameters()
                if parameter.grad is not None and bool(parameter.grad.any())
            }
            assert reached == set(phase.moves), phase.name
            for network in trained.networks.values():
                network.zero_grad()
        assert trained.phases[-1].moves[0] == "generator"

    def test_each_phase_moves_its_own_networks_alone(self, job: Job) -> None:
        """Parameters and buffers."""
        trained, step = begun(job)
        for phase in trained.phases:
            before = states(trained.networks)
            loop.advance(phase, trained, [step], job.training, setup_of(job).workers)
            after = states(trained.networks)
            changed = [key for key, value in after.items() if not torch.equal(value, before[key])]
            moved = {name for name in trained.networks for key in changed if key.startswith(f"{name}.")}
            assert moved == set(phase.moves), phase.name

    def test_nothing_but_the_student_hears_of_the_students_loss(self, job: Job) -> None:
        """Neither the real pictures nor the teacher's get a gradient."""
        trained, step = begun(job)
        target = step.batch.target.clone().requires_grad_(True)
        step.batch = dataclasses.replace(step.batch, target=target)
        loss, _ = trained.phases[-1].loss(step)
        (to_target,) = torch.autograd.grad(loss, (target,), allow_unused=True, retain_graph=True)
        assert not step.teacher.requires_grad
        assert all(not each.requires_grad for each in step.teacher_activations.values())
        (to_s,) = torch.autograd.grad(loss, (step.output,))
        assert float(to_s.norm()) > 0 and (to_target is None or bool(torch.isfinite(to_target).all()))

    def test_all_that_moves_is_in_a_checkpoint(self, job: Job) -> None:
        """What the base registers, and nothing else, stands beside the student."""
        trained, _ = begun(job)
        own = set(bases.networks(student_of(job), setup_of(job).info))
        assert set(trained.networks) == {"generator", *own}
        assert {name for phase in trained.phases for name in phase.moves} == {"generator", *own}

    def test_a_step_never_waits_for_the_device(self, job: Job) -> None:
        """Nor are random numbers drawn on the host, and a minibatch is copied to the device at once."""
        require_no_waits(job)

    def test_the_base_runs_in_no_evaluation(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        """A network that gives a loss never scores."""
        trained, _ = begun(job)

        def refuse(*args: Any) -> None:
            raise AssertionError("the base ran in an evaluation")

        for name, network in trained.networks.items():
            if name != "generator":
                monkeypatch.setattr(network, "forward", refuse)
        scores = trained.evaluate(trained.networks["generator"])
        assert scores and all(math.isfinite(value) for value in scores.values() if isinstance(value, float))


def begun(job: Job) -> tuple[Assembly, Step]:
    """A training that is built, and its first minibatch after the forward; a report follows."""
    trained = assembly.build(job, setup_of(job))
    step = trained.minibatches.step(0)
    step.is_reported = True
    loop.begin(trained, [step])
    return trained, step
