"""Wrong input ends in one clear message and exit code 2, before any cost: no Ray, no training.

In this process. A process of its own that ends so: `sweep.py` in tests/test_wheel.py.
"""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import raydistill
from raydistill.commands import cli
from raydistill.commands.cli import main
from raydistill.commands.cli.options import declared, options_from
from raydistill.commands.reference import command_line
from raydistill.config.sweep_options import SweepOptions
from raydistill.planning.checks import check

FEW = ("--set", "data.num_train=48", "--set", "data.num_val=16", "--set", "data.num_test=16")
"""Where pictures are drawn before what is wrong is found."""


@pytest.fixture
def fails(capsys, monkeypatch, tmp_path):
    """Runs a command line in an empty folder; returns what it wrote to stderr.

    It must end with `code` and never start Ray.
    """
    monkeypatch.chdir(tmp_path)

    def never(**options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("raydistill.cluster.runtime.start_ray", never)

    def run(*arguments: str, code: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert exit_info.value.code == code
        return capsys.readouterr().err

    return run


def labelled_folder(root: Path, count: int = 12) -> Path:
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng(index)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(
                root / split / "images" / f"{index}.png"
            )
            Image.fromarray(rng.integers(0, 3, (8, 8), np.uint8)).save(
                root / split / "labels" / f"{index}.png"
            )
    return root


def test_an_unknown_option_is_named(fails):
    assert "--trails" in fails("sweep", "--trails", "3")


def test_an_unknown_config_path_names_the_nearest(fails):
    text = fails("sweep", "--set", "student.terms.mi.wieght=0.1")
    assert "'student.terms.mi.wieght'" in text and "'student.terms.mi.weight'" in text


def test_a_wrong_value_names_path_and_value(fails):
    text = fails("sweep", "--set", "student.base.l1_weight=-1")
    assert "student.base.l1_weight" in text and "-1" in text


def test_setting_what_is_searched_or_the_seed_is_refused(fails):
    assert "it is searched" in fails("sweep", "--set", "student.terms.mi.weight=0.1")
    assert "give --seed" in fails("sweep", "--set", "student.seed=7")


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (
            ("--teacher-workers", "3"),
            "evaluator.batch_size: 16 is not divisible by --teacher-workers 3; use a multiple of 3, for "
            "example --set evaluator.batch_size=15",
        ),
        (("--workers-per-trial", "3"), "student.batch_size: 16 is not divisible by --workers-per-trial 3"),
        (("--executor", "inline", "--workers-per-trial", "2"), "--executor inline runs one worker a trial"),
        (("--gpus-per-worker", "1.5"), "--gpus-per-worker 1.5: give a whole number, or a share of one GPU"),
        (("--cpus-per-worker", "0"), "cpus_per_worker"),
        (
            ("--set", "student.batch_size=15"),
            "student.batch_size: 15 is not divisible by the recheck's workers: 2",
        ),
    ],
)
def test_workers_that_cannot_share_the_work_are_refused(fails, options, printed):
    assert printed in fails("sweep", *options)


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (
            ("student.execution.sharding=fsdp",),
            "student.execution.sharding: fsdp splits a network over the workers of a TorchTrainer; use",
        ),
        (
            ("student.execution.sharding=ddp",),
            "student.execution.sharding: Input should be 'data_parallel' or 'fsdp' (given: 'ddp')",
        ),
        (
            ("student.precision=float16",),
            "student.precision: Input should be 'float32' or 'bfloat16' (given: 'float16')",
        ),
        (("student.execution.microbatch=0",), "student.execution.microbatch: Input should be greater than 0"),
        (
            ("teacher.generator.norm=batch", "teacher.execution.microbatch=4"),
            "teacher.execution.microbatch: with batch norm (teacher.generator.norm) it would change the "
            "batch statistics; leave it out",
        ),
        (
            ("student.generator.norm=batch", "student.execution.activation_checkpointing=true"),
            "student.execution.activation_checkpointing: with batch norm (student.generator.norm) it would "
            "change",
        ),
    ],
)
def test_a_way_to_carry_out_a_training_that_cannot_be_followed_is_refused(fails, options, printed):
    assert printed in fails("sweep", *FEW, *(text for option in options for text in ("--set", option)))


def test_an_unknown_space_names_the_known_ones(fails):
    text = fails("sweep", "--space", "defualt")
    assert "camvid" in text and "'default'" in text


def test_a_typo_in_a_space_names_path_and_nearest(fails, tmp_path):
    source = (Path(__file__).parent.parent / "search_spaces/default.py").read_text()
    (tmp_path / "mine.py").write_text(
        source.replace("student.generator.widths.trunk", "student.generator.width.trunk")
    )
    text = fails("sweep", "--space", "mine.py")
    assert "student.generator.width.trunk" in text and "student.generator.widths.trunk" in text


def test_zero_trials_are_refused(fails):
    assert "--trials 0" in fails("sweep", "--trials", "0")


def test_a_budget_that_nothing_meets_says_what_is_reachable(fails):
    text = fails("sweep", *FEW, "--max-macs", "1000")
    assert "cost/macs of at most 1,000: nothing fits. Reachable: 1,398,784 to 9,134,080." in text


def test_a_missing_folder_is_named(fails):
    assert "nowhere" in fails("sweep", "--space", "camvid", "--data", "nowhere")


def test_an_empty_folder_is_named(fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in fails("sweep", "--space", "camvid", "--data", "empty")


def test_a_space_that_needs_data_says_so(fails):
    assert "--data" in fails("sweep", "--space", "camvid")


def test_data_for_a_space_that_draws_its_own_is_refused(fails):
    assert "--space camvid" in fails("sweep", "--data", "somewhere")


def test_an_image_without_its_label_is_named(fails, tmp_path):
    root = labelled_folder(tmp_path / "data")
    (root / "train/labels/3.png").unlink()
    assert "train/images/3.png" in fails("sweep", "--space", "camvid", "--data", str(root))


def test_label_ids_outside_the_classes_are_named(fails, tmp_path):
    root = labelled_folder(tmp_path / "data")
    (root / "classes.json").write_text('{"classes": ["a", "b"]}')
    text = fails("sweep", "--space", "camvid", "--data", str(root))
    assert "label id 2" in text and "0 to 1" in text


def test_an_unreadable_image_is_named(fails, tmp_path):
    root = labelled_folder(tmp_path / "data")
    (root / "val/images/4.png").write_bytes(b"not a picture")
    assert "val/images/4.png" in fails("sweep", "--space", "camvid", "--data", str(root))


def test_an_unwritable_store_is_named(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/runs" in fails("sweep", "--store", "file/runs")


def test_another_kind_of_store_is_refused_and_no_folder_of_that_name_made(fails, tmp_path):
    assert "give a folder, or s3://bucket/prefix" in fails("sweep", "--store", "gs://bucket/runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # of every run: a store that cannot be written, above, and a process in tests/test_wheel.py
def test_a_read_only_results_folder_is_named(tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/store.json").write_text('{"store_version": 1}')
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,ro,bind {tmp_path}"
    sweep = f"{mount} && exec {sys.executable} -m raydistill sweep --store {tmp_path}/runs"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", sweep], capture_output=True, text=True, timeout=100)
    assert (
        done.returncode == 2
        and "Read-only file system" in done.stderr
        and f"--store {tmp_path}/runs" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_store_of_another_version_is_named(fails, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/store.json").write_text('{"store_version": 99}')
    assert "version 99" in fails("sweep", "--store", "runs")


def test_a_folder_that_is_no_store_is_left_alone(fails, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("dear")
    assert "not a raydistill store" in fails("sweep", "--store", "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_resume_without_a_sweep_says_so(fails):
    assert "no sweep" in fails("sweep", *FEW, "--resume")


@pytest.mark.parametrize("uri", ["nowhere", "htp://127.0.0.1:5000", "http//127.0.0.1", "http://[::1"])
def test_what_is_no_address_of_a_tracking_store_is_named_before_anything_is_prepared(fails, monkeypatch, uri):
    monkeypatch.setattr("raydistill.sweep.run.check", lambda options: pytest.fail("something was prepared"))
    assert f"--mlflow {uri}: " in fails("sweep", "--mlflow", uri)


def test_an_objective_that_needs_labels_is_refused_without_them(fails, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for index in range(20):
        Image.fromarray(np.full((8, 16, 3), index, np.uint8)).save(folder / f"{index}.png")
    assert "needs labels" in fails(
        "sweep",
        "--space",
        "aligned",
        "--data",
        str(folder),
        "--objective",
        "val/miou:max:0",
        "--objective",
        "cost/macs:min",
    )


def test_a_malformed_objective_shows_the_form(fails):
    assert "name:min" in fails("sweep", "--objective", "val/miou")


def test_config_prints_every_path_and_what_is_searched(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["raydistill", "config"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("student.terms.mi.weight = 0.1    searched: Choice") for line in lines)


# ---- what `config` prints, given back ----------------------------------------------------------------------


@pytest.fixture
def printed(capsys, monkeypatch, tmp_path):
    """Runs `raydistill config` in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["raydistill", "config", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert exit_info.value.code == 0
        return str(capsys.readouterr().out)

    return run


def on_file(tmp_path: Path, text: str) -> SweepOptions:
    (tmp_path / "mine.txt").write_text(text)
    return SweepOptions(config=str(tmp_path / "mine.txt"), store=str(tmp_path / "runs"), set=SMALL)


SMALL = tuple(word for word in FEW if word != "--set")
SPACES = sorted(path.stem for path in (Path(__file__).parent.parent / "search_spaces").glob("[a-z]*.py"))
CHANGES = {
    "nothing": (),
    "a term": ("--set", "student.terms.mi=recommended"),
    "a value that is searched": ("--set", "student.terms.mi.weight=7"),
    "None and a tuple": (
        "--set",
        "student.execution.microbatch=4",
        "--set",
        "student.optimizer.betas=[0.1,0.2]",
    ),
    "a text that looks like the end of a value": ("--set", "data.root=a    searched: 'b = c"),
}


@pytest.mark.parametrize(
    ("space", "changes"),
    [*((space, "nothing") for space in SPACES), *(("camvid", changes) for changes in CHANGES)],
)
def test_what_config_prints_can_be_given_back(space, changes, printed, tmp_path):
    text = printed("--space", space, *CHANGES[changes])
    (tmp_path / "mine.txt").write_text(text)
    # what a whole term leaves to be searched is said by --set alone
    again = CHANGES[changes] if changes == "a term" else ()
    assert printed("--space", space, "--config", "mine.txt", *again) == text
    assert changes == "nothing" or text != printed("--space", space)


def test_a_sweep_of_what_config_prints_is_the_sweep_without_it(printed, tmp_path):
    without = check(SweepOptions(store=str(tmp_path / "runs"), set=SMALL))
    whole = check(on_file(tmp_path, printed()))
    assert (whole.experiment, whole.space, whole.definition) == (
        without.experiment,
        without.space,
        without.definition,
    )


def test_a_value_in_the_file_is_the_same_value_by_set_and_the_options_overrule_it(printed, tmp_path):
    text = printed().replace("student.base.l1_weight = 10.0\n", "# mine\n\nstudent.base.l1_weight = 3\n")
    text = text.replace("student.budget_nimg = 6000", "student.budget_nimg = 8000")
    given = ("student.base.l1_weight=3", "student.budget_nimg=8000")
    options = on_file(tmp_path, text)
    by_file, by_set = (
        check(options),
        check(options.model_copy(update={"config": None, "set": (*SMALL, *given)})),
    )
    assert by_file.definition == by_set.definition and by_file.experiment.student.base.l1_weight == 3
    overruled = options.model_copy(update={"nimg": 4000, "set": (*SMALL, "student.base.l1_weight=5")})
    student = check(overruled).experiment.student
    assert (student.base.l1_weight, student.budget_nimg) == (5, 4000)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "student.l1_wieght = 1",
            "there is no config path 'student.l1_wieght'. The nearest valid path is 'stud",
        ),
        ("student.batch_size = 'many'", "student.batch_size: Input should be a valid integer"),
        (
            "student.base.l1_weight = -1",
            "student.base.l1_weight: Input should be greater than or equal to 0 (given: -1)",
        ),
        (
            "student.terms.mi.kind = 'vme'",
            "student.terms.mi.kind: there is no 'vme'. Known: vem, vid, critic",
        ),
        (
            "student.base.l1_weight",
            "line 1: 'student.base.l1_weight' is not path = value; give a file that `raydistill con",
        ),
        (
            "student.base.l1_weight = ",
            "line 1: student.base.l1_weight: '' is no value; give a number, True, False, None",
        ),
        ("student.base.l1_weight = open('x')", "student.base.l1_weight: \"open('x')\" is no value"),
        ("student.base.l1_weight = 1 2", "student.base.l1_weight: '1 2' is no value"),
        ("student.base.l1_weight = {1}", "student.base.l1_weight: '{1}' is no value"),
        ("student.base.l1_weight = 1e999", "student.base.l1_weight: '1e999' is no value"),
        (f"student.base.l1_weight = {'9' * 5000}", "is no value"),
        (f"student.base.l1_weight = {'(' * 9000}", "is no value"),
        (f"student.base.l1_weight = {'-' * 9000}1", "is no value"),
        ("data.seed = 1\ndata.seed = 2", "line 2: data.seed is given twice; remove one"),
        (
            "student.terms.mi.weight = 0.2",
            "student.terms.mi.weight = 0.2, without the line 0.1: it is searched; narrow it",
        ),
        ("student.seed = 1", "student.seed = 1, without the line 0: give --seed"),
        ("\udcff", "it is no text in UTF-8"),
    ],
)
def test_a_file_that_config_did_not_print_is_refused_before_anything_is_prepared(line, said, fails, tmp_path):
    (tmp_path / "mine.txt").write_text(line, errors="surrogateescape")
    message = fails("sweep", "--config", "mine.txt")
    assert message.startswith("raydistill: --config mine.txt: ") and said in message and len(message) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_of_another_kind_or_size_is_not_read(fails, tmp_path):
    assert "--config nowhere: cannot be read: No such file" in fails("plan", "--config", "nowhere")
    assert "cannot be read: it is a folder, not a regular file" in fails("config", "--config", ".")
    (tmp_path / "large").write_bytes(bytes(2**20 + 1))
    assert "at most 1,048,576 are read" in fails("plan", "--config", "large")


# ---- the page of the command line --------------------------------------------------------------------------


def test_the_page_of_the_command_line_has_every_option_that_the_help_lists():
    sections = dict(part.split("\n", 1) for part in command_line.page().split("\n## raydistill ")[1:])
    assert list(sections) == [command.name for command in cli.COMMANDS]
    for command in cli.COMMANDS:
        text = sections["sweep" if command.name == "plan" else command.name]
        for option in declared(command.options):
            assert option.cli.hidden or f"* `{option.name}" in text
    assert (
        "* `--executor KIND` (one of `auto`, `inline`, `train`; default `auto`): How a" in sections["sweep"]
    )
    assert "--judge" not in command_line.page() and "--plan" not in sections["plan"]


# ---- help, version, old names -----------------------------------------------------------------------------


def click_command(name: str) -> Any:
    """What typer made of a command of `COMMANDS`."""
    command = typer.main.get_command(cli.app)
    for word in name.split():
        command = command.commands[word]
    return command


def help_of(name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", ["raydistill", *name.split(), "--help"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 0
    return str(capsys.readouterr().out)


def run_apart(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "raydistill", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("columns", [80, 100, 140])
@pytest.mark.parametrize("name", ["", "data", *(command.name for command in cli.COMMANDS)])
def test_every_help_fits_the_terminal_and_names_every_option_whole(name, columns, monkeypatch, capsys):
    text = help_of(name, columns, monkeypatch, capsys)
    assert max(map(len, text.splitlines())) <= columns
    for option in click_command(name).params:
        if option.param_type_name == "option" and not option.hidden:
            assert f"{option.opts[-1]} " in text


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_option_says_what_it_does_in_a_sentence(command):
    for option in click_command(command.name).params:
        if not getattr(option, "hidden", False):
            assert option.help.isascii() and option.help.endswith(".") and "[" not in option.help, option.name
            assert option.is_flag if option.metavar == "" else option.metavar, option.name


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_an_example_that_its_options_allow(command, monkeypatch, capsys):
    _, *words = shlex.split(command.example)
    name = command.name.split()
    assert words[: len(name)] == name
    click_command(command.name).make_context(command.name, words[len(name) :])
    shown = help_of(command.name, 80, monkeypatch, capsys).splitlines()
    assert f" {command.example}" in [line.rstrip() for line in shown]  # in one line


def test_the_help_of_plan_says_what_plan_does(monkeypatch, capsys):
    text, of_sweep = (help_of(name, 200, monkeypatch, capsys) for name in ("plan", "sweep"))
    assert "Say what a sweep of the same options will take" in text and "Nothing is trained." in text
    assert "Train evaluator and teacher" in of_sweep and "Train evaluator and teacher" not in text
    assert "--plan " in of_sweep and "--plan " not in text  # understood there, too, but not listed
    assert help_of("", 200, monkeypatch, capsys).count("Train evaluator and teacher") == 1


def test_help_is_grouped_by_panels(monkeypatch, capsys):
    heads = [
        line.split()[1:-1] for line in help_of("sweep", 100, monkeypatch, capsys).splitlines() if "╭─" in line
    ]
    assert [" ".join(words[:-1] if words[-1].startswith("─") else words) for words in heads] == [
        "What is searched",
        "Budget",
        "Student",
        "Teacher and evaluator",
        "What scores beside the evaluator",
        "Where it runs",
        "Results and tracking",
        "Other",
    ]
    text = help_of("", 100, monkeypatch, capsys)
    assert all(f"╭─ {head} ─" in text for head in ("Search", "Data and evaluator", "Networks", "Cluster"))


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_the_defaults_of_the_command_line_are_those_of_the_options(command):
    """What is required is typed as "8", which a path, a name and a number can be."""
    required = [option for option in declared(command.options) if option.info.is_required()]
    words = [word for each in required for word in ([] if each.cli.positional else [each.name]) + ["8"]]
    typed = click_command(command.name).make_context(command.name, words).params
    values = {each.field: ("8",) if each.info.annotation == tuple[str, ...] else "8" for each in required}
    assert options_from(command.options, typed) == command.options(**values)
    hidden = {parameter.name for parameter in click_command(command.name).params if parameter.hidden}
    assert set(typed) - hidden - {"help", "plugin"} | {"plan"} & hidden == set(command.options.model_fields)


def test_version_says_the_version_and_imports_no_torch(tmp_path):
    code = "import sys; from raydistill.commands.cli import main; sys.argv = ['raydistill', '--version']\n"
    code += "try: main()\nfinally: print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"raydistill {raydistill.__version__}\n[]\n",
        "",
    )


def test_config_paths_by_their_old_names_are_understood_and_the_new_ones_said_in_a_line_each(tmp_path):
    paths = {"judge.batch_size": "evaluator.batch_size", "judge.network.width": "evaluator.network.width"}
    done = run_apart("config", *(word for old in paths for word in ("--set", f"{old}=8")), cwd=tmp_path)
    assert done.returncode == 0
    assert {f"{new} = 8" for new in paths.values()} <= set(done.stdout.splitlines())
    assert done.stderr.splitlines() == [
        f"raydistill: {old} is called {new} now; the old name goes with the next release"
        for old, new in paths.items()
    ]


def test_an_objective_by_its_old_name_is_understood_and_the_new_one_said(fails):
    """The sweep ends at what comes after its objectives: there is none to go on with."""
    objectives = ("--objective", "val/kd_judge:min:1", "--objective", "cost/macs:min")
    renamed, message = fails("sweep", *FEW, *objectives, "--resume").splitlines()
    assert renamed == (
        "raydistill: val/kd_judge is called val/kd_evaluator now; the old name goes with the next release"
    )
    assert "no sweep" in message


def test_the_option_judge_is_understood_and_the_new_name_said(fails, tmp_path):
    (tmp_path / "pictures").mkdir()
    for index in range(2):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / "pictures" / f"{index}.png")
    size = ("--set", "data.height=8", "--set", "data.width=8")
    arguments = ("evaluate", "pictures", "--data", "shapes", *size, *FEW, "--judge", "nowhere")
    renamed, message = fails(*arguments, code=1).splitlines()
    assert renamed == "raydistill: --judge is called --evaluator now; the old name goes with the next release"
    assert "nowhere: this network is not here" in message
