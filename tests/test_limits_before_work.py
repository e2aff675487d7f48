"""What is too large, endless or no number is refused with its dotted path before anything is drawn."""

import importlib
import inspect
import re
import shutil
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple

import annotated_types
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raydistill import plugins, reading
from raydistill.commands.cli import main
from raydistill.config import batch, bounds, space
from raydistill.config.batch import Batch, Method
from raydistill.config.data import ShapesData
from raydistill.config.paths import shown, validated
from raydistill.config.presets import shapes32
from raydistill.config.space import Choice, SearchSpace, When, load_space
from raydistill.config.space_checks import check_space
from raydistill.config.sweep_options import SweepOptions
from raydistill.data import picture_files, prepare, shapes, storing
from raydistill.data.classes import MOST_CLASSES
from raydistill.errors import ConfigError, SpaceError, StoreError
from raydistill.planning.checks import check

ROOT = Path(__file__).parent.parent


@pytest.fixture
def says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a command in an empty folder, where nothing may be drawn; it must end with exit code 2.

    Returns what it prints.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shapes, "draw", lambda *given: pytest.fail("pictures are drawn"))

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert ended.value.code == 2 and captured.out == "" and len(captured.err) < 2000, captured
        assert not (tmp_path / "runs").exists()
        return captured.err

    return run


# ---- numbers -----------------------------------------------------------------------------------------------

DEEP = "[" * 100_000
ASSIGNMENTS = {
    "data.num_train=1e10": "data.num_train: Input should be less than or equal to 100000000",
    "data.num_train=1e8": "data: Value error, 100,000,000 pictures of 32x32 are drawn in memory",
    "data.num_val=1e7": "10,000,000 pictures of 32x32 are drawn in memory, in 40,960,000,000 bytes",
    "data.height=1e6": "data.height: Input should be less than or equal to 8192",
    "data.width=1e400": "data.width: Input should be a finite number",
    "data.load_height=8193": "data.load_height: Input should be less than or equal to 8192",
    "data.num_test=-1": "data.num_test: Input should be greater than or equal to 2",
    "data.seed=1e30": "data.seed: Input should be a whole number of at most 63 bits (given: 1e+30)",
    f"data.seed={'9' * 4000}": "data.seed: Input should be less than 9223372036854775808",
    f"data.height={'9' * 5000}": "data.height: Input should be a whole number of at most 63 bits",
    "student.batch_size=1e9": "student.batch_size: Input should be less than or equal to 65536",
    "student.terms.mi.num_steps=1e9": "student.terms.mi.num_steps: Input should be less than or equal to",
    "student.terms.mi.weight=NaN": "student.terms.mi.weight: Input should be a finite number",
    "student.terms.mi.weight=1e300": "student.terms.mi.weight: Input should be less than or equal to 1000",
    "student.optimizer.learning_rate=Infinity": "student.optimizer.learning_rate: Input should be a finite",
    "student.ema_nimg=1e308": "student.ema_nimg: Input should be less than or equal to",
    "student.terms.mi.energy.num_blocks=1e9": "student.terms.mi.energy.num_blocks: Input should be less",
    "teacher.discriminator.num_layers=1e9": "teacher.discriminator.num_layers: Input should be less than",
    "teacher.seed=-1e30": "teacher.seed: Input should be a whole number of at most 63 bits",
    f"student.terms.mi.weight={DEEP}": "student.terms.mi.weight: Input should be a valid number",
    f"student.terms.mi.weight={'[' * 400}{']' * 400}": "student.terms.mi.weight: Input should be",
    f"data.kind={'[' * 400}{']' * 400}": "data.kind: there is no [[[[",
    f"x={DEEP}": "there is no config path 'x'",
}


@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=lambda text: text[:40])
def test_a_config_path_is_refused_by_name(says: Callable[..., str], assignment: str) -> None:
    assert ASSIGNMENTS[assignment] in says("config", "--set", assignment)


OPTIONS = {
    "--workers-per-trial=1000000000000000000000000000000": "workers_per_trial: Input should be less than",
    "--teacher-workers=99999": "teacher_workers: Input should be less than or equal to 10000",
    "--cpus-per-worker=99999": "cpus_per_worker: Input should be less than or equal to 10000",
    "--max-concurrent=10000000": "max_concurrent: Input should be less than or equal to 10000",
    "--trials=10000000000": "trials: Input should be less than or equal to 100000",
    "--replicates=10000000000": "replicates: Input should be less than or equal to 100000",
    "--nimg=99999999999999999999": "nimg: Input should be less than or equal to 1000000000000",
    "--seed=99999999999999999999": "seed: Input should be less than 9223372036854775808",
    "--gpus-per-worker=1e30": "gpus_per_worker: Input should be less than or equal to 1000000000",
    "--max-hours=inf": "max_hours: Input should be a finite number",
    "--max-macs=nan": "max_macs: Input should be a finite number",
    "--max-macs=1e31": "max_macs: Input should be less than or equal to",
    "--wait-for-nodes=1e300": "wait_for_nodes: Input should be less than or equal to 1000000000",
    "--objective=val/miou:max:nan": "--objective val/miou:max:nan: reference: Input should be a finite",
    "--objective=val/miou:max:-inf": "reference: Input should be a finite number",
    "--objective=val/miou:max:1e300": "reference: Input should be less than or equal to 100000000000000",
    "--set=data.num_train=1e10": "data.num_train: Input should be less than or equal to 100000000",
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("command", ["plan", "sweep"])
def test_an_option_is_refused_by_name(says: Callable[..., str], command: str, option: str) -> None:
    assert OPTIONS[option] in says(command, option)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("evaluate", "x", "--resamples", "1000000000"), "resamples: Input should be less than or equal to"),
        (("evaluate", "x", "--num", "1000000000"), "num: Input should be less than or equal to 100000000"),
        (("data", "inspect", "x", "--num", "1000000000"), "num: Input should be less than or equal to"),
        (("latency", "x", "--batch-size", "1000000000"), "batch_sizes.0: Input should be less than or equal"),
        (("latency", "x", "--threads", "1000000000"), "threads: Input should be less than or equal to 10000"),
        (("retrain", "x", "--trial", "0", "--nimg", "1" * 30), "nimg: Input should be less than or equal"),
        (("latency", "x", "--size", "99999x8"), "--size 99999x8: give it as HEIGHTxWIDTH, each 1 to 8192"),
    ],
)
def test_other_commands_refuse_such_numbers_too(
    says: Callable[..., str], arguments: tuple[str, ...], printed: str
) -> None:
    assert printed in says(*arguments)


def test_a_minibatch_whose_inputs_no_machine_holds_is_not_timed(
    says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill.commands import latency

    generator = SimpleNamespace(input_shape=(3, 4096, 4096))
    monkeypatch.setattr(latency, "open_generator", lambda *given: generator)
    printed = says("latency", "x", "--batch-size", "1", "--batch-size", "60000")
    assert "--batch-size 60000: x: its inputs alone would take 12,079,595,520,000 bytes" in printed


def configs() -> Iterator[type[BaseModel]]:
    """Every class of a config and of a command's options that is filled from what a user gives."""
    names = [path.stem for path in (ROOT / "raydistill" / "config").glob("*.py") if path.stem != "__init__"]
    modules = [f"config.{name}" for name in names]
    modules += [f"commands.{name}" for name in ("evaluate", "latency", "retrain", "export", "evaluator")]
    for name in modules:
        module = importlib.import_module(f"raydistill.{name}")
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, BaseModel) and value.__module__ == module.__name__:
                yield value


CONFIGS = sorted(set(configs()), key=lambda each: (each.__module__, each.__name__))


class Numbers(NamedTuple):
    path: str
    metadata: tuple[Any, ...]


def numbers(annotation: Any, path: str, metadata: tuple[Any, ...] = ()) -> Iterator[Numbers]:
    """Every int and float in an annotation, with what it is annotated by."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        yield from numbers(inner[0], path, metadata + inner[1:])
    elif annotation in (int, float):
        yield Numbers(path, metadata)
    elif origin is not Literal:
        for part in inner:
            yield from numbers(part, path)


def is_bounded(metadata: tuple[Any, ...]) -> bool:
    limits: list[Any] = []
    for item in metadata:
        limits += item.metadata if isinstance(item, FieldInfo) else [item]
    above = any(isinstance(each, annotated_types.Le | annotated_types.Lt) for each in limits)
    return above and any(isinstance(each, annotated_types.Ge | annotated_types.Gt) for each in limits)


def unbounded(config: type[BaseModel]) -> list[str]:
    found: list[Numbers] = []
    for name, field in config.model_fields.items():
        found += numbers(field.annotation, name, tuple(field.metadata))
    return [each.path for each in found if not is_bounded(each.metadata)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: each.__name__)
def test_every_number_of_a_config_has_a_largest_and_a_smallest_value(config: type[BaseModel]) -> None:
    assert (paths := unbounded(config)) == [] or (config.__name__, paths) in WITHOUT


WITHOUT = [("Report", ["version"])]
"""What is checked by other means: a file's version."""


def test_the_walk_over_configs_finds_numbers_without_bounds() -> None:
    class Bad(BaseModel):
        a: int | None = None
        b: Annotated[float, annotated_types.Ge(0)] = 0.0
        c: tuple[int, ...] = ()
        d: bounds.Side = 1

    assert unbounded(Bad) == ["a", "b", "c"]
    assert len(CONFIGS) > 40


def test_what_the_disk_has_no_room_for_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "draw", lambda *given: pytest.fail("pictures are drawn"))
    config = ShapesData(num_train=10, num_val=2, num_test=2, height=16, width=16)
    needed = (10 + 2 + 2) * 16 * 16 * 4
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storing.shutil, "disk_usage", lambda path: free._replace(free=needed - 1))
    with pytest.raises(StoreError, match=r"the decoded data take 0\.00 GiB, 0\.00 GiB are free\. Free some"):
        prepare(config, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(storing.shutil, "disk_usage", lambda path: free._replace(free=needed))
    prepare(config, tmp_path / "cache")


# ---- spaces and batches ------------------------------------------------------------------------------------

PATH = "student.base.l1_weight"
ON = {"0": 0.0, "1": 1.0}


TOO_MUCH = """
deep = circle = laughs = []
for _ in range(5000): deep = [deep]
circle.append(circle)
for _ in range(15): laughs = [laughs] * 10
"""


def changed(**fields: Any) -> SearchSpace:
    base = load_space("default")
    return SearchSpace(**(dict(base) | fields))


@pytest.mark.parametrize(
    "circle",
    [
        {"a": "a"},
        {"a": "b", "b": "a"},
        {"a": "b", "b": "c", "c": "d", "d": "b"},
    ],
)
def test_a_circle_of_conditions_is_refused(circle: dict[str, str]) -> None:
    names = {
        "a": "student.base.l1_weight",
        "b": "student.base.ssim_weight",
        "c": "student.terms.mi.weight",
        "d": "student.flip",
    }
    given = changed(
        parameters=load_space("default").parameters | {names[name]: Choice(options=ON) for name in circle},
        when={names[one]: When(parameter=names[other], keys=("1",)) for one, other in circle.items()},
    )
    with pytest.raises(SpaceError, match=r"a circle of conditions, student\.\w+.* -> student"):
        check_space(given, shapes32(), "a.py")
    with pytest.raises(SpaceError, match="a circle of conditions"):
        raise_from_file(given)


def raise_from_file(given: SearchSpace) -> None:
    """What a sweep does with a space, from its file on."""
    original = space.load_space
    try:
        space.load_space = lambda name: given
        check(SweepOptions(space="a.py"))
    finally:
        space.load_space = original


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (
            "parameters={PATH: Float(low=0, high=float('nan'))}",
            "high: Input should be a finite",
        ),
        ("parameters={PATH: Float(low=0, high=1e300)}", "high: Input should be less than or"),
        ("parameters={PATH: Int(low=0, high=10 ** 5000)}", "high: Input should be less than"),
        (
            "parameters={PATH: Choice(options={str(i): i for i in range(5000)})}",
            "options: Dict",
        ),
        (
            "parameters={PATH: Choice(options={'a': float('inf')})}",
            "options.a: Value error, no",
        ),
        ("parameters={PATH: Choice(options={'a': deep})}", "nested more than 16 deep"),
        ("parameters={PATH: Choice(options={'a': circle})}", "nested more than 16 deep"),
        ("parameters={PATH: Choice(options={'a': laughs})}", "or of more than 10,000 items"),
        (
            "parameters={PATH: Choice(options={'a': object()})}",
            "options.a: Value error, a object",
        ),
        (
            "parameters={f'student.x{i}': Int(low=0, high=1) for i in range(500)}",
            "parameters: Dictionary should",
        ),
        ("uniform=range(1, 10 ** 6)", "uniform"),
        ("uniform=(2 ** 70,)", "uniform.0: Input should be less than"),
        (
            "constraints=(Window(cost='cost/macs', high=float('inf')),)",
            "high: Input should be a finite number",
        ),
        ("objectives=(Objective(name='val/miou', direction='max', reference=-1e99),)", "reference: Input"),
    ],
)
@pytest.mark.parametrize(
    "how", ["SearchSpace(**(dict(BASE) | dict({})))", "BASE.model_copy(update=dict({}))"]
)
def test_a_space_file_is_refused_by_file_and_path(tmp_path: Path, fields: str, path: str, how: str) -> None:
    """`model_copy` checks nothing, so what a file defines is checked once more."""
    text = "from raydistill.space import *\nfrom search_spaces.default import SPACE as BASE\n"
    text += f"PATH = {PATH!r}\n{TOO_MUCH}"
    (tmp_path / "a.py").write_text(f"{text}SPACE = {how.format(fields)}\n")
    with pytest.raises(SpaceError) as caught:
        load_space(str(tmp_path / "a.py"))
    assert "a.py: " in str(caught.value) and path in str(caught.value) and len(str(caught.value)) < 1500


def test_space_files_may_change_spaces_by_model_copy() -> None:
    for path in sorted((ROOT / "search_spaces").glob("[!_]*.py")):
        module = importlib.import_module(f"search_spaces.{path.stem}")
        assert load_space(path.stem) == module.SPACE


@pytest.mark.parametrize(
    ("fields", "printed"),
    [
        ({"seeds": range(2000)}, "seeds"),
        ({"seeds": (2**64,)}, "seeds.0: Input should be less than"),
        ({"seeds": (-1,) * 900}, "(given: -1); and 893 more"),
        (
            {"seeds": tuple(range(1000)), "spaces": tuple(map(str, range(11)))},
            "11,000 sweeps, at most 10,000",
        ),
        ({"options": {"workers_per_trial": 10**30}}, "a whole number of more than 63 bits"),
        ({"options": {"workers_per_trial": float("nan")}}, "no finite number"),
        ({"set": {"data.seed": {1, 2}}}, "set.data.seed: Value error, a set; give numbers"),
        ({"budget": {"hours": float("inf")}}, "budget.hours: Input should be a finite number"),
        ({"budget": {"trials": 10**12}}, "budget.trials: Input should be less than"),
    ],
)
def test_a_batch_is_refused_by_path(fields: dict[str, Any], printed: str) -> None:
    values = {"name": "b", "spaces": ("default",), "methods": (Method(name="m"),), "seeds": (0,)} | fields
    with pytest.raises(ConfigError, match=re.escape(printed)):
        validated(Batch, values, where="batch")


def test_an_option_of_a_batch_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"options: workers_per_trial: Input should be .* \(given: 1e\+30\)"
    ):
        validated(SweepOptions, {"workers_per_trial": 1e30}, where="options")


LAUGHS: list[Any] = []
for _ in range(15):
    LAUGHS = [LAUGHS] * 10


@pytest.mark.parametrize(
    "value",
    [10**5000, [10**5000], "x" * 10**6, LAUGHS, dict.fromkeys(range(10**5), "x" * 10**5)],
    ids=["int", "list", "text", "laughs", "dict"],
)
def test_a_value_of_any_size_is_shown_in_a_line(value: object) -> None:
    assert len(shown(value)) < 250
    with pytest.raises(ConfigError) as caught:
        validated(SweepOptions, {"trials": value}, where="options")
    assert len(str(caught.value)) < 400


# ---- files that end the process ----------------------------------------------------------------------------

ENDINGS = {
    "sys.exit": "import sys\nsys.exit(0)",
    "SystemExit": "raise SystemExit",
    "exit": "exit()",
    "GeneratorExit": "raise GeneratorExit('all done')",
    "of its own": "class Stop(BaseException): pass\nraise Stop('now')",
    "when it is asked": "import sys\ndef __getattr__(name): sys.exit(0)",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("option", ["--space", "batch", "--plugin"])
def test_a_file_that_ends_the_process_is_wrong_input(
    says: Callable[..., str], tmp_path: Path, ending: str, option: str
) -> None:
    (tmp_path / "ending.py").write_text(ENDINGS[ending])
    command = ("batch", "ending.py") if option == "batch" else ("config", option, "ending.py")
    printed = says(*command)
    assert "ending.py: " in printed and re.search("SystemExit|GeneratorExit|Stop", printed)
    assert "raydistill_plugin_ending" not in {*sys.modules, *plugins.LOADED}


def test_whatever_a_command_runs_cannot_end_it_well(
    says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example the function of a plug-in that finds its data."""
    from raydistill.commands import evaluate

    monkeypatch.setattr(evaluate, "run", lambda options: sys.exit(0))
    assert "SystemExit 0: a plug-in, a search space or a batch file ended the command" in says(
        "evaluate", "x"
    )


# ---- the page ----------------------------------------------------------------------------------------------


def test_the_page_says_the_limits_that_there_are() -> None:
    text = (ROOT / "docs/explanation/limits.md").read_text()
    for number in (
        f"{reading.MOST_BYTES // 2**30} GiB",
        f"{reading.MOST_TEXT_BYTES // 2**20} MiB",
        f"{picture_files.MOST_PIXELS:,} pixels",
        f"{picture_files.MOST_PIXELS_OF_A_SIDE:,}",
        f"{MOST_CLASSES:,}",
        f"{bounds.LARGEST_SIDE}",
        f"{bounds.MOST_PARAMETERS} parameters",
        f"{bounds.MOST_OPTIONS:,} options",
        f"{batch._MOST_SWEEPS:,} sweeps",
        ", ".join(picture_files.FORMATS),
    ):
        assert number in text, number
    for name in ("NumPictures", "NumImages", "BatchSize", "NumTrials", "NumWorkers", "Amount", "Cost"):
        (limit,) = (each.le for each in getattr(bounds, name).__metadata__[0].metadata if hasattr(each, "le"))
        assert f"{limit:,.0f}" in text or f"{limit:g}" in text, name
