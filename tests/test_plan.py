"""The plan: what a sweep will take, said before any cost, and set against what it took."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import quiet
from no_ray import SETTINGS, TINY, without_ray
from test_memory import job_of_random_weights
from test_recipes import SMALL, lengths, small_cyclegan

from raydistill.cluster import runtime
from raydistill.cluster.placement import Group, Node, Placement
from raydistill.commands.cli import main
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining
from raydistill.errors import StoreError
from raydistill.planning.checks import check
from raydistill.records import mirror, tables
from raydistill.sweep import forecast, plan_report, rates
from raydistill.sweep.forecast import makespan
from raydistill.sweep.rates import Rate, Rates, rates_of


@pytest.fixture
def raydistill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command on two cores without Ray; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)], predicts_memory=True)
    monkeypatch.setattr(runtime, "this_machine", lambda: Node("here", 2))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(
            sys, "argv", ["raydistill", *arguments, "--nimg", "32", "--trials", "2", *SETTINGS]
        )
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return run


def test_a_plan_as_json_has_what_the_report_has(raydistill: Any) -> None:
    code, printed = raydistill("plan", "--seconds-per-image", "0.01", "--json")
    said, _ = json.JSONDecoder().raw_decode(printed)
    assert code == 0 and said["max_concurrent"] == 2 and said["total_sec"] > 0 and not said["fails"]
    assert {"cost.macs", "cost.params"} <= set(said["students"][0]) and "uniform 3" in said["baselines"]


def test_places_are_filled_as_they_become_free() -> None:
    assert (
        makespan([4, 1, 1, 1], 2) == 4
        and makespan([1, 1, 1, 4], 2) == 5
        and makespan([1, 2, 3], 1) == 6
        and makespan([2, 2], 8) == 2
    )


def test_time_is_linear_in_macs_and_made_of_images_reports_and_a_start(tmp_path: Path) -> None:
    plan = check(
        SweepOptions(
            store=str(tmp_path / "runs"), set=tuple(f"{path}={value}" for path, value in TINY.items())
        )
    )
    students = [Rate(1e6, 0.001, 0.5, 2.0), Rate(3e6, 0.003, 0.7, 2.0)]
    known = Rates("", {"student": students, "student with MI": [Rate(1e6, 0.004)]})
    assert known.of("student", 2e6) == pytest.approx(Rate(2e6, 0.002, 0.6, 2.0))
    assert (
        known.of("student", 4e6).image_sec == pytest.approx(0.004) and known.of("student", 0).image_sec == 0
    )
    training = plan.uniform(4).model_copy(update={"budget_nimg": 1000, "report_every_nimg": 400})
    assert known.trial_sec(training, 2e6) == pytest.approx(2.0 + 1000 * 0.002 + 3 * 0.6)
    assert known.trial_sec(
        plan.experiment.student.model_copy(update={"budget_nimg": 1000}), 9e9
    ) == pytest.approx(4.0)


@pytest.mark.slow  # of every run: a plan that times real steps, below
def test_time_is_measured_where_the_inputs_are_fewer_than_the_targets(tmp_path: Path) -> None:
    """9 inputs and 11 targets in batches of 12: nothing asks for a tenth input."""
    values = {path: value for path, value in SMALL.items() if path != "student.terms.mi.weight"} | lengths(12)
    values |= {
        "data.height": 16,
        "data.width": 16,
        "data.direction": "BtoA",
        "teacher.discriminator.num_layers": 1,
    }
    set_values = tuple(f"{path}={value}" for path, value in values.items())
    small_cyclegan(tmp_path)
    plan = check(
        SweepOptions(
            space="cyclegan", data=str(tmp_path / "pictures"), store=str(tmp_path / "runs"), set=set_values
        )
    )
    assert plan.info.counts["train"] == 11 and plan.info.input_counts == {"train": 9, "val": 3, "test": 3}
    assert rates_of(plan, stage_workers=1, cpus=1).of("student with MI", 1e6).image_sec > 0


def test_what_a_given_rate_adds_up_to(tmp_path: Path) -> None:
    """8 trials and 4 baselines of 6,000 images at 1 ms, two at a time, a recheck by two, evaluator 8,000
    and teacher 16,000 images."""
    plan = check(
        SweepOptions(
            store=str(tmp_path / "runs"), seconds_per_image=1e-3, set=("data.num_train=48", "data.num_val=16")
        )
    )
    rates = rates_of(plan, stage_workers=2, cpus=1)
    found = forecast.forecast(
        plan,
        rates,
        at_a_time=2,
        devices=1,
        stage_devices=2,
        memory_bytes=9,
        is_inline=True,
        stages_there=False,
    )
    assert (
        found.trial_sec == (6.0, 6.0, 6.0) and rates.source == "--seconds-per-image 0.001, for every network"
    )
    assert found.stages_sec == pytest.approx(24 + forecast.STAGES_START_SEC)
    assert found.trials_sec == pytest.approx(12 * 6 + 3 + forecast.TRAINER_SEC)
    overhead = forecast.FIRST_TRIAL_SEC + forecast.END_SEC
    assert found.total_sec == pytest.approx(found.stages_sec + 6 * 6 + 3 + forecast.TRAINER_SEC + overhead)
    assert found.device_hours == pytest.approx(
        (12 * 6 + 2 * found.stages_sec + 2 * (3 + forecast.TRAINER_SEC)) / 3600
    )
    assert (
        plan.worker_bytes(gpus=0.5) == plan.trial_bytes
        and plan.worker_bytes(gpus=0) - plan.trial_bytes == 160 * 2**20
    )
    there = forecast.forecast(
        plan,
        rates,
        at_a_time=2,
        devices=1,
        stage_devices=2,
        memory_bytes=9,
        is_inline=True,
        stages_there=True,
    )
    assert there.stages_sec == 0 and there.total_sec == pytest.approx(found.total_sec - found.stages_sec)


def test_replicates_count_as_an_upper_bound(tmp_path: Path) -> None:
    """Five more trainings of at most 6 s, two at a time, three after each other; each as large on disk as
    the largest student."""

    def planned(replicates: int) -> Any:
        few = ("data.num_train=48", "data.num_val=16")
        plan = check(
            SweepOptions(
                store=str(tmp_path / "runs"),
                seconds_per_image=1e-3,
                set=few,
                replicates=replicates,
                max_concurrent=2,
            )
        )
        rates = rates_of(plan, stage_workers=2, cpus=1)
        how = {
            "at_a_time": 2,
            "devices": 0.5,
            "stage_devices": 2,
            "memory_bytes": 9,
            "is_inline": True,
            "stages_there": True,
        }
        return plan, forecast.forecast(plan, rates, **how)

    (plan, without), (_, found) = planned(0), planned(5)
    assert without.replicates == (0, 0, 0)
    assert found.replicates[:2] == pytest.approx((3 * 6, 5 * 6 * 0.5 / 3600))
    largest = max(forecast._trials_bytes(plan, [each for each, _ in plan.students], reads=False))
    assert found.replicates.disk_bytes >= 5 * largest
    assert found.total_sec == pytest.approx(without.total_sec + 18) and found.trials_sec == pytest.approx(
        without.trials_sec + 30
    )
    assert found.device_hours == pytest.approx(without.device_hours + found.replicates.device_hours)
    assert found.disk_bytes == without.disk_bytes + found.replicates.disk_bytes


def test_the_disk_of_a_trial_is_that_of_all_that_moves_in_it(tmp_path: Path) -> None:
    """Both ways of a CycleGAN with their discriminators and pools, a student's replay buffer; the last two
    checkpoints."""
    small_cyclegan(tmp_path)
    values = {path: value for path, value in SMALL.items() if path != "student.terms.mi.weight"} | lengths(4)
    values |= {"data.height": 16, "data.width": 16, "student.terms.mi.start": "replay"}
    values |= {"teacher.discriminator.width": 64, "teacher.discriminator.num_layers": 1}
    set_values = tuple(f"{path}={value}" for path, value in values.items())
    plan = check(
        SweepOptions(
            space="cyclegan", data=str(tmp_path / "pictures"), store=str(tmp_path / "runs"), set=set_values
        )
    )
    for stage in ("teacher", "student"):
        job = job_of_random_weights(plan.experiment, stage, tmp_path / stage)
        training = job.training.model_copy(update={"report_every_nimg": job.training.batch_size})
        job = job.model_copy(update={"training": training})
        quiet(job, tmp_path / stage / "trained")
        left = sum(
            path.stat().st_size for path in (tmp_path / stage / "trained").rglob("*") if path.is_file()
        )
        (whole,) = forecast._trials_bytes(plan, [training], reads=False)  # type: ignore[list-item]
        predicted = whole - forecast._FILES_BYTES - forecast._pictures_bytes(plan.info, 0)
        print(f"{stage}: predicted {predicted / 1e6:.2f} MB, left {left / 1e6:.2f}")
        assert 0.9 * left < predicted < 1.02 * left


@pytest.fixture(scope="module")
def estimate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A plan, and a file with its forecast."""
    tmp_path = tmp_path_factory.mktemp("forecast")
    plan = check(
        SweepOptions(
            store=str(tmp_path / "runs"), seconds_per_image=1e-3, set=("data.num_train=48", "data.num_val=16")
        )
    )
    rates = rates_of(plan, stage_workers=2, cpus=1)
    how = {
        "at_a_time": 2,
        "devices": 1,
        "stage_devices": 2,
        "memory_bytes": 9,
        "is_inline": True,
        "stages_there": True,
    }
    file = tmp_path / "forecast.json"
    forecast.write(file, rates, forecast.forecast(plan, rates, **how))
    assert forecast.read(file, plan) == (rates, forecast.forecast(plan, rates, **how))
    return plan, file


@pytest.mark.parametrize(
    ("old", "new", "printed"),
    [
        ("{", "", "Invalid JSON"),
        ('"total_sec"', '"total"', "forecast.total_sec: Field required"),
        ("  0.001", '  "soon"', "rates.rates.evaluator.0.1: Input should be a valid number"),
        ("  0.001", "  NaN", "rates.rates.evaluator.0.1: Input should be a finite number"),
        ('"student with MI"', '"student with IM"', "no rate of 'student with MI'"),
    ],
)
def test_a_damaged_forecast_is_named(
    estimate: tuple[Any, Path], tmp_path: Path, old: str, new: str, printed: str
) -> None:
    plan, whole = estimate
    file = tmp_path / "forecast.json"
    file.write_text(whole.read_text().replace(old, new, 1))
    with pytest.raises(StoreError) as raised:
        forecast.read(file, plan)
    assert str(raised.value).startswith(f"{file}: damaged or of another version: ") and printed in str(
        raised.value
    )


def test_a_plan_says_everything_and_leaves_no_sweep(raydistill: Any, tmp_path: Path) -> None:
    code, printed = raydistill(
        "plan",
        "--max-memory-gb",
        "0.7",
        "--max-hours",
        "3",
        "--max-concurrent",
        "1",
        "--seconds-per-image",
        "0.5",
        "--replicates",
        "3",
    )
    assert code == 0, printed
    for part in (
        "plan: 2 searched trials; 4 baselines (uniform 3, uniform 5, uniform 8, no teacher 3); 1 recheck",
        "plan: students of 1.4 to ",
        "window: cost/memory_gb 0 to 0.7",
        "plan: a trial takes 16 to 16 s, 16 s on average; evaluator and teacher 49 s; from "
        "--seconds-per-image 0.5",
        "CPU-hours; --max-hours 3 may end it before",
        "plan: 1 trials at a time, because of --max-concurrent 1, though 2 x 1 x (1 CPUs, 0 GPUs) fit on "
        "here: 2 CPUs, 0 GPUs",
        "plan: of that 0.8 min, 0.01 CPU-hours and ",
        " MiB of disk for 3 replicates: an upper bound, all of them of the most expensive student",
        "GiB in all (a process on the CPU; the window is on that of a GPU, 0.6",
        "GiB of memory for each worker that trains the teacher",
        "MiB of disk in ",
        "nothing was trained",
    ):
        assert part in printed, f"{part!r} is not in:\n{printed}"
    assert not (tmp_path / "runs/sweeps").exists() and not (tmp_path / "runs/mlflow.db").exists()


@pytest.mark.slow
def test_a_sweep_says_its_plan_and_sets_it_against_what_it_took(raydistill: Any, tmp_path: Path) -> None:
    code, printed = raydistill("sweep")
    assert code == 0, printed
    assert (
        "from up to 3 real steps of each kind of training on this machine" in printed
        and "predicted before the sweep" in printed
    )
    folder = tmp_path / "runs/sweeps/default-001"
    table = pd.read_csv(folder / "plan.csv").set_index("what")
    assert {
        "evaluator and teacher, s",
        "all 6 trials, s",
        "the whole sweep, min",
        "memory of a worker, GiB",
        "memory of the teacher's worker, GiB",
        "disk, MiB",
    } <= set(table.index)
    trials = tables.read_table(folder / "trials.parquet")
    ours = trials[trials["role"].isin(["search", "uniform", "no_teacher"])]
    assert table.loc["all 6 trials, s", "actual"] == pytest.approx(ours["wall_sec"].sum())
    peaks = {role: part["peak_memory_gb"].max() for role, part in trials.groupby(trials["role"] == "teacher")}
    assert table.loc["memory of a worker, GiB", "actual"] == pytest.approx(peaks[False])
    assert table.loc["memory of the teacher's worker, GiB", "actual"] == pytest.approx(peaks[True])
    assert (table["predicted"] > 0).all() and (table["actual"] > 0).all()
    assert 0.3 < table.loc["disk, MiB", "actual / predicted"] < 3
    began = (folder / "forecast.json").read_bytes()
    assert raydistill("sweep", "--resume")[0] == 0 and (folder / "forecast.json").read_bytes() == began
    (folder / "forecast.json").write_text('{"rates": 3}')
    code, printed = raydistill("sweep", "--resume")
    assert (
        code == 0
        and "forecast.json: damaged or of another version: rates: Input should be an array or an object"
        in printed
    ), printed
    assert "; what is left is planned anew" in printed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
            "can't allocate memory",
        ),
        (MemoryError(), "MemoryError"),
        (StoreError("the disk refuses"), "the disk refuses"),
    ],
)
def test_a_training_that_fails_at_its_first_steps_is_named_and_the_plan_ends_with_1(
    raydistill: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    measure = rates.measured_rate

    def fails(job: Any, *more: Any) -> Rate:
        if isinstance(job.training, DistillTraining):
            raise error
        return measure(job, *more)

    monkeypatch.setattr(rates, "measured_rate", fails)
    code, printed = raydistill("plan")
    (line,) = [line for line in printed.splitlines() if "no time" in line]
    assert code == 1 and "a training of this plan failed at its first steps: student" in line
    assert said in line and "GPU" not in line and "nothing was trained" in printed


@pytest.mark.parametrize(("gpu_gb", "share", "held"), [(80, 0.1, True), (80, 0.0, False), (1e-5, 0.1, False)])
def test_a_plan_counts_the_pictures_that_lie_on_a_gpu_and_says_where_they_lie(
    tmp_path: Path, gpu_gb: float, share: float, held: bool
) -> None:
    """They and the teacher's outputs take at most a share of the smallest GPU. The cost in memory, which a
    resume elsewhere must find again, is the same."""
    values = TINY | {"student.execution.resident_share": share}
    given = tuple(f"{path}={value}" for path, value in values.items())
    plan, gpu_bytes = check(SweepOptions(store=str(tmp_path / "runs"), set=given)), int(gpu_gb * 2**30)
    counts, side = plan.info.counts["train"], plan.info.width * plan.info.height
    pictures = counts * side * (3 + 1)  # targets and label maps
    outputs = counts * side * 3 * 4 * (2 if plan.experiment.student.flip else 1)
    assert plan.picture_bytes == pictures + outputs
    assert plan.worker_bytes(1.0, gpu_bytes) - plan.trial_bytes == held * (pictures + outputs)
    assert plan.worker_bytes(1.0) == plan.trial_bytes
    trials = Placement(True, Group(1, 1.0, 1.0), 1, gpu_bytes)
    line = plan_report._place_of_pictures(plan, trials)
    assert ("held by each trial on its GPU" in line) == held and ("read ahead" in line) == (not held)
    assert f"resident_share is {share:g} of" in line


def test_a_plan_of_several_nodes_says_how_the_decoded_data_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"data.num_train": 4096, "data.num_val": 16, "data.num_test": 16}
    options = SweepOptions(
        store=str(tmp_path / "runs"), set=tuple(f"{path}={value}" for path, value in given.items())
    )
    plan = check(options)
    gib = 4128 * 32 * 32 * 4 / 2**30
    line = forecast.data_line(plan, 64)
    assert line == f"plan: 64 nodes read {gib:.2f} GiB of decoded data in {tmp_path / 'runs'}: all see it"
    monkeypatch.setenv(mirror.FOLDER, str(tmp_path / "copies"))
    copy = replace(plan, store=mirror.folder_of("s3://bucket/ours?region=us-east-1"))
    line = forecast.data_line(copy, 64)
    assert f"each of 64 nodes that gets a trial copies {gib:.2f} GiB" in line
    assert f"from s3://bucket/ours?region=us-east-1 to {tmp_path / 'copies'}" in line
    assert line.endswith(f"once: {64 * gib:.2f} GiB at most")
