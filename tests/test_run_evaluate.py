"""`raydistill evaluate`: anything that gives pictures against any real ones, what travels with a number,
and what is refused."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import Stages, quiet
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from raydistill.commands.cli import main
from raydistill.commands.evaluate import EvaluateOptions, evaluate
from raydistill.config.base import Stored
from raydistill.data import batch, load_split, to_uint8
from raydistill.data.source import SplitName
from raydistill.errors import CheckpointError, ConfigError, DataError, RunError
from raydistill.evaluation import metrics
from raydistill.evaluation.scoring import Score
from raydistill.exchange.trained_generator import find_generator
from raydistill.models.backbones.inception import Inception
from raydistill.models.saved import load
from raydistill.records import trials
from raydistill.seeds import numpy_stream
from raydistill.training.loop import TrainingResult

CPU = torch.device("cpu")


class Means(nn.Module):
    """Features: the mean of each channel in each quarter, 12 numbers."""

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)


class Trial(NamedTuple):
    folder: Path
    result: TrainingResult


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("script") / "means.pt"
    torch.jit.save(torch.jit.script(Means()), path)
    return f"torchscript={path}"


@pytest.fixture(scope="session")
def trial(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A student as a sweep leaves it."""
    folder = tmp_path_factory.mktemp("sweep") / "trials" / "0003"
    job = stages.student_job()
    result = quiet(job, folder)
    facts: dict[str, Any] = {key: {} for key in ("params", "costs", "digests")}
    facts |= {"number": 3, "trial_id": "0003", "role": "search", "label": "", "trial_key": "", "seed": 0}
    trials.write_trial(folder, trials.Trial.model_validate(facts | {"job": job.model_dump(mode="json")}))
    return Trial(folder, result)


def scores(given: str | Path | tuple[str | Path, ...], **options: Any) -> dict[str, Score]:
    """Of the last that was given, by name."""
    several = given if isinstance(given, tuple) else (given,)
    found = evaluate(EvaluateOptions(given=tuple(map(str, several)), **({"resamples": 0} | options)), CPU)
    return {score.name: score for score in found[str(several[-1])]}


def outputs(stored: Stored, data: Stored, split: SplitName = "val") -> np.ndarray:
    """uint8 (N, H, W, 3): what a network gives on a split."""
    part = load_split(data, split)
    with torch.no_grad():
        pictures = load(stored, part.info, CPU)(batch(part, slice(0, len(part))).inputs)
    return to_uint8(pictures).permute(0, 2, 3, 1).numpy()


def save(folder: Path, pictures: np.ndarray, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{index:03d}.{suffix}")
    return folder


def drawn(seed: int, count: int, size: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), np.uint8)


# ---- everything that gives pictures ------------------------------------------------------------------------


def test_a_trials_folder_gets_the_scores_of_its_own_last_evaluation(trial: Trial) -> None:
    found = scores(trial.folder)
    assert {name: found[name].value for name in found if name in trial.result.metrics} == {
        name: value for name, value in trial.result.metrics.items() if name.startswith("val/")
    }
    assert {
        "val/pixel_accuracy",
        "val/psnr",
        "val/ssim",
        "val/precision_evaluator",
        "val/recall_evaluator",
    } < set(found)


def test_network_checkpoint_and_pictures_of_one_generator_have_the_same_scores(
    trial: Trial, stages: Stages, script: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "data": stages.data.path,
        "evaluator": stages.evaluator.path,
        "extractors": (script,),
        "paired": True,
    }
    checkpoint = max(trial.folder.glob("checkpoint-*"))
    folder = save(tmp_path / "pictures", outputs(trial.result.network, stages.data))
    reference = scores(trial.folder, **options)
    assert "val/miou" in reference and "val/fd_script_means" in reference
    for given in (trial.folder / "network", checkpoint, folder):
        assert values(scores(given, **options)) == values(reference), given


def values(found: dict[str, Score]) -> dict[str, float | None]:
    return {name: score.value for name, score in found.items()}


def test_an_onnx_file_of_a_fixed_batch_is_scored_like_the_function_it_computes(
    stages: Stages, script: str, tmp_path: Path
) -> None:
    """The function: three input channels, so pictures of class scores. 8 pictures are a batch of 5 and
    one of 3, filled up."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    split = load_split(stages.data, "val")
    path = tmp_path / "slice.onnx"
    write_slice(onnx, path, (5, split.info.input_channels, 16, 16))
    expected = to_uint8(batch(split, slice(0, 8)).inputs[:, :3]).permute(0, 2, 3, 1).numpy()
    folder = save(tmp_path / "expected", expected)
    options: dict[str, Any] = {
        "data": stages.data.path,
        "evaluator": stages.evaluator.path,
        "extractors": (script,),
        "paired": True,
    }
    assert values(scores(path, **options)) == values(scores(folder, **options))


def write_slice(onnx: Any, path: Path, shape: tuple[int, ...]) -> None:
    """An ONNX file that returns the first three channels of its input."""
    make, number = onnx.helper, onnx.TensorProto.FLOAT
    bounds = [
        make.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
        for name, value in (("start", 0), ("end", 3), ("axis", 1))
    ]
    graph = make.make_graph(
        [make.make_node("Slice", ["x", "start", "end", "axis"], ["y"])],
        "slice",
        [make.make_tensor_value_info("x", number, shape)],
        [make.make_tensor_value_info("y", number, [shape[0], 3, *shape[2:]])],
        bounds,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def test_a_zip_or_npz_of_pictures_is_the_folder_of_them(script: str, tmp_path: Path) -> None:
    fake, real = save(tmp_path / "fake", drawn(0, 20)), save(tmp_path / "real", drawn(1, 20))
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", fake)
    options: dict[str, Any] = {"real": str(real), "extractors": (script,)}
    np.savez(tmp_path / "fake.npz", arr_0=drawn(0, 20))
    assert (
        values(scores(packed, **options))
        == values(scores(fake, **options))
        == values(scores(tmp_path / "fake.npz", **options))
    )


def test_any_data_set_is_decoded_at_the_size_of_the_pictures(
    stages: Stages, script: str, tmp_path: Path
) -> None:
    for split, count in (("train", 2), ("val", 5), ("test", 2)):
        save(tmp_path / "data" / split / "images", drawn(2, count, (16, 16, 3)))
        save(tmp_path / "data" / split / "labels", np.zeros((count, 16, 16), np.uint8))
    fake = save(tmp_path / "fake", drawn(3, 5))
    found = scores(fake, data=str(tmp_path / "data"), extractors=(script,), store=str(tmp_path / "runs"))
    assert found["val/kd_script_means"].num_real == 5
    assert "at which size" in refusal(
        ConfigError, stages.teacher.path, data=str(tmp_path / "data"), store=str(tmp_path / "runs")
    )


# ---- what travels with a number ----------------------------------------------------------------------------


def test_count_resize_filter_split_and_digests_stand_beside_every_number(trial: Trial, script: str) -> None:
    for name, score in scores(trial.folder, extractors=(script,), resamples=20).items():
        assert (
            name.startswith("val/") and score.split == "val" and score.num_samples == score.num_real == 8
        ), name
        assert len(score.real_statistics) == 16
        if not name.endswith(("psnr", "ssim")):
            assert score.resize == "none" and len(score.extractor_digest) == 16 and score.extractor, name


def test_the_ceiling_of_the_classes_is_the_score_of_the_real_pictures(
    trial: Trial, stages: Stages, tmp_path: Path
) -> None:
    real = save(tmp_path / "real", np.asarray(load_split(stages.data, "val").targets))
    found = scores(real, data=stages.data.path, evaluator=stages.evaluator.path, paired=True)
    assert found["val/miou"].value == found["val/miou"].ceiling == scores(trial.folder)["val/miou"].ceiling
    assert found["val/psnr"].value is None and found["val/psnr"].interval is None, "equal pictures: infinite"
    assert found["val/ssim"].value == pytest.approx(1, abs=1e-12)


def test_the_statistics_digest_changes_with_pictures_extractor_and_number_alone(
    script: str, tmp_path: Path
) -> None:
    fake, real, other = (save(tmp_path / str(seed), drawn(seed, 12)) for seed in range(3))
    second = tmp_path / "second.pt"
    torch.jit.save(torch.jit.script(nn.Sequential(Means())), second)

    def found(real: Path = real, extractor: str = script, **options: Any) -> str:
        return next(
            iter(scores(fake, real=str(real), extractors=(extractor,), **options).values())
        ).real_statistics

    digests = [found(), found(real=other), found(extractor=f"torchscript={second}"), found(num=10)]
    assert len(set(digests)) == 4 and found(resamples=5) == digests[0]


def test_a_frechet_distance_of_no_more_pictures_than_features_is_marked_biased_and_the_kernel_distance_leads(
    script: str, tmp_path: Path
) -> None:
    fake, real = save(tmp_path / "fake", drawn(0, 13)), save(tmp_path / "real", drawn(1, 13))
    for num, expected in ((12, True), (13, False)):
        found = scores(fake, real=str(real), extractors=(script,), num=num)
        names = list(found)
        assert names.index("all/kd_script_means") < names.index("all/fd_script_means")
        assert [name for name in names if found[name].biased] == ["all/fd_script_means"] * expected


def test_values_are_those_of_the_features_and_an_interval_holds_them(script: str, tmp_path: Path) -> None:
    fake, real = save(tmp_path / "fake", drawn(0, 40)), save(tmp_path / "real", drawn(1, 30))
    found = scores(fake, real=str(real), extractors=(script,), resamples=50)
    one, two = (
        Means()(torch.from_numpy(drawn(seed, count)).permute(0, 3, 1, 2))
        for seed, count in ((1, 30), (0, 40))
    )
    assert found["all/kd_script_means"].value == metrics.kernel_distance(one, two)
    assert found["all/fd_script_means"].value == metrics.frechet_distance(one, two)
    for score in found.values():
        if score.interval is not None:
            assert score.value is not None and score.interval[0] < score.value < score.interval[1], score.name
    assert sum(score.interval is not None for score in found.values()) == 3, (
        "recall is of the real pictures: they are not resampled"
    )


def test_random_inception_weights_give_no_fid_and_are_said_to_be_unknown(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), tmp_path / "weights.pth")
    fake, real = save(tmp_path / "fake", drawn(0, 3)), save(tmp_path / "real", drawn(1, 3))
    found = scores(fake, real=str(real), extractors=(f"inception={tmp_path / 'weights.pth'}",))
    assert set(found) == {"all/kd_inception", "all/fd_inception"}
    assert all(
        score.extractor.startswith("weights of unknown digest") and score.resize == "tf_bilinear"
        for score in found.values()
    )


# ---- JSON and table ----------------------------------------------------------------------------------------


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["raydistill", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out, printed.err

    return run


def test_json_goes_back_in_and_other_conditions_are_refused(
    command: Any, script: str, tmp_path: Path
) -> None:
    fake, real, other = (save(tmp_path / str(seed), drawn(seed, 15)) for seed in range(3))
    code, out, _ = command(fake, "--real", real, "--extractor", script, "--json")
    (tmp_path / "before.json").write_text(out)
    assert code == 0 and json.loads(out)["scores"][str(fake)][0]["name"] == "all/kd_script_means"
    code, out, _ = command(
        other, "--real", real, "--extractor", script, "--against", tmp_path / "before.json"
    )
    assert code == 0 and "before: 0" in out and "all/fd_script_means" in out and "unknown digest" in out
    code, _, err = command(
        fake, "--real", other, "--extractor", script, "--against", tmp_path / "before.json"
    )
    assert code == 2 and "mixed digests" in err and "real_statistics" in err
    code, _, err = command(
        fake, "--real", real, "--extractor", script, "--num", 10, "--against", tmp_path / "before.json"
    )
    assert code == 2 and "num_samples" in err


# ---- what is refused ---------------------------------------------------------------------------------------


def refusal(kind: type[Exception], given: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        scores(given, **options)
    return str(caught.value)


def test_pictures_that_cannot_be_compared_are_named(script: str, tmp_path: Path) -> None:
    real = save(tmp_path / "real", drawn(0, 6))
    options: dict[str, Any] = {"real": str(real), "extractors": (script,)}
    larger, grey, mixed, uneven, single, fewer = (
        tmp_path / name for name in ("larger", "grey", "mixed", "uneven", "single", "fewer")
    )
    assert "16x8" in refusal(DataError, save(larger, drawn(1, 6, (8, 16, 3))), **options)
    assert "the real ones are in colour" in refusal(DataError, save(grey, drawn(1, 6, (8, 8))), **options)
    save(mixed, drawn(1, 5))
    Image.fromarray(drawn(1, 1, (8, 8))[0]).save(mixed / "005.png")
    assert "005.png: this picture is grey (mode L)" in refusal(DataError, mixed, **options)
    save(uneven, drawn(1, 5))
    Image.fromarray(drawn(1, 1, (8, 12, 3))[0]).save(uneven / "005.png")
    assert "005.png: 12x8, but the first picture is 8x8" in refusal(DataError, uneven, **options)
    assert "2 or more" in refusal(DataError, save(single, drawn(1, 1)), **options)
    save(fewer, drawn(1, 4))
    assert "no pairs" in refusal(DataError, fewer, **options, paired=True)
    assert "Give --num 4" in refusal(DataError, (real, fewer), **options)
    assert "there are 4" in refusal(DataError, fewer, **options, num=5)


def test_broken_files_are_named(script: str, tmp_path: Path) -> None:
    fake, real = save(tmp_path / "fake", drawn(0, 4)), save(tmp_path / "real", drawn(1, 4))
    options: dict[str, Any] = {"real": str(real), "extractors": (script,)}
    whole = (fake / "002.png").read_bytes()
    (fake / "002.png").write_bytes(whole[: len(whole) // 2])
    assert "002.png: cannot be read as a picture" in refusal(DataError, fake, **options)
    (fake / "002.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refusal(DataError, fake, **options)
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../../evil.png", whole)
    assert "'../../evil.png' leaves the folder" in refusal(DataError, tmp_path / "out.zip", **options)
    (tmp_path / "pointer.zip").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "git lfs pull" in refusal(DataError, tmp_path / "pointer.zip", **options)
    assert "no such file or folder" in refusal(DataError, tmp_path / "absent", **options)
    assert "no .png" in refusal(DataError, save(tmp_path / "empty", drawn(0, 0)), **options)


def test_nothing_to_score_with_or_to_compare_with_is_said(
    trial: Trial, script: str, tmp_path: Path, stages: Stages
) -> None:
    fake = save(tmp_path / "fake", drawn(0, 4))
    assert "nothing to score with" in refusal(ConfigError, fake, real=str(fake))
    assert "no data to compare with" in refusal(ConfigError, fake, extractors=(script,))
    assert "a generator needs inputs" in refusal(
        ConfigError, trial.folder, real=str(fake), extractors=(script,)
    )
    assert "no --data or --set beside it" in refusal(ConfigError, fake, real=str(fake), data="shapes")
    assert "this network is a generator" in refusal(
        CheckpointError, trial.folder, evaluator=stages.teacher.path
    )
    assert "this network is an evaluator" in refusal(
        CheckpointError, stages.evaluator.path, data=stages.data.path, extractors=(script,)
    )


def test_the_teacher_of_a_sweep_is_found_by_its_trial_and_by_its_folder_in_the_store(
    stages: Stages, tmp_path: Path
) -> None:
    job, trial = stages.teacher_job(), tmp_path / "sweeps" / "one" / "trials" / "0000"
    stored = tmp_path / "cache" / "teacher" / job.key
    shutil.copytree(stages.teacher.path, stored / "network")
    trial.mkdir(parents=True)
    (trial / "trial.json").write_text(json.dumps({"job": job.model_dump(mode="json")}))
    for given in (trial, stored):
        found = find_generator(given)
        assert found is not None and found.path == stored / "network"
    assert find_generator(tmp_path) is None


def test_a_generator_whose_output_is_not_finite_is_named(trial: Trial, tmp_path: Path) -> None:
    checkpoint = max(trial.folder.glob("checkpoint-*"))
    shutil.copy(trial.folder / "trial.json", tmp_path / "trial.json")
    broken = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    state = load_file(broken / "average.safetensors")
    save_file(
        {name: torch.full_like(value, torch.nan) for name, value in state.items()},
        broken / "average.safetensors",
    )
    assert "has NaN or infinity" in refusal(RunError, broken)


def test_a_network_of_other_data_is_refused(trial: Trial, script: str, tmp_path: Path) -> None:
    for index in range(20):
        both = drawn(index, 1, (16, 32, 3))[0]
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(both).save(tmp_path / "data" / f"{index}.png")
    options: dict[str, Any] = {
        "data": str(tmp_path / "data"),
        "store": str(tmp_path / "runs"),
        "extractors": (script,),
    }
    assert "does not fit data of 3 input channels" in refusal(
        CheckpointError, trial.folder / "network", **options
    )


def test_a_subset_keeps_pairs_and_their_classes_together(stages: Stages, tmp_path: Path) -> None:
    """5 of the 8 real pictures against themselves: every pair is equal, and each meets its own label map."""
    targets = np.asarray(load_split(stages.data, "val").targets)
    found = scores(
        save(tmp_path / "real", targets),
        data=stages.data.path,
        evaluator=stages.evaluator.path,
        paired=True,
        num=5,
    )
    assert found["val/ssim"].value == pytest.approx(1, abs=1e-12) and found["val/ssim"].num_samples == 5
    assert found["val/miou"].value == found["val/miou"].ceiling
    drawn_ones = numpy_stream(0, "subset").permutation(8)[:5]
    part = batch(load_split(stages.data, "val"), np.sort(drawn_ones))
    assert part.labels is not None
    with torch.no_grad():
        guess = load(stages.evaluator, load_split(stages.data, "val").info, CPU)(part.target).prediction
    expected = metrics.mean_iou(metrics.confusion_counts(guess, part.labels, None).sum(0))
    assert found["val/miou"].value == pytest.approx(expected, abs=1e-12)
