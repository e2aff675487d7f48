"""Budgets that a sweep is given: windows on costs, and what is said where they, or what else is given,
cannot be."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import CASES

from raydistill import search
from raydistill.commands.cli import main
from raydistill.config import configurations
from raydistill.config.architectures import PictureGenerator
from raydistill.config.base import canonical
from raydistill.config.bases import PlainBase
from raydistill.config.experiment import Job
from raydistill.config.presets import shapes32
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import DataInfo
from raydistill.planning import memory
from raydistill.planning.checks import check
from raydistill.planning.plan import Plan
from raydistill.records import store
from raydistill.records.trials import Trial, TrialResult, write_result, write_trial

SMALL = ("data.num_train=24", "data.num_val=8", "data.num_test=8")


def plan_of(folder: Path, **options: Any) -> Plan:
    return check(SweepOptions(store=str(folder / "runs"), set=SMALL, **options))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs `raydistill sweep` in a folder of its own: it must end in one line with exit code 2, and never
    start Ray. Returns the line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "raydistill.cluster.runtime.start_ray", lambda **options: pytest.fail("Ray was started")
    )

    def run(*arguments: str) -> str:
        settings = [text for value in SMALL for text in ("--set", value)]
        monkeypatch.setattr(sys, "argv", ["raydistill", "sweep", *settings, *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr().err
        assert (
            exit_info.value.code == 2 and printed.count("\n") == 1 and printed.startswith("raydistill: ")
        ), printed
        return printed.removeprefix("raydistill: ").rstrip()

    return run


# ---- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "mobile_resnet", "unet", "enhance"])
def test_memory_as_a_function_of_widths_is_the_memory_of_the_modules(family: str) -> None:
    rng = np.random.default_rng(0)
    case, experiment = CASES[family], shapes32()
    facts: dict[str, Any] = {
        "layout": "shapes",
        "height": case.height,
        "width": case.width,
        "num_classes": case.in_channels,
    }
    facts |= {
        "class_names": (),
        "palette": (),
        "ignore_index": None,
        "counts": {"train": 2, "val": 1, "test": 1},
        "split_rule": "",
    }
    info = DataInfo(**facts)
    without = {"terms": experiment.student.without_terms().terms}
    bases = {name: PlainBase(**{name: 0.0}) for name in ("ssim_weight", "l1_weight")}
    around = memory.MemorySetup(
        experiment.evaluator.network, info, experiment.teacher.generator, num_workers=2
    )
    predict = memory.Predictor(around)
    generator: PictureGenerator = case.config  # type: ignore[assignment]
    for values in (without, {}, *(without | {"base": base} for base in bases.values())):
        widths = {name: int(rng.integers(1, 64)) for name in type(generator.widths).model_fields}
        other = generator.model_copy(update={"widths": generator.widths.model_copy(update=widths)})
        training = experiment.student.model_copy(update={"generator": other, **values})
        assert predict(training) == memory.training_bytes(training, around)


def test_no_proposal_and_no_baseline_leaves_a_window_on_memory(tmp_path: Path) -> None:
    """The most expensive students with the MI term need more, most without it do not."""
    plan = plan_of(tmp_path, max_memory_gb=0.603, trials=4, sampler="random")
    history: list[search.Observation] = []
    for number in range(4):
        history.append(search.Observation(search.propose(plan.problem, history, number), "FAIL", None))
        assert plan.costs_of_configuration(history[-1].configuration)["cost/memory_gb"] <= 0.603
    unbounded = plan_of(tmp_path)
    assert {label for _, label, _ in unbounded.baselines} > {label for _, label, _ in plan.baselines}
    assert plan.trial_bytes <= 0.603 * 2**30 < unbounded.trial_bytes
    assert "cost/memory_gb" not in unbounded.costs_of(unbounded.experiment.student)


# ---- wrong input -------------------------------------------------------------------------------------------


def test_windows_that_nothing_fits_are_refused_with_the_reachable_range_of_the_cost_at_fault(
    fails: Any,
) -> None:
    assert fails("--max-params", "1000").startswith(
        "cost/params of at most 1,000: nothing fits. Reachable: 5,325 to "
    )
    text = fails("--max-memory-gb", "0.3")
    assert text.startswith("cost/memory_gb of at most 0.3: nothing fits. Reachable: 0.59")
    text = fails("--max-macs", "2e6", "--min-params", "30000")
    assert "cost/macs of at most 2,000,000 and cost/params of at least 30,000: none of all" in text
    assert "Reachable inside the window on cost/macs: cost/params 5,325 to " in text
    assert fails("--min-macs", "5e6", "--max-macs", "4e6") == (
        "cost/macs between 5,000,000 and 4,000,000: the lower end is above the upper one."
    )
    assert "max_params: Input should be greater than 0 (given: -1.0)" in fails("--max-params", "-1")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (
            ("--objective", "val/mse:min:1", "--objective", "cost/macs:min"),
            "no objective 'val/mse'. Known: cost/macs, cost/params",
        ),
        (
            ("--objective", "val/miou:min:0", "--objective", "cost/macs:min"),
            "objective val/miou is better towards max, given min.",
        ),
        (
            ("--objective", "cost/macs:max", "--objective", "val/miou:max:0"),
            "objective cost/macs is better towards min, given max.",
        ),
        (
            ("--set", "student.generator.num_blocks=0"),
            "student.generator.num_blocks: Input should be greater than or equal to 1",
        ),
        (
            ("--set", "data.height=30"),
            "data.height is 30. Allowed: multiples of 4. The nearest are 28 and 32.",
        ),
        (
            ("--set", "student.terms.mi.num_steps=-1"),
            "student.terms.mi.num_steps: Input should be greater than",
        ),
    ],
)
def test_what_no_trial_reports_and_no_network_takes_is_refused(
    fails: Any, arguments: tuple[str, ...], printed: str
) -> None:
    assert printed in fails(*arguments)


def test_a_space_with_values_outside_a_networks_limits_is_refused(fails: Any, tmp_path: Path) -> None:
    source = (Path(__file__).parent.parent / "search_spaces/default.py").read_text()
    (tmp_path / "mine.py").write_text(
        source.replace('trunk": Int(low=8, high=32, step=8)', 'trunk": Int(low=0, high=32, step=8)')
    )
    assert "student.generator.widths.trunk: Input should be greater than or equal to 1 (given: 0)" in fails(
        "--space", "mine.py"
    )
    (tmp_path / "mine.py").write_text(
        source.replace(
            "parameters={", "parameters={'student.generator.family': Choice(options={'u': 'unet'}),"
        )
    )
    assert "'student.generator.family' cannot be searched: it decides which widths there are" in fails(
        "--space", "mine.py"
    )


# ---- what is there already ---------------------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The folder of a sweep `mine` with one proposed and one finished trial."""
    plan = plan_of(tmp_path)
    folder = store.create_sweep(
        plan.store, "mine", "default", {"definition": plan.definition, "space": canonical(plan.space)}
    )
    job = Job(training=plan.experiment.student, data=plan.data)
    for number in (0, 1):
        trial: dict[str, Any] = {
            "number": number,
            "trial_id": f"{number:04d}",
            "role": "search",
            "label": "",
            "params": {},
            "costs": {},
            "trial_key": job.key,
        }
        trial |= {"seed": 0, "job": job.model_dump(mode="json"), "digests": {}}
        write_trial(folder / "trials" / trial["trial_id"], Trial.model_validate(trial))
    nothing: dict[str, Any] = {
        "trial_key": job.key,
        "nimg": 0,
        "budget_nimg": 1,
        "wall_sec": 1.0,
        "gpu_sec": 0.0,
        "hardware": "",
        "git_revision": "",
    }
    nothing |= {"status": "FAIL", "reason": "", "metrics": {}, "evaluations": [], "context": {}}
    write_result(folder / "trials/0001", TrialResult.model_validate(nothing))
    return folder


def test_a_name_that_is_taken_and_one_that_belongs_to_another_space_are_refused(
    fails: Any, begun: Path
) -> None:
    assert (
        "--name mine:" in (text := fails("--name", "mine"))
        and "exists; add --resume to go on with it, or give another name" in text
    )
    text = fails(
        "--name", "mine", "--resume", "--objective", "val/kd_evaluator:min:1", "--objective", "cost/macs:min"
    )
    assert (
        text
        == "--resume --name mine: that sweep was started with another space, data, config or seed; use the "
        "same command"
    )
    assert "that sweep was started with another space" in fails(
        "--name", "mine", "--resume", "--max-macs", "9e6"
    )


@pytest.mark.parametrize(
    ("file", "content", "printed"),
    [
        ("trials/0000/trial.json", "{", "trials/0000/trial.json: damaged or unreadable"),
        ("trials/0001/result.json", "", "trials/0001/result.json: damaged or unreadable"),
        (
            "trials/0001/result.json",
            json.dumps({"schema_version": 1}),
            "trials/0001/result.json: damaged: status: Field required",
        ),
        (
            "trials/0000/trial.json",
            json.dumps({"schema_version": 99}),
            "trials/0000/trial.json: not written by schema version 1",
        ),
        ("sweep.json", "[1", "sweep.json: damaged or unreadable"),
    ],
)
def test_a_damaged_ledger_is_named_before_any_cost_and_nothing_else_is_touched(
    fails: Any, begun: Path, file: str, content: str, printed: str
) -> None:
    others = {path: path.read_bytes() for path in begun.rglob("*.json") if path != begun / file}
    (begun / file).write_text(content)
    assert printed in fails("--name", "mine", "--resume")
    assert {path: path.read_bytes() for path in others} == others


def test_a_space_of_one_point_is_one_configuration(tmp_path: Path) -> None:
    source = (
        "from raydistill.space import Int, Objective, SearchSpace\nSPACE = "
        "SearchSpace(preset='shapes32', uniform=(4,), "
    )
    source += (
        "parameters={'student.generator.widths.trunk': Int(low=8, high=8)}, "
        "objectives=(Objective(name='val/miou', "
    )
    source += "direction='max', reference=0.0), Objective(name='cost/macs', direction='min')))\n"
    (tmp_path / "one.py").write_text(source)
    plan = plan_of(tmp_path, space=str(tmp_path / "one.py"), trials=3)
    assert (
        configurations.extreme_configuration(plan.space, highest=True)
        == search.propose(plan.problem, [], 0)
        == {"student.generator.widths.trunk": 8}
    )
