"""Costs of many networks at a time are those of one after the other."""

from typing import Any

import numpy as np
import pytest

from raydistill.config.configurations import values_of
from raydistill.config.paths import with_unchecked_values
from raydistill.config.presets import PRESETS
from raydistill.config.space import load_space
from raydistill.models import GENERATORS, cost
from raydistill.planning.costs import counts_of_each
from raydistill.search import random_configuration
from raydistill.search.problem import are_feasible, costs_of_each, is_feasible
from raydistill.testing.samplers import WINDOWS, costs_of, deep_problem, problem

PREFIX = "student.generator."


def counts(generator: Any) -> dict[str, Any]:
    layers = GENERATORS[generator.family].layers(generator, 8, 64, 64)
    conventions = {f"cost/macs:{name}": cost.macs(layers, name) for name in cost.CONVENTIONS}
    return {"cost/macs": cost.macs(layers), "cost/params": cost.params(layers)} | conventions


@pytest.mark.parametrize("name", ["default", "mobile", "unet", "sagan", "stylegan2", "enhance", "cyclegan"])
def test_every_family_counts_arrays_of_widths_as_it_counts_one(name: str) -> None:
    chosen, rng = load_space(name), np.random.default_rng(0)
    generator = PRESETS[chosen.preset]().student.generator
    drawn = [values_of(chosen, random_configuration(chosen, rng)) for _ in range(40)]
    changes = [
        {path.removeprefix(PREFIX): each for path, each in values.items() if path.startswith(PREFIX)}
        | ({"num_blocks": int(rng.integers(1, 4))} if hasattr(generator, "num_blocks") else {})
        for values in drawn
    ]
    calls: list[int] = []

    def counted(of: Any) -> dict[str, Any]:
        calls.append(1)
        return counts(of)

    found = counts_of_each(generator, changes, counted)
    assert len(calls) <= 3, "one for each depth"
    for index, change in enumerate(changes):
        alone = counts(with_unchecked_values(generator, change))
        assert {cost_name: numbers[index] for cost_name, numbers in found.items()} == alone


def test_a_family_that_asks_how_large_a_width_is_is_counted_one_by_one() -> None:
    generator = PRESETS["shapes32"]().student.generator

    def asks(of: Any) -> dict[str, Any]:
        return {"cost/macs": 1 if of.widths.stem > of.widths.trunk else 2}

    changes = [{"widths.stem": stem, "widths.trunk": 5} for stem in (4, 6, 5)]
    assert counts_of_each(generator, changes, asks)["cost/macs"].tolist() == [2, 1, 2]
    fixed = counts_of_each(generator, [{}, {}], counts)
    assert fixed["cost/macs"].tolist() == [counts(generator)["cost/macs"]] * 2


def test_windows_and_what_is_refused_are_those_of_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    for of in (problem(constraints=WINDOWS), deep_problem("known-cost")):
        drawn = [random_configuration(of.space, rng) for _ in range(60)]
        together = of._replace(
            costs_of_many=lambda given: {
                name: np.array([float(costs_of(each)[name]) for each in given])
                for name in ("cost/macs", "cost/params")
            }
        )
        expected = [is_feasible(of, each) for each in drawn]
        assert 0 < sum(expected) < 60
        assert are_feasible(of, drawn).tolist() == are_feasible(together, drawn).tolist() == expected
        assert are_feasible(of, []).tolist() == []
        names = ["cost/params", "cost/macs"]
        table = [[float(costs_of(each)[name]) for name in names] for each in drawn]
        for given in (of, together):
            assert costs_of_each(given, drawn, names).tolist() == table
            assert costs_of_each(given, drawn, []).shape == (60, 0)
