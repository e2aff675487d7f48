import errno
import functools
import json
import os

import numpy as np
import pandas as pd
import pytest

from raydistill.config.base import Stored, digest
from raydistill.config.experiment import Job
from raydistill.config.presets import shapes32
from raydistill.errors import RunError, StoreError
from raydistill.records import pareto, tables
from raydistill.records.files import write_json_atomic
from raydistill.records.trials import (
    SCHEMA_VERSION,
    Trial,
    TrialResult,
    read_result,
    read_trials,
    write_result,
    write_trial,
)

OBJECTIVES = [("cost/macs", "min"), ("val/miou", "max")]
REFERENCE = (3e9, 0.0)
CONTEXT = {
    "extractor": "evaluator",
    "split": "val",
    "num_samples": 192,
    "real_statistics": "5d1a0c2f9e8b7a64",
}
# role, label, million MACs, final mIoU, MI weight, stem width, norm, status, reason
TRIALS = [
    ("teacher", "teacher", 2400, 0.712, None, 64, None, "COMPLETE", ""),
    ("no_teacher", "no teacher 16", 168, 0.437, None, 16, None, "COMPLETE", ""),
    ("uniform", "uniform 8", 46, 0.352, 0.0, 8, None, "COMPLETE", ""),
    ("uniform", "uniform 16", 168, 0.503, 0.0, 16, None, "COMPLETE", ""),
    ("uniform", "uniform 32", 630, 0.604, 0.0, 32, None, "COMPLETE", ""),
    ("search", "", 31, 0.334, 0.1, 6, "instance", "COMPLETE", ""),
    ("search", "", 58, 0.437, 0.1, 12, "batch", "COMPLETE", ""),
    ("search", "", 93, 0.455, 0.0, 12, "instance", "COMPLETE", ""),
    ("search", "", 120, 0.531, 0.3, 16, "instance", "COMPLETE", ""),
    ("search", "", 244, 0.516, 0.0, 24, "batch", "COMPLETE", ""),
    ("search", "", 410, 0.628, 0.1, 32, "instance", "COMPLETE", ""),
    ("search", "", 380, 0.301, 0.0, 40, "batch", "PRUNED", "stopped at a rung"),
    (
        "search",
        "",
        75,
        None,
        1.0,
        12,
        "instance",
        "FAIL",
        "DivergenceError: energy/gap left its range at 3072 images",
    ),
    ("search", "", 205, None, 0.3, 24, "instance", "RUNNING", ""),
]


def synthetic_trials():
    """A small sweep, as `read_trials` returns it: 14 trials, of which 10 compete for the front."""
    return [synthetic_trial(number, *row) for number, row in enumerate(TRIALS)]


@functools.cache
def job_of(number):
    """A job of its own for each trial; none is trained."""
    training = shapes32().student.model_copy(update={"seed": number})
    return Job(training=training, data=Stored(path="/store/cache/data", digest="aa11bb22cc33dd44"))


def synthetic_trial(number, role, label, mega_macs, miou, weight, stem, norm, status, reason):
    params = {
        "student.generator.widths.stem": stem,
        "student.generator.norm": norm,
        "student.terms.mi.weight": weight,
    }
    result = (
        None if status == "RUNNING" else synthetic_result(number, mega_macs, miou, weight, status, reason)
    )
    content = {
        **{
            "schema_version": SCHEMA_VERSION,
            "number": number,
            "trial_id": f"{number:04d}",
            "role": role,
            "seed": 0,
        },
        **{
            "label": label or f"stem {stem}",
            "params": {path: value for path, value in params.items() if value is not None},
        },
        "costs": {"macs": mega_macs * 10**6, "params": mega_macs * 2900, "macs_convention": "true"},
        **{"trial_key": job_of(number).key, "job": job_of(number).model_dump(mode="json")},
        "digests": {
            "teacher": None if role == "no_teacher" else "1234567890123456",
            "data": "aa11bb22cc33dd44",
            "evaluator": "0e1f2a3b4c5d6e7f",
        },
    }
    return Trial.model_validate(content).with_result(result)


def scored(trial, **changes):
    """The trial, with these changes of its result."""
    return trial.with_result(trial.result.model_copy(update=changes))


def write(folder, trial):
    """Writes a trial as a sweep does, and its result where it has one."""
    write_trial(folder, trial)
    if trial.result is not None:
        write_result(folder, trial.result)


def synthetic_result(number, mega_macs, miou, weight, status, reason):
    final = 0.2 if miou is None else miou
    steps = {"COMPLETE": 4, "PRUNED": 2, "FAIL": 1}[status]
    evaluations = [
        {"nimg": 3072 * step, "wall_sec": 11.5 * step, **metrics(final * (1 - 0.6 * 0.45**step), weight)}
        for step in range(1, steps + 1)
    ]
    content = {
        **{
            "schema_version": SCHEMA_VERSION,
            "trial_key": job_of(number).key,
            "status": status,
            "reason": reason,
            "nimg": 3072 * steps,
            "budget_nimg": 12288,
        },
        **{"metrics": {} if miou is None else metrics(miou, weight), "evaluations": evaluations},
        **{
            "wall_sec": 11.5 * steps + mega_macs / 40,
            "gpu_sec": 0.0,
            "hardware": "8 CPU",
            "context": CONTEXT,
            "git_revision": "0123abc",
        },
    }
    return TrialResult.model_validate(content)


def metrics(miou, weight):
    energy = {"energy/gap": 0.3 * weight} if weight else {}
    return {
        "val/miou": miou,
        "val/kd_evaluator": 0.09 * (0.8 - miou),
        "val/fd_evaluator": 31 * (0.8 - miou) ** 2,
        "train/l1": 0.31 - 0.2 * miou,
        **energy,
    }


@pytest.fixture
def sweep_dir(tmp_path):
    for trial in synthetic_trials():
        write(tmp_path / "trials" / trial.trial_id, trial)
    return tmp_path


@pytest.fixture
def table():
    return tables.trial_table(synthetic_trials(), sweep_id="demo")


# ---- the ledger


def test_the_ledger_gives_back_every_trial_by_number_with_its_result_or_none(sweep_dir):
    assert read_trials(sweep_dir) == synthetic_trials()


def test_a_ledger_of_the_version_before_is_read_by_present_names(tmp_path):
    original, searched, recheck = synthetic_trials()[4:7]
    old_metrics = {"val/kd_judge": 0.04, "val/fd_judge": 6.5, "val/miou": 0.3}
    old_result = searched.result.to_json() | {
        "metrics": old_metrics,
        "evaluations": [{"nimg": 3072, "wall_sec": 11.5, **old_metrics}],
        "context": CONTEXT | {"extractor": "judge"},
    }
    new_job = Job(
        version=2, training=shapes32().evaluator, data=Stored(path="/d", digest="e"), evaluator=job_of(0).data
    ).model_dump(mode="json")
    old_job = {name: value for name, value in new_job.items() if name != "evaluator"}
    old_job |= {"judge": new_job["evaluator"], "training": new_job["training"] | {"recipe": "judge"}}
    key = digest(  # as the version before computed it: of the names of then
        old_job
        | {name: {"digest": old_job[name]["digest"]} for name in ("data", "judge")}
        | {"training": {name: value for name, value in old_job["training"].items() if name != "execution"}}
    )
    trial = searched.to_json() | {"again": "0004", "picked": {"a": 1}, "job": old_job, "trial_key": key}
    write_trial(tmp_path / "trials/0004", original)
    write_json_atomic(tmp_path / "trials/0005/trial.json", trial)
    old_result["trial_key"] = key
    write_json_atomic(tmp_path / "trials/0005/result.json", old_result)
    old_recheck = recheck.to_json() | {"role": "recheck", "again": "0004"}
    write_json_atomic(tmp_path / "trials/0006/trial.json", old_recheck)
    _, first, second = read_trials(tmp_path)
    new_metrics = {"val/kd_evaluator": 0.04, "val/fd_evaluator": 6.5, "val/miou": 0.3}
    assert first.replicate_of == "0004" and first.configuration == {"a": 1}
    assert second.recheck_of == "0004" and not {"again", "picked"} & {*first.to_json(), *second.to_json()}
    assert first.job_json == {name: value for name, value in new_job.items() if name in first.job_json}
    assert first.result.to_json() == old_result | {
        "metrics": new_metrics,
        "evaluations": [{"nimg": 3072, "wall_sec": 11.5, **new_metrics}],
        "context": CONTEXT,
    }


def test_a_trial_without_a_result_has_none(sweep_dir):
    assert read_result(sweep_dir / "trials" / "0013") is None
    assert read_result(sweep_dir / "trials" / "0000").metrics["val/miou"] == 0.712


def test_a_folder_without_a_proposal_is_no_trial(sweep_dir):
    (sweep_dir / "trials" / "9999").mkdir()
    assert len(read_trials(sweep_dir)) == 14


def test_a_damaged_result_is_an_error_that_names_the_file(sweep_dir):
    path = sweep_dir / "trials" / "0003" / "result.json"
    path.write_text('{"status": "COMP')
    with pytest.raises(StoreError, match=r"0003/result\.json: damaged"):
        read_trials(sweep_dir)


def test_a_result_of_another_version_is_refused(sweep_dir):
    path = sweep_dir / "trials" / "0003" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(StoreError, match="schema version 1"):
        read_result(path.parent)


def test_an_absent_results_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        read_trials(tmp_path / "nowhere")


def test_a_failed_write_names_the_cause_and_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_json_atomic(path, {"a": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"result\.json.*No space left on device"):
        write_json_atomic(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_file_where_the_folder_should_be_is_a_store_error(tmp_path):
    (tmp_path / "trials").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_json_atomic(tmp_path / "trials" / "0001" / "result.json", {})


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_json_atomic(tmp_path / "a.json", {"val/miou": float("nan")})
    assert os.listdir(tmp_path) == []


def test_a_trial_or_result_without_a_key_and_an_unknown_status_or_role_are_refused():
    trial = synthetic_trials()[0]
    content, result = trial.to_json(), trial.result.to_json()
    with pytest.raises(ValueError, match="seed"):
        Trial.model_validate({key: value for key, value in content.items() if key != "seed"})
    with pytest.raises(ValueError, match="wall_sec"):
        TrialResult.model_validate({key: value for key, value in result.items() if key != "wall_sec"})
    with pytest.raises(ValueError, match="'COMPLETE', 'PRUNED' or 'FAIL'"):
        TrialResult.model_validate(result | {"status": "RUNNING"})
    with pytest.raises(ValueError, match="'teacher', 'search'"):
        Trial.model_validate(content | {"role": "pupil"})


# ---- the tables


def test_the_table_of_a_folder_is_the_table_of_its_trials(sweep_dir, table):
    pd.testing.assert_frame_equal(tables.trial_table(sweep_dir, sweep_id="demo"), table)


def test_a_row_holds_what_the_trial_and_its_result_say(table):
    row = table.iloc[8]
    assert (row["sweep_id"], row["trial_id"], row["role"], row["status"], row["seed"]) == (
        "demo",
        "0008",
        "search",
        "COMPLETE",
        0,
    )
    assert (row["cost.macs"], row["macs_convention"], row["param.student.terms.mi.weight"]) == (
        120_000_000,
        "true",
        0.3,
    )
    assert (row["metric.val/miou"], row["nimg"], row["budget_nimg"]) == (0.531, 12288, 12288)
    assert (row["extractor"], row["split"], row["num_samples"], row["real_statistics"]) == tuple(
        CONTEXT.values()
    )
    assert row["digest.teacher"] == "1234567890123456"
    assert row["schema_version"] == SCHEMA_VERSION


def test_a_trial_without_a_result_is_running_and_has_no_numbers(table):
    row = table.iloc[13]
    assert (row["status"], row["reason"], row["extractor"]) == ("RUNNING", "", "")
    assert pd.isna(row["nimg"]) and np.isnan(row["metric.val/miou"]) and not row["front.member"]


def test_test_scores_stand_beside_val_scores_with_their_own_context():
    trial = scored(
        synthetic_trials()[3],
        test={"test/miou": 0.49},
        test_context=CONTEXT | {"split": "test", "num_samples": 100},
    )
    row = tables.trial_table([trial], sweep_id="demo").iloc[0]
    assert (row["metric.test/miou"], row["metric.val/miou"]) == (0.49, 0.503)
    assert (row["test_split"], row["test_num_samples"], row["split"], row["num_samples"]) == (
        "test",
        100,
        "val",
        192,
    )


def test_a_frechet_distance_of_too_few_samples_is_marked_where_there_is_one():
    trials = synthetic_trials()[3:6]
    trials[0] = scored(
        trials[0],
        context=CONTEXT | {"biased": True},
        test_context=CONTEXT | {"split": "test", "biased": False},
    )
    trials[1] = scored(trials[1], context=CONTEXT | {"biased": False})
    table = tables.trial_table(trials, sweep_id="demo")
    assert table["biased"].tolist() == [True, False, pd.NA] and table["test_biased"].tolist() == [
        False,
        pd.NA,
        pd.NA,
    ]
    assert str(table["biased"].dtype) == "boolean"


def test_the_evaluations_table_has_one_row_per_number(table):
    long = tables.evaluation_table(synthetic_trials(), sweep_id="demo")
    assert list(long) == [
        "schema_version",
        "sweep_id",
        "trial_id",
        "seed",
        "nimg",
        "wall_sec",
        "metric",
        "value",
    ]
    curve = long[(long["trial_id"] == "0008") & (long["metric"] == "val/miou")]
    assert list(curve["nimg"]) == [3072, 6144, 9216, 12288]
    assert len(long[long["trial_id"] == "0013"]) == 0


def test_a_sweep_without_trials_has_empty_tables_with_all_columns(table):
    empty = tables.trial_table([], sweep_id="demo")
    assert len(empty) == 0 and {"trial_id", "status", "front.member"} <= set(empty)
    assert len(tables.with_front(empty, OBJECTIVES, REFERENCE)) == 0
    assert len(tables.evaluation_table([], sweep_id="demo")) == 0


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_of_the_version_before_are_read_by_present_names(tmp_path, table, suffix):
    table.loc[3, ["role", "replicate_of"]] = "replicate", "0002"
    table.loc[4, ["role", "recheck_of"]] = "recheck", "0001"
    evaluations = tables.evaluation_table(synthetic_trials(), sweep_id="demo")
    old = table.assign(again=table["replicate_of"] + table["recheck_of"], extractor="judge")
    old = old.drop(columns=["replicate_of", "recheck_of"])
    old = old.rename(columns=lambda name: name.replace("_evaluator", "_judge"))
    old_evaluations = evaluations.assign(metric=evaluations["metric"].str.replace("_evaluator", "_judge"))
    tables.write_tables(tmp_path, old, old_evaluations)
    present = tables.read_table(tmp_path / f"trials.{suffix}")
    expected = table.assign(extractor="evaluator").astype({"extractor": "str"})
    pd.testing.assert_frame_equal(present[list(expected.columns)], expected)
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / f"evaluations.{suffix}"), evaluations)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_both_formats_give_back_the_same_tables(tmp_path, table, suffix):
    table = tables.with_front(table, OBJECTIVES, REFERENCE)
    evaluations = tables.evaluation_table(synthetic_trials(), sweep_id="demo")
    tables.write_tables(tmp_path, table, evaluations)
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / f"trials.{suffix}"), table)
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / f"evaluations.{suffix}"), evaluations)
    assert sorted(os.listdir(tmp_path)) == [
        "evaluations.csv",
        "evaluations.parquet",
        "trials.csv",
        "trials.parquet",
    ]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_empty_tables_survive_a_round_trip(tmp_path, suffix):
    tables.write_tables(
        tmp_path, tables.trial_table([], sweep_id="demo"), tables.evaluation_table([], sweep_id="demo")
    )
    assert len(tables.read_table(tmp_path / f"trials.{suffix}")) == 0
    assert len(tables.read_table(tmp_path / f"evaluations.{suffix}")) == 0


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    "values", [[True, None, False], ["a", 3, None], [[1, 2], None, "None"], [3, None, 4], [0.1, 2, None]]
)
def test_params_of_any_kind_survive_both_formats(tmp_path, suffix, values):
    trials = [
        trial.model_copy(update={"params": {"x": value}})
        for trial, value in zip(synthetic_trials()[:3], values, strict=True)
    ]
    table = tables.trial_table(trials, sweep_id="demo")
    tables.write_tables(tmp_path, table, tables.evaluation_table(trials, sweep_id="demo"))
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / f"trials.{suffix}"), table)


def test_a_table_of_another_version_or_without_a_column_or_damaged_is_refused(tmp_path, table):
    evaluations = tables.evaluation_table([], sweep_id="demo")
    tables.write_tables(tmp_path, table.assign(schema_version=2), evaluations)
    with pytest.raises(StoreError, match=r"schema version 2.*reads version 1"):
        tables.read_table(tmp_path / "trials.parquet")
    tables.write_tables(tmp_path, table.drop(columns="reason"), evaluations)
    with pytest.raises(StoreError, match="columns reason are missing"):
        tables.read_table(tmp_path / "trials.csv")
    (tmp_path / "trials.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"trials\.parquet: damaged"):
        tables.read_table(tmp_path / "trials.parquet")
    with pytest.raises(StoreError, match=r"absent\.csv"):
        tables.read_table(tmp_path / "absent.csv")


# ---- the front


def test_the_front_is_over_complete_competitors_and_agrees_with_frontier(table):
    front = tables.with_front(table, OBJECTIVES, REFERENCE)
    rows = front[tables.competitors(front)]
    points = rows[["cost.macs", "metric.val/miou"]].to_numpy(float)
    assert list(rows["trial_id"]) == [f"{number:04d}" for number in range(1, 11)]
    np.testing.assert_array_equal(rows["front.member"], pareto.members(points, ("min", "max")))
    np.testing.assert_array_equal(rows["front.rank"].astype(int), pareto.ranks(points, ("min", "max")))
    np.testing.assert_array_equal(
        rows["front.hv_contribution"], pareto.contributions(points, ("min", "max"), REFERENCE)
    )
    assert list(front[front["front.member"]]["trial_id"]) == ["0002", "0005", "0006", "0007", "0008", "0010"]


def test_teacher_pruned_failed_and_running_rows_have_no_place_on_the_front(table):
    front = tables.with_front(table, OBJECTIVES, REFERENCE)
    rest = front[~tables.competitors(front)]
    assert list(rest["trial_id"]) == ["0000", "0011", "0012", "0013"]
    assert (
        not rest["front.member"].any()
        and rest["front.rank"].isna().all()
        and rest["front.hv_contribution"].isna().all()
    )


def test_the_front_of_a_filtered_table_keeps_its_rows(table):
    front = tables.with_front(table[table["role"] == "uniform"], OBJECTIVES, REFERENCE)
    assert list(front.index) == [2, 3, 4] and front["front.member"].all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("real_statistics", "other"), ("num_samples", 50), ("split", "test"), ("extractor", "vgg")],
)
def test_numbers_measured_under_other_conditions_have_no_common_front(key, value):
    trials = synthetic_trials()
    trials[5] = scored(trials[5], context=CONTEXT | {key: value})
    with pytest.raises(RunError, match=f"mixed digests: val/miou was measured with {key}"):
        tables.with_front(tables.trial_table(trials, sweep_id="demo"), OBJECTIVES, REFERENCE)


def test_costs_counted_by_other_conventions_have_no_common_front():
    trials = synthetic_trials()
    trials[5].costs["macs_convention"] = "thop"
    with pytest.raises(RunError, match="mixed digests: cost/macs"):
        tables.with_front(tables.trial_table(trials, sweep_id="demo"), OBJECTIVES, REFERENCE)


def test_a_failed_trial_measured_under_other_conditions_does_no_harm():
    trials = synthetic_trials()
    trials[12] = scored(trials[12], context={})
    tables.with_front(tables.trial_table(trials, sweep_id="demo"), OBJECTIVES, REFERENCE)


def test_a_complete_trial_without_an_objective_is_an_error_that_names_both(table):
    with pytest.raises(RunError, match="no val/psnr in the COMPLETE trials 0001, 0002"):
        tables.with_front(table, [("cost/macs", "min"), ("val/psnr", "max")], REFERENCE)


def test_scores_by_another_evaluator_have_no_common_front():
    trials = synthetic_trials()
    trials[5].digests["evaluator"] = "another"
    table = tables.trial_table(trials, sweep_id="demo")
    with pytest.raises(
        RunError, match=r"val/miou was measured with digest\.evaluator 0e1f2a3b4c5d6e7f and another"
    ):
        tables.with_front(table, OBJECTIVES, REFERENCE)
    points = tables.objective_points(table, [("cost/macs", "min"), ("time/wall_sec", "min")])
    assert points[:, 0].tolist() == [1e6 * row[2] for row in TRIALS[1:11]]


def test_test_scores_are_checked_by_the_conditions_of_the_test_scores():
    def table_of(val, test):
        trials = synthetic_trials()
        for number, trial in enumerate(trials[:11]):
            trials[number] = scored(
                trial,
                test={"test/miou": 0.1},
                context=CONTEXT | (val if number == 5 else {}),
                test_context=CONTEXT | {"split": "test"} | (test if number == 5 else {}),
            )
        return tables.trial_table(trials, sweep_id="demo")

    objectives, other = [("cost/macs", "min"), ("test/miou", "max")], {"num_samples": 3}
    assert (tables.objective_points(table_of(other, {}), objectives)[:, 1] == 0.1).all()
    with pytest.raises(RunError, match="test/miou was measured with test_num_samples 192 and 3"):
        tables.objective_points(table_of({}, other), objectives)
    with pytest.raises(RunError, match="val/miou was measured with num_samples 192 and 3"):
        tables.objective_points(table_of(other, {}), OBJECTIVES)
    tables.objective_points(table_of({}, other), OBJECTIVES)


def test_means_are_over_a_trial_and_its_replicates_that_ended_well():
    """Replicates of trial 8: two COMPLETE, one failed and one stopped, whose numbers do not count."""
    trials = synthetic_trials()
    for number, (miou, status) in enumerate(
        [(0.6, "COMPLETE"), (0.1, "FAIL"), (0.7, "COMPLETE"), (0.2, "PRUNED")], 14
    ):
        again = synthetic_trial(number, "replicate", "", 120, miou, 0.3, 16, "instance", status, "")
        trials.append(again.model_copy(update={"replicate_of": "0008", "seed": number}))
    table = tables.trial_table(trials, sweep_id="demo")
    averaged = tables.mean_over_seeds(table)
    assert averaged["trial_id"].tolist() == [f"{number:04d}" for number in range(14)]
    assert averaged["metric.val/miou"].iloc[8] == pytest.approx((0.531 + 0.6 + 0.7) / 3)
    assert averaged["metric.val/miou"].iloc[[7, 9]].tolist() == [0.455, 0.516]
    assert averaged["cost.macs"].iloc[8] == 120_000_000 and table["metric.val/miou"].iloc[8] == 0.531
    front = tables.with_front(table, OBJECTIVES, REFERENCE)
    assert front["front.seeds"].iloc[[7, 8]].tolist() == [1, 3]


def test_what_is_measured_on_the_way_is_every_number_but_images_and_seconds():
    long = tables.evaluation_table(synthetic_trials(), sweep_id="demo")
    names = {"val/miou", "val/kd_evaluator", "val/fd_evaluator", "train/l1", "energy/gap"}
    assert set(long["metric"]) == names
    row = long[(long["trial_id"] == "0003") & (long["metric"] == "train/l1")].iloc[1]
    assert (row["nimg"], row["wall_sec"], row["seed"]) == (6144, 23.0, 0)
    assert row["value"] == pytest.approx(0.31 - 0.2 * 0.503 * (1 - 0.6 * 0.45**2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("val/miou", "metric.val/miou"), ("cost/macs", "cost.macs"), ("time/wall_sec", "wall_sec")],
)
def test_a_number_has_a_column(name, expected):
    assert tables.column(name) == expected
