"""Teachers that train beside a student: recorded by one training, read by others, with the same bits."""

import dataclasses
import errno
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import numbers, quiet, run_two, spawned
from no_ray import TINY
from safetensors.torch import load_file
from torch import Tensor

from raydistill.config.experiment import Job
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.terms import MutualInformation, PairCritic, Term, VariationalInformation
from raydistill.config.training import Execution
from raydistill.data import read_info
from raydistill.distributed import ALONE, Workers
from raydistill.errors import StoreError
from raydistill.models import cost
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.planning.step_counts import Counted, count_step
from raydistill.sweep import forecast, plan_report, rates
from raydistill.sweep.rates import Rate, Rates
from raydistill.testing import begin, tiny_experiment
from raydistill.training import bases, checkpoint, recording, rows
from raydistill.training.loop import TrainingResult, train
from raydistill.training.recipes import Setup

OMGD: dict[str, Any] = {
    "student.base.kind": "omgd",
    "student.base.taps": ["down", "block1"],
    "student.terms.mi.weight": 0.0,
}
VEM = {"student.terms.mi.weight": 0.1, "student.terms.mi.start": "student"}
VID = {"student.terms.mi.kind": "vid", "student.terms.mi.weight": 1.0}
MADE: dict[str, dict[str, Any]] = {
    "alone": {},
    "not-mirrored, three steps a teacher's": {"student.flip": False, "student.base.student_steps": 3},
    "vem": VEM,
    "vem that asks for other pictures": {**VEM, "student.terms.mi.start": "other"},
    "vid, one teacher": {**VID, "student.base.num_teachers": 1},
    "without channels, no average": {"student.base.channel_weight": 0.0, "student.ema_nimg": 0.0},
    "half precision": {"student.precision": "bfloat16"},
}


class Stopped(Exception):
    pass


def job_of(folder: Path, values: dict[str, Any] | None = None) -> Job:
    """A student's training by OMGD: eight minibatches of 4, two reports. Its folder has no record."""
    return begin(folder, tiny_experiment(OMGD | (values or {})), "student").job


class Made(NamedTuple):
    """The default job, trained without a record and with one, which it has left."""

    job: Job
    alone: TrainingResult
    recorded: TrainingResult


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each test works on a `copied` one."""
    folder = tmp_path_factory.mktemp("made")
    job = job_of(folder)
    alone = quiet(without_record(job), folder / "alone")
    assert records(job) == []
    return Made(job, alone, quiet(job, folder / "recorded"))


def copied(made: Made, folder: Path) -> Job:
    """The job with a teacher's folder of its own, which has the record."""
    assert made.job.teacher is not None
    own = shutil.copytree(made.job.teacher.path, folder / "teacher_of_its_own")
    return made.job.model_copy(update={"teacher": made.job.teacher.model_copy(update={"path": str(own)})})


def changed(job: Job, **changes: Any) -> Job:
    """The same job with other fields of its training."""
    return job.model_copy(update={"training": job.training.model_copy(update=changes)})


def without_record(job: Job) -> Job:
    """The same job, which neither reads nor records."""
    return changed(job, execution=Execution(record_teachers_gb=0.0))


def records(job: Job) -> list[Path]:
    """Every record in the teacher's folder, hidden ones too."""
    assert job.teacher is not None
    return sorted(path for path in Path(job.teacher.path).iterdir() if "record-" in path.name)


def moved(result: TrainingResult) -> dict[str, Tensor]:
    """All that moves in the student's training, at its end: weights, averages, terms, adaptors."""
    last = max(Path(result.network.path).parent.glob("checkpoint-*"))
    own = [
        path
        for path in last.glob("*.safetensors")
        if path.stem not in ("wide", "deep", "teacher_discriminator")
    ]
    return {f"{path.stem}.{name}": value for path in own for name, value in load_file(path).items()}


def was_read(result: TrainingResult) -> bool:
    """Whether a training has no teachers in its checkpoint."""
    last = max(Path(result.network.path).parent.glob("checkpoint-*"))
    return not (last / "wide.safetensors").exists()


def require_same(one: TrainingResult, other: TrainingResult) -> None:
    """The same bits of all that moves, and the same numbers at all reports."""
    first, second = moved(one), moved(other)
    assert set(first) == set(second) and len(first) > 4
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert one.network.digest == other.network.digest and numbers(one) == numbers(other)


@pytest.mark.parametrize("name", MADE)
def test_a_student_that_reads_gets_the_bits_of_one_that_trains_its_teachers(
    tmp_path: Path, name: str, made: Made
) -> None:
    """With a record that another training has left, while one is made, and without."""
    if name == "alone":
        job, alone, recorded = copied(made, tmp_path), made.alone, made.recorded
    else:
        job = job_of(tmp_path, MADE[name])
        alone = quiet(without_record(job), tmp_path / "alone")
        assert records(job) == []
        recorded = quiet(job, tmp_path / "recorded")
    (record,) = records(job)
    read = quiet(job, tmp_path / "read")
    assert [was_read(each) for each in (alone, recorded, read)] == [False, False, True]
    require_same(alone, recorded)
    require_same(alone, read)
    assert "train/teacher_l1" in numbers(read)[0] and records(job) == [record]
    info, training = read_info(job.data), job.training
    size = sum(path.stat().st_size for path in record.glob("*.npy"))
    assert size == 128 + recording.num_bytes(training, info)  # the header of an .npy file


def test_students_of_other_widths_terms_and_weights_share_a_record(tmp_path: Path, made: Made) -> None:
    job = copied(made, tmp_path)
    base = job.training.base.model_copy(update={"ssim_weight": 1.0, "channel_weight": 50.0})
    generator = job.training.generator
    widths = generator.widths.model_copy(update={"trunk": 6})
    narrow = changed(job, base=base, generator=generator.model_copy(update={"widths": widths}), ema_nimg=0.0)
    found = [quiet(each, tmp_path / str(i)) for i, each in enumerate((narrow, without_record(narrow)))]
    assert [was_read(each) for each in found] == [True, False] and len(records(job)) == 1
    require_same(*found)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"budget_nimg": 28},
        {"flip": False},
        {"batch_size": 8},
        {"precision": "bfloat16"},
        {"execution": Execution(activation_checkpointing=True)},
    ],
)
def test_a_record_of_another_seed_budget_order_batch_or_rounding_is_not_read(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    job = job_of(tmp_path)
    setup = Setup(read_info(job.data), torch.device("cpu"), ALONE)
    same, other = (
        recording.record_of(each, setup) for each in (changed(job, ema_nimg=4), changed(job, **change))
    )
    own = recording.record_of(job, setup)
    assert own is not None and same is not None and other is not None
    assert own.folder == same.folder != other.folder


def test_a_record_of_other_teachers_data_or_workers_is_not_read(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    info = read_info(job.data)
    optimizer = job.training.base.teacher_optimizer.model_copy(update={"learning_rate": 1e-5})
    jobs = [
        job,
        changed(job, base=job.training.base.model_copy(update={"teacher_optimizer": optimizer})),
        changed(job, base=job.training.base.model_copy(update={"taps": ("down",)})),
        changed(job, base=job.training.base.model_copy(update={"num_teachers": 1})),
        changed(job, base=job.training.base.model_copy(update={"teacher_l1_weight": 1.0})),
        job.model_copy(update={"data": job.data.model_copy(update={"digest": "another"})}),
    ]
    folders = [recording.record_of(each, Setup(info, torch.device("cpu"), ALONE)) for each in jobs]
    folders += [recording.record_of(job, Setup(info, torch.device("cpu"), Workers(0, 2)))]
    assert len({each.folder for each in folders if each is not None}) == len(jobs) + 1


def test_the_limit_is_no_part_of_a_job_and_a_record_above_it_is_neither_made_nor_read(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    size = recording.num_bytes(job.training, read_info(job.data))
    below, enough = (
        changed(job, execution=Execution(record_teachers_gb=limit / 2**30)) for limit in (size - 1, size)
    )
    assert below.key == enough.key == job.key == without_record(job).key
    quiet(below, tmp_path / "below")
    assert records(job) == []
    quiet(enough, tmp_path / "enough")
    assert len(records(job)) == 1 and not was_read(quiet(below, tmp_path / "again"))


def test_students_whose_terms_ask_the_same_share_a_record_and_others_have_their_own(tmp_path: Path) -> None:
    """Two terms of two names ask for different pictures."""
    job = job_of(tmp_path, {**VEM, "student.terms.mi.start": "other"})
    first = quiet(job, tmp_path / "first")
    mi = job.training.terms["mi"]
    heavier = changed(job, terms={"mi": mi.model_copy(update={"weight": 0.3, "num_steps": 1})})
    read = quiet(heavier, tmp_path / "heavier")
    assert not was_read(first) and was_read(read) and len(records(job)) == 1
    require_same(read, quiet(without_record(heavier), tmp_path / "alone"))
    others = [{"mi": mi, "more": mi}, {"more": mi}, {"mi": mi.model_copy(update={"start": "noise"})}]
    setup = Setup(read_info(job.data), torch.device("cpu"), ALONE)
    found = [recording.record_of(changed(job, terms=terms), setup) for terms in ({"mi": mi}, *others)]
    assert len({each.folder for each in found if each is not None}) == 4


@pytest.mark.slow
def test_a_term_that_may_ask_anything_trains_its_teachers_and_records_them_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plug-in's that does not say what it asks. Asking changes nothing of the teachers."""
    job = job_of(tmp_path, {**VEM, "student.terms.mi.start": "other"})
    monkeypatch.setattr(MutualInformation, "asks_once", False)
    first = quiet(job, tmp_path / "first")
    second = quiet(job, tmp_path / "second")
    assert not was_read(first) and not was_read(second) and len(records(job)) == 1
    require_same(first, second)
    another = changed(job, terms={"mi": job.training.terms["mi"].model_copy(update={"start": "noise"})})
    read = quiet(another, tmp_path / "read")
    assert was_read(read)
    require_same(read, quiet(without_record(another), tmp_path / "alone"))


def test_a_term_of_a_plug_in_may_ask_unless_it_says_that_it_does_not() -> None:
    term, other = Term(kind="mine", weight=1.0), MutualInformation(start="other")
    assert term.asks_teacher and not term.asks_once and other.asks_teacher and other.asks_once
    quiet_terms = [MutualInformation(start=start) for start in ("student", "noise", "replay")]
    assert not any(term.asks_teacher for term in (*quiet_terms, PairCritic(), VariationalInformation()))


# ---- damage, interruptions, several at once ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["a bit", "cut", "gone", "no hashes"])
def test_a_damaged_record_is_said_removed_and_made_again(tmp_path: Path, how: str, made: Made) -> None:
    job = copied(made, tmp_path)
    (record,) = records(job)
    file, whole = record / "0.npy", (record / "0.npy").read_bytes()
    if how == "a bit":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif how == "cut":
        file.write_bytes(whole[:-4])
    elif how == "gone":
        file.unlink()
    else:
        (record / "meta.json").write_text("[]")
    said: list[str] = []
    second = train(job, report=lambda numbers: None, state_dir=tmp_path / "second", say=said.append)
    assert len(said) == 1 and str(record) in said[0] and "the teachers train again" in said[0]
    assert not was_read(second) and file.read_bytes() == whole
    require_same(made.recorded, second)


def test_a_training_that_is_stopped_leaves_no_record_and_one_that_goes_on_makes_none(
    tmp_path: Path, made: Made
) -> None:
    job = job_of(tmp_path)

    def stop(evaluation: object) -> None:
        (hidden,) = records(job)
        assert hidden.name.startswith(".record-") and (hidden / "0.npy").exists()
        raise Stopped

    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=tmp_path / "run")
    assert records(job) == []
    resumed = quiet(job, tmp_path / "run")
    assert records(job) == [] and not was_read(resumed)
    require_same(resumed, made.alone)


def stopped_after_first_report(job: Job, folder: Path) -> None:
    def stop(evaluation: object) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=folder)


def test_a_resume_goes_on_in_the_way_in_which_the_training_began(tmp_path: Path, made: Made) -> None:
    """One that trained its teachers does, though there is a record by then; one that read does, whatever the
    limit is by then."""
    job = copied(made, tmp_path)
    stopped_after_first_report(without_record(job), tmp_path / "trains")
    stopped_after_first_report(job, tmp_path / "reads")
    trains = quiet(job, tmp_path / "trains")
    reads = quiet(without_record(job), tmp_path / "reads")
    assert not was_read(trains) and was_read(reads)
    require_same(trains, made.alone)
    require_same(reads, made.alone)


def test_a_training_whose_record_is_gone_starts_again_and_comes_to_the_same(
    tmp_path: Path, made: Made
) -> None:
    job = copied(made, tmp_path)
    stopped_after_first_report(job, tmp_path / "reads")
    (record,) = records(job)
    shutil.rmtree(record)
    said: list[str] = []
    again = train(job, report=lambda numbers: None, state_dir=tmp_path / "reads", say=said.append)
    assert "is no longer in" in said[0] and str(record) in said[0] and "starts from its beginning" in said[0]
    assert not was_read(again) and records(job) == [record]
    require_same(again, made.alone)


def test_of_two_trainings_at_once_the_first_to_end_leaves_the_record(tmp_path: Path) -> None:
    """Both began without one."""
    job = job_of(tmp_path)
    results: dict[str, TrainingResult] = {}
    others_began = threading.Event()

    def slow(evaluation: object) -> None:
        others_began.set()
        other.join(60)

    def second() -> None:
        others_began.wait(60)
        results["second"] = quiet(job, tmp_path / "second")

    other = threading.Thread(target=second)
    other.start()
    results["first"] = train(job, report=slow, state_dir=tmp_path / "first")
    assert len(records(job)) == 1 and not any(was_read(each) for each in results.values())
    require_same(results["first"], results["second"])


def test_a_full_disk_ends_the_training_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)

    def refuse(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recording.Recorder, "_write", refuse)
    with pytest.raises(
        StoreError, match=r"No space left.*--teacher-cache-gb 0: then every trial trains its own"
    ):
        quiet(job, tmp_path / "run")
    assert records(job) == []


# ---- workers, and what a step asks of a device -------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_read_what_two_have_recorded(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    texts = {
        "alone": without_record(job).model_dump_json(),
        "recorded": job.model_dump_json(),
        "read": job.model_dump_json(),
    }
    spawned(run_two, (tmp_path, texts), 2)
    (record,) = records(job)
    assert {path.name for path in record.iterdir()} == {"0.npy", "1.npy", "meta.json"}
    last = {name: max((tmp_path / name).glob("checkpoint-*")) for name in texts}
    assert [(last[name] / "wide.safetensors").exists() for name in texts] == [True, True, False]
    histories = {}
    for name, folder in last.items():
        evaluations = json.loads((folder / "meta.json").read_text())["history"]
        histories[name] = [
            {key: value for key, value in each.items() if not key.endswith("_sec")} for each in evaluations
        ]
    assert histories["alone"] == histories["recorded"] == histories["read"]
    for file in last["read"].glob("*.safetensors"):
        assert (
            file.read_bytes()
            == (last["alone"] / file.name).read_bytes()
            == (last["recorded"] / file.name).read_bytes()
        )
    assert not was_read(quiet(job, tmp_path / "one"))  # one worker sums in another order


@pytest.mark.parametrize("values", [{}, VEM], ids=["alone", "vem"])
@pytest.mark.parametrize("is_resident", [False, True])
def test_a_step_never_waits_whether_teachers_train_or_are_read(
    tmp_path: Path, values: dict[str, Any], is_resident: bool
) -> None:
    """What is read comes with the minibatch, in its one copy, and costs less."""
    job = job_of(tmp_path, values)
    counted = Counted(job.training, read_info(job.data), job.training.generator, is_resident=is_resident)
    trains, reads = count_step(counted), count_step(counted._replace(is_read=True))
    for each in (trains, reads):
        assert each.waits == () and each.synchronisations == each.host_random_bytes == 0 and each.pinned
        assert each.host_to_device_copies == (0 if is_resident else 1)
    assert (
        reads.gmac < trains.gmac and reads.kernels < trains.kernels and reads.collectives < trains.collectives
    )


def test_what_is_recorded_of_a_step_asks_for_no_values(tmp_path: Path) -> None:
    """On the meta device there are none."""
    layout = {"a": (2, 3, 5), "b": (), "c": (2, 4, 1, 1)}
    row = rows.packed({name: torch.empty(shape, device="meta") for name, shape in layout.items()}, layout)
    assert row.is_meta and row.shape == (rows.width(layout),)
    given = {name: torch.randn(shape) for name, shape in layout.items()}
    found = rows.unpacked(rows.packed(given, layout), layout)
    assert list(found) == list(layout)
    for name, value in given.items():
        assert torch.equal(found[name], value) and found[name].is_contiguous()
        assert found[name].storage_offset() % 16 == 0
    narrow = given["a"].bfloat16()
    assert torch.equal(rows.unpacked(rows.packed(given | {"a": narrow}, layout), layout)["a"], narrow.float())


def test_a_recorded_teacher_that_is_asked_all_the_same_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in a plug-in's term."""
    job = job_of(tmp_path, {**VEM, "student.terms.mi.start": "other"})
    for name in ("asks_teacher", "asks_once"):
        monkeypatch.setattr(MutualInformation, name, False)
    with pytest.raises(RuntimeError, match="`asks_teacher` must be True"):
        quiet(job, tmp_path / "first")
        quiet(job, tmp_path / "second")


def test_other_bases_have_no_record(tmp_path: Path) -> None:
    job = begin(tmp_path, tiny_experiment(), "student").job
    assert recording.record_of(job, Setup(read_info(job.data), torch.device("cpu"), ALONE)) is None
    quiet(job, tmp_path / "run")
    assert records(job) == []


# ---- the plan of a sweep -----------------------------------------------------------------------------------


SMALL = [f"{path}={value}" for path, value in TINY.items()]


def plan_of(store: Path, *values: str, **options: Any) -> Plan:
    """A plan of tiny students by OMGD, whose term may or may not be searched."""
    base = ("student.base.kind=omgd", 'student.base.taps=["down","block1"]')
    return check(SweepOptions(store=str(store), set=(*SMALL, *base, *values), **options))


@pytest.fixture
def same_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial's folder takes a byte, whatever its networks: counting them takes a minute."""
    monkeypatch.setattr(forecast, "_trials_bytes", lambda plan, trainings, reads: [1] * len(trainings))


def test_a_plan_counts_the_record_and_says_who_reads_it(tmp_path: Path, same_folders: None) -> None:
    plan = plan_of(tmp_path, "student.terms.mi.start=student")
    (line,) = plan_report._base_lines(plan)
    size = recording.num_bytes(plan.uniform(plan.space.uniform[0]), plan.info)
    name = recording.name_of(plan.uniform(plan.space.uniform[0]), plan.data.digest)
    assert plan.records == ((name,), size, size, 2.0) and plan.records.are_made
    assert f"records what they give ({size / 2**30:.2f} GiB); later trials read it" in line
    assert all(plan.may_read(training) for training, _ in plan.students) and not line.endswith("pictures")
    without = dataclasses.replace(plan, options=plan.options.model_copy(update={"teacher_cache_gb": 0.0}))
    assert forecast.disk_bytes(plan, 2).total - forecast.disk_bytes(without, 2).total == size
    assert plan.picture_bytes == without.picture_bytes
    for each in (plan, without):
        each.__dict__["trial_bytes"] = 7  # predicted elsewhere
    held = plan.worker_bytes(1.0, 10**12) - without.worker_bytes(1.0, 10**12)
    assert held == size and plan.worker_bytes(0.0) == without.worker_bytes(0.0)


def test_a_trial_that_reads_has_no_teachers_on_disk(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    student = plan.students[0][0]
    (alone,), (reads,) = (forecast._trials_bytes(plan, [student], reads=reads) for reads in (False, True))
    networks = bases.networks(student, plan.info)
    teachers = sum(cost.module_params(networks[name]) for name in ("wide", "deep", "teacher_discriminator"))
    buffers = sum(buffer.nbytes for name in networks for buffer in networks[name].buffers())
    kept = min(checkpoint.KEPT, student.budget_nimg // student.report_every_nimg)
    assert 12 * teachers * kept <= alone - reads <= kept * (12 * teachers + buffers)
    too_large = plan_of(tmp_path, teacher_cache_gb=1e-6)
    assert forecast._trials_bytes(too_large, [student], reads=True) == [alone]


def test_a_plan_says_that_a_record_is_too_large_and_trials_are_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, teacher_cache_gb=1e-6)
    (line,) = plan_report._base_lines(plan)
    assert "every trial trains its own teachers" in line and "is more than --teacher-cache-gb 1e-06" in line
    student = plan.students[0][0]
    assert plan.with_record_limit(student).execution.record_teachers_gb == 0 and not plan.may_read(student)
    enough = plan_of(tmp_path, teacher_cache_gb=1.5)
    told = enough.with_record_limit(enough.students[0][0])
    assert told.execution.record_teachers_gb == 1.5 and enough.records.are_made
    own = plan_of(tmp_path, "student.execution.record_teachers_gb=0.5", teacher_cache_gb=0.0)
    assert own.records.are_made and own.records.limit_gb == 0.5
    plain = check(SweepOptions(store=str(tmp_path), set=SMALL))
    assert plain.with_record_limit(plain.students[0][0]) == plain.students[0][0] and plain.records.names == ()


def test_a_plan_names_the_term_for_which_teachers_train_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = plan_of(tmp_path, "student.terms.mi.start=other")
    (line,) = plan_report._base_lines(asking)
    assert len(asking.records.names) == 2 and "2 records" in line and "asks them" not in line
    assert all(asking.may_read(training) for training, _ in asking.students)
    monkeypatch.setattr(MutualInformation, "asks_once", False)
    plan = plan_of(tmp_path, "student.terms.mi.start=other")
    (line,) = plan_report._base_lines(plan)
    assert "term mi asks them for other pictures" in line
    asked = [training for training, _ in plan.students if training.active_terms]
    assert asked and not any(plan.may_read(training) for training in asked)


def test_a_trial_that_reads_is_predicted_to_take_less_and_the_first_ones_do_not(
    tmp_path: Path, same_folders: None
) -> None:
    plan = plan_of(tmp_path, "student.terms.mi.start=student")
    rate, fast = Rate(0.0, 1.0), Rate(0.0, 0.25)
    kinds = {rates.kind_of(training) for training, _ in plan.students}
    kinds |= {rates.kind_of(training) for _, _, training in plan.baselines}
    slow = {kind: [rate] for kind in (*rates.STAGES, *kinds)}
    given: dict[str, Any] = {"devices": 1.0, "stage_devices": 1.0, "memory_bytes": 0, "is_inline": True}
    read = {kind + rates.RECORDED: [fast] for kind in kinds}
    expected = forecast.forecast(plan, Rates("here", slow | read), at_a_time=1, stages_there=True, **given)
    nimg = plan.students[0][0].budget_nimg
    assert expected.trial_sec == (nimg * 0.25,) * 3
    alone = forecast.forecast(plan, Rates("here", slow), at_a_time=1, stages_there=True, **given)
    num_students = plan.options.trials + sum(role == "uniform" for role, _, _ in plan.baselines)
    saved = (num_students - 1 + 0.5) * 0.75 * nimg  # all but the first, and half of the recheck
    assert alone.trials_sec - expected.trials_sec == pytest.approx(saved)


def test_a_plan_measures_a_trial_that_reads(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "student.terms.mi.start=student")
    (tmp_path / "rates").mkdir()
    jobs = rates._jobs(plan, 1, tmp_path / "rates")
    kinds = {kind.removesuffix(rates.RECORDED) for kind in jobs if kind.endswith(rates.RECORDED)}
    assert kinds == {"student of base omgd", "student of base omgd with MI"}
    job = jobs["student of base omgd" + rates.RECORDED][0][0]
    rate = rates.measured_rate(job, 1, 8, tmp_path / "measured", is_read=True)
    assert rate.image_sec > 0
    names = {path.stem for path in (tmp_path / "measured").glob("*/*.safetensors")}
    assert names == {"generator", "adaptors"}
