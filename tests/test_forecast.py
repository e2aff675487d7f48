"""A forecast's arithmetic by hand: rates between two measurements, places that become free, sums."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import TINY

from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.planning.plan import Records
from raydistill.sweep import forecast
from raydistill.sweep.forecast import Disk, makespan
from raydistill.sweep.rates import Rate, Rates, kind_of


def by_the_second(seconds: list[int], at_a_time: int) -> int:
    """The same, by a clock that ticks: each second, waiting trials take places that are free."""
    waiting, running, now = list(seconds), list[int](), 0
    while waiting or running:
        running = [end for end in running if end > now]
        while waiting and len(running) < at_a_time:
            running.append(now + waiting.pop(0))
        now += 1 if running else 0
    return now


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 10])
def test_trials_take_places_in_their_turn_as_these_become_free(at_a_time: int) -> None:
    for seed in range(10):
        seconds = np.random.default_rng(seed).integers(1, 9, 7).tolist()
        assert makespan(seconds, at_a_time) == by_the_second(seconds, at_a_time)
    assert makespan([], at_a_time) == 0


def training(**values: Any) -> Any:
    given = {f"student.{name.replace('__', '.')}": value for name, value in values.items()}
    return with_values(with_values(shapes32(), TINY, where="test"), given, where="test").student


def test_a_training_is_its_start_its_images_and_its_reports_of_which_the_last_is_at_the_end() -> None:
    rate = Rate(1e6, image_sec=0.25, report_sec=3.0, start_sec=7.0)
    for budget, every, reports in ((100, 40, 3), (80, 40, 2), (81, 40, 3), (30, 40, 1)):
        expected = 7 + 0.25 * budget + 3 * reports
        assert rate.job_sec(training(budget_nimg=budget, report_every_nimg=every)) == expected


def test_rates_are_linear_in_macs_and_never_negative() -> None:
    rates = Rates(
        "", {"student": [Rate(10, 1.0, 5.0, 2.0), Rate(30, 3.0, 4.0, 2.0)], "teacher": [Rate(9, 1.5)]}
    )
    assert rates.of("student", 20) == Rate(20, 2.0, 4.5, 2.0)
    assert rates.of("student", 10) == Rate(10, 1.0, 5.0, 2.0) and rates.of("student", 30).image_sec == 3.0
    assert rates.of("student", 50) == Rate(50, 5.0, 3.0, 2.0) and rates.of("student", 150).report_sec == 0
    assert rates.of("student", -5).image_sec == 0 and rates.of("teacher", 77) == Rate(77, 1.5)


def test_a_kind_of_trial_is_told_by_its_teacher_and_its_term() -> None:
    teacher = with_values(shapes32(), TINY, where="test").teacher
    kinds = [kind_of(each) for each in (training(), training(mi__weight=0.0), teacher)]
    assert kinds == ["student with MI", "student", "without a teacher"]
    rates = Rates("", {kind: [Rate(0, index + 1.0)] for index, kind in enumerate(kinds)})
    given = (
        training(budget_nimg=8, report_every_nimg=8),
        training(mi__weight=0.0, budget_nimg=8, report_every_nimg=8),
    )
    assert [rates.trial_sec(each, 5) for each in given] == [8.0, 16.0]


@pytest.mark.parametrize("is_inline", [False, True])
@pytest.mark.parametrize("stages_there", [False, True])
@pytest.mark.parametrize("devices", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("skip_recheck", [False, True])
def test_a_sweep_is_its_stages_trials_recheck_and_replicates(
    is_inline: bool, stages_there: bool, devices: float, skip_recheck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Students of 10 and 30 s, a baseline of 50 s, five trials and three replicates, two at a time."""
    given = training(budget_nimg=10, report_every_nimg=10)
    measured = {name: [Rate(0, 0.0), Rate(10, 10.0)] for name in ("student with MI", "student")}
    rates = Rates("measured", measured | {"evaluator": [Rate(0, 2.0)], "teacher": [Rate(0, 4.0)]})
    stage = SimpleNamespace(budget_nimg=10, report_every_nimg=10)
    plan: Any = SimpleNamespace(
        experiment=SimpleNamespace(
            evaluator=stage, teacher=stage, given_teacher=None, student=given, trains_features=False
        ),
        students=[(given, 1.0), (given, 3.0)],
        baselines=[("uniform", "4", given)],
        costs_of=lambda training: {"cost/macs": 5.0},
        options=SimpleNamespace(trials=5, replicates=3, skip_recheck=skip_recheck),
        scoring=None,
        may_read=lambda training: False,
        records=Records((), 0, 0, 2.0),
        sharing=(2, 2),
    )
    monkeypatch.setattr(forecast, "disk_bytes", lambda plan, at_a_time: Disk(1000, 300))
    found = forecast.forecast(
        plan,
        rates,
        at_a_time=2,
        devices=devices,
        stage_devices=4.0,
        memory_bytes=77,
        is_inline=is_inline,
        stages_there=stages_there,
    )
    start = 0.0 if is_inline else 16.0
    mean, baseline = 20 + start, 50 + start
    stages = 0.0 if stages_there else 17 + 20 + 40
    recheck = 0.0 if skip_recheck else mean / 2 + 16
    # the baseline is first; beside it run three trials, two more follow at the first place that is free
    trials = by_the_second([int(baseline), *[int(mean)] * 5], 2)
    replicates = 2 * baseline
    assert found.trial_sec == (10 + start, mean, 30 + start)
    assert found.trials_sec == pytest.approx(baseline + 5 * mean + recheck + 3 * baseline)
    assert found.stages_sec == stages
    total = stages + (7 if is_inline else 0) + trials + recheck + 10
    assert found.total_sec == pytest.approx(total + replicates)
    share = max(devices, 2 * min(devices, 1))
    hours = ((baseline + 5 * mean) * devices + stages * 4 + recheck * share) / 3600
    assert found.device_hours == pytest.approx(hours + 3 * baseline * devices / 3600)
    assert found.replicates == pytest.approx((replicates, 3 * baseline * devices / 3600, 300))
    assert (found.memory_bytes, found.disk_bytes, found.source) == (77, 1000, "measured")
    plan.experiment.given_teacher = "a network"
    if not stages_there:
        without = forecast.forecast(
            plan,
            rates,
            at_a_time=2,
            devices=1.0,
            stage_devices=4.0,
            memory_bytes=77,
            is_inline=True,
            stages_there=False,
        )
        assert without.stages_sec == 17 + 20
