"""Seeds for the front members whose place is uncertain: the estimator, the choice, a simulated sweep."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from search_kit import training
from test_analysis import embedded

import analysis
from raydistill.records import pareto, tables
from raydistill.records.trials import Trial, TrialResult
from raydistill.search import Configuration, Seeds, next_to_repeat
from raydistill.search.simulate import Outcome, SimulatedTrial, seeds_of, simulate
from raydistill.seeds import numpy_stream
from raydistill.testing.samplers import problem
from raydistill.trials.ledger import Ledger

MIN2 = ("min", "min")

# ---- numbers -----------------------------------------------------------------------------------------------


def test_the_probability_is_the_integral_where_the_cost_is_known() -> None:
    """A point is a member where no cheaper one is better."""
    means = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 2.1], [4.0, 1.0], [5.0, 4.0]])
    errors = np.array([[0.0, 0.3], [0.0, 0.3], [0.0, 0.2], [0.0, 0.5], [0.0, 0.4]])

    def share(index: int) -> float:
        def density(value: float) -> float:
            beaten = np.prod([norm.sf(value, *pair) for pair in zip(means[:index, 1], errors[:index, 1])])
            return float(norm.pdf(value, means[index, 1], errors[index, 1]) * beaten)

        return float(
            quad(density, means[index, 1] - 8 * errors[index, 1], means[index, 1] + 8 * errors[index, 1])[0]
        )

    got = pareto.membership(means, errors, MIN2)
    np.testing.assert_allclose(
        got, [share(index) for index in range(5)], atol=0.035
    )  # three standard errors of 2,000 draws
    np.testing.assert_array_equal(got, pareto.membership(means, errors, MIN2))
    turned = pareto.membership(means * [1, -1], errors, ("min", "max"))
    np.testing.assert_allclose(turned, got, atol=0.05)


def test_without_errors_it_is_membership() -> None:
    points = np.random.default_rng(0).random((20, 3))
    got = pareto.membership(points, np.zeros_like(points), ("min",) * 3)
    np.testing.assert_array_equal(got, pareto.members(points, ("min",) * 3))
    assert pareto.stability(points, got, ("min",) * 3) == 1 and pareto.membership(
        np.empty((0, 2)), np.empty((0, 2)), MIN2
    ).shape == (0,)
    for wrong in (np.full_like(points, np.nan), -points, points[:5]):
        with pytest.raises(ValueError, match="errors must be finite and not negative"):
            pareto.membership(points, wrong, ("min",) * 3)


def test_standard_errors_by_hand() -> None:
    """Sums of squares 2, 0 and 8 over 1 + 0 + 2 degrees of freedom: the pooled variance is 10 / 3."""
    samples = [[[1.0, 5.0], [3.0, 5.0]], [[0.0, 6.0]], [[0.0, 7.0], [2.0, 7.0], [4.0, 7.0]]]
    pooled = 10 / 3
    expected = [math.sqrt((4 * pooled + 2) / 5 / 2), math.sqrt(pooled), math.sqrt((4 * pooled + 8) / 6 / 3)]
    got = pareto.standard_errors(samples)
    np.testing.assert_allclose(got[:, 0], expected)
    assert (got[:, 1] == 0).all()
    assert np.isnan(pareto.standard_errors([sample[:1] for sample in samples])).all()


def test_standard_errors_are_honest() -> None:
    """Of 400 configurations with two or three seeds, about 95 % of the means lie within two standard
    errors."""
    rng = np.random.default_rng(0)
    samples = [1 + 0.3 * rng.normal(size=(2 + index % 2, 1)) for index in range(400)]
    errors = pareto.standard_errors([np.hstack([sample, sample]) for sample in samples])[:, 0]
    inside = np.mean([abs(sample.mean() - 1) < 2 * error for sample, error in zip(samples, errors)])
    assert 0.92 < inside < 0.98


# ---- the choice --------------------------------------------------------------------------------------------


def seeds(*values: float, cost: float, running: int = 0) -> Seeds:
    return Seeds([[value, cost] for value in values], running)


SURE, LUCKY, RIVAL = seeds(9.0, 9.2, cost=1.0), seeds(5.0, cost=2.0), seeds(5.1, 4.9, 5.2, cost=3.0)


def test_at_first_members_of_the_front_are_chosen_in_turn() -> None:
    fresh = [seeds(9.0, cost=1.0), seeds(9.5, cost=2.0), seeds(5.0, cost=3.0)]
    assert next_to_repeat(fresh, MIN2) == 0
    fresh[0] = fresh[0]._replace(running=1)
    assert next_to_repeat(fresh, MIN2) == 2  # the second is dominated
    assert next_to_repeat([], MIN2) is None


def test_the_least_certain_place_is_chosen_and_running_trainings_count() -> None:
    """The second and third have the same quality: whether the dearer one is a member is a toss-up."""
    assert next_to_repeat([SURE, LUCKY, RIVAL], MIN2) == 2
    crowded = RIVAL._replace(running=40)
    assert next_to_repeat([SURE, LUCKY, crowded, seeds(5.2, cost=4.0)], MIN2) == 3


def test_the_variance_of_a_membership_is_shared_among_its_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """p (1 - p) / n, of which the largest is chosen, the first of equals; n counts what runs."""
    students = [seeds(5.0, 5.0, cost=1.0), seeds(5.0, 5.0, 5.0, cost=2.0), seeds(5.0, cost=3.0)]

    def choice(*probability: float, running: int = 0) -> int | None:
        monkeypatch.setattr(pareto, "membership", lambda *given: np.array(probability))
        return next_to_repeat([*students[:2], students[2]._replace(running=running)], MIN2)

    assert choice(0.5, 0.5, 0.5) == 2 and choice(0.5, 0.5, 0.5, running=1) == 0
    assert choice(0.5, 0.5, 0.5, running=9) == 0 and choice(0.9, 0.5, 1.0) == 1
    assert choice(1.0, 0.5, 0.95) == 1 and choice(1.0, 0.9, 0.1) == 2
    assert choice(1.0, 0.0, 1.0) is None


def test_the_spread_is_believed_from_three_trainings_beyond_the_first_of_each() -> None:
    """Before that the cheapest member with the fewest trainings is chosen, though its place is certain."""
    sure = [seeds(9.0, 9.001, cost=1.0), seeds(5.0, 5.001, cost=2.0), seeds(7.0, cost=3.0)]
    assert next_to_repeat(sure, MIN2) == 0
    assert next_to_repeat([*sure[:2], seeds(7.0, 7.001, cost=3.0)], MIN2) is None
    fewer = [seeds(9.0, 9.001, cost=1.0), seeds(5.0, cost=2.0), seeds(7.0, cost=3.0)]
    assert next_to_repeat(fewer, MIN2) == 1


def test_a_front_is_stable_where_its_members_are_likely_and_the_others_are_not() -> None:
    points = [[1.0, 3.0], [2.0, 2.0], [3.0, 4.0], [4.0, 2.5]]
    found = pareto.stability(points, [0.9, 0.8, 0.1, 0.3], MIN2)
    assert found == pytest.approx((0.9 + 0.8) / (2 + 0.1 + 0.3))
    assert pareto.stability(np.empty((0, 2)), [], MIN2) == 1.0


def test_what_is_certain_is_left_alone_and_a_stable_front_ends_it() -> None:
    apart = [seeds(9.0, 9.001, 9.002, cost=1.0), seeds(5.0, 5.001, cost=2.0), seeds(7.0, cost=3.0)]
    assert next_to_repeat(apart, MIN2) is None
    unsure = [SURE, LUCKY, RIVAL]
    means = [np.mean(entry.values, axis=0) for entry in unsure]
    errors = pareto.standard_errors([entry.values for entry in unsure])
    reached = pareto.stability(means, pareto.membership(means, errors, MIN2), MIN2)
    assert 0.5 < reached < 1
    assert (
        next_to_repeat(unsure, MIN2, stability=reached) is None
        and next_to_repeat(unsure, MIN2, stability=reached + 0.01) == 2
    )


# ---- a sweep -----------------------------------------------------------------------------------------------


def noisy(configuration: Configuration, number: int) -> Outcome:
    outcome = training(configuration, number)
    noise = 0.03 * numpy_stream(0, "test/replicates", number).normal()
    return outcome._replace(values=outcome.values and [outcome.values[0] + noise, outcome.values[1]])


def swept(**given: object) -> list[SimulatedTrial]:
    return simulate(
        problem("random"), noisy, **{"num_trials": 20, "num_workers": 1, "num_replicates": 8} | given
    )  # type: ignore[arg-type]


def test_the_search_ends_first_and_every_replicate_repeats_a_searched_trial() -> None:
    trials = swept(num_workers=3)
    repeated = [trial for trial in trials if trial.replicate_of is not None]
    assert len(repeated) == 8 and trials[:20] == swept(num_workers=3, num_replicates=0)
    searched_end = max(trial.ends_sec for trial in trials[:20])
    for trial in repeated:
        original = trials[trial.replicate_of or 0]
        assert (
            trial.started_sec >= searched_end
            and trial.configuration == original.configuration
            and original.replicate_of is None
        )
        assert original.status == "COMPLETE" and trial.outcome.values != original.outcome.values


@pytest.mark.parametrize("workers", [1, 3])
def test_a_kill_during_the_replicates_changes_nothing(workers: int) -> None:
    whole = swept(num_workers=workers)
    start, end = max(trial.ends_sec for trial in whole[:20]), max(trial.ends_sec for trial in whole)
    for share in (0.1, 0.5, 0.9):
        killed = swept(num_workers=workers, until_sec=start + share * (end - start))
        assert any(trial.status == "RUNNING" for trial in killed)
        assert swept(num_workers=workers, trials=killed) == whole


def test_a_stable_front_ends_them_early_and_more_may_be_asked_for_later() -> None:
    loose, strict = (swept(num_replicates=60, stability=target) for target in (0.8, 0.92))
    assert 20 + 3 <= len(loose) < len(strict) < 80
    assert swept(num_replicates=60, stability=0.92, trials=loose) == strict
    measured = [seeds_of(strict, trial.number) for trial in strict[:20] if trial.status == "COMPLETE"]
    means = [np.mean(entry.values, axis=0) for entry in measured]
    probability = pareto.membership(
        means, pareto.standard_errors([entry.values for entry in measured]), ("max", "min")
    )
    assert pareto.stability(means, probability, ("max", "min")) >= 0.92


def test_the_front_of_means_is_nearer_to_the_true_one() -> None:
    """Of the members that the sweep names, more belong to the front of the true values, over four sweeps."""
    single, replicated = [], []
    for seed in range(4):

        def outcome_of(configuration: Configuration, number: int, seed: int = seed) -> Outcome:
            outcome = training(configuration, 0)
            return outcome._replace(
                values=[
                    outcome.values[0] + 0.03 * numpy_stream(seed, "test/replicates", number).normal(),
                    outcome.values[1],
                ]
            )  # type: ignore[union-attr]

        trials = simulate(
            problem("random", seed=seed), outcome_of, num_trials=25, num_workers=4, num_replicates=20
        )
        true = pareto.members(
            [training(trial.configuration, 0).values for trial in trials[:25]], ("max", "min")
        )
        for out, points in (
            (single, [trial.outcome.values for trial in trials[:25]]),
            (replicated, [np.mean(seeds_of(trials, number).values, axis=0) for number in range(25)]),
        ):
            named = pareto.members(points, ("max", "min"))
            out.append((named & true).sum() / (named | true).sum())
    print(
        f"shared with the true front: single {np.mean(single):.2f}, 20 replicates {np.mean(replicated):.2f}"
    )
    assert np.mean(replicated) > np.mean(single)


# ---- tables ------------------------------------------------------------------------------------------------

OBJECTIVES, REFERENCE = [("val/miou", "max"), ("cost/macs", "min")], [0.0, 100.0]
MIOUS = {"0000": (0.50, 0.40, 0.42), "0001": (0.45,), "0002": (0.60, 0.62), "0003": (0.55,)}
MACS = {"0000": 10, "0001": 20, "0002": 30, "0003": 40}


def replicated_trials() -> list[Trial]:
    """Four students; the first looked better by its own seed than it is, the fourth is dominated."""
    trials: list[Trial] = []
    seeds = [(trial_id, 0) for trial_id in MIOUS] + [
        (trial_id, seed) for trial_id, values in MIOUS.items() for seed in range(1, len(values))
    ]
    for number, (trial_id, seed) in enumerate(seeds):
        trial: dict[str, Any] = {
            "number": number,
            "trial_id": f"{number:04d}",
            "trial_key": "k",
            "role": "replicate" if seed else "search",
            "label": "s",
            "seed": seed,
        }
        trial |= {
            "params": {"a": MACS[trial_id]},
            "costs": {"macs": MACS[trial_id], "macs_convention": "true"},
            "job": {},
            "schema_version": 1,
        }
        trial |= {"digests": {"data": "d", "evaluator": "e", "teacher": "t"}} | (
            {"replicate_of": trial_id} if seed else {}
        )
        result: dict[str, Any] = {
            "trial_key": "k",
            "status": "COMPLETE",
            "reason": "",
            "nimg": 10,
            "budget_nimg": 10,
            "wall_sec": 1.0,
            "gpu_sec": 0.0,
            "hardware": "",
            "git_revision": "",
        }
        result |= {
            "metrics": {"val/miou": MIOUS[trial_id][seed]},
            "evaluations": [],
            "context": {"extractor": "x"},
            "schema_version": 1,
        }
        result |= {"test": {"test/miou": 0.3}} if not seed else {}
        trials.append(Trial.model_validate(trial).with_result(TrialResult.model_validate(result)))
    return trials


def test_the_front_is_that_of_the_means_and_says_how_sure_it_is() -> None:
    plain = tables.trial_table(replicated_trials()[:4], sweep_id="demo")
    alone, table = (
        tables.with_front(each, OBJECTIVES, REFERENCE)
        for each in (plain, tables.trial_table(replicated_trials(), sweep_id="demo"))
    )
    assert (
        alone["front.member"].tolist() == [True, False, True, False]
        and alone[["front.seeds", "front.probability"]].isna().all().all()
    )
    assert table["front.member"].tolist() == [True, True, True, False, False, False, False]
    assert table["front.seeds"].dropna().tolist() == [3, 1, 2, 1] and table["replicate_of"].tolist() == [
        "",
        "",
        "",
        "",
        "0000",
        "0000",
        "0002",
    ]
    means = [np.mean(values) for values in MIOUS.values()]
    np.testing.assert_allclose(table["mean.val/miou"].dropna(), means)
    errors = pareto.standard_errors([np.array(values)[:, None] * [1, 0] for values in MIOUS.values()])[:, 0]
    np.testing.assert_allclose(table["se.val/miou"].dropna(), errors)
    points = np.column_stack([means, list(MACS.values())])
    expected = pareto.membership(points, np.column_stack([errors, np.zeros(4)]), ["max", "min"])
    np.testing.assert_array_equal(table["front.probability"].dropna(), expected)
    assert 0.5 < expected[1] < 1 and expected[0] == 1 and 0 < expected[3] < 0.5


def test_the_averaged_table_has_one_row_a_student() -> None:
    table = tables.mean_over_seeds(tables.trial_table(replicated_trials(), sweep_id="demo"))
    assert table["trial_id"].tolist() == list(MIOUS) and (table["metric.test/miou"] == 0.3).all()
    np.testing.assert_allclose(table["metric.val/miou"], [np.mean(values) for values in MIOUS.values()])


def test_tables_go_to_files_and_back_and_older_ones_are_read(tmp_path: Path) -> None:
    table = tables.with_front(tables.trial_table(replicated_trials(), sweep_id="demo"), OBJECTIVES, REFERENCE)
    tables.write_tables(tmp_path, table, tables.evaluation_table(replicated_trials(), sweep_id="demo"))
    for name in ("trials.csv", "trials.parquet"):
        pd.testing.assert_frame_equal(tables.read_table(tmp_path / name), table)
    table.drop(columns=["replicate_of", "recheck_of", "front.seeds", "front.probability"]).to_parquet(
        tmp_path / "old.parquet"
    )
    assert (tables.read_table(tmp_path / "old.parquet")["replicate_of"] == "").all()


def test_the_report_shows_means_seeds_and_probabilities(tmp_path: Path) -> None:
    trials = replicated_trials()
    given = tables.trial_table(trials, sweep_id="demo"), tables.evaluation_table(trials, sweep_id="demo")
    moment = analysis.Moment(drawn="2026-11-29T09:10:00Z", state="ended")
    report = analysis.write_report(
        *given, tmp_path, title="demo", objectives=OBJECTIVES, reference=REFERENCE, facts={}, moment=moment
    )
    front = pd.read_csv(report.csv, dtype={"trial": "str"})
    assert front["trial"].tolist() == ["0000", "0001", "0002"] and front["seeds"].tolist() == [3, 1, 2]
    assert (
        front["val/miou"].tolist() == pytest.approx([0.44, 0.45, 0.61])
        and front["standard error of val/miou"].notna().all()
    )
    shown = [row.get("probability") for row in embedded(report)["rows"]]
    assert 1 in shown and front["P(on the front)"].between(0.5, 1).all()


def test_the_ledger_chooses_by_its_trials_and_counts_what_runs() -> None:
    """As `next_to_repeat` does; a failed replicate costs one of those asked for, and no more than asked
    for are made."""
    ledger = object.__new__(Ledger)
    ledger.trials = replicated_trials()
    ledger.plan = SimpleNamespace(
        options=SimpleNamespace(replicates=9, stability=None), objectives=OBJECTIVES
    )  # type: ignore[assignment]
    assert ledger.to_replicate().trial_id == "0001"  # type: ignore[union-attr]
    running = ledger.trials[4].model_copy(update={"replicate_of": "0001", "result": None})
    ledger.trials += [running.model_copy(update={"trial_id": f"{7 + index:04d}"}) for index in range(3)]
    assert ledger.to_replicate().trial_id == "0003"  # type: ignore[union-attr]
    ledger.plan.options.stability = 0.5
    assert ledger.to_replicate() is None
    ledger.plan.options.stability, ledger.plan.options.replicates = None, 6
    assert ledger.to_replicate() is None
