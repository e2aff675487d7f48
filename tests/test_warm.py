"""What is known before the first trial: how the models take it, what is read from where, what a resume
reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from search_kit import training, values_of

from raydistill import search
from raydistill.config.space import load_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.errors import ConfigError, StoreError
from raydistill.planning.checks import check
from raydistill.records import store, tables
from raydistill.records.files import write_json_atomic
from raydistill.records.pareto import hypervolume, members
from raydistill.records.trials import Trial, TrialResult
from raydistill.search import PriorObservation, identity, random_configuration, warm_start
from raydistill.search.simulate import simulate
from raydistill.search.surrogate import GaussianProcess, Inputs
from raydistill.sweep.run import _find_sweep, _new_sweep
from raydistill.testing.samplers import MIXED, SMALL, costs_of, miou, mixed_outcome, problem, run, space

# ---- the models --------------------------------------------------------------------------------------------


def with_source(numbers: np.ndarray, source: int) -> Inputs:
    return Inputs(numbers, np.full((len(numbers), 1), source), num_sources=1)


def test_another_source_helps_whatever_its_level() -> None:
    """Three observations of a curve, and thirty of it moved up by five and bent a little."""
    rng = np.random.default_rng(0)
    own, elsewhere, asked = (
        np.array([[0.1], [0.5], [0.8]]),
        rng.random((30, 1)),
        np.linspace(0, 1, 50)[:, None],
    )

    def truth(at: np.ndarray) -> np.ndarray:
        return np.sin(6 * at[:, 0])

    alone = GaussianProcess(Inputs(own, np.zeros((3, 0), dtype=np.int64)), truth(own))
    inputs = with_source(own, 0) + with_source(elsewhere, 1)
    both = GaussianProcess(inputs, np.append(truth(own), truth(elsewhere) + 5 + 0.1 * elsewhere[:, 0]))
    without_source = Inputs(asked, np.zeros((50, 0), dtype=np.int64))
    means = alone.predict(without_source)[0], both.predict(with_source(asked, 0))[0]
    errors = [np.sqrt(((mean - truth(asked)) ** 2).mean()) for mean in means]
    assert errors[1] < 0.3 * errors[0] and errors[1] < 0.15


def prior_observations(count: int = 40, seed: int = 5) -> list[PriorObservation]:
    """Another scale and another level: what a shorter training may give."""
    rng = np.random.default_rng(seed)
    configurations = [random_configuration(space(), rng) for _ in range(count)]
    return [
        PriorObservation(
            configuration, [0.5 * miou(configuration) + 0.1, float(costs_of(configuration)["cost/macs"])], 1
        )
        for configuration in configurations
    ]


def volume(history: list[search.Observation]) -> float:
    return hypervolume([entry.values for entry in history if entry.values], ["max", "min"], [0.0, 256_000.0])


def test_the_first_trials_are_better_than_without() -> None:
    warm_run, cold_run = (
        volume(run(problem()._replace(prior_observations=given), 6)) for given in (prior_observations(), ())
    )
    assert warm_run > 1.2 * cold_run


def test_what_is_known_is_proposed_too_and_once() -> None:
    """Every configuration is known, so every proposal is of one that is; the first of all is no bad one."""
    of = problem(parameters=SMALL)
    rng = np.random.default_rng(0)
    known = {
        identity(configuration): PriorObservation(configuration, values_of(of, configuration), 1)
        for configuration in (random_configuration(of.space, rng) for _ in range(99))
    }
    of = of._replace(prior_observations=list(known.values()))
    assert {identity(entry.configuration) for entry in run(of, 12)} == set(known)
    points = [row.values for row in of.prior_observations]
    assert members(points, ["max", "min"])[list(known).index(identity(search.propose(of, [], 0)))]


def test_a_proposal_depends_on_the_rows_and_on_nothing_else() -> None:
    of, other = (
        problem()._replace(prior_observations=prior_observations()),
        problem()._replace(prior_observations=prior_observations(seed=6)),
    )
    history = run(of, 8, mixed_outcome)
    for number in (0, 3, 7):
        assert (
            search.propose(
                of._replace(prior_observations=list(of.prior_observations)), list(history[:number]), number
            )
            == history[number].configuration
        )
    assert search.propose(other, [], 0) != history[0].configuration


def test_samplers_that_cannot_tell_sources_apart_do_not_look() -> None:
    for sampler in set(search.SAMPLERS) - set(warm_start.SAMPLERS) - {"gp"}:
        assert search.propose(
            problem(sampler)._replace(prior_observations=prior_observations()), [], 0
        ) == search.propose(problem(sampler), [], 0)


def test_rows_that_mislead_are_overruled_by_the_trials() -> None:
    """Their values belong to each other's configurations."""
    told = prior_observations()
    wrong = [
        row._replace(values=[told[-1 - index].values[0], row.values[1]]) for index, row in enumerate(told)
    ]
    with_wrong, without = (
        volume(run(problem()._replace(prior_observations=given), 14)) for given in (wrong, ())
    )
    assert with_wrong > 0.9 * without


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_killed_sweep_with_a_warm_start_goes_on_to_the_same_end(share: float) -> None:
    of = problem(parameters={name: MIXED[name] for name in ("a", "b", "kind")})
    rows = [
        PriorObservation(
            {name: row.configuration[name] for name in ("a", "b", "kind")}, row.values, row.source
        )
        for row in prior_observations(12)
    ]
    of = of._replace(prior_observations=rows)
    whole = simulate(of, training, num_trials=12, num_workers=3)
    killed = simulate(
        of, training, num_trials=12, num_workers=3, until_sec=share * max(trial.ends_sec for trial in whole)
    )
    assert any(trial.status == "RUNNING" for trial in killed)
    assert simulate(of, training, num_trials=12, num_workers=3, trials=killed) == whole


# ---- tables ------------------------------------------------------------------------------------------------


def plain(count: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    configurations = [random_configuration(space(), rng) for _ in range(count)]
    return pd.DataFrame(
        [
            {**configuration, "val/miou": miou(configuration), "remark": "old"}
            for configuration in configurations
        ]
    )


def read(path: Path | str, tmp_path: Path, **fields: Any) -> warm_start.WarmStart:
    return warm_start.read([str(path)], "known-cost", tmp_path / "sweeps", space(**fields), costs_of)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_plain_table_has_parameters_and_objectives_as_columns(kind: str, tmp_path: Path) -> None:
    table, path = plain(), tmp_path / f"old.{kind}"
    table.to_csv(path, index=False) if kind == "csv" else path.write_text(
        json.dumps(json.loads(table.to_json(orient="records")))
    )
    rows, printed = read(path, tmp_path)
    assert len(rows) == 12 and printed == [f"warm start: 12 rows of {path}"]
    for row, (_, given) in zip(rows, table.iterrows()):
        assert row.source == 1 and row.values == pytest.approx(
            [given["val/miou"], costs_of(row.configuration)["cost/macs"]]
        )
        assert row.configuration["a"] == given["a"] and row.configuration["rate"] == pytest.approx(
            given["rate"]
        )
        assert ("step" in row.configuration) == (given["weight"] != "off")


def test_choices_may_be_given_by_value(tmp_path: Path) -> None:
    table = plain().replace({"weight": {"off": 0.0, "low": 0.1, "high": 0.3}})
    table.to_csv(tmp_path / "old.csv", index=False)
    by_value, by_key = read(tmp_path / "old.csv", tmp_path).rows, None
    plain().to_csv(tmp_path / "old.csv", index=False)
    by_key = read(tmp_path / "old.csv", tmp_path).rows
    assert by_value == by_key


def test_what_is_of_no_use_is_counted(tmp_path: Path) -> None:
    table = plain().astype("object")
    table.loc[0, "a"], table.loc[1, "b"], table.loc[2, "weight"], table.loc[3, "rate"] = 18, 0.5, "huge", 2.0
    table.loc[4, "val/miou"] = np.nan
    table["status"] = ["COMPLETE"] * 10 + ["PRUNED", "FAIL"]
    table.to_csv(tmp_path / "old.csv", index=False)
    rows, printed = read(tmp_path / "old.csv", tmp_path)
    assert len(rows) == 5
    assert printed[0].endswith(
        "without 4 outside the space, 1 without a finite number for every objective, 2 not trained to the end"
    )


def result_table(count: int = 6) -> pd.DataFrame:
    """As `results.write_tables` would write it: values of choices, rows measured in two ways."""
    trials = []
    for number, row in enumerate(plain(count).to_dict("records")):
        params = {path: row[path] for path in MIXED if row[path] == row[path]}
        params["weight"] = MIXED["weight"].options[params["weight"]]  # type: ignore[union-attr]
        trial = {
            "number": number,
            "trial_id": f"{number:04d}",
            "trial_key": "k",
            "role": "search",
            "label": "",
            "params": params,
            "seed": 0,
        }
        trial |= {
            "costs": {"macs": 7.0, "macs_convention": "true"},
            "digests": {"data": "d", "evaluator": "e", "teacher": "t"},
            "job": {},
        }
        result = {
            "status": "COMPLETE",
            "reason": "",
            "nimg": 10,
            "budget_nimg": 10 if number % 2 else 20,
            "wall_sec": 1.0,
            "gpu_sec": 0.0,
        }
        result |= {
            "hardware": "",
            "git_revision": "",
            "metrics": {"val/miou": row["val/miou"]},
            "evaluations": [],
            "context": {},
        }
        result["trial_key"] = "k"
        trials.append(Trial.model_validate(trial).with_result(TrialResult.model_validate(result)))
    trials.append(trials[0].model_copy(update={"role": "teacher"}))
    return tables.trial_table(trials, sweep_id="old")


def test_rows_of_a_result_table_that_were_measured_alike_are_one_source(tmp_path: Path) -> None:
    tables.write_tables(tmp_path, result_table(), pd.DataFrame())
    for name in ("trials.csv", "trials.parquet"):
        rows, printed = read(tmp_path / name, tmp_path)
        assert sorted(row.source for row in rows) == [1, 1, 1, 2, 2, 2]
        assert (
            "6 rows" in printed[0]
            and "2 kinds of measurement" in printed[0]
            and printed[0].endswith("without 1 of no student of a search")
        )
        assert all(row.values[1] == costs_of(row.configuration)["cost/macs"] for row in rows)


def test_several_files_are_several_sources_and_too_many_rows_are_thinned_with_the_front_kept(
    tmp_path: Path,
) -> None:
    big = plain(400)
    big.to_csv(tmp_path / "big.csv", index=False)
    plain().to_csv(tmp_path / "old.csv", index=False)
    rows, printed = warm_start.read(
        [str(tmp_path / name) for name in ("big.csv", "old.csv")], "known-cost", tmp_path, space(), costs_of
    )
    assert [sum(row.source == source for row in rows) for source in (1, 2)] == [
        60,
        12,
    ] and "340 more than 120 in all" in printed[0]
    every = np.array([[row["val/miou"], costs_of(row)["cost/macs"]] for row in big.to_dict("records")])
    on_front = every[members(every, ["max", "min"])]
    assert {tuple(np.round(point, 9)) for point in on_front} <= {
        tuple(np.round(row.values, 9)) for row in rows
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.drop(columns="kind"),
            r"old.csv: no column kind. Columns: a, b, weight, rate, val/miou, remark, step\.",
        ),
        (lambda table: table.drop(columns="val/miou"), r"no column val/miou"),
        (lambda table: table.assign(a=99), r"none of its 12 rows is of use: 12 outside the space"),
        (lambda table: table[:0], r"none of its 0 rows is of use: it is empty"),
    ],
)
def test_a_table_of_no_use_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    change(plain()).to_csv(tmp_path / "old.csv", index=False)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "old.csv", tmp_path)


def test_what_is_not_there_or_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweeps/default-001").mkdir(parents=True)
    (tmp_path / "sweeps/default-001/sweep.json").write_text("{}")
    with pytest.raises(
        ConfigError, match=r"default-01: no such sweep.* Sweeps: default-001. Nearest: 'default-001'"
    ):
        read("default-01", tmp_path)
    (tmp_path / "old.json").write_text("{broken")
    with pytest.raises(StoreError, match=r"old.json: damaged or unreadable"):
        read(tmp_path / "old.json", tmp_path)


# ---- the copy ----------------------------------------------------------------------------------------------


def test_the_copy_in_the_sweeps_folder_gives_the_same_rows_and_a_changed_one_is_refused(
    tmp_path: Path,
) -> None:
    record, files = warm_start.sweep_record(["old.csv"], prior_observations(3))
    write_json_atomic(tmp_path / warm_start.FILE, files[warm_start.FILE])
    assert warm_start.load(tmp_path, record) == prior_observations(3) and warm_start.load(tmp_path, {}) == []
    text = (tmp_path / warm_start.FILE).read_text()
    (tmp_path / warm_start.FILE).write_text(text.replace('"source": 1', '"source": 2', 1))
    with pytest.raises(StoreError, match=r"warm_start.json: damaged or unreadable: the digest"):
        warm_start.load(tmp_path, record)


def test_a_sweep_that_goes_on_reads_its_copy_though_the_original_is_gone(tmp_path: Path) -> None:
    small = {"data.num_train": 16, "data.num_val": 8, "data.num_test": 8}
    table, chosen = tmp_path / "old.csv", load_space("default")
    configurations = [random_configuration(chosen, np.random.default_rng(number)) for number in range(5)]
    pd.DataFrame(
        [configuration | {"val/miou": 0.1 * number} for number, configuration in enumerate(configurations)]
    ).to_csv(table, index=False)
    given = {
        "store": str(tmp_path / "runs"),
        "set": tuple(f"{path}={value}" for path, value in small.items()),
        "nimg": 160,
    }
    cold, warmed = SweepOptions(**given), SweepOptions(**given, warm_start=(str(table),))
    plan = check(warmed)
    assert plan.definition != check(cold).definition
    folder = _new_sweep(plan)
    table.unlink()
    with pytest.raises(ConfigError, match=r"no such sweep, and no \.csv"):
        check(warmed)
    again = check(warmed.model_copy(update={"resume": True}))
    assert again.definition == plan.definition and _find_sweep(again) == folder
    assert (
        warm_start.load(folder, store.read_sweep(folder)) == list(plan.warm_start.rows)
        and len(plan.warm_start.rows) == 5
    )
    with pytest.raises(
        ConfigError, match="--warm-start with --sampler tpe: only known-cost and modelled-cost can"
    ):
        check(warmed.model_copy(update={"sampler": "tpe"}))
