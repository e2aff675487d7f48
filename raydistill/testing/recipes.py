"""What every recipe has to hold. Nothing is trained."""

from collections.abc import Callable

import pytest
import torch

from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import read_info
from raydistill.distributed import Workers
from raydistill.models import saved
from raydistill.planning import rehearsal
from raydistill.planning.step_counts import Counted, count_step
from raydistill.testing.trainings import Begun, states
from raydistill.training import loop, recipes

Begin = Callable[[], Begun]


class RecipeContract:
    """The contract of a recipe. A subclass, whose name begins with Test, has a fixture `begin_one`: a
    function that builds the same training anew each time it is called.

        class TestLsgan(RecipeContract):
            @pytest.fixture
            def begin_one(self, tmp_path_factory):
                experiment = tiny_experiment({"teacher.recipe": "lsgan"})
                return lambda: begin(tmp_path_factory.mktemp("lsgan"), experiment)
    """

    def test_networks_come_from_config_and_seed_alone(self, begin_one: Begin) -> None:
        """And have the same shapes on the meta device, where nothing is initialised."""
        job, trained, _ = begin_one()
        kind, info = recipes.kind_of(job.training), read_info(job.data)
        first, again = (states(kind.networks(job.training, info)) for _ in range(2))
        other = states(kind.networks(job.training.model_copy(update={"seed": 5}), info))
        assert isinstance(job.training, kind.config) and kind.network in trained.networks
        assert all(torch.equal(value, again[key]) for key, value in first.items())
        assert any(not torch.equal(value, other[key]) for key, value in first.items())
        with torch.device("meta"):
            shapes = kind.networks(job.training, info)
        assert {key: value.shape for key, value in states(shapes).items()} == {
            key: value.shape for key, value in first.items()
        }

    def test_a_phase_gives_gradients_to_what_it_moves_alone(self, begin_one: Begin) -> None:
        """Losses and logged numbers are finite scalars, by names that begin with train/ or energy/."""
        _, trained, step = begin_one()
        moved = set()
        for phase in trained.phases:
            for module in trained.networks.values():
                module.zero_grad()
            loss, numbers = loop.descend(phase, trained, [step])
            assert loss.shape == () and torch.isfinite(loss) and phase.every >= 1
            assert all(number.shape == () for number in numbers.values())
            assert all(key.startswith(("train/", "energy/")) for key in numbers)
            given = {
                key
                for key, module in trained.networks.items()
                if any(parameter.grad is not None for parameter in module.parameters())
            }
            assert given == set(phase.moves), phase.name
            moved |= given
        assert trained.network in moved
        assert len({phase.name for phase in trained.phases}) == len(trained.phases)

    def test_a_loss_leaves_modes_and_its_minibatch_as_they_were(self, begin_one: Begin) -> None:
        """No network is left in another mode, no picture is changed in place."""
        _, trained, step = begin_one()
        images = [step.batch.inputs, step.batch.target, step.output]
        before = [image.detach().clone() for image in images]
        modules = [module for network in trained.networks.values() for module in network.modules()]
        modes = [module.training for module in modules]
        for phase in trained.phases:
            phase.loss(step)
        assert modes == [module.training for module in modules]
        assert all(torch.equal(image, then) for image, then in zip(images, before, strict=True))

    def test_a_minibatch_moves_every_phase_the_same_bits_twice(self, begin_one: Begin) -> None:
        """A training is a function of its config and seed."""
        found = []
        for _ in range(2):
            job, trained, step = begin_one()
            before = states(trained.networks)
            loop.take_step(trained, step, job.training, Workers(0, 1))
            after = states(trained.networks)
            for phase in trained.phases:
                for network in phase.moves:
                    own = [key for key in after if key.startswith(f"{network}.")]
                    assert any(not torch.equal(before[key], after[key]) for key in own), network
            found.append(after)
        assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())

    def test_it_is_gone_through_where_no_tensor_has_a_value(self, begin_one: Begin) -> None:
        """On the meta device `.item()` and `bool()` raise: so memory can be predicted, and no GPU waits."""
        job, trained, step = begin_one()
        info, training = read_info(job.data), job.training
        if not isinstance(training, DistillTraining | GeneratorTraining):
            pytest.skip("the memory of a training that gives no generator is not predicted")
        teacher = None if job.teacher is None else training.generator
        found = rehearsal.minibatch(training, info, len(step), teacher)
        assert found.history.max() > step.output.nbytes and found.images >= step.batch.target.nbytes
        learning = sum(
            parameter.numel()
            for network in {network for phase in trained.phases for network in phase.moves}
            - {trained.network}
            for parameter in trained.networks[network].parameters()
        )
        assert found.beside.learning == learning

    def test_a_step_never_waits_for_the_device(self, begin_one: Begin) -> None:
        """Nor are random numbers drawn on the host, and a minibatch is copied to the device at once."""
        job, _, _ = begin_one()
        require_no_waits(job)


def require_no_waits(job: Job) -> None:
    """Fails with the line that makes a step of the job's training wait, or draws on the host."""
    generator = None if job.teacher is None else saved.generator_config(job.teacher)
    counts = count_step(Counted(job.training, read_info(job.data), generator))
    assert counts.waits == () and counts.synchronisations == counts.host_random_bytes == 0
    assert counts.host_to_device_copies <= 1 and counts.pinned and counts.kernels
