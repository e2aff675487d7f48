"""Files that score a sweep's trials: the numbers of `evaluate`, objectives, and what is refused."""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import Stages, numbers, quiet, spawned
from no_ray import SETTINGS, TINY, without_ray
from PIL import Image
from torch import Tensor, nn

from raydistill import distributed
from raydistill.cluster.placement import Node
from raydistill.commands.cli import main
from raydistill.commands.evaluate import evaluate
from raydistill.config.base import Stored
from raydistill.config.command_options import EvaluateOptions
from raydistill.config.data import FolderData
from raydistill.config.experiment import Job
from raydistill.config.scoring import ScorerFile, Scoring
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import load_split, prepare
from raydistill.errors import ConfigError, DataError, InputError, SpaceError
from raydistill.evaluation import scorer
from raydistill.evaluation.evaluator_scores import score_network
from raydistill.evaluation.extractors import load_extractor, scorer_name, sha256_of
from raydistill.evaluation.lpips import LPIPS, open_lpips
from raydistill.evaluation.metrics import frechet_distance
from raydistill.evaluation.picture_sets import of_files, of_split
from raydistill.planning.checks import check
from raydistill.planning.scorer_memory import scorer_memory
from raydistill.planning.scorers import given_files, qualities_of
from raydistill.records import tables
from raydistill.records.trials import read_trials
from raydistill.sweep import rates
from raydistill.sweep.rates import Rate, Rates

CPU = torch.device("cpu")
NUM_CLASSES = 8
"""Of the drawn pictures."""


class Means(nn.Module):
    """Features: the mean of each channel in each quarter, 12 numbers."""

    def forward(self, pictures: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 2).flatten(1)


class Classes(nn.Module):
    """Class scores of each pixel: how near its red lies to 8 levels."""

    def __init__(self, number: int = NUM_CLASSES):
        super().__init__()
        self.register_buffer("levels", torch.linspace(0, 255, number).view(1, number, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return -(pictures[:, :1].float() - self.levels).abs()


class OneChannel(nn.Module):
    """Features of grey pictures alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 4, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.inner(pictures.float()).mean((2, 3))


def script(folder: Path, name: str, network: nn.Module) -> Path:
    path = folder / f"{name}.pt"
    torch.jit.save(torch.jit.script(network), path)
    return path


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(tmp_path_factory.mktemp("means"), "means", Means())


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script(tmp_path_factory.mktemp("classes"), "classes", Classes())


def scoring(folder: Path, extractor: Path, segmenter: Path, **values: Any) -> Scoring:
    given: list[tuple[Any, Path]] = [("extractor", extractor), ("segmenter", segmenter)]
    files = tuple(
        ScorerFile(
            role=role,
            kind="torchscript",
            name=scorer_name("torchscript", path),
            file=Stored(path=str(path), digest=sha256_of(path)),
        )
        for role, path in given
    )
    return Scoring(files=files, statistics=str(folder / "statistics"), **values)


OF_FILES = {
    *("val/kd_script_means", "val/fd_script_means", "val/precision_script_means", "val/recall_script_means"),
    "val/miou_script_classes",
}


# ---- a training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [None, 6])
def test_a_training_ends_with_the_numbers_of_evaluate_to_the_digit(
    stages: Stages, means: Path, classes: Path, tmp_path: Path, num: int | None
) -> None:
    plain = stages.student_job()
    job = plain.model_copy(update={"scoring": scoring(tmp_path, means, classes, num=num)})
    result = quiet(job, tmp_path / "trial")
    assert set(result.metrics) >= OF_FILES and OF_FILES.isdisjoint(result.evaluations[0].numbers)
    given = EvaluateOptions(
        given=(str(tmp_path / "trial" / "network"),),
        data=stages.data.path,
        evaluator=stages.evaluator.path,
        extractors=(f"torchscript={means}",),
        segmenters=(f"torchscript={classes}",),
        resamples=0,
        num=num,
    )
    (found,) = evaluate(given, CPU).values()
    of_evaluate = {score.name: score.value for score in found}
    scores = {name: value for name, value in result.metrics.items() if name.startswith("val/")}
    assert scores == {name: of_evaluate[name] for name in scores}
    assert result.context["num_samples"] == (num or 8)
    assert result.context["extractor"] == "evaluator, script_means, segmenter script_classes"


def test_without_files_a_job_is_what_it_was_and_with_them_it_is_another(
    stages: Stages, means: Path, classes: Path, tmp_path: Path
) -> None:
    plain = stages.student_job()
    with_files = plain.model_copy(update={"scoring": scoring(tmp_path, means, classes)})
    assert "scoring" not in plain.model_dump(mode="json") and "scoring" not in plain.model_dump_json()
    assert Job.model_validate_json(with_files.model_dump_json()) == with_files
    moved = scoring(tmp_path / "elsewhere", means, classes)
    assert plain.key != with_files.key == plain.model_copy(update={"scoring": moved}).key


def test_at_every_report_where_it_is_asked_for_and_the_training_is_the_same(
    stages: Stages, means: Path, classes: Path, tmp_path: Path
) -> None:
    job = stages.student_job()
    plain = quiet(job, tmp_path / "plain")
    every = scoring(tmp_path, means, classes, at_reports=True)
    scored = quiet(job.model_copy(update={"scoring": every}), tmp_path / "scored")
    assert all(set(evaluation.numbers) >= OF_FILES for evaluation in scored.evaluations)
    for before, after in zip(numbers(plain), numbers(scored), strict=True):
        assert before == {name: after[name] for name in before}


# ---- the real pictures -------------------------------------------------------------------------------------


def test_real_pictures_are_seen_once_in_a_store_and_again_where_a_file_is_damaged(
    stages: Stages, means: Path, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    see = scorer.Scorer._see

    def counted(self: Any, pictures: Any, extractors: Any, labels: Any, *more: Any, **others: Any) -> Any:
        if pictures is self.real:
            seen.extend([*(each.name for each in extractors), *(each.segmenter.suffix for each in labels)])
        return see(self, pictures, extractors, labels, *more, **others)

    monkeypatch.setattr(scorer.Scorer, "_see", counted)
    given = (stages.teacher, stages.data, stages.evaluator, "val", CPU)
    first = score_network(*given, scoring(tmp_path, means, classes))
    assert seen == ["evaluator", "script_means", "", "_script_classes"]
    seen.clear()
    assert score_network(*given, scoring(tmp_path, means, classes)) == first
    assert seen == ["evaluator", ""], "the evaluator's are the sweep's own"
    (file,) = (tmp_path / "statistics").glob("*script_means-cpu.npz")
    content = bytearray(file.read_bytes())
    content[-200] ^= 1
    file.write_bytes(content)
    seen.clear()
    assert score_network(*given, scoring(tmp_path, means, classes)) == first
    assert seen == ["evaluator", "script_means", ""] and file.read_bytes() != content


# ---- several workers ---------------------------------------------------------------------------------------


def score_on_workers(rank: int, folder: Path, count: int, given: list[str], files: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=count)
    teacher, data, evaluator = (Stored.model_validate_json(text) for text in given)
    workers = distributed.current()
    scores, context = score_network(
        teacher, data, evaluator, "val", CPU, Scoring.model_validate_json(files), workers
    )
    (folder / f"{rank}.json").write_text(json.dumps([scores, context]))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_several_workers_give_the_numbers_of_one(
    stages: Stages, means: Path, classes: Path, tmp_path: Path, count: int
) -> None:
    given = (stages.teacher, stages.data, stages.evaluator)
    alone = score_network(*given, "val", CPU, scoring(tmp_path / "alone", means, classes))
    files = scoring(tmp_path / "together", means, classes).model_dump_json()
    spawned(score_on_workers, (tmp_path, count, [each.model_dump_json() for each in given], files), count)
    for rank in range(count):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == list(alone)


# ---- a whole sweep -----------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        main()
    return int(exit_info.value.code or 0)


def test_two_of_three_objectives_come_from_files_and_everything_has_them(
    means: Path, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Tables, printed front, page, MLflow; test scores; and `evaluate` says the same of a member. A resume
    needs the files no longer: the store has them."""
    monkeypatch.chdir(tmp_path)
    without_ray(monkeypatch, [Node("here", 2)])
    moved = [Path(tmp_path / path.name) for path in (means, classes)]
    for source, copy in zip((means, classes), moved):
        copy.write_bytes(source.read_bytes())
    objectives = ("val/kd_script_means:min", "val/miou_script_classes:max", "cost/macs:min")
    options = [text for name in objectives for text in ("--objective", name)]
    options += ["--extractor", f"torchscript={moved[0]}", "--segmenter", f"torchscript={moved[1]}"]
    options += ["--num-scored", "12", "--nimg", "32", "--trials", "2", "--seconds-per-image", "0.01"]
    assert run(monkeypatch, "sweep", "--store", "runs", *options, *SETTINGS) == 0
    printed = capsys.readouterr().out
    assert "reference of val/kd_script_means" in printed and "4 times the teacher's" in printed
    assert "val kd_script_means" in printed and "test miou_script_classes" in printed
    folder = tmp_path / "runs" / "sweeps" / "default-001"
    table = tables.read_table(folder / "trials.parquet")
    assert table["num_samples"].eq(12).all() and table["real_statistics"].nunique() == 1
    assert table[[f"metric.{name}" for name in sorted(OF_FILES)]].notna().all().all()
    scored = table[table["front.member"] | table["role"].isin(["teacher", "uniform", "no_teacher"])]
    assert scored["metric.test/kd_script_means"].notna().all()
    assert "val/miou_script_classes" in (folder / "frontier.html").read_text()
    teacher, member = table.iloc[0], table[table["front.member"]].iloc[-1]
    assert teacher["role"] == "teacher"
    trial = read_trials(folder)[int(member["trial_id"])]
    assert trial.result is not None
    for copy in moved:
        copy.unlink()
    assert run(monkeypatch, "sweep", "--store", "runs", *options, *SETTINGS, "--resume") == 0
    assert tables.read_table(folder / "trials.parquet")["metric.val/kd_script_means"].equals(
        table["metric.val/kd_script_means"]
    )
    assert run(monkeypatch, "sweep", "--store", "runs", *options, *SETTINGS) == 2, "a new sweep needs them"
    given = EvaluateOptions(
        given=(str(folder / "trials" / trial.trial_id),),
        extractors=(f"torchscript={means}",),
        segmenters=(f"torchscript={classes}",),
        resamples=0,
        num=12,
    )
    (found,) = evaluate(given, CPU).values()
    of_evaluate = {score.name: score.value for score in found}
    assert all(trial.result.metrics[name] == of_evaluate[name] for name in OF_FILES)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = (each for each in client.search_experiments() if each.name == "raydistill")
    runs = client.search_runs([experiment.experiment_id], f"tags.`raydistill.trial_id` = '{trial.trial_id}'")
    logged = runs[0].data
    for name in OF_FILES:
        assert logged.metrics[name] == trial.result.metrics[name]
        assert logged.metrics[name.replace("val/", "final/")] == trial.result.metrics[name]
    assert logged.tags["raydistill.val.num_samples"] == "12"
    assert logged.tags["raydistill.val.extractor"] == "evaluator, script_means, segmenter script_classes"


def statistics(folder: Path, name: str, features: Tensor) -> Path:
    """The mean and covariance of features (N, D), as implementations of the FID write them."""
    path = folder / f"{name}.npz"
    values = features.double().numpy()
    np.savez(path, mu=values.mean(0), sigma=np.cov(values, rowvar=False))
    return path


def test_published_statistics_give_the_distance_of_the_pictures_that_they_are_of(
    stages: Stages, means: Path, tmp_path: Path
) -> None:
    """To the rounding of a covariance; in a training, and by `evaluate`, under a name of its own."""
    split = load_split(stages.data, "val")
    extractor = load_extractor(f"torchscript={means}", CPU)
    features = extractor.network(of_split(split, stages.data, CPU).read(np.arange(len(split))))
    file = statistics(tmp_path, "real-pictures", features)
    options = SweepOptions(
        store=str(tmp_path / "runs"),
        extractors=(f"torchscript={means}",),
        real_statistics=(f"script_means={file}",),
    )
    scorers = given_files(options)
    assert [each.name for each in scorers] == ["script_means", "fd_script_means_real_pictures"]
    assert qualities_of(scorers)["val/fd_script_means_real_pictures"] == "min"
    scoring = Scoring(files=scorers, statistics=str(tmp_path / "statistics"))
    job = stages.student_job(budget_nimg=32, report_every_nimg=32)
    job = job.model_copy(update={"scoring": scoring})
    last = numbers(quiet(job, tmp_path / "trial"))[-1]
    assert last["val/fd_script_means_real_pictures"] == pytest.approx(last["val/fd_script_means"], rel=1e-6)
    given = EvaluateOptions(
        given=(str(tmp_path / "trial" / "network"),),
        data=stages.data.path,
        extractors=options.extractors,
        real_statistics=options.real_statistics,
        resamples=20,
    )
    (found,) = evaluate(given, CPU).values()
    by_name = {score.name: score for score in found}
    own = by_name["val/fd_script_means_real_pictures"]
    assert own.value == last["val/fd_script_means_real_pictures"] and own.num_real is None
    assert own.real_statistics == sha256_of(file)[:16] and own.interval is not None
    assert not {name for name in by_name if "real_pictures" in name} - {own.name}, "nothing else can be had"


def test_statistics_that_are_none_or_of_another_extractor_are_refused_in_one_line(
    means: Path, tmp_path: Path
) -> None:
    good = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    bent = np.eye(12)
    bent[0, 1] = 0.5
    np.savez(tmp_path / "bent.npz", mu=np.zeros(12), sigma=bent)
    np.savez(tmp_path / "negative.npz", mu=np.zeros(12), sigma=-np.eye(12))
    np.savez(tmp_path / "nan.npz", mu=np.full(12, np.nan), sigma=np.eye(12))
    np.savez(tmp_path / "other.npz", mean=np.zeros(12))
    np.savez(tmp_path / "objects.npz", mu=np.array([{}], dtype=object), sigma=np.eye(12))
    (tmp_path / "text.npz").write_text("no file of arrays")
    statistics(tmp_path, "wide", torch.cat([good, good], 1))
    for name, says in {
        "wide": "mu \\(24,\\), sigma \\(24, 24\\): of another extractor. Needed: mu \\(12,\\)",
        "bent": "no covariance",
        "negative": "no covariance",
        "nan": "NaN or infinity",
        "other": "no npz file with mu and sigma",
        "objects": "no npz file with mu and sigma",
        "text": "no npz file with mu and sigma",
        "absent": "cannot be read",
    }.items():
        given = f"script_means={tmp_path / name}.npz"
        with pytest.raises(DataError, match=says) as refused:
            planned(tmp_path, extractors=(f"torchscript={means}",), real_statistics=(given,))
        assert "\n" not in str(refused.value)
    file = statistics(tmp_path, "fine", good)
    with pytest.raises(DataError, match="Given extractors: script_means"):
        planned(tmp_path, extractors=(f"torchscript={means}",), real_statistics=(f"inception={file}",))
    with pytest.raises(DataError, match="Give --extractor, too"):
        planned(tmp_path, real_statistics=(f"inception={file}",))


def prepared_pictures(folder: Path) -> Stored:
    """Pictures without inputs, 20 of train, 8 of val, 8 of test; and beside them a folder of 5 others."""
    rng = np.random.default_rng(0)
    for name, number in {"data/train": 20, "data/val": 8, "data/test": 8, "fake": 5}.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            array = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(array).save(folder / name / f"{index}.png")
    config = FolderData(root=str(folder / "data"), height=16, width=16, layout="pictures")
    return prepare(config, folder / "cache")


def test_unpaired_pictures_are_compared_with_those_of_train_too(means: Path, tmp_path: Path) -> None:
    """As published for CycleGAN; pairs are compared with their own alone."""
    with pytest.raises(ConfigError, match="is for unpaired data and for noise; these data are pairs"):
        planned(tmp_path, real_split="train+test")
    data = prepared_pictures(tmp_path)
    found = {}
    for which in ("own", "train+test"):
        given = EvaluateOptions(
            given=(str(tmp_path / "fake"),),
            data=data.path,
            extractors=(f"torchscript={means}",),
            real_split=which,
            resamples=0,
        )
        (scores,) = evaluate(given, CPU).values()
        found[which] = {score.name: score for score in scores}["val/fd_script_means"]
    extractor = load_extractor(f"torchscript={means}", CPU)
    parts = [load_split(data, name) for name in ("val", "train")]
    seen = [extractor.network(of_split(each, data, CPU).read(np.arange(len(each)))) for each in parts]
    made = of_files(tmp_path / "fake", in_order_of_split=False, device=CPU)
    fake = extractor.network(made.read(np.arange(5)))
    assert found["own"].value == pytest.approx(frechet_distance(seen[0], fake), rel=1e-9)
    assert found["train+test"].value == pytest.approx(frechet_distance(torch.cat(seen), fake), rel=1e-9)
    assert found["own"].num_real == len(parts[0]) and found["train+test"].num_real == sum(map(len, parts))
    assert found["own"].real_statistics != found["train+test"].real_statistics


# ---- what is refused ---------------------------------------------------------------------------------------


def planned(tmp_path: Path, **options: Any) -> Any:
    values = tuple(f"{path}={value}" for path, value in (TINY | {"data.num_val": 16}).items())
    return check(SweepOptions(store=str(tmp_path / "runs"), set=values, **options))


@pytest.mark.parametrize(
    ("objective", "option"),
    [
        ("val/fid:min", r"needs --extractor inception=FILE with the TF-2015 weights"),
        ("val/kid:min", r"needs --extractor inception=FILE"),
        ("val/kd_squeezenet:min", r"needs --extractor squeezenet=FILE"),
        ("val/recall_vgg16:max", r"needs --extractor vgg16=FILE"),
        ("val/miou_drn105:max", r"needs --segmenter drn105=FILE"),
        ("val/miou_script_mine:max", r"needs --segmenter torchscript=mine.pt"),
        ("val/lpips:min", r"needs --lpips FILE"),
        (
            "val/fid_cifar10:min",
            r"--extractor inception=FILE .* --real-statistics inception=cifar10.npz",
        ),
        ("val/kd_script_means:max", r"better towards min"),
    ],
)
def test_an_objective_that_no_network_gives_is_refused_with_the_option_that_gives_it(
    objective: str, option: str, means: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpaceError, match=option):
        planned(tmp_path, extractors=(f"torchscript={means}",), objectives=(objective, "cost/macs:min"))
    assert not (tmp_path / "runs").exists(), "nothing was prepared"


def test_bad_scorers_are_refused_in_one_line_before_any_cost(
    means: Path, classes: Path, tmp_path: Path
) -> None:
    other, again = script(tmp_path, "five", Classes(5)), tmp_path / "again"
    again.mkdir()
    grey, twin = script(tmp_path, "grey", OneChannel()), script(again, "means", Means())
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    unlabelled = {"objectives": ("val/kd_evaluator:min:1", "cost/macs:min")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"extractors": ("inception=" + str(tmp_path / "other.pth"),)}, "not the weights of the TF-2015"),
        ({"extractors": ("resnet=x",)}, "Allowed kinds: inception, squeezenet, vgg16, torchscript"),
        ({"extractors": (f"torchscript={tmp_path / 'none.pt'}",)}, "cannot be read"),
        ({"extractors": (f"torchscript={grey}",)}, "cannot score colour pictures"),
        ({"extractors": (f"torchscript={means}", f"torchscript={twin}")}, "scores of one name"),
        ({"segmenters": (f"torchscript={other}",)}, "the data have 8 classes"),
        ({"segmenters": (f"torchscript={means}",)}, "the data have 8 classes"),
        ({"lpips": str(tmp_path / "other.pth")}, "not the weights of LPIPS 0.1"),
        ({"num_scored": 1}, "give 2 to 16"),
        ({"num_scored": 17}, "give 2 to 16"),
        ({"score_every": True}, "nothing is scored by files"),
    ]
    for options, message in cases:
        with pytest.raises((ConfigError, DataError), match=message) as refused:
            planned(tmp_path, **(unlabelled | options))
        assert isinstance(refused.value, InputError) and "\n" not in str(refused.value), options
    assert not (tmp_path / "runs" / "cache" / "scorers").exists()


def test_what_gives_a_loss_never_scores(stages: Stages, means: Path, classes: Path, tmp_path: Path) -> None:
    job = stages.student_job()
    assert job.teacher is not None
    files = scoring(tmp_path, means, classes)
    same = files.files[0].model_copy(update={"file": Stored(path="x", digest=job.teacher.digest)})
    with pytest.raises(ValueError, match="what gives a loss never scores"):
        Job(**(dict(job) | {"scoring": files.model_copy(update={"files": (same,)})}))


def test_files_score_at_reports_where_early_stopping_reads_them(means: Path, tmp_path: Path) -> None:
    def at_reports(**options: Any) -> bool:
        plan = planned(tmp_path, nimg=64, extractors=(f"torchscript={means}",), **options)
        assert plan.scoring is not None and np.isfinite(plan.trial_bytes)
        return bool(plan.scoring.at_reports)

    searched = {"objectives": ("val/kd_script_means:min", "cost/macs:min")}
    assert not at_reports(**searched) and not at_reports(early_stopping=True)
    assert at_reports(early_stopping=True, **searched) and at_reports(score_every=True)


# ---- networks of one's own ---------------------------------------------------------------------------------


def test_an_evaluator_that_was_trained_here_scores_as_a_file(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As segmenter and as extractor it says what it says as the evaluator."""
    given = ["export", stages.evaluator.path, "--format", "torchscript", "--out"]
    files = {"classes": tmp_path / "mine.pt", "features": tmp_path / "mine-too.pt"}
    for what, file in files.items():
        assert run(monkeypatch, *given, str(file), "--gives", what) == 0
        assert f"torchscript={file}" in capsys.readouterr().out
    assert run(monkeypatch, *given, str(tmp_path / "mine.onnx")) == 2
    scores, _ = score_network(
        stages.teacher,
        stages.data,
        stages.evaluator,
        "val",
        CPU,
        scoring(tmp_path, files["features"], files["classes"]),
    )
    assert scores["val/miou_script_mine"] == pytest.approx(scores["val/miou"], rel=1e-6)
    for kind in ("kd", "fd"):
        assert scores[f"val/{kind}_script_mine-too"] == pytest.approx(
            scores[f"val/{kind}_evaluator"], rel=1e-4, abs=1e-7
        )


# ---- what scoring takes ------------------------------------------------------------------------------------


def test_the_plan_times_the_scorers_at_the_end_or_at_every_report(means: Path, tmp_path: Path) -> None:
    scored = planned(tmp_path, extractors=(f"torchscript={means}",), num_scored=12)
    assert rates._scoring_sec(planned(tmp_path)) == 0 < rates._scoring_sec(scored)
    known = Rates(
        "",
        {
            kind: [Rate(0, 0.01)]
            for kind in (*rates.STAGES, "student", "student with MI", rates.WITHOUT_TEACHER)
        },
        100.0,
    )
    training = scored.experiment.student
    once = known.trial_sec(training, 1e6) - known._replace(scoring_sec=0.0).trial_sec(training, 1e6)
    assert once == pytest.approx(100)
    reports = -(-training.budget_nimg // training.report_every_nimg)
    known = known._replace(scores_reports=True)
    every = known.trial_sec(training, 1e6) - known._replace(scoring_sec=0.0).trial_sec(training, 1e6)
    assert every == pytest.approx(100 * reports)


def test_the_memory_of_published_networks_is_counted_without_their_weights(tmp_path: Path) -> None:
    def file(role: Any, kind: str) -> ScorerFile:
        return ScorerFile(role=role, kind=kind, name=kind, file=Stored(path="none", digest="0"))

    squeezenet, drn105 = file("extractor", "squeezenet"), file("segmenter", "drn105")
    one = scorer_memory((squeezenet,), 32, 32, 8)
    assert one.resting == 1_248_424 * 4, "the published number of weights"
    both = scorer_memory((squeezenet, drn105), 64, 64, 8)
    assert both.resting > 54_000_000 * 4 and both.live >= one.live
    assert scorer_memory((), 32, 32, 8) == (0, 0)
    of_pairs = scorer_memory((file("lpips", "vgg16"),), 32, 32, 2)
    assert of_pairs.resting == (14_714_688 + 1472 + 6) * 4


# ---- LPIPS -------------------------------------------------------------------------------------------------


def test_lpips_is_the_sum_of_weighted_differences_of_unit_features(tmp_path: Path) -> None:
    """Against the published formula, written out; the file is the state of `lpips.LPIPS(net="vgg")`."""
    torch.manual_seed(0)
    network = LPIPS()
    for number in range(5):
        getattr(network, f"lin{number}").model[1].weight.data.uniform_(0, 1)
    state = network.state_dict()
    assert list(state)[:2] == ["net.slice1.0.weight", "net.slice1.0.bias"]
    published = ["net.slice2.5.weight", "net.slice3.14.bias", "net.slice4.17.weight", "net.slice5.28.weight"]
    assert {*published, "lin4.model.1.weight", "scaling_layer.shift"} < set(state) and len(state) == 33
    twice = {f"lins.{number}.model.1.weight": state[f"lin{number}.model.1.weight"] for number in range(5)}
    torch.save(state | twice, tmp_path / "lpips.pth")
    lpips = open_lpips(tmp_path / "lpips.pth", CPU)
    real, fake = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    found = lpips.distance(real, fake)
    x, y = (
        (each / 127.5 - 1 - state["scaling_layer.shift"]) / state["scaling_layer.scale"]
        for each in (real, fake)
    )
    expected = torch.zeros(3)
    for number in range(5):
        stage = getattr(network.net, f"slice{number + 1}")
        with torch.no_grad():
            x, y = stage(x), stage(y)
        unit = [each / (each.norm(dim=1, keepdim=True) + 1e-10) for each in (x, y)]
        weight = state[f"lin{number}.model.1.weight"].view(1, -1, 1, 1)
        expected += ((unit[0] - unit[1]) ** 2 * weight).sum(1).mean((1, 2))
    assert torch.allclose(found, expected.double(), rtol=1e-4)
    assert lpips.distance(real, real).tolist() == [0.0] * 3
    state["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(DataError, match="scales pictures otherwise"):
        open_lpips(tmp_path / "other.pth", CPU)
