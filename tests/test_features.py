"""Feature networks: VGG16 from a file and its stand-in, trained, given, refused and counted."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recipe_kit import begin
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.config.architectures import EvaluatorNetwork
from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment, Job
from raydistill.config.features import FeatureNetworkConfig, FeaturesTraining, needs_features
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.config.scoring import ScorerFile, Scoring
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import DataInfo, described, load_split, prepare, read_info
from raydistill.distributed import ALONE
from raydistill.errors import CheckpointError, ConfigError, DataError, RunError
from raydistill.evaluation.lpips import LPIPS
from raydistill.models import networks, saved
from raydistill.models.backbones import vgg
from raydistill.models.evaluator import PixelEvaluator
from raydistill.models.features import FeatureHead, TrainedTaps, Vgg16Taps, read_vgg16, without_weights
from raydistill.models.inputs import target_batches
from raydistill.planning import memory, rehearsal
from raydistill.planning.checks import check
from raydistill.planning.feature_file import require_other_weights, with_given_features
from raydistill.planning.step_counts import Counted, count_step
from raydistill.sweep import rates
from raydistill.sweep import run as sweep_run
from raydistill.testing.trainings import begin as begin_experiment
from raydistill.testing.trainings import tiny_experiment
from raydistill.training import assembly, feature_losses
from raydistill.training.recipes import Setup
from raydistill.training.recipes.features import measure_rms
from raydistill.trials.run_job import perform
from raydistill.trials.stages import features_done, stages_done, train_features, train_stages

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def featured(values: dict[str, Any] | None = None) -> Experiment:
    """A tiny experiment whose students' losses look at features: those of OMGD with one teacher."""
    base = {"kind": "omgd", "num_teachers": 1, "channel_weight": 0.0}
    given = {f"student.base.{name}": value for name, value in base.items()} | {"student.terms.mi.weight": 0.0}
    experiment = tiny_experiment(given | (values or {}))
    return experiment.model_copy(update={"student": experiment.resolved(experiment.student)})


@pytest.fixture
def styled() -> Experiment:
    return featured()


@pytest.fixture(scope="session")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights by torchvision's names, with a classifier that nobody reads."""
    torch.manual_seed(0)
    state = {f"features.{name}": value for name, value in vgg.convolutions().state_dict().items()}
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.pth"
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def stored(path: Path) -> Stored:
    return Stored(path=str(path), digest=saved.sha256_of(path))


# ---- VGG16 -------------------------------------------------------------------------------------------------


def test_the_taps_of_vgg16_are_the_relus_after_the_last_convolutions_of_four_stages(vgg_file: Path) -> None:
    """relu1_2, relu2_2, relu3_3 and relu4_3 of pictures normalised by ImageNet's statistics, convolution by
    convolution; of a picture that is not square."""
    state, pictures = torch.load(vgg_file, weights_only=True), noise(2, 3, 24, 16)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, expected = ((pictures + 1) / 2 - mean) / std, []
    for number, stage in enumerate(((0, 2), (5, 7), (10, 12, 14), (17, 19, 21))):
        x = F.max_pool2d(x, 2) if number else x
        for at in stage:
            x = F.conv2d(x, state[f"features.{at}.weight"], state[f"features.{at}.bias"], padding=1).relu()
        expected.append(x)
    found = saved.load_features(stored(vgg_file))(pictures)
    assert [tuple(tap.shape) for tap in found] == [
        (2, 64, 24, 16), (2, 128, 12, 8), (2, 256, 6, 4), (2, 512, 3, 2)
    ]  # fmt: skip
    for own, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-5, atol=1e-6)


def test_a_file_without_a_classifier_and_one_of_safetensors_give_the_same(
    vgg_file: Path, tmp_path: Path
) -> None:
    state = torch.load(vgg_file, weights_only=True)
    convolutions = {name: value for name, value in state.items() if name.startswith("features.")}
    save_file(convolutions, tmp_path / "vgg.safetensors")
    pictures = noise(1, 3, 8, 8)
    found, expected = (read_vgg16(path)(pictures) for path in (tmp_path / "vgg.safetensors", vgg_file))
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("change", ["a width", "no tensor", "one layer more", "one layer less", "nothing"])
def test_a_file_of_another_network_is_refused_with_the_reason(
    vgg_file: Path, tmp_path: Path, change: str
) -> None:
    state = torch.load(vgg_file, weights_only=True)
    if change == "a width":
        state["features.0.weight"] = torch.zeros(32, 3, 3, 3)
        reason = r"features.0.weight is of the shape \(32, 3, 3, 3\), of the network \(64, 3, 3, 3\)"
    elif change == "no tensor":
        state["features.0.bias"], reason = 3, r"features.0.bias is no tensor, of the network \(64,\)"
    elif change == "one layer more":
        state["features.1.weight"] = torch.zeros(64)
        reason = "tensors that the network has not: 1, first features.1.weight"
    elif change == "one layer less":
        del state["features.28.bias"]
        reason = "tensors that are missing: 1 of 26, first features.28.bias"
    else:
        state.clear()
        reason = "tensors that are missing: 26 of 26, first features.0.weight"
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(
        DataError, match=f"other.pth: these are not the weights of VGG16: {reason}. Give the file"
    ) as error:
        read_vgg16(tmp_path / "other.pth")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_the_one_of_the_digest_is_refused(vgg_file: Path) -> None:
    with pytest.raises(CheckpointError, match="not the file that was given as --features"):
        saved.load_features(Stored(path=str(vgg_file), digest="0" * 64))


# ---- the stand-in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (13, 21), (1, 3)])
def test_the_stand_in_takes_pictures_of_any_size(size: tuple[int, int]) -> None:
    height, width = size
    taps = networks.feature_network(FeatureNetworkConfig(width=3), 0)(noise(2, 3, height, width))
    expected = []
    for channels in (3, 6, 12, 24):
        expected.append((2, channels, height, width))
        height, width = -(-height // 2), -(-width // 2)
    assert [tuple(tap.shape) for tap in taps] == expected


def test_taps_are_divided_by_their_root_mean_square_alone() -> None:
    """What flows on to the next stage is not."""
    network = networks.feature_network(FeatureNetworkConfig(width=3), 0)
    before = network(noise(1, 3, 16, 16))
    network.rms.copy_(torch.tensor([1.0, 2.0, 4.0, 0.5]))
    for tap, old, scale in zip(network(noise(1, 3, 16, 16)), before, (1, 2, 4, 0.5), strict=True):
        torch.testing.assert_close(tap * scale, old)


def test_it_is_another_network_than_the_evaluator_and_comes_from_another_stream() -> None:
    config = FeatureNetworkConfig(width=16)
    first, again, other = (networks.feature_network(config, seed) for seed in (0, 0, 1))
    weights = [network.stages[0][0].weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    info = read_info_of_shapes()
    evaluator = networks.evaluator(EvaluatorNetwork(width=16), info, 0)
    assert not {tuple(value.shape) for value in evaluator.state_dict().values() if value.dim() == 4} >= {
        tuple(value.shape) for value in first.state_dict().values() if value.dim() == 4
    }
    assert isinstance(evaluator, PixelEvaluator)
    assert not torch.equal(weights[0], evaluator.fine[0][0].weight)
    assert shapes32().features.seed != shapes32().evaluator.seed


def read_info_of_shapes() -> DataInfo:
    return described(shapes32().data)


def test_a_frozen_network_gives_gradients_to_the_pictures_alone() -> None:
    for config in (FeatureNetworkConfig(width=2), None):
        network = without_weights(config)
        assert not network.training and not any(each.requires_grad for each in network.parameters())
        pictures = noise(1, 3, 16, 16).requires_grad_(True)
        sum(tap.sum() for tap in network(pictures)).backward()  # type: ignore[union-attr]
        assert pictures.grad is not None and pictures.grad.abs().max() > 0


def test_the_head_predicts_pixels_or_pictures_from_every_stage() -> None:
    network = networks.feature_network(FeatureNetworkConfig(width=2), 0)
    for of_pixels, expected in ((True, (2, 5, 12, 20)), (False, (2, 5))):
        head = FeatureHead(network.widths, 5, of_pixels)
        out = head(network(noise(2, 3, 12, 20)))
        assert tuple(out.shape) == expected
        out.square().sum().backward()
        assert all(parameter.grad is not None for parameter in (*network.parameters(), *head.parameters()))


# ---- its training ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Stored, Path]:
    """An experiment whose students need features, its data, and a cache where the network is trained."""
    folder = tmp_path_factory.mktemp("features")
    experiment = featured({"features.budget_nimg": 480})
    data = prepare(experiment.data, folder / "data")
    network = train_features(experiment, data, folder / "cache", lambda evaluation: None)
    assert network is not None
    return experiment, network, folder


def test_every_tap_of_a_trained_network_has_the_root_mean_square_1(
    trained: tuple[Experiment, Stored, Path],
) -> None:
    experiment, network, folder = trained
    split, loaded = (
        load_split(prepare(experiment.data, folder / "data"), "train"),
        saved.load_features(network),
    )
    taps = [loaded(part.target) for part in target_batches(split, CPU, ALONE)]
    for each in zip(*taps, strict=True):
        squares = torch.cat([tap.double().square().flatten() for tap in each])
        assert squares.mean().sqrt().item() == pytest.approx(1, abs=1e-4)
    assert isinstance(loaded, TrainedTaps) and (loaded.rms - 1).abs().max() > 0.05
    assert not loaded.training and not any(each.requires_grad for each in loaded.parameters())


def test_it_learns_the_evaluators_task_and_is_trained_once(trained: tuple[Experiment, Stored, Path]) -> None:
    experiment, network, folder = trained
    data, reports = prepare(experiment.data, folder / "data"), list[Any]()
    assert train_features(experiment, data, folder / "cache", reports.append) == network
    losses = [
        each.numbers["train/features_loss"] for each in reports
    ]  # a result that is there is not reported
    assert losses == [] and features_done(experiment, data, folder / "cache")
    (log,) = (folder / "cache" / "features").glob("*/log.txt")
    logged = [float(line.split("features_loss=")[1].split()[0]) for line in log.read_text().splitlines()]
    assert len(logged) == 30 and logged[-1] < 0.9 * logged[0]


def test_where_no_loss_needs_features_none_are_trained(tmp_path: Path) -> None:
    experiment = tiny_experiment()
    assert not needs_features(experiment.student)
    data = Stored(path="nowhere", digest="0" * 16)
    assert train_features(experiment, data, tmp_path, lambda evaluation: None) is None
    assert features_done(experiment, data, tmp_path) and not list(tmp_path.iterdir())


def test_a_training_that_lost_its_network_after_the_last_checkpoint_makes_the_same(
    trained: tuple[Experiment, Stored, Path], tmp_path: Path
) -> None:
    """The sizes of features are measured again: they are in no checkpoint."""
    experiment, network, folder = trained
    shutil.copytree(Path(network.path).parent, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "network")
    (tmp_path / "again" / "result.json").unlink()
    job = Job(training=experiment.features, data=prepare(experiment.data, folder / "data"))
    result = perform(job, tmp_path / "again", lambda evaluation: None)
    assert result.network is not None and result.network.digest == network.digest


def test_a_network_that_gives_nothing_is_refused(trained: tuple[Experiment, Stored, Path]) -> None:
    experiment, _, folder = trained
    network = networks.feature_network(FeatureNetworkConfig(width=2), 0)
    nn.init.constant_(network.stages[2][2].bias, -1e3)
    with pytest.raises(RunError, match="gives nothing at one of its stages"):
        measure_rms(network, prepare(experiment.data, folder / "data"), CPU, ALONE)


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan", "sagan"])
def test_it_trains_on_labels_on_unpaired_pictures_and_on_pictures_alone(name: str, tmp_path: Path) -> None:
    _, recipe, step = begin(tmp_path, name, "features")
    loss, numbers = recipe.phases[0].loss(step)
    loss.backward()
    assert torch.isfinite(loss) and set(numbers) == {"train/features_loss"}
    assert all(each.grad is not None for each in recipe.networks["features"].parameters())


# ---- stored, named in a job, and never a scorer ------------------------------------------------------------


def test_a_damaged_network_and_one_of_another_kind_are_refused(tmp_path: Path) -> None:
    config = FeatureNetworkConfig(width=2)
    network = saved.save(tmp_path / "a", "features", networks.feature_network(config, 0), config)
    pictures = noise(1, 3, 16, 16)
    expected = networks.feature_network(config, 0)(pictures)
    assert all(map(torch.equal, saved.load_features(network)(pictures), expected))
    evaluator = networks.evaluator(EvaluatorNetwork(width=2), read_info_of_shapes(), 0)
    other = saved.save(tmp_path / "b", "evaluator", evaluator, EvaluatorNetwork(width=2))
    with pytest.raises(CheckpointError, match="this network is an evaluator, needed is a feature network"):
        saved.load_features(other)
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="digest differs"):
        saved.load_features(network)


def job(**values: Any) -> Job:
    return Job(training=tiny_experiment().student, data=Stored(path="data", digest="d" * 16), **values)


def test_what_gives_features_to_a_loss_never_scores() -> None:
    features, file = Stored(path="f", digest="a" * 16), Stored(path="vgg16.pth", digest="b" * 64)
    with pytest.raises(ValueError, match="gives features to a loss, so it cannot be the evaluator"):
        job(evaluator=Stored(path="elsewhere", digest="a" * 16), features=features)
    scorer = ScorerFile(role="lpips", kind="vgg16", name="vgg16", file=file)
    with pytest.raises(ValueError, match="lpips vgg16: a loss uses the file of digest"):
        job(features=file, scoring=Scoring(files=(scorer,), statistics=""))
    assert job(features=features, scoring=Scoring(files=(scorer,), statistics="")).features == features


def test_a_job_needs_its_feature_network_and_one_without_is_what_it_was() -> None:
    features = Stored(path="f", digest="a" * 16)
    assert job(features=features).needed["feature network"] == features
    assert "features" not in job().model_dump(mode="json") and "feature network" not in job().needed
    assert job().key != job(features=features).key
    assert Job.model_validate_json(job(features=features).model_dump_json()) == job(features=features)


def test_the_stand_in_is_set_by_config_paths() -> None:
    longer = with_values(
        shapes32(), {"features.budget_nimg": 5_000, "features.network.width": 8}, where="test"
    )
    assert longer.features == FeaturesTraining(budget_nimg=5_000, network=FeatureNetworkConfig(width=8))
    assert Experiment.model_validate_json(longer.model_dump_json()) == longer
    assert "given_features" not in shapes32().model_dump(mode="json")


# ---- --features --------------------------------------------------------------------------------------------


def test_a_file_is_refused_where_no_loss_looks_at_features(vgg_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no loss of the students looks at features; leave it out"):
        check(SweepOptions(features=str(vgg_file), store=str(tmp_path)))
    assert not (tmp_path / "cache").exists()


def test_a_file_is_read_before_any_cost_and_then_is_the_feature_network(
    styled: Experiment, vgg_file: Path, tmp_path: Path
) -> None:
    given = with_given_features(styled, str(vgg_file), {})
    assert given.given_features is not None
    assert train_features(given, Stored(path="", digest=""), tmp_path, lambda evaluation: None) == stored(
        vgg_file
    )
    assert with_given_features(styled, None, {}) is styled
    gone = tmp_path / "gone.pth"
    copied = with_given_features(styled, str(gone), {f"--features {gone}": vgg_file}).given_features
    assert copied is not None and copied.digest == given.given_features.digest
    with pytest.raises(DataError, match=r"gone\.pth: cannot be read"):
        with_given_features(styled, str(gone), {})
    small = styled.model_copy(update={"data": styled.data.model_copy(update={"height": 4})})
    with pytest.raises(ConfigError, match=r"VGG16 needs pictures of 8 pixels a side or more, .* 16x4"):
        with_given_features(small, str(vgg_file), {})


def test_the_same_weights_in_a_file_of_lpips_are_found(vgg_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LPIPS()
    torch.save(network.state_dict(), tmp_path / "other.pth")
    own = [layer for layer in network.net.modules() if isinstance(layer, nn.Conv2d)]
    state = torch.load(vgg_file, weights_only=True)
    weights = [value for name, value in state.items() if name.startswith("features.") and value.dim() == 4]
    for layer, weight in zip(own, weights, strict=True):
        layer.weight.data.copy_(weight)
    torch.save(network.state_dict(), tmp_path / "same.pth")
    other, same = (
        ScorerFile(role="lpips", kind="vgg16", name="vgg16", file=stored(tmp_path / f"{name}.pth"))
        for name in ("other", "same")
    )
    require_other_weights(stored(vgg_file), [other])
    require_other_weights(None, [same])
    with pytest.raises(ConfigError, match="lpips vgg16: its convolutions are those of --features"):
        require_other_weights(stored(vgg_file), [other, same])


SMALL = ("data.num_train=64", "data.num_val=8", "data.num_test=8", "student.terms.mi.energy.channels=2")
LOOKING = (*SMALL, "student.base.kind=omgd", "student.base.channel_weight=0")
"""Of students whose losses look at features."""


def test_a_sweep_has_a_copy_of_the_file_in_its_store(vgg_file: Path, tmp_path: Path) -> None:
    """A resume takes it where the file itself is gone."""
    plan = check(SweepOptions(features=str(vgg_file), store=str(tmp_path), set=LOOKING))
    digest = saved.sha256_of(vgg_file)
    copy = tmp_path / "cache" / "features" / f"{digest[:16]}.pth"
    assert plan.experiment.given_features == Stored(path=str(copy), digest=digest)
    assert plan._memory_setup.features is None and saved.sha256_of(copy) == digest
    assert sweep_run._copies(plan) == {f"--features {vgg_file}": f"cache/features/{digest[:16]}.pth"}


def test_a_sweep_refuses_a_scorer_that_is_the_file_of_features(vgg_file: Path, tmp_path: Path) -> None:
    options = SweepOptions(features=str(vgg_file), lpips=str(vgg_file), store=str(tmp_path), set=LOOKING)
    with pytest.raises(ConfigError, match=r"lpips vgg16: a loss uses the file of digest .*never scores"):
        check(options)


def test_a_plan_times_the_feature_network_and_gives_students_one(styled: Experiment, tmp_path: Path) -> None:
    base = ("student.base.kind=omgd", "student.base.num_teachers=1", "student.base.channel_weight=0")
    plan = check(SweepOptions(store=str(tmp_path / "store"), set=(*SMALL, *base)))
    (tmp_path / "rates").mkdir()
    jobs = rates._jobs(plan, 1, tmp_path / "rates")
    ((training,), _), (students, _) = jobs[rates.FEATURES], jobs["student of base omgd"]
    assert training.training == plan.experiment.features
    assert students and all(each.features is not None for each in students)
    assert all(each.features is None for each in jobs["teacher"][0])
    rate = rates.measured_rate(training, 1, 8, tmp_path / "measured")
    assert rate.image_sec > 0 and rate.macs == 0


# ---- in a student's training -------------------------------------------------------------------------------


def test_a_students_losses_are_given_the_network_of_the_job(styled: Experiment, tmp_path: Path) -> None:
    other = styled.student.model_copy(update={"seed": 5})  # else it is the random teacher itself
    begun = begin_experiment(tmp_path, styled.model_copy(update={"student": other}), "student")
    loss, numbers = begun.trained.phases[-1].loss(begun.step)
    loss.backward()
    assert (
        numbers["train/style"] > 0
        and numbers["train/content"] > 0
        and all(each.grad is not None for each in begun.trained.networks["generator"].parameters())
    )
    assert "features" not in begun.trained.networks  # it does not move, and is in no checkpoint


def test_a_job_without_the_network_that_its_losses_need_is_refused(
    styled: Experiment, tmp_path: Path
) -> None:
    begun = begin_experiment(tmp_path, styled, "student")
    lacking = begun.job.model_copy(update={"features": None})
    with pytest.raises(ConfigError, match=r"student\.base: its losses compare features, and the job"):
        assembly.build(lacking, Setup(read_info(begun.job.data), CPU, ALONE))


def test_the_stages_of_a_sweep_train_the_network_and_students_learn_with_it(
    styled: Experiment, tmp_path: Path
) -> None:
    data = prepare(styled.data, tmp_path / "data")
    cache, quiet = tmp_path / "cache", lambda evaluation: None
    assert not stages_done(styled, data, cache)
    stages = train_stages(styled, data, cache, quiet)
    assert stages.features is not None and stages_done(styled, data, cache)
    given = {"evaluator": stages.evaluator, "teacher": stages.teacher, "features": stages.features}
    result = perform(Job(training=styled.student, data=data, **given), tmp_path / "student", quiet)
    assert result.status == "COMPLETE" and result.metrics["train/style"] > 0
    shutil.rmtree(cache / "features")
    assert not stages_done(styled, data, cache)


def test_memory_counts_the_networks_weights_and_what_lives_inside_of_it(styled: Experiment) -> None:
    info, student = read_info_of_shapes(), styled.student
    without = {"style_weight": 0.0, "content_weight": 0.0}
    plain = student.model_copy(update={"base": student.base.model_copy(update=without)})
    teacher, evaluator = styled.teacher.generator, EvaluatorNetwork(width=4, feature_width=4)
    setup = memory.MemorySetup(evaluator, info, teacher, features=FeatureNetworkConfig(width=4))
    states = {
        name: memory._rehearsed(training, setup._replace(features=features)).states
        for name, training, features in (
            ("none", plain, setup.features), ("stand-in", student, setup.features), ("VGG16", student, None)
        )
    }  # fmt: skip
    own = TrainedTaps(FeatureNetworkConfig(width=4)).state_dict().values()
    assert states["stand-in"] - states["none"] == sum(value.nbytes for value in own)
    assert states["VGG16"] - states["none"] == 4 * 7_635_264 + 24  # up to relu4_3, with mean and deviation
    histories = [
        rehearsal.minibatch(each, info, 4, teacher, features).history.max()
        for each, features in ((plain, setup.features), (student, setup.features), (student, None))
    ]
    with_taps = 4 * 4 * 32 * 32 * 4  # one tap of the finest stage, of 4 pictures
    assert histories[0] + 2 * with_taps < histories[1] < histories[2]
    assert memory.Predictor(setup)(student) == memory.training_bytes(student, setup)


def test_a_step_with_features_never_waits_for_the_device(styled: Experiment) -> None:
    counts = count_step(Counted(styled.student, read_info_of_shapes(), styled.teacher.generator))
    assert counts.waits == () and counts.host_random_bytes == 0


# ---- the stand-in's factors --------------------------------------------------------------------------------


def test_the_factors_are_what_the_losses_are_multiplied_by() -> None:
    """Of VGG16 they are 1. The numbers are those of docs/results/method.md."""
    assert (TrainedTaps.style_factor, TrainedTaps.content_factor) == (STYLE, CONTENT)
    assert (Vgg16Taps.style_factor, Vgg16Taps.content_factor) == (1, 1)
    own, other = ([noise(2, 3, 6, 6, seed=seed), noise(2, 4, 3, 3, seed=seed)] for seed in (0, 1))
    trained, given = networks.feature_network(FeatureNetworkConfig(width=2), 0), Vgg16Taps()
    for loss, factor in ((feature_losses.style, STYLE), (feature_losses.content, CONTENT)):
        assert float(loss(given, own, other)) > 0
        assert float(loss(trained, own, other)) == pytest.approx(factor * float(loss(given, own, other)))
    expected = (own[1] - other[1]).abs().mean()
    assert float(feature_losses.content(given, own, other)) == pytest.approx(float(expected))


STYLE, CONTENT = 0.28, 0.83
