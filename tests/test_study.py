"""`raydistill track --study`: a sweep as a study of Optuna's."""

from pathlib import Path

import optuna
import pytest
from test_results import synthetic_trial

from raydistill.config.configurations import Configuration
from raydistill.config.space import Choice, Float, Int, Objective, SearchSpace, When
from raydistill.errors import StoreError
from raydistill.records.trials import Trial
from raydistill.search.optuna_study import name_of, write_study

SPACE = SearchSpace(
    preset="shapes32",
    uniform=(4,),
    parameters={
        "student.generator.widths.stem": Int(low=2, high=8, step=2),
        "student.terms.mi.weight": Choice(options={"0": 0.0, "0.1": 0.1}),
        "student.terms.mi.step_size": Float(low=0.1, high=100.0, log=True),
    },
    when={"student.terms.mi.step_size": When(parameter="student.terms.mi.weight", keys=("0.1",))},
    objectives=(Objective(name="val/miou", direction="max"), Objective(name="cost/macs", direction="min")),
)
STEM, WEIGHT, STEP = SPACE.parameters
FACTS = {"sweep_id": "6d1f00112233", "seed": 0}


def trial(number: int, role: str, status: str, configuration: Configuration | None = None) -> Trial:
    made = synthetic_trial(
        number, role, "", 10 + number, 0.2 + number / 10, 0.1, 4, "instance", status, "why"
    )
    return made.model_copy(update={"configuration": configuration})


@pytest.fixture
def trials() -> list[Trial]:
    """A teacher, a student that was trained, one that was stopped, one that failed and one that runs."""
    return [
        trial(0, "teacher", "COMPLETE"),
        trial(1, "search", "COMPLETE", {STEM: 4, WEIGHT: "0.1", STEP: 2.5}),
        trial(2, "search", "PRUNED", {STEM: 6, WEIGHT: "0"}),
        trial(3, "search", "FAIL", {STEM: 8, WEIGHT: "0"}),
        trial(4, "search", "RUNNING", {STEM: 2, WEIGHT: "0"}),
    ]


def test_a_study_has_directions_parameters_values_states_roles_costs_and_digests(
    tmp_path: Path, trials: list[Trial]
) -> None:
    url, name = f"sqlite:///{tmp_path}/study.db", name_of("demo", FACTS["sweep_id"])
    assert name == "demo-6d1f0011"
    assert write_study(url, name, FACTS, SPACE, trials) == 4
    study = optuna.load_study(study_name=name, storage=url)
    assert [each.name for each in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["val/miou", "cost/macs"] and study.user_attrs == FACTS
    teacher, student, stopped, failed = study.trials
    assert [each.state.name for each in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL"]
    assert student.values == [trials[1].value("val/miou"), trials[1].macs] and stopped.values is None
    assert student.params == {STEM: 4, WEIGHT: "0.1", STEP: 2.5} and teacher.params == {}
    assert student.distributions[STEP] == optuna.distributions.FloatDistribution(0.1, 100.0, log=True)
    assert student.user_attrs["costs"] == trials[1].costs and teacher.user_attrs["role"] == "teacher"
    assert student.user_attrs["digests"] == trials[1].digests and failed.user_attrs["reason"] == "why"

    assert write_study(url, name, FACTS, SPACE, trials) == 0
    again = [each.user_attrs for each in optuna.load_study(study_name=name, storage=url).trials]
    assert again == [each.user_attrs for each in study.trials]
    ended = [*trials[:3], trial(3, "search", "COMPLETE", {STEM: 8, WEIGHT: "0"})]
    assert write_study(url, name, FACTS, SPACE, ended) == 4, "a resume trained the failed one: made anew"
    states = [each.state.name for each in optuna.load_study(study_name=name, storage=url).trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    more = [*ended, trial(4, "search", "COMPLETE", {STEM: 2, WEIGHT: "0"})]
    assert write_study(url, name, FACTS, SPACE, more) == 1


def test_a_database_that_cannot_be_used_and_a_study_of_another_sweep_are_refused(
    tmp_path: Path, trials: list[Trial]
) -> None:
    for url in ("study.db", f"sqlite:///{tmp_path}/none/study.db", "nosuch://user:secret@host/x"):
        with pytest.raises(StoreError, match=r"--study .*: cannot be used: .*; give the address") as raised:
            write_study(url, "x", FACTS, SPACE, trials)
        assert "secret" not in str(raised.value)
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="x", storage=url, directions=["maximize", "minimize"]).add_trial(
        optuna.trial.create_trial(values=[1.0, 2.0])
    )
    with pytest.raises(StoreError, match="its study x is not of this sweep; give another database"):
        write_study(url, "x", FACTS, SPACE, trials)
    assert len(optuna.load_study(study_name="x", storage=url).trials) == 1
