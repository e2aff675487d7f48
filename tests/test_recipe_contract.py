"""What every recipe has to hold, those of plug-ins too. Nothing is trained."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from cookbook import forgotten_after, written
from recipe_kit import begin
from torch import Tensor, nn

from raydistill import plugins
from raydistill.config.experiment import Job
from raydistill.config.training import DistillTraining, GeneratorTraining
from raydistill.data import read_info
from raydistill.distributed import Workers
from raydistill.planning import rehearsal
from raydistill.training import loop, recipes
from raydistill.training.assembly import Assembly
from raydistill.training.recipes import Step

PLUGIN = "lsgan"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: (name, "teacher", {}) for name in ("pix2pix", "cyclegan", "sagan", "stylegan2", "enhance")},
    "distill": ("pix2pix", "student", {"mi__kind": "vem"}),
    "evaluator": ("pix2pix", "evaluator", {}),
    PLUGIN: ("pix2pix", "teacher", {"recipe": PLUGIN}),
}
"""Recipe -> (tiny experiment, stage, values) that train by it."""
every_recipe = pytest.mark.parametrize("name", CASES)


class Begun(NamedTuple):
    job: Job
    trained: Assembly
    step: Step


@pytest.fixture(scope="module")
def begin_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Begun]]:
    """Recipe -> a training by it whose first forward is done."""

    def make(name: str, **values: Any) -> Begun:
        experiment, stage, given = CASES[name]
        return Begun(*begin(tmp_path_factory.mktemp(name), experiment, stage, **given | values))

    with forgotten_after():
        plugins.load(written(tmp_path_factory.mktemp("plugin"), f"{PLUGIN}.py"))
        yield make


def states(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Name of a parameter or buffer -> a copy of it."""
    return {
        f"{name}.{key}": value.clone()
        for name, module in networks.items()
        for key, value in module.state_dict().items()
    }


def test_the_contract_covers_every_recipe(begin_by: Callable[..., Begun]) -> None:
    assert set(recipes.RECIPES) == set(CASES)


@every_recipe
def test_networks_come_from_config_and_seed_alone(begin_by: Callable[..., Begun], name: str) -> None:
    job, trained, _ = begin_by(name)
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


@every_recipe
def test_a_phase_gives_gradients_to_what_it_moves_alone(begin_by: Callable[..., Begun], name: str) -> None:
    _, trained, step = begin_by(name)
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


@every_recipe
def test_a_loss_leaves_modes_and_its_minibatch_as_they_were(
    begin_by: Callable[..., Begun], name: str
) -> None:
    _, trained, step = begin_by(name)
    images = [step.batch.inputs, step.batch.target, step.output]
    before = [image.detach().clone() for image in images]
    modes = [module.training for network in trained.networks.values() for module in network.modules()]
    for phase in trained.phases:
        phase.loss(step)
    assert modes == [module.training for network in trained.networks.values() for module in network.modules()]
    assert all(torch.equal(image, then) for image, then in zip(images, before, strict=True))


@every_recipe
def test_a_minibatch_moves_every_phase_the_same_bits_twice(begin_by: Callable[..., Begun], name: str) -> None:
    found = []
    for _ in range(2):
        job, trained, step = begin_by(name)
        before = states(trained.networks)
        loop.take_step(trained, step, job.training, Workers(0, 1))
        after = states(trained.networks)
        for phase in trained.phases:
            for network in phase.moves:
                own = [key for key in after if key.startswith(f"{network}.")]
                assert any(not torch.equal(before[key], after[key]) for key in own), network
        found.append(after)
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


@pytest.mark.parametrize("name", [name for name in CASES if name != "evaluator"])
def test_it_is_gone_through_where_no_tensor_has_a_value(begin_by: Callable[..., Begun], name: str) -> None:
    """On the meta device `.item()` and `bool()` raise. An evaluator's memory is not predicted."""
    job, trained, step = begin_by(name)
    info, training = read_info(job.data), job.training
    assert isinstance(training, DistillTraining | GeneratorTraining)
    teacher = None if job.teacher is None else training.generator
    found = rehearsal.minibatch(training, info, len(step.indices), teacher)
    assert found.history.max() > step.output.nbytes and found.images >= step.batch.target.nbytes
    learning = sum(
        parameter.numel()
        for network in {network for phase in trained.phases for network in phase.moves} - {trained.network}
        for parameter in trained.networks[network].parameters()
    )
    assert found.beside.learning == learning


def test_a_loss_that_asks_a_tensor_for_its_value_is_found(begin_by: Callable[..., Begun]) -> None:
    """It would have a GPU wait in every step."""
    job, _, step = begin_by(PLUGIN)
    kind = recipes.RECIPES[PLUGIN]

    def asking(config: Any, modules: recipes.Networks, setup: recipes.Setup) -> recipes.Schedule:
        own = kind.schedule(config, modules, setup)

        def loss(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
            value, numbers = own.phases[0].loss(step)
            return (value if value.item() > 0 else -value), numbers

        return own._replace(phases=(own.phases[0]._replace(loss=loss), own.phases[1]))

    recipes.RECIPES[PLUGIN] = kind._replace(schedule=asking)
    try:
        with pytest.raises(RuntimeError, match="meta tensors"):
            rehearsal.minibatch(job.training, read_info(job.data), len(step.indices))  # type: ignore[arg-type]
    finally:
        recipes.RECIPES[PLUGIN] = kind
