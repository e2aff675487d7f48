"""`KnownCostSampler` in anybody's Optuna studies: Optuna's own kit, costs, constraints, spaces, bad input."""

import logging
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import TrialState

from raydistill.errors import SpaceError
from raydistill.records.pareto import hypervolume
from raydistill.search import KnownCostSampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


# ---- Optuna's own kit --------------------------------------------------------------------------------------


class _Kit:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: KnownCostSampler(num_startup=3)


class TestBasic(_Kit, BasicSamplerTestCase):
    pass


class TestRelative(_Kit, RelativeSamplerTestCase):
    pass


class TestMultiObjective(_Kit, MultiObjectiveSamplerTestCase):
    pass


# ---- a problem ---------------------------------------------------------------------------------------------


def error_of(params: dict[str, Any]) -> float:
    """Falls with width and depth, whose right kind and rate matter."""
    kind = {"good": 0.0, "bad": 0.3}[params["kind"]]
    rate = math.log10(params["rate"] / 1e-2) ** 2 / 10
    return 1 / math.sqrt(params["width"]) + 0.5 / params["depth"] + kind + rate


def size_of(params: dict[str, Any]) -> float:
    return float(params["width"] ** 2 * params["depth"])


def suggested(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "width": trial.suggest_int("width", 4, 64, log=True),
        "depth": trial.suggest_int("depth", 1, 5, step=2),
        "rate": trial.suggest_float("rate", 1e-4, 1.0, log=True),
        "kind": trial.suggest_categorical("kind", ["bad", "good"]),
        "share": trial.suggest_float("share", 0, 1, step=0.25),
    }


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params = suggested(trial)
    return error_of(params), size_of(params)


def study_of(sampler: BaseSampler, trials: int = 0, names: list[str] | None = None) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    if names:
        study.set_metric_names(names)
    study.optimize(objective, n_trials=trials)
    return study


def by_position(params: dict[str, Any]) -> dict[int | str, float]:
    return {1: size_of(params)}


def test_it_beats_random_search_with_a_known_size() -> None:
    def reached(sampler: BaseSampler, trials: int) -> float:
        points = np.array([trial.values for trial in study_of(sampler, trials).trials])
        return hypervolume(points, ["min", "min"], [2.0, 20_000.0])

    ours = reached(KnownCostSampler(by_position, seed=0), 20)
    assert ours > max(reached(RandomSampler(seed=seed), 40) for seed in range(3))


def test_the_first_trials_are_spread_over_the_known_size() -> None:
    sizes = sorted(
        trial.values[1]
        for trial in study_of(KnownCostSampler(by_position, seed=1, num_startup=8), 9).trials[1:]
    )
    logs = np.log(sizes)
    assert logs[0] < math.log(16 * 5) + 1 and logs[-1] > math.log(64**2 * 5) - 1
    assert np.diff(logs).max() < 0.45 * (logs[-1] - logs[0])


def test_a_cost_by_name_is_that_by_position() -> None:
    one = study_of(KnownCostSampler(by_position, seed=3, num_startup=4), 7)
    named = KnownCostSampler(lambda params: {"size": size_of(params)}, seed=3, num_startup=4)
    other = study_of(named, 7, names=["error", "size"])
    assert [trial.params for trial in one.trials] == [trial.params for trial in other.trials]


def test_a_known_objective_may_be_maximised_and_be_the_only_one() -> None:
    sampler = KnownCostSampler(lambda params: {0: params["x"]}, seed=0, num_startup=2)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
    assert study.best_value > 0.99


def test_a_single_objective_that_is_modelled_is_minimised() -> None:
    study = optuna.create_study(sampler=KnownCostSampler(seed=0, num_startup=5))
    study.optimize(lambda trial: (trial.suggest_float("x", -5, 5) - 2) ** 2, n_trials=18)
    assert study.best_value < 0.01


def test_what_is_modelled_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    with caplog.at_level(logging.INFO, "optuna.raydistill"):
        optuna.logging.set_verbosity(optuna.logging.INFO)
        study_of(KnownCostSampler(by_position, seed=0), 4, names=["error", "size"])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    said = {id(each): each.message for each in caplog.records if "KnownCostSampler" in each.message}
    assert [*said.values()] == ["KnownCostSampler: no cost is known of objective error: modelled"]


# ---- spaces, constraints, several processes ----------------------------------------------------------------


def test_parameters_that_not_every_trial_has_are_random_and_the_others_are_not() -> None:
    def conditional(trial: optuna.Trial) -> tuple[float, float]:
        width = trial.suggest_int("width", 1, 64)
        extra = trial.suggest_float("extra", 0, 1) if trial.suggest_categorical("is", [True, False]) else 0.0
        return 1 / width + extra, float(width)

    sampler = KnownCostSampler(lambda params: {1: params["width"]}, seed=0, num_startup=4)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(conditional, n_trials=16)
    space = sampler.infer_relative_search_space(study, study.trials[-1])
    assert set(space) == {"width", "is"} and any("extra" in trial.params for trial in study.trials)


def test_a_given_space_takes_part_although_trials_lack_some_of_it() -> None:
    space = {
        "width": IntDistribution(1, 64),
        "kind": CategoricalDistribution(["plain", "deep"]),
        "depth": IntDistribution(2, 9),
    }

    def run(trial: optuna.Trial) -> tuple[float, float]:
        width = trial.suggest_int("width", 1, 64)
        depth = (
            trial.suggest_int("depth", 2, 9)
            if trial.suggest_categorical("kind", ["plain", "deep"]) == "deep"
            else 1
        )
        return 1 / width / depth, float(width * depth)

    sampler = KnownCostSampler(
        lambda params: {1: params["width"] * (params["depth"] if params["kind"] == "deep" else 1)},
        seed=0,
        search_space=space,
        num_startup=4,
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(run, n_trials=14)
    assert {frozenset(trial.params) for trial in study.trials} == {
        frozenset({"width", "kind"}),
        frozenset({"width", "kind", "depth"}),
    }
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_violated_constraints_are_learnt() -> None:
    def constrained(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("sum", 1 - x - y)
        return x + 2 * y

    study = optuna.create_study(sampler=KnownCostSampler(seed=0, num_startup=6))
    study.optimize(constrained, n_trials=24)
    feasible = [trial.values[0] for trial in study.trials if max(trial.constraints.values()) <= 0]
    assert min(feasible) < 1.1 and len(feasible) > 10


def test_two_samplers_on_one_storage_repeat_nothing() -> None:
    storage = optuna.storages.InMemoryStorage()
    one, two = (KnownCostSampler(by_position, seed=seed, num_startup=4) for seed in (5, 5))
    first = optuna.create_study(storage=storage, study_name="s", directions=["minimize"] * 2, sampler=one)
    second = optuna.load_study(storage=storage, study_name="s", sampler=two)
    asked = []
    for _ in range(6):
        for study in (first, second):
            asked.append((study, study.ask()))
            suggested(asked[-1][1])
        for study, trial in asked[-2:]:
            study.tell(trial, [error_of(trial.params), size_of(trial.params)])
    params = [tuple(sorted(trial.params.items())) for trial in first.trials]
    assert len(set(params)) == len(params) == 12


def test_a_space_that_is_used_up_is_repeated() -> None:
    study = optuna.create_study(sampler=KnownCostSampler(seed=0, num_startup=2))
    study.optimize(lambda trial: float(trial.suggest_categorical("x", [3, 1, 2])), n_trials=7)
    assert study.best_value == 1 and len(study.trials) == 7


@pytest.mark.parametrize(
    "distribution, value",
    [
        (IntDistribution(-7, 9, step=4), 5),
        (IntDistribution(1, 1000, log=True), 37),
        (FloatDistribution(-1.0, 1.0), 0.25),
        (FloatDistribution(1e-6, 10.0, log=True), 1e-3),
        (FloatDistribution(0.1, 0.9, step=0.2), 0.7),
        (CategoricalDistribution([None, True, "a", 3.5]), True),
        (CategoricalDistribution([None, True, "a", 3.5]), None),
    ],
)
def test_values_go_in_and_come_out_as_they_were(distribution: Any, value: Any) -> None:
    from raydistill.search.study_sampler import _axis

    axis = _axis(distribution)
    back = axis.outward(axis.inward(value))
    assert back is value if value is None or value is True else back == pytest.approx(value)


# ---- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "costs, says",
    [
        (
            lambda params: {2: 1.0},
            r"costs: 2 is no objective of the study. Allowed: positions 0 to 1; names are",
        ),
        (
            lambda params: {"size": 1.0},
            r"costs: 'size' is no objective of the study. Allowed: positions 0 to 1",
        ),
        (lambda params: {True: 1.0}, r"costs: True is no objective"),
        (lambda params: {1: math.nan}, r"objective 1 is nan; give a finite number"),
        (
            lambda params: {1: 1.0} if params["width"] < 6 else {},
            r"gave , and 1 for others; give the same always",
        ),
        (lambda params: {1: 1.0 / 0}, r"raised ZeroDivisionError: .* give search_space= if it needs others"),
        (lambda params: 5.0, r"gave 5.0: return a mapping from objective to number"),
    ],
)
def test_costs_that_cannot_be_used_are_refused(costs: Any, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        study_of(KnownCostSampler(costs, seed=0, num_startup=3), 6)


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/optuna.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "optuna.md", "exec"), {})
    assert int(capsys.readouterr().out) >= 5


def test_no_start_is_refused() -> None:
    with pytest.raises(SpaceError, match="num_startup 0: give at least 1"):
        KnownCostSampler(num_startup=0)


def test_it_needs_no_torch() -> None:
    code = "import sys; from raydistill.search import KnownCostSampler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
