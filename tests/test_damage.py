"""What a disk or a hand has damaged is refused by file and key, or made again; and advice, when it is
followed, helps."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages
from test_results import synthetic_trials, write

from raydistill.config.data import ShapesData
from raydistill.config.training import DistillTraining
from raydistill.data import load_split, prepare
from raydistill.data.outputs import load_outputs
from raydistill.errors import CheckpointError, NoticeWarning, RunError, StoreError
from raydistill.models import saved
from raydistill.records import files
from raydistill.records.store import create_sweep, open_store, read_sweep
from raydistill.records.trials import read_trials
from raydistill.training import loop
from raydistill.trials import stages as trial_stages
from raydistill.trials.run_job import perform

# ---- the ledger: what is refused, by file and key ----------------------------------------------------------


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """The ledger of three trials with results, and of one without."""
    for trial in [*synthetic_trials()[5:8], synthetic_trials()[13]]:
        write(tmp_path / "trials" / trial.trial_id, trial)
    return tmp_path


def rewritten(path: Path, *keys: str | int, value: Any) -> None:
    """Sets what a JSON file has under these keys, one in the other."""
    data = holder = json.loads(path.read_text())
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = value
    path.write_text(json.dumps(data))


WRONG_TYPES: dict[str, tuple[str, tuple[str | int, ...], Any]] = {
    "metrics: Input should be a valid dictionary (given: [])": ("result", ("metrics",), []),
    "metrics.val/miou: Input should be a finite number (given: nan)": (
        *("result", ("metrics", "val/miou"), float("nan")),
    ),
    "nimg: Input should be a valid integer (given: '32')": ("result", ("nimg",), "32"),
    "wall_sec: Input should be greater than or equal to 0 (given: -1)": ("result", ("wall_sec",), -1),
    "status: Input should be 'COMPLETE', 'PRUNED' or 'FAIL' (given: 'DONE')": ("result", ("status",), "DONE"),
    "evaluations.1: Value error, an evaluation has nimg": ("result", ("evaluations", 1), {"val/miou": 1.0}),
    "network.path: Field required": ("result", ("network",), {"digest": "a"}),
    "seed: Input should be a valid integer (given: None)": ("trial", ("seed",), None),
    "number: Input should be a valid integer (given: 5.5)": ("trial", ("number",), 5.5),
    "costs: Input should be a valid dictionary": ("trial", ("costs",), None),
    "digests.data: Input should be a valid string": ("trial", ("digests", "data"), 7),
    "job.training.batch_size: Input should be a valid integer": (
        *("trial", ("job", "training", "batch_size"), "many"),
    ),
    "job.data: Field required": ("trial", ("job",), {"version": 3, "training": {}}),
}


@pytest.mark.parametrize("what", WRONG_TYPES)
def test_a_key_of_a_wrong_type_is_one_line_with_file_and_key(sweep: Path, what: str) -> None:
    file, keys, value = WRONG_TYPES[what]
    path = sweep / "trials/0006" / f"{file}.json"
    rewritten(path, *keys, value=value)
    with pytest.raises(StoreError) as error:
        read_trials(sweep)
    said = str(error.value)
    assert said.startswith(f"{path}: damaged: ") and "\n" not in said
    if not what.startswith("job.data"):  # its training is wrong, too, and may be said first
        assert what in said


FOREIGN: dict[str, Callable[[Path], Any]] = {
    r"0006/result\.json: the result of another trial: its trial_key is \w+": lambda trials: shutil.copy(
        trials / "0005/result.json", trials / "0006/result.json"
    ),
    r"0006/trial\.json: the trial of another folder, 0005": lambda trials: shutil.copy(
        trials / "0005/trial.json", trials / "0006/trial.json"
    ),
    r"0006-copy/trial\.json: the trial of another folder, 0006": lambda trials: shutil.copytree(
        trials / "0006", trials / "0006-copy"
    ),
    r"0006/trial\.json: number 5 is used twice, in 0005/trial\.json too": lambda trials: rewritten(
        trials / "0006/trial.json", "number", value=5
    ),
    r"0006/trial\.json: job: the job of another trial: its key is \w+, trial_key says": lambda trials: (
        rewritten(
            trials / "0006/trial.json",
            "job",
            value=json.loads((trials / "0005/trial.json").read_text())["job"],
        )
    ),
    r"0006/trial\.json: job: the job of another trial": lambda trials: rewritten(
        trials / "0006/trial.json", "job", "training", "seed", value=77
    ),
    r"0006/trial\.json: replicate_of: there is no trial 0044": lambda trials: rewritten(
        trials / "0006/trial.json", "replicate_of", value="0044"
    ),
    r"0006: a result\.json without the trial\.json of its trial": lambda trials: (
        trials / "0006/trial.json"
    ).unlink(),
    r"0006/trial\.json: damaged or unreadable: it is a FIFO": lambda trials: (
        (trials / "0006/trial.json").unlink(),
        os.mkfifo(trials / "0006/trial.json"),
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_belongs_to_another_trial_is_refused_by_its_file_and_the_advice_helps(
    sweep: Path, what: str
) -> None:
    FOREIGN[what](sweep / "trials")
    with pytest.raises(StoreError, match=what) as error:
        read_trials(sweep)
    (named,) = {path for path in sweep.rglob("*") if f"emove {path}:" in str(error.value)} or {
        path for path in sweep.rglob("*") if f"remove {path}:" in str(error.value)
    }
    shutil.rmtree(named) if named.is_dir() else named.unlink()
    left = {trial.trial_id: trial.result is not None for trial in read_trials(sweep)}
    assert {"0005", "0007", "0013"} <= set(left) and left["0005"] and left["0007"]
    assert left.get("0006") == (
        False if named.name == "result.json" else True if "copy" in named.name else None
    )


def test_a_job_that_needs_a_plug_in_which_is_not_here_is_read_all_the_same(sweep: Path) -> None:
    rewritten(sweep / "trials/0006/trial.json", "job", "training", "generator", "family", value="mine")
    assert len(read_trials(sweep)) == 4


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("created", "yesterday", "created: Input should be a valid number"),
        ("plugins", [], "plugins: Input should be a valid dictionary"),
        ("sweep_id", None, "sweep_id: Input should be a valid string"),
    ],
)
def test_a_sweep_json_with_a_key_of_a_wrong_type_is_one_line(
    tmp_path: Path, key: str, value: object, said: str
) -> None:
    store = open_store(tmp_path / "store")
    folder = create_sweep(store, "one", "default", {"definition": "d"})
    rewritten(folder / "sweep.json", key, value=value)
    with pytest.raises(StoreError, match=rf"sweep\.json: damaged: {said}.* or move .*one out of the store"):
        read_sweep(folder)
    (store / "store.json").write_text("[]")
    with pytest.raises(StoreError, match="written by store version None"):
        open_store(store)


# ---- networks ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_once(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "trial"
    perform(stages.student_job(mi__weight=0), folder, lambda numbers: None)
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """The folder of a trial that is finished."""
    return shutil.copytree(trained_once, tmp_path / "trial")


NETWORK_DAMAGES: dict[str, Callable[[Path], Any]] = {
    "weights cut": lambda folder: os.truncate(folder / "weights.safetensors", 100),
    "weights of zeros": lambda folder: (folder / "weights.safetensors").write_bytes(
        bytes((folder / "weights.safetensors").stat().st_size)
    ),
    "no weights": lambda folder: (folder / "weights.safetensors").unlink(),
    "meta.json empty": lambda folder: (folder / "meta.json").write_bytes(b""),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", ["weights cut", "meta.json empty", "all gone"])
def test_a_damaged_network_is_made_again_from_the_last_checkpoint_and_the_result_stays(
    stages: Stages, trained: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = (trained / "result.json").read_bytes()
    weights = (trained / "network/weights.safetensors").read_bytes()
    NETWORK_DAMAGES[damage](trained / "network")
    monkeypatch.setattr(loop, "take_step", lambda *arguments: pytest.fail("it was trained"))
    with pytest.warns(NoticeWarning, match="the network is missing or damaged; it is made again"):
        again = perform(stages.student_job(mi__weight=0), trained, lambda numbers: None)
    assert again.to_json() == json.loads(result) and (trained / "result.json").read_bytes() == result
    assert (trained / "network/weights.safetensors").read_bytes() == weights
    assert "it is made again" in (trained / "log.txt").read_text()


def test_without_a_checkpoint_it_is_trained_again_to_the_same_network(stages: Stages, trained: Path) -> None:
    before = (trained / "network/weights.safetensors").read_bytes()
    shutil.rmtree(trained / "network")
    for path in trained.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.warns(NoticeWarning, match="it is made again"):
        perform(stages.student_job(mi__weight=0), trained, lambda numbers: None)
    assert (trained / "network/weights.safetensors").read_bytes() == before


def test_a_network_that_cannot_be_made_again_leaves_the_result_as_it_is(
    stages: Stages, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = (trained / "result.json").read_bytes()
    shutil.rmtree(trained / "network")

    def fails(*arguments: Any, **options: Any) -> None:
        raise MemoryError("as much as there is")

    monkeypatch.setattr("raydistill.trials.run_job.train", fails)
    with (
        pytest.raises(RunError, match="was not made again: MemoryError: as much as there is"),
        pytest.warns(NoticeWarning),
    ):
        perform(stages.student_job(mi__weight=0), trained, lambda numbers: None)
    assert (trained / "result.json").read_bytes() == result


def test_the_result_of_another_job_is_refused_and_the_advice_helps(stages: Stages, trained: Path) -> None:
    other = stages.student_job(mi__weight=0, l1_weight=3)
    with pytest.raises(
        CheckpointError, match=r"remove result\.json and checkpoint-\* there: it is then trained"
    ):
        perform(other, trained, lambda numbers: None)
    (trained / "result.json").unlink()
    for path in trained.glob("checkpoint-*"):
        shutil.rmtree(path)
    assert perform(other, trained, lambda numbers: None).trial_key == other.key


@pytest.mark.parametrize("damage", ["weights cut", "no weights", "meta.json empty"])
def test_a_damaged_network_that_is_loaded_says_what_makes_it_again(trained: Path, damage: str) -> None:
    stored = saved.stored(trained / "network")
    NETWORK_DAMAGES[damage](trained / "network")
    with pytest.raises(
        CheckpointError, match="one of a sweep is made again by the sweep's command with --res"
    ):
        saved.load_generator(stored)


def test_a_network_is_on_disk_before_its_meta_json_is_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    folder = tmp_path / "again"
    monkeypatch.setattr(
        files, "to_disk", lambda path: flushed.append((path.suffix, (folder / "meta.json").exists()))
    )
    generator, state = saved.load_generator(saved.stored(trained / "network"))
    saved.save(folder, "generator", saved.with_weights(generator, state, "here"), generator)
    assert flushed == [(".safetensors", False), ("", False), (".json", False), ("", True)]


# ---- evaluator and teacher: the stages ---------------------------------------------------------------------


def test_a_cut_evaluator_or_teacher_is_no_stage_that_is_done_and_the_next_sweep_makes_it_again(
    stages: Stages, tmp_path: Path
) -> None:
    def done() -> bool:
        return trial_stages.stages_done(stages.experiment, stages.data, tmp_path)

    def train() -> trial_stages.Stages:
        return trial_stages.train_stages(stages.experiment, stages.data, tmp_path, lambda numbers: None)

    before = train()
    for stage in ("evaluator", "teacher"):
        (weights,) = tmp_path.glob(f"{stage}/*/network/weights.safetensors")
        os.truncate(weights, 10)
        assert not done()
        with pytest.warns(NoticeWarning, match=f"{stage}/.*: the network is missing or damaged"):
            assert train()[:2] == before[:2]
        assert done()


def test_a_failed_evaluator_is_trained_again_where_its_folder_is_removed(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **options: Any) -> None:
        raise MemoryError("as much as there is")

    def train() -> Any:
        return trial_stages.train_evaluator(stages.experiment, stages.data, tmp_path, lambda numbers: None)

    with monkeypatch.context() as patched:
        patched.setattr("raydistill.trials.run_job.train", fails)
        with pytest.raises(RunError, match="correct the config, or remove that folder to try again"):
            train()
    with pytest.raises(RunError, match="as much as there is"):
        train()
    (folder,) = tmp_path.glob("evaluator/*")
    shutil.rmtree(folder)
    assert train()[1].status == "COMPLETE"


# ---- the teacher's outputs, and prepared data --------------------------------------------------------------

ARRAY_DAMAGES: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "no array": lambda path: path.write_text("no array"),
    "of another shape": lambda path: np.save(path, np.zeros((2, 3), np.float32)),
}


@pytest.mark.parametrize("damage", ARRAY_DAMAGES)
def test_cut_outputs_of_the_teacher_are_made_again(stages: Stages, tmp_path: Path, damage: str) -> None:
    shutil.copytree(stages.teacher.path, tmp_path / "teacher")
    teacher = stages.teacher.model_copy(update={"path": str(tmp_path / "teacher")})
    student = stages.experiment.student
    assert isinstance(student, DistillTraining)
    trial_stages._store_outputs_once(teacher, stages.data, student)
    (path,) = (tmp_path / "teacher").glob("outputs-*.npy")
    before = path.read_bytes()
    ARRAY_DAMAGES[damage](path)
    with pytest.warns(NoticeWarning, match=r"outputs-.*npy: missing or damaged .* computes it again"):
        trial_stages._store_outputs_once(teacher, stages.data, student)
    assert path.read_bytes() == before and load_outputs(teacher, stages.data, student.flip, 4) is not None


@pytest.mark.parametrize("damage", [*ARRAY_DAMAGES, "gone", "info.json cut", "info.json of wrong types"])
def test_cut_prepared_data_are_decoded_again_with_the_same_digest(tmp_path: Path, damage: str) -> None:
    config = ShapesData(num_train=2, num_val=2, num_test=2)
    stored = prepare(config, tmp_path)
    path, info = Path(stored.path) / "val_labels.npy", Path(stored.path) / "info.json"
    if damage == "gone":
        path.unlink()
    elif damage == "info.json cut":
        os.truncate(info, 20)
    elif damage == "info.json of wrong types":
        rewritten(info, "counts", value=[])
    else:
        ARRAY_DAMAGES[damage](path)
    with pytest.raises(
        StoreError, match="`raydistill plan` with the same --space, --data, --set and --store"
    ):
        load_split(stored, "val")
    with pytest.warns(NoticeWarning, match=r"missing(,| or) damaged.*; the pictures are decoded again"):
        assert prepare(config, tmp_path) == stored
    assert len(load_split(stored, "val")) == 2 and len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_that_is_named_and_damaged_is_one_line(stages: Stages, trained: Path) -> None:
    from raydistill.exchange.trained_generator import EvalGenerator, TrainedGenerator

    newest = max(trained.glob("checkpoint-*"))
    (newest / "average.safetensors").write_bytes(b"cut")
    info = load_split(stages.data, "val").info
    with pytest.raises(CheckpointError, match=r"average.safetensors: missing or damaged .* give the trial's"):
        TrainedGenerator(newest, stages.student_job()).load(info, torch.device("cpu"))
    quiet_generator: EvalGenerator = TrainedGenerator(
        min(trained.glob("checkpoint-*")), stages.student_job()
    ).load(info, torch.device("cpu"))
    assert quiet_generator.latent is None
