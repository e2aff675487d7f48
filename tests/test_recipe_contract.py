"""What every recipe has to hold, those of plug-ins too. Nothing is trained."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cookbook import forgotten_after, written
from recipe_kit import begin
from torch import Tensor

from raydistill import plugins
from raydistill.data import read_info
from raydistill.planning import rehearsal
from raydistill.testing import Begun, RecipeContract
from raydistill.training import recipes
from raydistill.training.recipes import Step

PLUGIN = "lsgan"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: (name, "teacher", {}) for name in ("pix2pix", "cyclegan", "sagan", "stylegan2", "enhance")},
    "distill": ("pix2pix", "student", {"mi__kind": "vem"}),
    "evaluator": ("pix2pix", "evaluator", {}),
    "features": ("pix2pix", "features", {}),
    PLUGIN: ("pix2pix", "teacher", {"recipe": PLUGIN}),
}
"""Recipe -> (tiny experiment, stage, values) that train by it."""


@pytest.fixture(scope="module")
def begin_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Begun]]:
    """Recipe -> a training by it whose first forward is done."""

    def make(name: str, **values: Any) -> Begun:
        experiment, stage, given = CASES[name]
        return begin(tmp_path_factory.mktemp(name), experiment, stage, **given | values)

    with forgotten_after():
        plugins.load(written(tmp_path_factory.mktemp("plugin"), f"{PLUGIN}.py"))
        yield make


def test_the_contract_covers_every_recipe(begin_by: Callable[..., Begun]) -> None:
    assert set(recipes.RECIPES) == set(CASES)


class TestEveryRecipe(RecipeContract):
    @pytest.fixture(params=CASES)
    def begin_one(
        self, begin_by: Callable[..., Begun], request: pytest.FixtureRequest
    ) -> Callable[[], Begun]:
        return lambda: begin_by(request.param)


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
            rehearsal.minibatch(job.training, read_info(job.data), len(step))  # type: ignore[arg-type]
    finally:
        recipes.RECIPES[PLUGIN] = kind
