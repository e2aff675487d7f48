"""How a prediction of memory is added up, by hand; what lives when is measured in `test_memory.py`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from test_recipes import EXPERIMENTS, SMALL, lengths

from raydistill.config.architectures import SaganGenerator
from raydistill.config.experiment import Experiment
from raydistill.config.paths import with_values
from raydistill.config.presets import sagan, shapes32
from raydistill.data import DataInfo
from raydistill.models import cost, networks
from raydistill.planning import memory, rehearsal
from raydistill.planning.memory import MemorySetup, _Bytes, _total
from raydistill.training import recipes

INFO = DataInfo(
    layout="shapes",
    height=16,
    width=16,
    num_classes=8,
    class_names=(),
    palette=(),
    ignore_index=None,
    counts={"train": 24, "val": 100, "test": 8},
    split_rule="",
)
PICTURE = 4 * 3 * 16 * 16
"""Bytes of a float32 picture."""


def tiny(**values: Any) -> Experiment:
    given = {path.replace("__", "."): value for path, value in values.items()}
    return with_values(with_values(shapes32(), TINY, where="test"), given, where="test")


def setup_of(experiment: Experiment, info: DataInfo = INFO, num_workers: int = 1) -> MemorySetup:
    return MemorySetup(experiment.evaluator.network, info, experiment.teacher.generator, num_workers)


PLAIN = INFO.model_copy(update={"num_classes": None})
"""Pictures whose inputs are pictures."""


def small_enhance(**values: Any) -> Experiment:
    """A student of few operations; `values` are paths below it."""
    kind = tiny(student__generator__family="enhance", student__generator__num_blocks=1)
    widths = {f"student.generator.widths.{name}": 4 for name in ("trunk", "hidden", "up")}
    given = {f"student.{path.replace('__', '.')}": value for path, value in values.items()}
    return with_values(with_values(kind, widths, where="test"), given, where="test")


NOTHING = _Bytes(np.array([0]), 0, 0, 0)


def test_the_worst_moment_is_the_largest_of_all_that_there_are() -> None:
    """Of a minibatch and an evaluation, or the evaluator's; the images of the minibatch live beside it."""
    training = tiny().student
    for needed, live in (
        (NOTHING, 0),
        (NOTHING._replace(history=np.array([0, 10, 30, 20, 5, 7])), 30),
        (NOTHING._replace(history=np.array([0, 10, 30, 20, 5, 70])), 70),
        (NOTHING._replace(history=np.array([0, 10, 30]), evaluator=50), 50),
        (NOTHING._replace(history=np.array([0, 10, 30]), images=40), 70),
    ):
        assert _total(training, 0, needed) == int(1.6 * live)


@pytest.mark.parametrize(("ema_nimg", "each"), [(0.0, 20), (8.0, 24)])
def test_a_trained_parameter_takes_sixteen_bytes_and_four_for_each_copy(ema_nimg: float, each: int) -> None:
    """Weight, gradient and two moments; the finished network, and the average where there is one."""
    training = tiny(student__ema_nimg=ema_nimg).student
    assert _total(training, 100, _Bytes(np.array([0, 1000]), 7, 500, 0)) == 7 + each * 100 + int(1.6 * 1500)


def test_a_student_without_a_term_has_its_evaluator_and_a_minibatch_beside_it() -> None:
    """A minibatch is inputs of 8 class planes, targets, the teacher's pictures and labels of 8 bytes: 16
    planes a picture."""
    experiment = tiny(student__mi__weight=0.0)
    needed = memory._rehearsed(experiment.student, setup_of(experiment))
    evaluator = cost.module_params(networks.evaluator(experiment.evaluator.network, INFO, 0))
    assert needed.states == 4 * evaluator
    assert needed.images == 4 * (8 + 3 + 3 + 2) * 16 * 16 * 4
    predicted = memory.states_and_tensors(experiment.student, setup_of(experiment))
    params = cost.params(networks.layers(experiment.student.generator, INFO))
    live = max(needed.history.max(), needed.evaluator) + needed.images
    assert predicted == 4 * evaluator + 24 * params + int(1.6 * live)
    whole = memory.training_bytes(experiment.student, setup_of(experiment))
    assert whole == predicted + 600 * 2**20


def test_networks_that_learn_beside_the_generator_and_their_pictures_count() -> None:
    def beside(training: Any) -> tuple[int, int]:
        """Parameters that learn, and bytes of buffers of four dimensions: of pictures."""
        found = memory.beside(training, INFO)
        with torch.device("meta"):
            own = recipes.kind_of(training).networks(training, INFO)
        buffers = [buffer for module in own.values() for buffer in module.buffers()]
        small = sum(buffer.nbytes for buffer in buffers if buffer.dim() < 4)
        return found.learning, found.resting - small

    vem = tiny(student__mi__kind="vem").student
    energy = cost.module_params(networks.energy(vem.terms["mi"].energy, INFO, 0))
    assert beside(vem) == (energy, 0) and beside(tiny(student__mi__weight=0.0).student) == (0, 0)
    replay = {"student__mi__kind": "vem", "student__mi__start": "replay"}
    assert beside(tiny(**replay).student) == (energy, 256 * PICTURE)
    assert beside(tiny(**replay, student__mi__replay_size=20).student) == (energy, 20 * PICTURE)
    critic = tiny(student__mi__kind="critic").student
    assert beside(critic) == (cost.module_params(networks.critic(critic.terms["mi"].discriminator, 0)), 0)
    assert beside(tiny(student__mi__kind="vid").student) == (3, 0)
    teacher = tiny().teacher
    pix2pix = cost.module_params(networks.discriminator(teacher.discriminator, INFO, 0))
    assert beside(teacher) == (pix2pix, 0)
    of_vem, of_critic = (memory._rehearsed(each, setup_of(tiny())).states for each in (vem, critic))
    found = memory.beside(vem, INFO)
    assert of_vem - of_critic == 16 * (energy - beside(critic)[0]) + found.resting


def test_cyclegan_learns_a_way_back_and_two_discriminators_beside_two_pools(tmp_path: Path) -> None:
    experiment = with_values(EXPERIMENTS["cyclegan"](tmp_path), SMALL | lengths(4), where="test")
    info, training = INFO.model_copy(update={"num_classes": None}), experiment.teacher
    back = cost.params(networks.layers(training.generator, info))
    critic = cost.module_params(networks.picture_discriminator(training.discriminator, 0))
    found = memory.beside(training, info)
    assert found == (back + 2 * critic, 2 * 5 * PICTURE)


def test_what_trainings_have_beside_their_students_is_that_of_each() -> None:
    """Whatever is counted once for several of them."""
    given = ({}, {"mi__kind": "critic"}, {"mi__start": "replay"}, {"generator__widths__trunk": 40}, {})
    trainings = [small_enhance(**values).student for values in given] + [tiny().teacher]
    assert [memory.beside(each, PLAIN) for each in trainings] == [
        rehearsal.beside(each, PLAIN) for each in trainings
    ]


def test_workers_share_the_batch_and_the_evaluation() -> None:
    experiment = tiny(student__batch_size=6)
    assert [
        memory._worker_batch_size(experiment.student, setup_of(experiment, num_workers=n))
        for n in (1, 2, 4, 6)
    ] == [
        6,
        3,
        2,
        1,
    ]
    generator = experiment.student.generator
    assert [rehearsal.evaluation_batch_size(generator, INFO, number) for number in (1, 2, 3, 50)] == [
        64,
        50,
        34,
        2,
    ]
    unpaired = INFO.model_copy(update={"input_counts": {"train": 9, "val": 7, "test": 2}})
    assert rehearsal.evaluation_batch_size(generator, unpaired, 2) == 4
    assert rehearsal.evaluation_batch_size(SaganGenerator(), unpaired, 2) == 50


def test_a_teacher_runs_in_the_loop_where_an_input_never_comes_again() -> None:
    student, resnet = tiny().student, tiny().teacher.generator

    def runs_in_loop(teacher: Any, info: DataInfo) -> bool:
        return rehearsal.runs_in_loop(student, teacher, info)

    assert not runs_in_loop(resnet, INFO)
    noisy = INFO.model_copy(update={"degrade": INFO.degrade.model_copy(update={"noise_std": 5.0})})
    cropped = INFO.model_copy(update={"load_size": (20, 20)})
    assert runs_in_loop(resnet, noisy) and runs_in_loop(resnet, cropped)
    assert runs_in_loop(SaganGenerator(), INFO)
    experiment = tiny()
    stored, computed = (
        memory._rehearsed(experiment.student, setup_of(experiment, info)) for info in (INFO, cropped)
    )
    teacher = cost.params(networks.layers(resnet, INFO))
    assert computed.states - stored.states == 4 * teacher
    assert stored.images - computed.images == 4 * PICTURE
    crowded = memory._rehearsed(experiment.student, setup_of(experiment, INFO)._replace(outputs_fit=False))
    assert (crowded.states, crowded.images) == (computed.states, computed.images)
    assert len(crowded.history) == len(computed.history) > len(stored.history)


def test_a_family_that_takes_noise_is_predicted_as_it_is() -> None:
    """Its widths come in eighths: nothing is affine in them."""
    base = with_values(sagan(), SMALL | lengths(2), where="test")
    info = INFO.model_copy(update={"height": 64, "width": 64, "num_classes": None})
    setup = setup_of(base, info)
    predict = memory.Predictor(setup)
    assert predict(base.student) == memory.training_bytes(base.student, setup) and predict.affine == {}


def test_a_prediction_that_is_not_affine_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = small_enhance(mi__weight=0.0)
    predict, setup = memory.Predictor(setup_of(experiment, PLAIN)), setup_of(experiment, PLAIN)
    own = memory._rehearsed

    def crooked(training: Any, setup: MemorySetup) -> _Bytes:
        found = own(training, setup)
        return found._replace(history=found.history + training.generator.widths.trunk**2)

    monkeypatch.setattr(memory, "_rehearsed", crooked)
    assert predict(experiment.student) == memory.training_bytes(experiment.student, setup)
    assert list(predict.affine.values()) == [None]


def test_students_that_differ_in_batch_or_term_are_predicted_apart() -> None:
    given = (
        {"mi__weight": 0.0},
        {"mi__kind": "critic"},
        {"mi__kind": "vid"},
        {"mi__start": "replay", "mi__replay_size": 16},
        {"mi__num_steps": 1},
        {"mi__energy__channels": 4},
        {"batch_size": 8, "mi__weight": 0.0},
        {"generator__widths__trunk": 90, "generator__widths__hidden": 2, "mi__weight": 0.0},
        {"generator__num_blocks": 2, "mi__weight": 0.0},
    )
    setup = setup_of(small_enhance(), PLAIN)
    predict = memory.Predictor(setup)
    for values in given:
        training = small_enhance(**values).student
        assert predict(training) == memory.training_bytes(training, setup), values
