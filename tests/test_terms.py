"""One contract kit over all mutual-information terms, then what is particular to one of them, and what is
refused before training."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Stages, numbers, quiet, run_two, spawned
from cookbook import forgotten_after, written
from safetensors.torch import load_file
from torch import Tensor, nn

from raydistill import plugins, search
from raydistill.config import term_presets
from raydistill.config.architectures import EnergyNetwork, PatchDiscriminator
from raydistill.config.configurations import values_of
from raydistill.config.experiment import Job
from raydistill.config.paths import leaves, with_values
from raydistill.config.presets import shapes32
from raydistill.config.space import When, load_space, without_unmet_needs
from raydistill.config.terms import MutualInformation, VariationalInformation
from raydistill.data import load_split
from raydistill.data.augment import SampleIndex
from raydistill.data.tensors import tensors
from raydistill.distributed import Workers
from raydistill.errors import ConfigError, DivergenceError, SpaceError
from raydistill.method.vid import ChannelVariance, gaussian_nll
from raydistill.models import networks
from raydistill.models.energy import EnergyModel
from raydistill.planning import plan
from raydistill.planning.checks import check
from raydistill.testing import TermContract
from raydistill.testing import terms as testing
from raydistill.testing.terms import setup_of, term_networks
from raydistill.testing.trainings import states
from raydistill.training import assembly, loop, teacher, terms
from raydistill.training.loop import TrainingResult, train
from raydistill.training.minibatches import TrainingData
from raydistill.training.terms import Pairs, TermSetup, require_pictures

VEM = {
    "mi__kind": "vem",
    "mi__num_steps": 3,
    "mi__step_size": 10.0,
    "mi__energy__channels": 2,
    "mi__weight": 0.1,
}
TERMS: dict[str, dict[str, Any]] = {
    "vem": VEM | {"mi__start": "student"},
    "vem-other": VEM | {"mi__start": "other"},
    "vem-noise": VEM | {"mi__start": "noise", "mi__clamp": False},
    "vem-replay": VEM | {"mi__start": "replay", "mi__replay_size": 8},
    "vem-no-steps": VEM | {"mi__start": "other", "mi__num_steps": 0, "mi__positive": "target"},
    "vid": {"mi__kind": "vid"},
    "critic": {"mi__kind": "critic", "mi__discriminator__width": 4, "mi__discriminator__num_layers": 1},
    "laplace": {"mi__kind": "laplace"},
}
"""Every kind, every start of VEM's chains, and a plug-in's term."""
all_terms = pytest.mark.parametrize("name", TERMS)
RTOL, ATOL = 1e-4, 1e-5
"""Of float32 sums in another order, after four steps of Adam."""
Whole = Callable[[Job], TrainingResult]


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Paths of the plug-in whose term takes part."""
    with forgotten_after():
        plugins.load(given := written(tmp_path_factory.mktemp("plug-in"), "laplace.py"))
        yield given


class Stopped(Exception):
    pass


def stop(evaluation: dict[str, Any]) -> None:
    raise Stopped


def job_of(stages: Stages, name: str, **values: Any) -> Job:
    return stages.student_job(**TERMS[name] | values)


def term_setup(stages: Stages) -> TermSetup:
    setup, job = stages.setup(), stages.student_job()
    data = TrainingData(tensors(load_split(stages.data, "train")))
    pictures = teacher.trained_teacher(job, data, setup.device, setup.workers)
    return TermSetup(0, *setup[:3], pictures)


def term_and_pairs(stages: Stages, name: str, nimg: int = 0) -> tuple[terms.MiTerm, Pairs]:
    return testing.term_and_pairs(job_of(stages, name), nimg)


def kept(folder: Path, name: str) -> dict[str, Tensor]:
    """The student's weights, and everything of the term that is in the last checkpoint."""
    checkpoint = max(folder.glob("checkpoint-*"))
    files = [path for path in checkpoint.glob("*.safetensors") if path.stem != "average"]
    assert {path.stem for path in files} == {"generator", *(f"mi.{part}" for part in parts_of(name))}
    return {f"{path.stem}.{key}": value for path in files for key, value in load_file(path).items()}


def parts_of(name: str) -> set[str]:
    return {
        "vem": {"energy"},
        "vem-replay": {"energy", "replay"},
        "vid": {"variance"},
        "critic": {"critic"},
        "laplace": {"scale"},
    }.get(name, {"energy"})


# ---- the kit -----------------------------------------------------------------------------------------------


def test_the_kit_covers_every_kind_and_every_start() -> None:
    assert {values["mi__kind"] for values in TERMS.values()} == set(terms.TERMS)
    assert {values["mi__start"] for values in TERMS.values() if "mi__start" in values} == set(terms.STARTS)


class TestEveryTerm(TermContract):
    @pytest.fixture(params=TERMS)
    def job(self, stages: Stages, request: pytest.FixtureRequest) -> Job:
        return job_of(stages, request.param)


@all_terms
def test_a_term_has_its_networks(stages: Stages, name: str) -> None:
    job = job_of(stages, name)
    assert set(term_networks(job, setup_of(job))) == parts_of(name)


@all_terms
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped_bit_for_bit(
    stages: Stages, whole: Whole, tmp_path: Path, name: str
) -> None:
    job = job_of(stages, name)
    with pytest.raises(Stopped):
        train(job, report=stop, state_dir=tmp_path / "stopped")
    resumed = quiet(job, tmp_path / "stopped")
    reference = whole(job)
    assert resumed.network.digest == reference.network.digest and numbers(resumed) == numbers(reference)
    once, again = kept(Path(reference.network.path).parent, name), kept(tmp_path / "stopped", name)
    assert once.keys() == again.keys() and all(torch.equal(once[key], again[key]) for key in once)


@all_terms
def test_the_alignment_is_logged_in_every_run(stages: Stages, whole: Whole, name: str) -> None:
    for evaluation in whole(job_of(stages, name)).evaluations:
        assert -1 <= evaluation.numbers["energy/alignment"] <= 1
        assert ("energy/gap" in evaluation.numbers) == name.startswith("vem")


@pytest.fixture(scope="module")
def together(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every term trained by two workers, in a folder by its name."""
    folder = tmp_path_factory.mktemp("together")
    jobs = {name: slow(stages, name).model_dump_json() for name in TERMS}
    spawned(run_two, (folder, jobs, plugins.to_json()), 2)
    return folder


def slow(stages: Stages, name: str) -> Job:
    """Four steps at a learning rate at which rounding stays small; SSIM's quotients would enlarge it."""
    return job_of(
        stages,
        name,
        base__ssim_weight=0.0,
        batch_size=8,
        report_every_nimg=32,
        optimizer__learning_rate=1e-4,
        mi__optimizer__learning_rate=1e-4,
    )


def determined(weights: dict[str, Tensor]) -> list[str]:
    """Without the biases that Adam moves by rounding noise: an instance norm behind them, or the linear
    part of the hinge, cancels them."""
    return [
        name
        for name in weights
        if not (name.startswith(("generator.", "mi.critic.")) and name.endswith("bias"))
    ]


@all_terms
def test_two_workers_give_what_one_gives(stages: Stages, together: Path, tmp_path: Path, name: str) -> None:
    quiet(slow(stages, name), tmp_path / "alone")
    one, two = kept(tmp_path / "alone", name), kept(together / name, name)
    for key in determined(one):
        torch.testing.assert_close(
            two[key], one[key], rtol=RTOL, atol=ATOL, msg=lambda text, key=key: f"{key}: {text}"
        )


@all_terms
def test_microbatches_give_what_the_whole_batch_gives(stages: Stages, tmp_path: Path, name: str) -> None:
    short = {"batch_size": 8, "budget_nimg": 16, "report_every_nimg": 16, "optimizer__learning_rate": 1e-4}
    for size in (None, 4):
        quiet(
            job_of(stages, name, execution__microbatch=size, mi__optimizer__learning_rate=1e-4, **short),
            tmp_path / str(size),
        )
    whole, parts = kept(tmp_path / "None", name), kept(tmp_path / "4", name)
    for key in determined(whole):
        torch.testing.assert_close(
            parts[key], whole[key], rtol=RTOL, atol=ATOL, msg=lambda text, key=key: f"{key}: {text}"
        )


# ---- VEM's starts ------------------------------------------------------------------------------------------


def starts(stages: Stages, name: str, nimg: int = 0) -> tuple[Tensor, Pairs, Any]:
    term, pairs = term_and_pairs(stages, name, nimg)
    assert isinstance(term, terms.Vem)
    return terms.STARTS[term.config.start](term, pairs), pairs, term


def test_the_published_chains_start_at_the_students_output(stages: Stages) -> None:
    start, pairs, _ = starts(stages, "vem")
    assert start is pairs.s


def test_another_samples_teacher_output_is_one_of_another_training_picture_mirrored_as_this_one(
    stages: Stages,
) -> None:
    around = term_setup(stages)
    everything = torch.arange(around.info.counts["train"])
    for nimg in (0, 8):
        start, pairs, _ = starts(stages, "vem-other", nimg)
        for row, index, flip in zip(start, pairs.sample.indices, pairs.sample.flips, strict=True):
            shown = SampleIndex(everything, flip.expand(len(everything)), everything)
            same = (around.teacher(shown) - row).abs().amax((1, 2, 3)) < 1e-6
            assert bool(same.any()) and not bool(same[index])
    assert not torch.equal(starts(stages, "vem-other", 0)[0], starts(stages, "vem-other", 8)[0])


def test_noise_is_uniform_between_minus_one_and_one(stages: Stages) -> None:
    start, _, _ = starts(stages, "vem-noise")
    values = start.flatten().sort().values
    expected = torch.linspace(-1, 1, len(values))
    assert float((values - expected).abs().max()) < 2 * 1.95 / math.sqrt(
        len(values)
    )  # Kolmogorov-Smirnov at 0.1 %, times the width 2


def test_without_steps_the_start_is_the_negative(stages: Stages) -> None:
    start, pairs, term = starts(stages, "vem-no-steps")
    own = term.own_loss(pairs)
    assert torch.equal(own.shared["negatives"], start.clamp(-1, 1))
    assert float(own.numbers["energy/grad_norm"]) == 0


def test_the_buffer_gives_back_where_chains_ended_and_a_few_fresh_ones(stages: Stages) -> None:
    first, pairs, term = starts(stages, "vem-replay")
    ends = term.own_loss(pairs).shared["negatives"]
    later = dataclasses.replace(pairs, first_image=8)  # a buffer of 8: the same places again
    again, fresh = terms.STARTS["replay"](term, later), terms.vem.uniform_noise(term, later)
    from_noise = [torch.equal(a, b) for a, b in zip(again, fresh, strict=True)]
    from_buffer = [torch.equal(a, b) for a, b in zip(again, ends, strict=True)]
    assert all(a != b for a, b in zip(from_noise, from_buffer, strict=True)) and any(from_buffer)
    assert not torch.equal(first, again)
    drawn = [
        term.buffer.get(dataclasses.replace(pairs, first_image=4 * k), torch.full_like(first, 7))
        for k in range(250)
    ]
    share = float((torch.stack(drawn) == 7).float().mean())
    assert abs(share - terms.FRESH_SHARE) < 4 * math.sqrt(terms.FRESH_SHARE * (1 - terms.FRESH_SHARE) / 1000)


def test_without_the_clamp_negatives_leave_the_range_and_none_counts_as_clamped(stages: Stages) -> None:
    _, pairs, term = starts(stages, "vem-noise")
    term.config = term.config.model_copy(update={"noise_std": 0.5})
    own = term.own_loss(pairs)
    assert float(own.shared["negatives"].abs().max()) > 1 and float(own.numbers["energy/clamped"]) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.1e4])
def test_an_energy_out_of_range_is_a_named_failure_and_nothing_moves_from_that_step_on(
    stages: Stages, value: float
) -> None:
    """Not in its phase, not in the student's, and not in the next step, whose energies are in range again."""
    recipe, training = assembly.build(stages.student_job(), stages.setup()), stages.student_job().training
    bias = recipe.networks["mi.energy"].head.bias  # type: ignore[union-attr]
    good = bias.detach().clone()
    nn.init.constant_(bias, value)  # type: ignore[arg-type]
    before = states(recipe.networks)
    loop.take_step(recipe, stages.step(8), training, Workers(0, 1))
    with torch.no_grad():
        bias.copy_(good)
    loop.take_step(recipe, stages.step(12), training, Workers(0, 1))
    with pytest.raises(
        DivergenceError,
        match=r"^phase mi\.energy: an energy is not finite or beyond 10,000 at image 8; lower "
        r"student\.terms\.mi\.optimizer\.learning_rate, or raise student\.terms\.mi\.l2_weight$",
    ):
        recipe.divergence.require_none()
    before["mi.energy.head.bias"] = good
    is_moved = {name: not torch.equal(now, before[name]) for name, now in states(recipe.networks).items()}
    assert not any(moved for name, moved in is_moved.items() if not name.endswith(".u"))
    for optimizer in recipe.optimizers.values():
        for moments in optimizer.state.values():
            assert not moments["step"] and not moments["exp_avg"].any() and not moments["exp_avg_sq"].any()


# ---- VID and the critic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [1e-3, 0.2, 5.0, 200.0])
def test_vids_variances_start_at_the_asked_value(variance: float) -> None:
    assert ChannelVariance(3, variance)().tolist() == pytest.approx([variance] * 3, rel=1e-3)


def test_vids_loss_is_minus_the_log_density_of_a_gaussian() -> None:
    t, s, variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.tensor([0.5, 1.0, 7.0])
    density = torch.distributions.Normal(s, variance.sqrt()[None, :, None, None]).log_prob(t)
    assert float(gaussian_nll(t, s, variance)) == pytest.approx(
        float(-density.mean()) - math.log(2 * math.pi) / 2, rel=1e-5
    )


def test_vids_own_loss_is_least_at_the_mean_square_error_of_each_channel() -> None:
    t, s = torch.randn(4, 3, 8, 8), torch.zeros(4, 3, 8, 8)
    best = (t**2).mean((0, 2, 3)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(gaussian_nll(t, s, best), best)
    assert float(gradient.abs().max()) < 1e-6


def test_vids_gradient_points_at_the_teacher(stages: Stages) -> None:
    mi = VariationalInformation()
    term, (_, pairs) = terms.build(mi, term_setup(stages)), term_and_pairs(stages, "vid")
    (gradient,) = torch.autograd.grad(term.student_loss(pairs), pairs.s)
    assert float(
        torch.cosine_similarity(-gradient.flatten(1), (pairs.t - pairs.s).detach().flatten(1)).min()
    ) == pytest.approx(1, abs=1e-5)


def test_a_trained_critic_scores_the_teachers_pairs_above_the_students(stages: Stages) -> None:
    term, pairs = term_and_pairs(stages, "critic")
    parameters = list(term.setup.networks["critic"].parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(40):
        loss, logged, _, _ = term.own_loss(pairs)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
    assert float(loss.detach()) < 0.5 and float(logged["train/critic_gap"]) > 1


# ---- presets, --set and the search -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weight", "step_size", "positive", "clamp", "channels"),
    [
        ("published_cyclegan", 0.1, 100.0, "teacher", True, 8),
        ("published_pix2pix", 0.1, 1.0, "target", True, 32),
        ("published_stylegan2", 0.05, 50.0, "teacher", False, 32),
    ],
)
def test_the_published_terms_have_the_published_values(
    name: str, weight: float, step_size: float, positive: str, clamp: bool, channels: int
) -> None:
    found = with_values(
        shapes32(), term_presets.with_named_terms({"student.terms.mi": name}, "--set"), where="--set"
    ).student.terms["mi"]
    assert isinstance(found, MutualInformation) and found == term_presets.NAMED_TERMS[name]()
    assert (found.weight, found.step_size, found.positive, found.clamp, found.energy.channels) == (
        weight,
        step_size,
        positive,
        clamp,
        channels,
    )
    assert (found.start, found.num_steps, found.noise_std, found.l2_weight, found.energy.num_blocks) == (
        "student",
        10,
        0.005,
        0.05,
        None,
    )
    assert (found.optimizer.learning_rate, found.optimizer.betas, found.optimizer.decay_start) == (
        1e-4,
        (0.0, 0.999),
        1.0,
    )
    assert (
        EnergyModel(found.energy, 256, 256).blocks[-1] is not None
        and len(EnergyModel(found.energy, 256, 256).blocks) == 7
    )


def test_the_recommended_terms_are_those_that_the_measurements_name() -> None:
    assert term_presets.NAMED_TERMS["recommended"]() == VariationalInformation(weight=0.3)
    vem = term_presets.NAMED_TERMS["recommended_vem"]()
    assert (
        isinstance(vem, MutualInformation)
        and (vem.start, vem.num_steps) == ("other", 3)
        and shapes32().student.terms["mi"] == vem
    )


def test_a_value_beside_a_named_term_comes_after_it() -> None:
    for given in (
        {"student.terms.mi": "published_cyclegan", "student.terms.mi.num_steps": 3},
        {"student.terms.mi.num_steps": 3, "student.terms.mi": "published_cyclegan"},
    ):
        found = with_values(
            shapes32(), term_presets.with_named_terms(given, "--set"), where="--set"
        ).student.terms["mi"]
        assert isinstance(found, MutualInformation) and (found.step_size, found.num_steps) == (100.0, 3)


def test_an_unknown_named_term_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError,
        match=r"--set: student\.terms\.mi: there is no term 'published_cycle'\. Known: .*Nearest: "
        r"'published_cyclegan'",
    ):
        term_presets.with_named_terms({"student.terms.mi": "published_cycle"}, "--set")


@pytest.mark.parametrize(
    ("kind", "paths"),
    [("vid", {"initial_variance"}), ("critic", {"discriminator.width"}), ("vem", {"num_steps"})],
)
def test_a_kind_brings_its_own_fields_at_their_defaults(kind: str, paths: set[str]) -> None:
    found = leaves(
        with_values(shapes32(), {"student.terms.mi.kind": kind}, where="--set").student.terms["mi"]
    )
    assert found["kind"] == kind and paths | {"weight", "positive", "optimizer.learning_rate"} <= set(found)


def test_fields_of_a_new_kind_may_be_set_beside_it_in_any_order() -> None:
    given = {
        "student.terms.mi.initial_variance": 3.0,
        "student.terms.mi.kind": "vid",
        "student.terms.mi.optimizer.learning_rate": 0.5,
    }
    found = with_values(shapes32(), given, where="--set").student.terms["mi"]
    assert isinstance(found, VariationalInformation)
    assert (found.initial_variance, found.optimizer.learning_rate, found.optimizer.betas) == (
        3.0,
        0.5,
        VariationalInformation().optimizer.betas,
    )


def test_the_space_drops_what_another_kind_does_not_have() -> None:
    space = load_space("default")
    vid = with_values(shapes32(), {"student.terms.mi.kind": "vid"}, where="--set")
    dropped = set(space.parameters) - set(without_unmet_needs(space, vid, "test").parameters)
    assert dropped == set(space.needs) and set(
        without_unmet_needs(space, shapes32(), "test").parameters
    ) == set(space.parameters)
    assert not set(without_unmet_needs(space, vid, "test").when) & dropped


@pytest.mark.parametrize(
    "given",
    ["student.terms.mi.kind=vid", "student.terms.mi.kind=critic", "student.terms.mi=published_cyclegan"],
)
def test_a_sweep_may_be_given_another_term_and_searches_what_it_has(tmp_path: Path, given: str) -> None:
    small = ("data.num_train=16", "data.num_val=2", "data.num_test=2")
    checked = check(plan.SweepOptions(set=(given, *small), store=str(tmp_path)))
    configuration = search.propose(checked.problem, [], 0)
    training = with_values(
        checked.experiment, values_of(checked.space, configuration), where="search"
    ).student
    assert training.terms["mi"].kind == ("vem" if "published" in given else given.rpartition("=")[2])
    searched = [path for path in checked.space.parameters if path.startswith("student.terms.mi.")]
    # of a whole term that --set names, nothing is searched; of another kind, what it has
    assert searched == ([] if "published" in given else ["student.terms.mi.weight"])
    if "published" in given:
        assert training.terms["mi"] == term_presets.NAMED_TERMS["published_cyclegan"]()


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (
            {"student.terms.mi.stepsize": When(parameter="student.terms.mi.kind", keys=("vem",))},
            r"needs\['student\.terms\.mi\.stepsize'\] is no parameter",
        ),
        (
            {"student.terms.mi.weight": When(parameter="student.terms.mi.sort", keys=("vem",))},
            r"'student\.terms\.mi\.sort' is no config path",
        ),
        (
            {"student.terms.mi.weight": When(parameter="student.generator.widths.stem", keys=("2",))},
            r"is searched; use `when`",
        ),
    ],
)
def test_needs_of_something_else_are_refused(needs: dict[str, When], expected: str) -> None:
    with pytest.raises(SpaceError, match=expected):
        without_unmet_needs(load_space("default").model_copy(update={"needs": needs}), shapes32(), "test")


# ---- refused before training -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"student.terms.mi.kind": "vme"},
            r"student\.terms\.mi\.kind: there is no 'vme'\. Known: vem, vid, critic, laplace\. Near",
        ),
        (
            {"student.terms.mi.step_size": -1.0},
            r"student\.terms\.mi\.step_size: .*greater than 0 \(given: -1\.0\)",
        ),
        (
            {"student.terms.mi.noise_std": -0.1},
            r"student\.terms\.mi\.noise_std: .*greater than or equal to 0 \(given: -0\.1\)",
        ),
        (
            {"student.terms.mi.num_steps": -1},
            r"student\.terms\.mi\.num_steps: .*greater than or equal to 0 \(given: -1\)",
        ),
        (
            {"student.terms.mi.start": "here"},
            r"student\.terms\.mi\.start: .*'student', 'other', 'noise' or 'replay' \(given: 'here'\)",
        ),
        (
            {"student.terms.mi.replay_size": 64},
            r"replay_size 64 is for start 'replay', given start 'student'",
        ),
        (
            {"student.terms.mi.kind": "vid", "student.terms.mi.step_size": 2.0},
            r"no config path 'student\.terms\.mi\.step_size' where student\.terms\.mi\.kind is 'vid'\.",
        ),
        (
            {"student.terms.mi.kind": "vid", "student.terms.mi.initial_variance": 0},
            r"student\.terms\.mi\.initial_variance: .*greater than 0",
        ),
        (
            {"student.terms.mi.kind": "critic", "student.terms.mi.discriminator.width": 0},
            r"student\.terms\.mi\.discriminator\.width: ",
        ),
        (
            {"student.terms.mi.initial_variance": 5.0},
            r"no config path 'student\.terms\.mi\.initial_variance'",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_its_dotted_path(values: dict[str, Any], expected: str) -> None:
    base = with_values(
        shapes32(), {"student.terms.mi.kind": "vem", "student.terms.mi.start": "student"}, where="test"
    )
    with pytest.raises(ConfigError, match=expected):
        with_values(base, values, where="--set")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            ("data.height=2", "data.width=2"),
            r"student\.terms\.mi\.energy\.num_blocks: 0 residual blocks do not fit pictures of 2x2",
        ),
        (
            ("student.terms.mi.energy.num_blocks=9",),
            r"student\.terms\.mi\.energy\.num_blocks: 9 .* pictures of 32x32, at most 4 do",
        ),
        (
            ("student.terms.mi.kind=critic", "student.terms.mi.discriminator.num_layers=6"),
            r"student\.terms\.mi\.discriminator\.num_layers: 6 layers leave nothing",
        ),
        (
            ("student.terms.mi.kind=vem", "student.terms.mi.start=replay", "student.terms.mi.replay_size=4"),
            r"student\.terms\.mi\.replay_size: 4 is less than student\.batch_size 16",
        ),
    ],
)
def test_a_picture_too_small_for_the_term_is_refused_before_anything_is_written(
    tmp_path: Path, given: tuple[str, ...], expected: str
) -> None:
    vem = () if any("kind" in item for item in given) else ("student.terms.mi.kind=vem",)
    with pytest.raises(ConfigError, match=expected):
        check(plan.SweepOptions(set=(*vem, *given), store=str(tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("height", "width"), [(3, 3), (4, 4), (5, 31), (16, 16), (33, 64), (48, 64), (100, 37), (255, 257)]
)
def test_the_energy_network_takes_any_size_with_as_many_blocks_as_fit(height: int, width: int) -> None:
    from raydistill.models.energy import num_blocks

    size = (height, width)
    with pytest.raises(ConfigError, match="at most") as caught:
        num_blocks(EnergyNetwork(num_blocks=20), *size)
    most = int(str(caught.value).split("at most ")[1].split()[0])
    pictures = torch.rand(2, 1, 3, *size)
    for blocks in (
        (None, most) if num_blocks(EnergyNetwork(num_blocks=most), *size) and min(size) > 3 else (most,)
    ):
        assert EnergyModel(EnergyNetwork(channels=1, num_blocks=blocks), *size)(*pictures).shape == (1,)


@pytest.mark.parametrize(("num_layers", "size"), [(1, 16), (1, 6), (2, 16), (3, 24), (2, 11)])
def test_the_critics_check_allows_what_runs_and_refuses_what_does_not(num_layers: int, size: int) -> None:
    from raydistill.models import patchgan

    config = PatchDiscriminator(width=2, num_layers=num_layers)
    for side in range(2, size + 1):
        try:
            patchgan.check(config, side, side, "here")
        except ConfigError:
            with pytest.raises((RuntimeError, ValueError)):
                patchgan.build(config, 6)(torch.zeros(1, 6, side, side))
        else:
            assert patchgan.build(config, 6)(torch.zeros(1, 6, side, side)).numel() > 0


def picture(*shape: int, value: float = 0.5) -> Tensor:
    return torch.full(shape, value)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (picture(2, 3, 8, 16), r"teacher\.generator: puts out pictures \(3, 8, 16\), expected \(3, 16, 16\)"),
        (picture(2, 1, 16, 16), r"teacher\.generator: puts out pictures \(1, 16, 16\)"),
        (
            picture(2, 3, 16, 16, value=1.5),
            r"teacher\.generator: puts out values from 1\.5 to 1\.5, allowed -1 to 1; end the generator "
            r"with tanh",
        ),
        (picture(2, 3, 16, 16, value=float("nan")), r"teacher\.generator: puts out values from nan to nan"),
    ],
)
def test_outputs_that_are_no_pictures_are_refused_before_training(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, outputs: Tensor, expected: str
) -> None:
    monkeypatch.setattr(teacher, "trained_teacher", lambda *given: lambda sample: outputs)
    with pytest.raises(ConfigError, match=expected):
        assembly.build(stages.student_job(), stages.setup())


def test_a_student_that_puts_out_no_pictures_is_refused_before_training(
    stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = load_split(stages.data, "train").info.input_channels
    monkeypatch.setattr(networks, "generator", lambda *args: nn.Conv2d(channels, 3, 3, 2, 1))
    with pytest.raises(
        ConfigError, match=r"student\.generator: puts out pictures \(3, 8, 8\), expected \(3, 16, 16\)"
    ):
        assembly.build(stages.student_job(), stages.setup())


def test_pictures_in_range_of_the_right_shape_pass() -> None:
    require_pictures(picture(2, 3, 4, 4, value=-1.0), (3, 4, 4), "student.generator")
