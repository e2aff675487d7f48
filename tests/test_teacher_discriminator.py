"""The teacher's discriminator: kept beside the teacher, and what a student's discriminator may start from."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Stages
from safetensors.torch import load_file

from raydistill import distributed
from raydistill.config.architectures import PatchDiscriminator, SaganDiscriminator
from raydistill.config.base import Stored
from raydistill.config.experiment import Job
from raydistill.config.training import Pix2pixTraining
from raydistill.data import read_info
from raydistill.errors import CheckpointError, ConfigError, NoticeWarning
from raydistill.models import networks, saved
from raydistill.records import remote
from raydistill.records.trials import read_result
from raydistill.training import loop
from raydistill.training.teacher import require_same_discriminator, start_discriminator
from raydistill.trials import stages as trial_stages
from raydistill.trials.run_job import discriminator_of, is_network_whole, perform

WHERE = "student.base.discriminator"


def ignore(evaluation: object) -> None:
    """What a training reports."""


@pytest.fixture(scope="module")
def cached_once(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    trial_stages.train_stages(stages.experiment, stages.data, cache, ignore)
    return cache


@pytest.fixture
def cache(cached_once: Path, tmp_path: Path) -> Path:
    """A cache with evaluator and teacher."""
    return shutil.copytree(cached_once, tmp_path / "cache")


def train(stages: Stages, cache: Path) -> trial_stages.Stages:
    return trial_stages.train_stages(stages.experiment, stages.data, cache, ignore)


def teacher_folder(cache: Path) -> Path:
    (folder,) = (cache / "teacher").iterdir()
    return folder


# ---- it is kept --------------------------------------------------------------------------------------------


def test_a_teachers_discriminator_lies_beside_it_as_the_training_left_it(stages: Stages, cache: Path) -> None:
    folder = teacher_folder(cache)
    found, teacher = train(stages, cache).discriminator, stages.experiment.teacher
    assert isinstance(teacher, Pix2pixTraining)
    assert found is not None and Path(found.path) == folder / "discriminator"
    config, state = saved.load_discriminator(found, PatchDiscriminator)
    assert config == teacher.discriminator
    newest = max(folder.glob("checkpoint-*"), key=lambda path: path.name)
    expected = load_file(newest / "discriminator.safetensors")
    assert set(state) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in state.items())
    assert state["0.weight"].shape[1] == read_info(stages.data).input_channels + 3


def test_a_store_gets_it_before_the_result_that_names_it(cache: Path) -> None:
    """A remote store is sent files in this order; who finds a result trusts that the others are there."""
    folder = teacher_folder(cache)
    names = sorted(remote._local_listing(folder, ()), key=remote._upload_order)
    order = ["discriminator/weights.safetensors", "discriminator/meta.json", "result.json"]
    assert [name for name in names if name in order] == order


def test_students_and_evaluators_leave_none(stages: Stages, cache: Path, tmp_path: Path) -> None:
    result = perform(stages.student_job(mi__weight=0), tmp_path / "trial", ignore)
    assert result.discriminator is None and not (tmp_path / "trial/discriminator").exists()
    assert "discriminator" not in json.loads((tmp_path / "trial/result.json").read_text())
    assert not list((cache / "evaluator").glob("*/discriminator"))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "weights cut": lambda folder: os.truncate(folder / "weights.safetensors", 10),
    "meta.json empty": lambda folder: (folder / "meta.json").write_bytes(b""),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_discriminator_is_noticed_and_made_again_as_it_was(
    stages: Stages, cache: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, folder = train(stages, cache), teacher_folder(cache)
    weights, result = (
        (folder / name).read_bytes() for name in ("discriminator/weights.safetensors", "result.json")
    )
    DAMAGES[damage](folder / "discriminator")
    assert not is_network_whole(folder, before.teacher_result)
    assert not trial_stages.stages_done(stages.experiment, stages.data, cache)
    monkeypatch.setattr(loop, "take_step", lambda *arguments: pytest.fail("it was trained"))
    with pytest.warns(NoticeWarning, match="the network is missing or damaged; it is made again"):
        assert train(stages, cache) == before
    assert (folder / "discriminator/weights.safetensors").read_bytes() == weights
    assert (folder / "result.json").read_bytes() == result


def test_a_teacher_of_before_has_none_and_stays_as_it_is(stages: Stages, cache: Path) -> None:
    folder = teacher_folder(cache)
    shutil.rmtree(folder / "discriminator")
    content = json.loads((folder / "result.json").read_text())
    assert content.pop("discriminator")["path"] == "discriminator"
    (folder / "result.json").write_text(json.dumps(content))
    text = (folder / "result.json").read_bytes()
    result = read_result(folder)
    assert result is not None and result.discriminator is None and discriminator_of(folder, result) is None
    assert trial_stages.stages_done(stages.experiment, stages.data, cache)
    assert train(stages, cache).discriminator is None
    shutil.rmtree(folder / "network")  # what makes the network again leaves the result as it was
    with pytest.warns(NoticeWarning, match="it is made again"):
        assert train(stages, cache).discriminator is None
    assert (folder / "result.json").read_bytes() == text


def test_a_discriminator_that_is_given_as_a_generator_is_refused_and_the_other_way_round(
    stages: Stages, cache: Path
) -> None:
    found = train(stages, cache)
    assert found.discriminator is not None
    with pytest.raises(CheckpointError, match="this network is a discriminator, needed is a generator"):
        saved.stored(Path(found.discriminator.path), kind="generator")
    with pytest.raises(CheckpointError, match="this network is a generator, needed is a discriminator"):
        saved.load_discriminator(found.teacher, PatchDiscriminator)


# ---- it is started from ------------------------------------------------------------------------------------


def job_with(stages: Stages, discriminator: Stored | None) -> Job:
    job = stages.student_job()
    return job.model_copy(update={"teacher_discriminator": discriminator})


def test_a_job_without_it_has_the_key_that_it_had_and_one_with_it_another(stages: Stages) -> None:
    job = stages.student_job()
    assert "teacher_discriminator" not in job.model_dump(mode="json")
    assert Job.model_validate(job.model_dump(mode="json")).key == job.key
    given = Stored(path="here", digest="0123456789abcdef")
    other = job_with(stages, given)
    assert other.key != job.key and other.needed["teacher's discriminator"] == given
    assert Job.model_validate(other.model_dump(mode="json")) == other
    assert "teacher's discriminator" not in job.needed
    moved = job_with(stages, given.model_copy(update={"path": "there"}))
    assert moved.key == other.key


@pytest.mark.parametrize("sees", ["inputs and pictures", "pictures"])
def test_a_students_discriminator_starts_with_the_teachers_weights(
    stages: Stages, tmp_path: Path, sees: str
) -> None:
    config, info = PatchDiscriminator(width=4, num_layers=1, norm="batch"), read_info(stages.data)

    def made(seed: int) -> torch.nn.Module:
        if sees == "pictures":
            return networks.picture_discriminator(config, seed)
        return networks.discriminator(config, info, seed)

    of_teacher, own = made(0), made(1)
    of_teacher(torch.randn(2, of_teacher.state_dict()["0.weight"].shape[1], 16, 16))  # moves its statistics
    job = job_with(stages, saved.save(tmp_path, "discriminator", of_teacher, config))
    start_discriminator(own, config, job, WHERE)
    expected = of_teacher.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in own.state_dict().items())
    assert all(parameter.requires_grad for parameter in own.parameters())
    distributed.check(distributed.ALONE, job.training, {"discriminator": own})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"width": 5},
            ".width: 5, but the teacher's discriminator that it starts from has 4; give the same, or",
        ),
        ({"num_layers": 2}, ".num_layers: 2, but the teacher's discriminator that it starts from has 1"),
        ({"norm": "batch"}, ".norm: batch, but the teacher's discriminator that it starts from has instance"),
    ],
)
def test_another_architecture_is_refused_with_its_dotted_path(
    stages: Stages, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    config = PatchDiscriminator(width=4, num_layers=1)
    stored = saved.save(tmp_path, "discriminator", networks.picture_discriminator(config, 0), config)
    other = config.model_copy(update=changes)
    with pytest.raises(ConfigError) as error:
        start_discriminator(networks.picture_discriminator(other, 0), other, job_with(stages, stored), WHERE)
    assert str(error.value).startswith(f"{WHERE}{says}")
    with pytest.raises(ConfigError):
        require_same_discriminator(config, other, WHERE)
    require_same_discriminator(config, config.model_copy(), WHERE)


def test_one_of_another_kind_or_that_sees_other_pictures_or_that_is_not_there_is_refused(
    stages: Stages, tmp_path: Path
) -> None:
    config = PatchDiscriminator(width=4, num_layers=1)
    conditional = networks.discriminator(config, read_info(stages.data), 0)
    job = job_with(stages, saved.save(tmp_path, "discriminator", conditional, config))
    with pytest.raises(
        ConfigError, match=r"its 0\.weight is \(4, 3, 4, 4\), that of .* pictures alone; start at"
    ):
        start_discriminator(networks.picture_discriminator(config, 0), config, job, WHERE)
    sagan = SaganDiscriminator()
    with pytest.raises(
        ConfigError, match=r"^student\.base\.discriminator: a SaganDiscriminator, but the teach"
    ):
        start_discriminator(networks.picture_discriminator(sagan, 0), sagan, job, WHERE)
    with pytest.raises(
        ConfigError, match=r"a SaganDiscriminator, but the teacher's .* is a PatchDiscriminator"
    ):
        require_same_discriminator(config, sagan, WHERE)
    with pytest.raises(
        ConfigError, match=r"^student\.base\.discriminator: the teacher has no discriminator to"
    ):
        start_discriminator(conditional, config, job_with(stages, None), WHERE)
