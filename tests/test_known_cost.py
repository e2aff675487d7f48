"""The rules of the sampler known-cost: how objectives are modelled, what the models say, how it scores."""

import math

import numpy as np
import pytest

from raydistill import search
from raydistill.config.space import Objective, Window
from raydistill.records import pareto
from raydistill.search import Observation, Problem, known_cost
from raydistill.search.acquisition import hypervolume_improvement
from raydistill.search.candidates import free_parameters, stratified_proposals, uniform_proposals
from raydistill.search.encoding import Encoding
from raydistill.search.known_cost import _SearchModel, known_cost_proposals
from raydistill.search.objective_scale import _scale, scale_objective
from raydistill.search.problem import PriorObservation
from raydistill.search.surrogate import Inputs
from raydistill.testing.samplers import (
    DEEP,
    DEEP_WHEN,
    KD,
    MACS,
    MIOU,
    PARAMS,
    SMALL,
    costs_of,
    observation,
    problem,
    run,
)

OPEN = Objective(name="val/kd_evaluator", direction="min")


# ---- how an objective is modelled --------------------------------------------------------------------------


def line(number: int) -> Inputs:
    """Points between 0 and 1."""
    return Inputs(np.linspace(0, 1, number)[:, None], np.zeros((number, 0), dtype=np.int64))


def is_log(values: np.ndarray, objective: Objective = OPEN) -> bool:
    """Whether the logarithm of these values along a line is modelled."""
    sources = np.zeros(len(values), dtype=np.int64)
    return scale_objective(objective, values, sources, line(len(values)))[0].is_log


def along(number: int, seed: int, deviation: float) -> np.ndarray:
    """A wave along a line, with noise."""
    noise = np.random.default_rng(seed).normal(size=number)
    return np.sin(7 * np.linspace(0, 1, number)) + deviation * noise


@pytest.mark.parametrize("seed", range(5))
def test_the_logarithm_is_taken_where_it_is_what_noise_and_shape_are_simple_in(seed: int) -> None:
    orders_of_magnitude = np.exp(2 * along(32, seed, 0.1))
    assert is_log(orders_of_magnitude) and not is_log(-orders_of_magnitude)
    assert not is_log(orders_of_magnitude, MIOU), "what is maximised"
    near_zero = along(32, seed, 0.05) + 1.2
    near_zero -= near_zero.min() - 0.01
    assert not is_log(near_zero), "the logarithm of the smallest is nearly all noise"
    assert not is_log(near_zero - 0.02), "not all are positive"
    assert not is_log(5 + along(32, seed, 0.1)), "both do; the logarithm must be clearly better"
    with_failures = near_zero + np.where(np.arange(32) % 9 == 4, 1e3, 0.0)
    assert not is_log(with_failures), "what is cut decides nothing"


def test_few_or_equal_values_have_no_logarithm() -> None:
    assert not is_log(np.exp([0.0, 1.0])) and not is_log(np.full(8, 3.0))


def test_later_values_do_not_change_whether_the_logarithm_is_taken() -> None:
    orders_of_magnitude = np.exp(2 * along(32, 0, 0.1))
    plain = np.concatenate([orders_of_magnitude, np.linspace(1, 2, 40)])
    inputs = line(32) + line(40)
    assert scale_objective(OPEN, plain, np.zeros(72, dtype=np.int64), inputs)[0].is_log


def test_a_bad_tail_is_cut_three_robust_deviations_above_the_median() -> None:
    """Median 2, and the median distance from it is 1: the cut is 2 + 3 * 1.4826."""
    values = np.array([0.0, 1.0, 2.0, 3.0, 100.0])
    scale = _scale(OPEN, values, False)
    assert scale.cut == pytest.approx(2 + 3 * 1.4826) and scale.reference == scale.cut
    np.testing.assert_allclose(scale.modelled(values), [0, 1, 2, 3, scale.cut])
    turned = _scale(MIOU, -values, False)
    np.testing.assert_allclose(turned.modelled(-values), scale.modelled(values))
    assert (turned.sign, turned.cut, turned.reference) == (-1.0, scale.cut, 0.0)
    assert _scale(OPEN, np.array([0.0, 0.0, 0.0, 4.0, 4.0]), False).cut == 4.0, (
        "never below the upper quartile"
    )
    assert _scale(OPEN, np.array([0.0, 1.0, 2.0, 3.0]), False).reference == 3.0, (
        "nothing is cut: the worst value"
    )


def test_a_reference_is_the_worst_modelled_value_or_the_one_that_is_given_where_that_is_better() -> None:
    values = np.array([0.5, 1.0, 1.5, 2.0])
    for reference, expected in ((1.25, 1.25), (9.0, 2.0)):
        assert _scale(KD.model_copy(update={"reference": reference}), values, False).reference == expected
        assert _scale(
            KD.model_copy(update={"reference": reference}), values, True
        ).reference == pytest.approx(expected)
    assert _scale(MIOU.model_copy(update={"reference": 1.75}), values, False).reference == -1.75
    scale = _scale(OPEN, values, True)
    np.testing.assert_allclose(scale.modelled(values), np.log(values))
    assert scale.reference == pytest.approx(2.0)


def test_values_of_other_sources_are_moved_to_the_median_of_this_sweep() -> None:
    sources = np.array([0] * 5 + [1] * 5 + [2] * 3)
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 101.0, 102.0, 103.0, 104.0, 105.0, 7.0, 8.0, 9.0])
    scale, modelled = scale_objective(MIOU, values, sources, line(len(values)))
    np.testing.assert_allclose(modelled[:5], -values[:5])
    np.testing.assert_allclose(modelled[5:10], [-1, -2, -3, -4, -5])
    np.testing.assert_allclose(modelled[10:], [-2, -3, -4])
    assert scale.reference == -1.0
    outlier = np.where(np.arange(13) == 9, 1e6, values)
    assert scale_objective(OPEN, outlier, sources, line(13))[1][9] < 20, (
        "each source is cut by its own spread"
    )


def test_until_this_sweep_has_three_values_the_first_source_says_whether_by_the_logarithm() -> None:
    def by_logarithm(own: np.ndarray, elsewhere: np.ndarray) -> bool:
        sources = np.array([0] * len(own) + [1] * len(elsewhere))
        inputs = line(len(own)) + line(len(elsewhere))
        return scale_objective(OPEN, np.concatenate([own, elsewhere]), sources, inputs)[0].is_log

    logs, plain = np.exp(2 * along(32, 0, 0.1)), 5 + along(32, 0, 0.1)
    assert by_logarithm(plain[:2], logs) and not by_logarithm(logs[:2], plain)
    assert by_logarithm(logs, plain) and not by_logarithm(plain, logs)
    assert by_logarithm(np.empty(0), logs) and not by_logarithm(np.empty(0), plain)
    assert not by_logarithm(np.array([1.0, -1.0]), logs), "a value that has no logarithm"


def test_without_values_of_this_sweep_the_first_source_stands_for_it() -> None:
    sources, values = np.array([1, 1, 1, 2, 2, 2]), np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    scale, modelled = scale_objective(MIOU, values, sources, line(len(values)))
    np.testing.assert_allclose(modelled, [-1, -2, -3, -1, -2, -3])
    assert scale.reference == -1.0


# ---- when models are used ----------------------------------------------------------------------------------


def first(of: Problem, history: list[Observation], number: int, **given: bool) -> dict[str, object]:
    return next(known_cost_proposals(of, history, number, **given))


def test_the_start_is_stratified_until_it_is_over_and_three_trials_are_complete() -> None:
    of, told = problem(), [observation(entry.configuration) for entry in run(problem("random"), 6)]
    broken = [Observation(entry.configuration, "COMPLETE", [math.nan, 1.0]) for entry in told]
    for history, number in ((told, 3), (told[:2], 4), (told[:2] + broken[2:], 6)):
        assert first(of, history, number) == next(stratified_proposals(of, history, number))
        assert first(of, history, number, exact_cost=False) == next(uniform_proposals(of, history, number))
    for history, number in ((told, 4), (told[:3], 4)):
        assert first(of, history, number) != next(stratified_proposals(of, history, number))


def test_what_is_known_from_elsewhere_takes_the_place_of_the_start() -> None:
    rows = [
        PriorObservation(entry.configuration, entry.values or [], 1) for entry in run(problem("random"), 6)
    ]
    for count, is_modelled in ((2, False), (3, True)):
        of = problem()._replace(prior_observations=rows[:count])
        assert (first(of, [], 0) != next(stratified_proposals(of, [], 0))) == is_modelled


# ---- what looks around -------------------------------------------------------------------------------------


def test_free_are_the_parameters_that_no_cost_depends_on() -> None:
    assert free_parameters(problem()) == ["step", "weight", "kind", "rate"]
    assert free_parameters(problem(parameters=DEEP, when=DEEP_WHEN)) == [], (
        "nor one that decides about another"
    )
    assert free_parameters(problem()._replace(costs_of=lambda each: {})) == list(problem().space.parameters)


def test_what_the_config_refuses_is_not_asked_for_its_costs() -> None:
    def known(configuration: dict[str, object]) -> dict[str, int]:
        assert configuration["kind"] == "x"
        return costs_of(configuration)  # type: ignore[arg-type]

    of = problem()._replace(costs_of=known, is_refused=lambda each: each["kind"] == "y", refuses_some=True)
    assert free_parameters(of) == ["step", "weight", "kind", "rate"]


def test_a_belief_that_looks_around_has_effects_of_the_values_of_free_parameters() -> None:
    """Columns: the numbers step, a, b, weight and rate, then the category kind."""
    history = run(problem(), 10)
    assert believed(problem(), history).by_value == []
    assert believed(problem(), history, looks_around=True).by_value == [0, 3, 4, 5]
    modelled = believed(problem(), history, exact_cost=False, looks_around=True)
    assert modelled.by_value == [0, 1, 2, 3, 4, 5], "where costs are not known, none is free of them"
    assert [model.by_value for model in modelled.models if model] == 2 * [modelled.by_value]


# ---- what is believed --------------------------------------------------------------------------------------


def believed(
    of: Problem, history: list[Observation], exact_cost: bool = True, looks_around: bool = False
) -> _SearchModel:
    complete = [entry for entry in history if entry.values is not None]
    return _SearchModel(of, history, complete, exact_cost, looks_around)


def test_known_costs_are_not_modelled_and_their_reference_is_the_end_of_their_axis() -> None:
    of = problem(objectives=(MACS, MIOU, PARAMS.model_copy(update={"reference": 20.0})))
    history = [
        Observation(entry.configuration, "COMPLETE", [1.0, entry.values[0], 1.0])
        for entry in run(problem(), 8)
        if entry.values
    ]
    belief = believed(of, history)
    assert [model is None for model in belief.models] == [True, False, True]
    assert belief.reference[0] == 256_000 and belief.reference[2] == 20.0
    rows = belief.encoding.encode([entry.configuration for entry in history[:3]])
    mean, deviation = belief._predict(*belief._inputs_and_costs(rows))
    costs = [costs_of(entry.configuration) for entry in history[:3]]
    np.testing.assert_allclose(mean[:, 0], [each["cost/macs"] for each in costs])
    np.testing.assert_allclose(mean[:, 2], [each["cost/params"] for each in costs])
    assert (deviation[:, [0, 2]] == 0).all() and (deviation[:, 1] > 0).all()
    assert all(model is not None for model in believed(of, history, exact_cost=False).models)
    windowed = problem(constraints=(Window(cost="cost/macs", high=90_000),))
    assert believed(windowed, run(problem(), 8)).reference[1] == 90_000


def test_the_front_is_of_believed_means_of_what_was_told_and_what_runs() -> None:
    history = run(problem(), 8)
    belief = believed(problem(), history)
    mean, _ = belief._predict(*belief._inputs_and_costs(belief.history_rows), given_running=False)
    expected = mean[pareto.members(mean, ("min", "min"))]
    np.testing.assert_allclose(np.sort(belief.front, axis=0), np.sort(expected, axis=0))
    running = Observation({"a": 2, "b": 1, "weight": "off", "kind": "x", "rate": 0.3}, "RUNNING", None)
    beside = believed(problem(), [*history, running])
    assert (beside.front[:, 1] == 2000).any() and not (belief.front[:, 1] == 2000).any()
    assert len(beside.running.numbers) == 1 and len(belief.running.numbers) == 0
    failed = believed(problem(), [*history, running._replace(state="FAIL")])
    assert len(failed.running.numbers) == 0


def test_an_objective_by_its_logarithm_has_a_front_on_its_own_scale() -> None:
    of = problem(objectives=(KD.model_copy(update={"reference": None}), MACS))
    history = [
        Observation(entry.configuration, "COMPLETE", [math.exp(9 * (1 - entry.values[0])), entry.values[1]])
        for entry in run(problem(), 12)
        if entry.values
    ]
    belief = believed(of, history)
    assert belief.is_log == [True, False]
    lowest = min(entry.values[0] for entry in history if entry.values)
    assert 0.3 * lowest < belief.front[:, 0].min() < 3 * lowest


def test_a_reference_that_no_believed_value_reaches_is_loosened_by_one_spread() -> None:
    """Not that of a known cost, and not one that is reached."""
    of, history = problem(objectives=(KD.model_copy(update={"reference": 0.001}), MACS)), []
    for entry in run(problem(), 10):
        assert entry.values
        history.append(Observation(entry.configuration, "COMPLETE", [1 - entry.values[0], entry.values[1]]))
    belief = believed(of, history)
    model = belief.models[0]
    assert model is not None
    best = belief.front[:, 0].min()
    nearest = best * math.exp(-model.scale) if belief.is_log[0] else best - model.scale
    assert belief.reference[0] == pytest.approx(max(0.001, nearest)) and belief.reference[1] == 256_000
    points = np.array([[0.5, 1.0], [0.4, 2.0]])
    for is_log, expected in ((False, 0.4 - model.scale), (True, 0.4 * math.exp(-model.scale))):
        belief.is_log, belief.reference = [is_log, False], np.array([-9.0, 7.0])
        belief._loosen_reference(points)
        np.testing.assert_allclose(belief.reference, [expected, 7.0])
        belief.reference = np.array([0.45, 7.0])
        belief._loosen_reference(points)
        np.testing.assert_allclose(belief.reference, [0.45, 7.0])


def test_failures_are_learnt_from_ended_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[list[float]] = []

    class Kept:
        def __init__(self, inputs: object, values: np.ndarray):
            labels.append(values.tolist())

    history = run(problem(), 8)
    belief = believed(problem(), history)
    assert belief.failures is None
    monkeypatch.setattr(known_cost, "GaussianProcess", Kept)
    changed = [
        history[0],
        history[1]._replace(state="FAIL", values=None),
        history[2]._replace(values=[math.nan, 1.0]),
        history[3]._replace(state="RUNNING", values=None),
        history[4]._replace(state="PRUNED", values=None),
        history[5],
    ]
    assert belief._fit_failures(changed) is not None and labels == [[0.0, 1.0, 1.0, 0.0]]


def test_of_thousands_the_front_and_an_even_share_of_the_rest_are_modelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_cost, "_TOLD_AT_MOST", 8)
    of, history = problem(), run(problem("random"), 30)
    kept = known_cost._most_telling(of, history)
    places = [history.index(each) for each in kept]
    assert len(kept) == 8 and places == sorted(places)
    points = np.array([each.values for each in history])
    front = np.flatnonzero(pareto.members(points, ("max", "min")))
    ranks = pareto.ranks(points, ("max", "min"))
    assert len(set(front[:4]) - set(places)) == 0 and len(set(places) - set(front)) >= 4
    assert sorted(ranks[places])[:4] == sorted(ranks)[:4]
    assert known_cost._most_telling(of, history[:8]) == history[:8]
    labels: list[list[float]] = []

    class Kept:
        def __init__(self, inputs: object, values: np.ndarray):
            labels.append(values.tolist())

    belief = believed(of, history)
    failed = list(history)
    for index in (3, 20):
        failed[index] = history[index]._replace(state="FAIL", values=None)
    with monkeypatch.context() as patch:
        patch.setattr(known_cost, "GaussianProcess", Kept)
        belief._fit_failures(failed)
    assert sorted(labels[0]) == [0, 0, 0, 0, 1, 1], "no failure is left out while there are few"
    proposal = next(known_cost_proposals(of, history, 30))
    assert search.identity(proposal) not in {search.identity(each.configuration) for each in history}


def test_a_score_is_the_expected_gain_times_the_chance_not_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    belief = believed(problem(), run(problem(), 10))
    rows = belief.encoding.draw(np.random.default_rng(0), 40)
    mean, deviation = belief._predict(*belief._inputs_and_costs(rows))
    plain = hypervolume_improvement(belief.front, belief.reference, mean, deviation, belief.is_log)
    np.testing.assert_allclose(belief.scores(rows), plain)
    assert (plain > 0).sum() > 5

    class Failures:
        def predict(self, inputs: object) -> tuple[np.ndarray, None]:
            return np.tile([-0.5, 0.0, 0.3, 2.0], 10), None

    belief.failures = Failures()  # type: ignore[assignment]
    np.testing.assert_allclose(belief.scores(rows), plain * np.tile([1.0, 1.0, 0.7, 0.05], 10))


def test_a_small_space_is_scored_whole_without_what_was_told() -> None:
    of = problem(parameters=SMALL, constraints=(Window(cost="cost/macs", low=2000, high=4000),))
    history = [
        Observation({"a": a, "b": 2, "kind": "on"}, "COMPLETE", [0.1 * a, 2000.0 * a]) for a in (1, 2, 3)
    ]
    belief = believed(of, history)
    found = [belief.encoding.decode(row) for row in belief.candidates(np.random.default_rng(0))]
    every = [(a, b, kind) for a in (1, 2, 3) for b in (1, 2) for kind in ("off", "on") if 2 <= a * b <= 4]
    told = [(1, 2, "on"), (2, 2, "on")]
    assert sorted((each["a"], each["b"], each["kind"]) for each in found) == sorted(set(every) - set(told))


@pytest.mark.parametrize(("number", "looks_around"), [(10, False), (11, False), (12, True)])
def test_proposals_are_the_candidates_by_falling_score(number: int, looks_around: bool) -> None:
    of, history = problem(), run(problem(), 10)
    proposals = [each for _, each in zip(range(200), known_cost_proposals(of, history, number))]
    belief = believed(of, history, looks_around=looks_around)
    scores = belief.scores(Encoding(of.space).encode(proposals))
    assert (np.diff(scores) <= 1e-9 * scores.max()).all() and scores[0] > 0
    drawn = belief.candidates(np.random.default_rng(1))
    assert scores[0] >= belief.scores(drawn).max(), "mutants of the best are no worse than what is drawn"


def test_a_stopped_trial_counts_as_measured_at_its_expected_end() -> None:
    """Every training so far ended at twice its first evaluation."""
    configuration = run(problem(), 8)[0].configuration
    history = []
    for entry in run(problem(), 8):
        assert entry.values
        curve = [(0.5, [entry.values[0] / 2, entry.values[1]])]
        history.append(entry._replace(curve=curve))
    cost = float(costs_of(configuration)["cost/macs"])
    stopped = Observation(configuration, "PRUNED", None, [(0.5, [0.2, cost])])
    running = stopped._replace(state="RUNNING")
    found = known_cost._with_expected_ends(problem(), [*history, stopped, running])
    assert found[:8] == history and found[9] == running
    assert found[8].values == pytest.approx([0.4, cost], rel=0.01)
