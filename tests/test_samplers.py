"""The sampler known-cost: what it finds, alone and as a sampler of Optuna. The contract of all samplers
is in `test_search_kit`."""

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from search_kit import values_of
from threadpoolctl import threadpool_info, threadpool_limits

from raydistill import search
from raydistill.config.configurations import active_parameters
from raydistill.config.space import Choice, Int, Objective, SearchSpace, When
from raydistill.records.pareto import hypervolume
from raydistill.search import (
    Configuration,
    KnownCostSampler,
    Observation,
    identity,
    random_configuration,
)
from raydistill.search.encoding import Encoding, distinct
from raydistill.search.optuna_samplers import suggest
from raydistill.testing.samplers import (
    KD,
    MACS,
    MIOU,
    MIXED,
    PARAMS,
    SMALL,
    costs_of,
    miou,
    observation,
    problem,
    run,
)

# ---- known-cost --------------------------------------------------------------------------------------------


def regret(history: Sequence[Observation]) -> float:
    """1 - hypervolume / that of the best, over the mIoU and the MACs."""
    grid = np.array([[1 - 1.5 / (a * b) ** 0.5, 1000 * a * b] for a in range(2, 17, 2) for b in range(1, 17)])
    directions, reference = ["max", "min"], [0.0, 256_000.0]
    points = np.array([entry.values for entry in history if entry.values])
    return 1 - hypervolume(points, directions, reference) / hypervolume(grid, directions, reference)


@pytest.mark.slow  # of every run: the sampler's parts one by one, in tests/test_known_cost.py
def test_known_cost_leaves_less_than_half_of_the_regret_of_random_search() -> None:
    ours, theirs = (
        [regret(run(problem(sampler, seed=seed), 30)) for seed in range(3)]
        for sampler in ("known-cost", "random")
    )
    assert np.median(ours) < 0.5 * np.median(theirs)


def test_running_trials_repel() -> None:
    """With the last proposals still running, the next ones differ from them in more than a last digit."""
    history = run(problem(), 12)
    encoding = Encoding(problem().space)
    running: list[Observation] = []
    for number in range(12, 18):
        running.append(Observation(search.propose(problem(), history + running, number), "RUNNING", None))
    seen = encoding.features(encoding.encode([entry.configuration for entry in running]))
    away = np.linalg.norm(seen.numbers[:, None] - seen.numbers[None], axis=2)
    away = (away + (seen.categories[:, None] != seen.categories[None]).sum(axis=2))[np.triu_indices(6, 1)]
    assert away.min() > 0.02


def test_where_a_region_fails_it_is_left() -> None:
    def outcome(configuration: Configuration, number: int) -> Observation:
        return (
            Observation(configuration, "FAIL", None)
            if configuration["kind"] == "x"
            else observation(configuration)
        )

    late = [entry.configuration["kind"] for entry in run(problem(), 30, outcome)[15:]]
    assert late.count("x") <= 3


def test_a_nan_is_a_failure() -> None:
    history = run(problem(), 10)
    history[3] = Observation(history[3].configuration, "COMPLETE", [math.nan, 1.0])
    history[4] = Observation(history[4].configuration, "COMPLETE", [math.inf, 1.0])
    assert search.propose(problem(), history, 10)


def test_how_far_a_training_diverged_changes_nothing() -> None:
    kd = problem(objectives=(KD, MACS))
    sane = [
        Observation(entry.configuration, "COMPLETE", [1 - entry.values[0], entry.values[1]])
        for entry in run(problem(), 16)
        if entry.values
    ]
    proposed = []
    for wild in (1e2, 1e30):
        history = [
            *sane[:7],
            Observation(sane[7].configuration, "COMPLETE", [wild, sane[7].values[1]]),
            *sane[8:],
        ]  # type: ignore[index]
        proposed.append(search.propose(kd, history, 16))
    assert proposed[0] == proposed[1]


@pytest.mark.parametrize(
    "objectives", [(MIOU, KD), (MIOU, MACS, PARAMS), (MIOU, MACS, KD), (MIOU, MACS, KD, PARAMS)]
)
def test_two_to_four_objectives_with_none_to_two_known_costs(objectives: tuple[Objective, ...]) -> None:
    """Four startup proposals, and three that are modelled: with four objectives each takes a second."""
    of = problem(objectives=objectives)
    history = run(
        of,
        7,
        lambda configuration, number: Observation(configuration, "COMPLETE", values_of(of, configuration)),
    )
    assert len({identity(entry.configuration) for entry in history}) == 7


@pytest.mark.slow  # it is timed: on a machine with nothing else to do
@pytest.mark.parametrize("name", ["known-cost", "modelled-cost"])
def test_a_proposal_at_300_trials_takes_less_than_a_second(name: str) -> None:
    rng = np.random.default_rng(0)
    history = [
        observation(configuration) if i % 10 else Observation(configuration, "FAIL", None)
        for i in range(300)
        for configuration in [random_configuration(problem().space, rng)]
    ]
    history += [Observation(random_configuration(problem().space, rng), "RUNNING", None) for _ in range(8)]
    started = time.process_time()
    search.propose(problem(name), history, 308)
    assert time.process_time() - started < 1.0


def test_a_proposal_is_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process has; beside trainings several wait for each other."""
    seen: list[int] = []

    def sampler(*given: Any) -> Iterator[Configuration]:
        seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        yield from search.SAMPLERS["random"](*given)

    monkeypatch.setitem(search.SAMPLERS, "mine", sampler)
    with threadpool_limits(2, "blas"):
        search.propose(problem("mine"), [], 0)
        assert 2 in {each["num_threads"] for each in threadpool_info()}
    assert seen and set(seen) == {1}


def test_proposals_that_never_end_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search.SAMPLERS, "mine", lambda *given: itertools.repeat(first))
    first = search.propose(problem("random"), [], 0)
    history = [observation(first)]
    assert search.propose(problem("mine"), [], 0) == first
    assert search.propose(problem("mine"), history, 1) != first


def test_costs_are_exact_or_modelled() -> None:
    """Told costs are wrong here: with exact costs they are not read."""
    history = run(problem(), 12)
    lied = [
        Observation(entry.configuration, "COMPLETE", [entry.values[0], 7.0 + index])
        for index, entry in enumerate(history)
        if entry.values
    ]
    assert search.propose(problem(), lied, 12) == search.propose(problem(), history, 12)
    assert search.propose(problem("modelled-cost"), lied, 12) != search.propose(
        problem("modelled-cost"), history, 12
    )


# ---- as a sampler of Ray -----------------------------------------------------------------------------------


def test_through_rays_optuna_search() -> None:
    of = problem()

    def ask(trial: optuna.Trial) -> dict[str, Any]:
        return {"macs": costs_of(suggest(trial, of.space))["cost/macs"]}

    sampler = KnownCostSampler(seed=0, num_startup=4)
    searcher = OptunaSearch(ask, sampler=sampler, metric=["miou", "macs"], mode=["max", "min"])
    seen = set()
    for number in range(10):
        config = searcher.suggest(str(number))
        assert config is not None
        macs = config.pop("macs")
        seen.add(identity(config))
        result = {"miou": miou(config), "macs": macs, tune.result.TRAINING_ITERATION: 1}
        searcher.on_trial_complete(str(number), result)
    assert len(seen) == 10


# ---- encoding ----------------------------------------------------------------------------------------------


def test_encoding_and_back_is_the_same_configuration() -> None:
    encoding, rng = Encoding(problem().space), np.random.default_rng(0)
    configurations = [random_configuration(problem().space, rng) for _ in range(200)]
    for configuration, row in zip(configurations, encoding.encode(configurations)):
        back = encoding.decode(row)
        assert {k: v for k, v in back.items() if isinstance(v, int | str)} == {
            k: v for k, v in configuration.items() if isinstance(v, int | str)
        }
        assert (
            back == pytest.approx(configuration, rel=1e-12)
            if all(isinstance(v, float) for v in back.values())
            else back.keys() == configuration.keys()
        )
        assert back["rate"] == pytest.approx(configuration["rate"]) and back.get("step", 1) == pytest.approx(
            configuration.get("step", 1)
        )


def test_drawn_and_mutated_rows_are_active_configurations_inside_their_ranges() -> None:
    space = problem().space
    encoding, rng = Encoding(space), np.random.default_rng(0)
    drawn = encoding.draw(rng, 300)
    for row in np.vstack([drawn, encoding.mutate(drawn[:5], rng, 300)]):
        configuration = encoding.decode(row)
        assert configuration == active_parameters(space, configuration) and ("step" in configuration) == (
            configuration["weight"] != "off"
        )
        assert (
            configuration["a"] in range(2, 17, 2)
            and configuration["b"] in range(1, 17)
            and 0.1 <= configuration.get("step", 1) <= 100
        )


def test_mutants_differ_from_their_parents() -> None:
    encoding, rng = Encoding(problem().space), np.random.default_rng(0)
    parents = encoding.draw(rng, 20)
    mutants = encoding.mutate(parents, rng, 200)
    assert len(distinct(mutants, parents)) > 150


def test_widths_are_seen_on_a_log_scale_and_small_ranges_on_a_linear_one() -> None:
    space = SearchSpace(
        preset="none",
        parameters={"w": Int(low=4, high=64, step=4), "k": Int(low=3, high=7, step=2)},
        objectives=(),
        uniform=(1,),
    )
    encoding = Encoding(space)
    features = encoding.features(encoding.encode([{"w": 4, "k": 3}, {"w": 16, "k": 5}, {"w": 64, "k": 7}]))
    np.testing.assert_allclose(features.numbers, [[0, 0], [0.5, 0.5], [1, 1]], atol=1e-12)


def test_a_small_space_is_listed_whole() -> None:
    encoding = Encoding(problem(parameters=SMALL).space)
    grid = encoding.grid(100)
    assert grid is not None and len({identity(encoding.decode(row)) for row in grid}) == 12
    assert encoding.grid(11) is None and Encoding(problem().space).grid(10**9) is None


def test_rows_are_numbers_that_say_how_far_along_its_range_a_parameter_is() -> None:
    encoding = Encoding(problem().space)
    given = {"step": 1.0, "a": 8, "b": 16, "weight": "low", "kind": "y", "rate": 0.5}
    (row,) = encoding.encode([given])
    np.testing.assert_allclose(row, [1 / 3, 3, 15, 1, 1, 0.75])
    (inactive,) = encoding.encode(
        [{name: given[name] for name in ("a", "b", "kind", "rate")} | {"weight": "off"}]
    )
    assert np.isnan(inactive[0]) and not np.isnan(inactive[1:]).any()
    assert encoding.counts.tolist() == [0, 8, 16, 3, 2, 0]
    assert encoding.is_ordered.tolist() == [True, True, True, True, False, True]


def test_options_that_are_numbers_are_in_their_order() -> None:
    keys = {"z": 0.5, "a": 2, "m": 1.0}
    encoding = Encoding(
        problem(parameters={"x": Choice(options=keys), "y": Choice(options={"t": True, "f": False})}).space
    )
    assert encoding.encode([{"x": key, "y": "f"} for key in "zma"])[:, 0].tolist() == [0, 1, 2]
    assert encoding.decode(np.array([2.0, 0.0])) == {"x": "a", "y": "t"}
    assert encoding.is_ordered.tolist() == [True, False]


def test_features_are_the_log_of_wide_ranges_the_middle_of_inactive_ones_and_categories() -> None:
    encoding = Encoding(problem().space)
    active_one = {"step": 1.0, "a": 8, "b": 4, "weight": "high", "kind": "y", "rate": 0.0}
    passive = {name: value for name, value in active_one.items() if name != "step"} | {
        "weight": "off",
        "kind": "x",
    }
    features = encoding.features(encoding.encode([active_one, passive]))
    log_a, log_b = math.log(8 / 2) / math.log(16 / 2), math.log(4) / math.log(16)
    np.testing.assert_allclose(
        features.numbers, [[1 / 3, log_a, log_b, 1.0, 0.5], [0.5, log_a, log_b, 0.0, 0.5]]
    )
    assert features.categories.tolist() == [[1, 0], [0, 1]]


def test_a_range_of_a_factor_of_four_is_wide() -> None:
    parameters = {
        "w": Int(low=3, high=12),
        "n": Int(low=3, high=11),
        "z": Int(low=0, high=9),
        "one": Int(low=5, high=5),
    }
    encoding = Encoding(problem(parameters=parameters).space)
    np.testing.assert_allclose(encoding.log_span, [math.log(4), 0, 0, 0])
    features = encoding.features(encoding.encode([{"w": 6, "n": 7, "z": 3, "one": 5}]))
    np.testing.assert_allclose(features.numbers, [[0.5, 0.5, 1 / 3, 0.0]])


def test_drawn_rows_are_a_third_each_of_lower_upper_and_whole_ranges() -> None:
    encoding = Encoding(
        problem(parameters={"a": Int(low=0, high=999), "kind": MIXED["kind"], "rate": MIXED["rate"]}).space
    )
    rows = encoding.draw(np.random.default_rng(0), 6000)
    means = [rows[start::3].mean(axis=0) for start in range(3)]
    np.testing.assert_allclose([mean[0] / 999 for mean in means], [0.25, 0.75, 0.5], atol=0.02)
    np.testing.assert_allclose([mean[2] for mean in means], [0.25, 0.75, 0.5], atol=0.02)
    np.testing.assert_allclose([mean[1] for mean in means], 0.5, atol=0.04)
    assert rows[:, 0].min() == 0 and rows[:, 0].max() == 999 and (rows[:, 0] % 1 == 0).all()
    assert abs(np.corrcoef(rows[::3, 0], rows[::3, 2])[0, 1]) > 0.2


def test_a_mutant_goes_to_a_neighbour_or_anywhere_in_one_parameter_or_few() -> None:
    encoding = Encoding(problem(parameters={name: MIXED[name] for name in ("a", "b", "kind", "rate")}).space)
    parent = encoding.encode([{"a": 8, "b": 1, "kind": "x", "rate": 0.0}])
    rows = encoding.mutate(parent, np.random.default_rng(0), 8000)
    moved = rows != parent
    assert moved.any(axis=1).mean() > 0.8
    # one parameter for sure, each of the four with probability 1/4 besides: 1 + 3/4 of them are changed
    assert moved[:, 3].mean() == pytest.approx(1 - (3 / 4) ** 2, abs=0.03)
    steps = rows[moved[:, 0], 0] - parent[0, 0]
    near = (np.abs(steps) == 1).mean()
    assert near == pytest.approx((0.7 + 0.3 * 2 / 8) / (1 - 0.3 / 8), abs=0.03) and abs(steps.mean()) < 0.3
    assert rows[:, 1].min() == 0 and rows[:, 1].max() == 15 and (rows[:, :3] % 1 == 0).all()
    small = np.abs(rows[moved[:, 3], 3] - parent[0, 3])
    of_normal = np.mean([math.erf(0.02 / step / 2**0.5) for step in (0.01, 0.05, 0.2)])
    assert (small < 0.02).mean() == pytest.approx(0.7 * of_normal + 0.3 * 0.04, abs=0.04)
    assert rows[:, 3].min() >= 0 and rows[:, 3].max() <= 1
    assert set(rows[:, 2]) == {0.0, 1.0}


def test_a_mutant_whose_condition_comes_to_hold_gets_a_value() -> None:
    encoding = Encoding(problem().space)
    parent = encoding.encode([{"a": 8, "b": 8, "weight": "off", "kind": "x", "rate": 0.0}])
    rows = encoding.mutate(parent, np.random.default_rng(0), 500)
    steps = rows[rows[:, 3] > 0, 0]
    assert len(steps) > 50 and not np.isnan(steps).any() and steps.std() > 0.2
    assert np.isnan(rows[rows[:, 3] == 0, 0]).all()


def test_conditions_are_taken_one_after_the_other_from_the_top() -> None:
    parameters = {
        "low": Int(low=1, high=2),
        "middle": Choice(options={"x": "x", "y": "y"}),
        "top": Choice(options={"on": 1, "off": 0}),
    }
    when = {"low": When(parameter="middle", keys=("x",)), "middle": When(parameter="top", keys=("on",))}
    encoding = Encoding(problem(parameters=parameters, when=when).space)
    grid = encoding.grid(8)
    assert grid is not None
    found = [encoding.decode(row) for row in grid]
    assert sorted(found, key=repr) == sorted(
        [
            {"top": "off"},
            {"middle": "y", "top": "on"},
            *({"low": low, "middle": "x", "top": "on"} for low in (1, 2)),
        ],
        key=repr,
    )
    assert encoding.grid(7) is None


def test_distinct_rows_are_the_first_of_each_that_is_not_known() -> None:
    rows = np.array([[1.0, np.nan], [2.0, 0.0], [1.0, np.nan], [3.0, 1.0]])
    np.testing.assert_array_equal(distinct(rows), rows[[0, 1, 3]])
    np.testing.assert_array_equal(distinct(rows, rows[1:2]), rows[[0, 3]])
