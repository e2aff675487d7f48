"""What docs/how-to/plug-ins.md prints runs as printed, from an empty folder; and plug-ins that cannot be used
are refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Stages, numbers, quiet
from cookbook import FILES, forgotten_after, written
from safetensors.torch import save_file

from raydistill import plugins
from raydistill.commands.cli import main
from raydistill.config.base import canonical
from raydistill.config.experiment import Experiment, Job
from raydistill.config.paths import validated, with_values
from raydistill.config.presets import shapes32
from raydistill.config.sweep_options import SweepOptions
from raydistill.config.training import DistillTraining, EnhanceTraining
from raydistill.config.variants import PLUGIN_DIGESTS
from raydistill.data import load_split, prepare, read_info
from raydistill.errors import ConfigError, DataError, StoreError
from raydistill.evaluation.extractors import load_extractor, sha256_of
from raydistill.models import cost
from raydistill.planning import rehearsal
from raydistill.planning.checks import check
from raydistill.planning.scorer_memory import scorer_memory
from raydistill.planning.scorers import given_files
from raydistill.records import store
from raydistill.records.trials import read_trials
from raydistill.training import bases, recipes

PLUGINS = (
    "plain.py",
    "laplace.py",
    "edges.py",
    "alignment.py",
    "lsgan.py",
    "dots.py",
    "nearest.py",
    "means.py",
)
WITH_PYTHON = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    with forgotten_after():
        yield


def shell(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Runs lines of the page in `folder`, where `raydistill` is this tree's."""
    root = Path(__file__).parent.parent
    lines = f'raydistill() {{ "{sys.executable}" -m raydistill "$@"; }}\nset -e\n{text}'
    environment = WITH_PYTHON | {"PYTHONPATH": str(root)}
    return subprocess.run(["bash", "-c", lines], cwd=folder, capture_output=True, text=True, env=environment)


# ---- the page ----------------------------------------------------------------------------------------------


def test_every_recipe_of_the_page_has_fewer_than_40_lines_of_code() -> None:
    assert set(FILES) == {*PLUGINS, "weights.py", "plain_space.py", "tiny.sh"}
    lines = {name: sum(bool(line.strip()) for line in text.splitlines()[1:]) for name, text in FILES.items()}
    assert {name: number for name, number in lines.items() if number >= 40} == {}


def test_the_first_command_of_the_page_checks_everything_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, with the words that a shell makes of the page; the slow test runs it in processes."""
    written(tmp_path, *FILES)
    lines = ["raydistill() { printf '%s\\n' raydistill \"$@\"; }"]
    lines += [
        line
        for line in FILES["tiny.sh"].splitlines()
        if not line.startswith("raydistill") or "--plan" in line
    ]
    words = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env=WITH_PYTHON,
    ).stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words.splitlines())
    with pytest.raises(SystemExit) as exit_info:
        main()
    printed = capsys.readouterr()
    assert not exit_info.value.code and not printed.err, printed.err
    for part in ("train 64, val 8, test 8", "plan: 2 searched trials; 2 baselines", "nothing was trained"):
        assert part in printed.out


@pytest.mark.slow
def test_the_page_runs_as_printed_and_a_resume_needs_the_same_text(tmp_path: Path) -> None:
    written(tmp_path, *FILES)
    done = shell(tmp_path, FILES["tiny.sh"])
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "runs/sweeps/tiny"
    trials = read_trials(sweep)
    searched = [trial for trial in trials if trial.role == "search"]
    assert {trial.result.status for trial in trials} == {"COMPLETE"} and len(searched) == 2
    assert all("train/laplace_nll" in trial.result.metrics for trial in searched)
    assert {trial.job_json["training"]["generator"]["family"] for trial in trials} == {"plain"}
    assert (tmp_path / "0001.safetensors").is_file()
    recorded = store.read_sweep(sweep)["plugins"]
    assert list(recorded) == ["plain.py", "laplace.py", "dots.py", "nearest.py", "means.py"]
    assert all("val/fd_means" in trial.result.metrics for trial in trials)
    assert recorded["plain.py"]["files"] == {"raydistill_plugin_plain": FILES["plain.py"]}
    lines = "\n".join(line for line in FILES["tiny.sh"].splitlines() if "=" in line.partition(" ")[0])
    again = "raydistill sweep --space plain_space.py $OURS $KINDS $SMALL $SCORES --name tiny --resume"
    assert shell(tmp_path, f"{lines}\n{again}").returncode == 0
    (tmp_path / "plain.py").write_text(FILES["plain.py"].replace("nn.Tanh()", "nn.Hardtanh()"))
    refused = shell(tmp_path, f"{lines}\n{again}")
    assert refused.returncode == 2 and "the plug-in plain.py has changed since: line 29" in refused.stderr, (
        refused.stderr
    )
    retrain = shell(tmp_path, f"{lines}\nraydistill retrain runs/sweeps/tiny --trial 2 --nimg 96")
    assert (
        retrain.returncode == 2 and "was started with the plug-in plain.py; add --plugin" in retrain.stderr
    ), retrain.stderr


def test_the_recipe_of_the_page_trains_a_teacher_whose_memory_is_that_of_its_phases(
    stages: Stages, tmp_path: Path
) -> None:
    plugins.load(written(tmp_path, "lsgan.py"))
    pix2pix = stages.teacher_job().training.model_dump()
    given = {name: pix2pix[name] for name in pix2pix if name not in ("recipe", "l1_weight", "gan_weight")}
    job = Job(
        training=given | {"recipe": "lsgan", "budget_nimg": 96, "report_every_nimg": 48},
        data=stages.data,
        evaluator=stages.evaluator,
    )
    last = numbers(quiet(job, tmp_path / "run"))[-1]
    assert {"train/discriminator_loss", "train/gan_loss", "val/miou"} <= set(last)
    names = {path.stem for path in (tmp_path / "run").glob("checkpoint-*/*.safetensors")}
    assert names == {"generator", "discriminator", "average"}
    info = load_split(stages.data, "train").info
    own = rehearsal.minibatch(job.training, info, 4)  # type: ignore[arg-type]
    modules = recipes.kind_of(job.training).networks(job.training, info)
    assert own.beside.learning == cost.module_params(modules["discriminator"])
    regression = rehearsal.minibatch(enhance_like(job), info, 4)
    assert len(own.history) > 1.5 * len(regression.history)


def enhance_like(job: Job) -> EnhanceTraining:
    """The same generator, trained by a regression."""
    given = job.training.model_dump()
    names = set(EnhanceTraining.model_fields) & set(given) - {"recipe"}
    return EnhanceTraining(**{name: given[name] for name in names})


@pytest.mark.parametrize("kind", ["laplace", "edges"])
def test_a_loss_of_the_page_trains_a_student(kind: str, stages: Stages, tmp_path: Path) -> None:
    plugins.load(written(tmp_path, f"{kind}.py"))
    job = stages.student_job(
        mi__kind=kind, budget_nimg=96, report_every_nimg=48, optimizer__learning_rate=2e-3
    )
    first, last = numbers(quiet(job, tmp_path / "run"))
    assert last["train/l1"] < first["train/l1"] and ("train/laplace_nll" in last) == (kind == "laplace")
    names = {path.stem for path in (tmp_path / "run").glob("checkpoint-*/*.safetensors")}
    assert names == {"generator", "average"} | ({"mi.scale"} if kind == "laplace" else set())


def test_the_base_of_the_page_aligns_the_students_activations_and_refuses_one_picture(
    stages: Stages, tmp_path: Path
) -> None:
    """The alignment is the cosine of two matrices of inner products, here by loops."""
    plugins.load(written(tmp_path, "alignment.py"))
    module = sys.modules["raydistill_plugin_alignment"]
    own, other = torch.rand(3, 2, 2, 2), torch.rand(3, 5, 2, 2)
    products = []
    for each in (own.flatten(1).double(), other.flatten(1).double()):
        products.append([float((each[i] * each[j]).sum()) for i in range(3) for j in range(3)])
    above = sum(a * b for a, b in zip(*products, strict=True))
    norms = [sum(a * a for a in each) ** 0.5 for each in products]
    assert float(module.cosine(own, other)) == pytest.approx(above / (norms[0] * norms[1]), rel=1e-5)
    assert float(module.cosine(own[:1], other[:1])) == pytest.approx(1)

    job = stages.student_job(
        base__kind="alignment",
        base__taps=["down", "block1"],
        mi__weight=0.0,
        budget_nimg=96,
        report_every_nimg=48,
        optimizer__learning_rate=2e-3,
    )
    first, last = numbers(quiet(job, tmp_path / "run"))
    assert last["train/l1"] < first["train/l1"] and last["train/alignment"] > first["train/alignment"]
    values = ("data.num_train=64", "student.base.kind=alignment", "student.batch_size=1")
    with pytest.raises(ConfigError, match=r"student\.batch_size: 1 "):
        check(SweepOptions(store=str(tmp_path / "store"), set=values))
    training = job.training.model_copy(update={"batch_size": 1})
    with pytest.raises(ConfigError, match="1 picture is aligned with any other; give at least 2"):
        bases.check(training, read_info(stages.data))  # type: ignore[arg-type]


def test_the_data_of_the_page_are_pairs_of_a_label_map_and_a_picture(tmp_path: Path) -> None:
    plugins.load(written(tmp_path, "dots.py"))
    experiment = with_values(shapes32(), {"data.kind": "dots", "data.num_train": 5}, where="test")
    stored = prepare(experiment.data, tmp_path / "cache", recipe="pix2pix")
    info, split = read_info(stored), load_split(stored, "train")
    assert (info.num_classes, info.class_names, len(split)) == (2, ("ground", "dot"), 5)
    assert split.labels is not None and (split.targets[split.labels == 1] == (240, 200, 40)).all()


# ---- what a plug-in changes --------------------------------------------------------------------------------


def test_a_config_with_a_plug_ins_section_reads_back_and_its_digest_has_the_text(
    stages: Stages, tmp_path: Path
) -> None:
    (path,) = written(tmp_path, "plain.py")
    keys = []
    for text in (FILES["plain.py"], FILES["plain.py"] + "\n"):
        Path(path).write_text(text)
        with forgotten_after():
            plugins.load([path])
            changed = with_values(stages.experiment, {"student.generator.family": "plain"}, where="test")
            assert Experiment.model_validate_json(changed.model_dump_json()) == changed
            assert changed.student.generator.widths.first == 16
            keys.append(
                Job(
                    training=changed.student,
                    data=stages.data,
                    evaluator=stages.evaluator,
                    teacher=stages.teacher,
                ).key
            )
            assert stages.student_job().key == stages.student_job().key and PLUGIN_DIGESTS
    assert keys[0] != keys[1]


def test_another_process_takes_in_the_text_and_needs_no_file(tmp_path: Path) -> None:
    plugins.load(written(tmp_path, "plain.py"))
    for path in tmp_path.iterdir():
        path.unlink()
    code = (
        "import inspect, sys\nfrom raydistill import plugins, "
        "models\nplugins.load_json(sys.argv[1])\nplugins.load_json(sys.argv[1])\n"
    )
    code += (
        "print(inspect.getsource(models.GENERATORS['plain'].build).splitlines()[0], "
        "list(plugins.LOADED.values())[0].digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, plugins.to_json()], cwd=tmp_path, capture_output=True, text=True
    )
    digest = next(iter(plugins.LOADED.values())).digest
    assert done.stdout == f"def build(config: PlainGenerator, in_channels: int) -> nn.Module: {digest}\n", (
        done.stderr
    )


def test_of_a_module_the_package_around_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ourpackage"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("")
    (package / "network.py").write_text(FILES["plain.py"])
    (package / "inner" / "added.py").write_text("from ..network import GENERATORS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load(["ourpackage.inner.added"])
    ((module, sources),) = json.loads(plugins.to_json())
    assert module == "ourpackage.inner.added" and list(plugins.sweep_record()) == [module]
    assert set(sources) == {"ourpackage", "ourpackage.inner", "ourpackage.inner.added", "ourpackage.network"}
    assert "plain" in plugins.REGISTRIES["GENERATORS"].entries


def test_a_sweeps_definition_has_the_plug_ins_and_a_changed_one_is_refused_with_the_line(
    tmp_path: Path,
) -> None:
    options = SweepOptions(store=str(tmp_path / "store"), set=("data.num_train=64", "student.batch_size=4"))
    without = check(options).definition
    plugins.load(written(tmp_path, "edges.py"))
    assert check(options).definition != without  # though nothing in the config is the plug-in's
    facts: dict[str, Any] = {"definition": "abc", "plugins": plugins.sweep_record()}
    folder = store.create_sweep(tmp_path / "store", "one", "default", facts)
    assert store.find_sweep(tmp_path / "store", None, "abc", plugins.sweep_record()) == folder
    changed = json.loads(json.dumps(plugins.sweep_record()).replace("dim=3", "dim=2"))
    changed["edges.py"]["digest"] = "other"
    for name in ("one", None):
        with pytest.raises(
            StoreError,
            match=r"the plug-in edges.py has changed since: line 21 of raydistill_plugin_edges was .*dim=3",
        ):
            store.find_sweep(tmp_path / "store", name, "def", changed)
    with pytest.raises(StoreError, match=r"was started with the plug-in edges\.py; add --plugin"):
        store.find_sweep(tmp_path / "store", "one", "abc")
    with pytest.raises(StoreError, match="was started without the plug-in mine; leave that --plugin out"):
        store.require_same_plugins(
            folder, plugins.sweep_record() | {"mine": {"digest": "", "files": {}}}, "here"
        )


def test_a_student_of_a_plug_ins_family_cannot_start_from_its_teacher(tmp_path: Path) -> None:
    plugins.load(written(tmp_path, "plain.py", "dots.py"))
    kinds = (
        "data.kind=dots",
        "teacher.generator.family=plain",
        "student.generator.family=plain",
        "student.init=teacher",
    )
    (space,) = written(tmp_path, "plain_space.py")
    with pytest.raises(
        ConfigError, match="students of the family 'plain' cannot start from their teacher; start at random"
    ):
        check(SweepOptions(store=str(tmp_path / "store"), space=space, set=kinds))


def test_a_scorer_of_a_plug_in_is_known_by_its_file_and_its_text(tmp_path: Path) -> None:
    """Another text gives other numbers, so nothing that was computed by it is taken for the same."""
    (path,) = written(tmp_path, "means.py")
    save_file({"weights": torch.ones(3, 1, 1)}, tmp_path / "weights.safetensors")
    found = []
    for text in (FILES["means.py"], FILES["means.py"] + "\n"):
        Path(path).write_text(text)
        with forgotten_after():
            plugins.load([path])
            options = SweepOptions(extractors=(f"means={tmp_path / 'weights.safetensors'}",))
            (file,) = given_files(options)
            digest = next(iter(plugins.LOADED.values())).digest
            assert file.plugin == digest and '"plugin"' in json.dumps(canonical(file))
            memory = scorer_memory((file,), 16, 16, 8)
            assert memory.resting == 12 and memory.live > 8 * 3 * 32 * 32 * 4
            found.append(load_extractor(options.extractors[0], torch.device("cpu")).sha256)
    assert len({*found, sha256_of(tmp_path / "weights.safetensors")}) == 3
    with pytest.raises(DataError, match=r"--extractor means=.*: give it as KIND=FILE\. Allowed kinds: incep"):
        given_files(options)


# ---- what is refused ---------------------------------------------------------------------------------------

BROKEN = FILES["plain.py"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "x = 1\n",
            r"it defines none of GENERATORS, .*, SAMPLERS; see docs/how-to/plug-ins\.md",
        ),
        ("x = \n", r"SyntaxError: .* \(line 1 of .*bad.py\)"),
        (
            "import nothing_of_that_name\n",
            r"ModuleNotFoundError: No module named 'nothing_of_that_name' \(line 1 of .*bad.py\)",
        ),
        ("\nraise SystemError('no')\n", r"SystemError: no \(line 2 of .*bad.py\)"),
        ("GENERATORS = 3\n", "GENERATORS must be a dictionary of name -> Family"),
        ("TERMS = {'a': 3}\n", r"TERMS\['a'\]: must be a TermKind, found int"),
        (
            "from raydistill.data import *\nDATA = {'a': DataKind(int, None)}\n",
            r"DATA\['a'\].config: must be a subclass of DataSet",
        ),
        ("EXTRACTORS = {'a': len}\n", r"EXTRACTORS\['a'\]: must be a ExtractorKind, found builtin"),
        ("SAMPLERS = {'a': 3}\n", r"SAMPLERS\['a'\]: must be a function, found int"),
        ("SAMPLERS = {'a b': lambda *given: []}\n", r"SAMPLERS\['a b'\]: a name of letters, digits"),
        ("SAMPLERS = {'tpe': lambda *given: []}\n", r"SAMPLERS\['tpe'\]: there is a 'tpe' already"),
        (
            BROKEN.replace('{"plain": Family', '{"fancy": Family'),
            r"GENERATORS\['fancy'\].config: its field family must be 'fancy'",
        ),
        (
            BROKEN.replace('"plain"', '"resnet"'),
            r"GENERATORS\['resnet'\]: there is a 'resnet' already; choose another name",
        ),
    ],
)
def test_a_file_that_adds_nothing_usable_is_refused_and_nothing_of_it_stays(
    text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(text)
    known = {name: set(registry.entries) for name, registry in plugins.REGISTRIES.items()}
    with pytest.raises(ConfigError, match=says) as error:
        plugins.load([str(tmp_path / "bad.py")])
    assert str(error.value).startswith("--plugin bad.py: ")
    assert {
        name: set(registry.entries) for name, registry in plugins.REGISTRIES.items()
    } == known and not plugins.LOADED
    assert "raydistill_plugin_bad" not in sys.modules


def test_what_is_no_plug_in_at_all_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-b.py").write_text("")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe")
    for given, says in {
        str(tmp_path / "none.py"): "no such file; give a .py file",
        str(tmp_path): "no such file; give a .py file",
        str(tmp_path / "a-b.py"): "letters, digits and '_'; rename it",
        str(tmp_path / "binary.py"): "cannot be read",
        "nothing_of_that_name": "there is no module 'nothing_of_that_name' to import",
        "": "there is no module '' to import",
        "torch.nn": "torch is a part of what runs already",
    }.items():
        with pytest.raises(ConfigError) as error:
            plugins.load([given])
        assert says in str(error.value) and str(error.value).startswith(f"--plugin {given}: ")


def test_another_text_under_the_same_name_is_refused(tmp_path: Path) -> None:
    (path,) = written(tmp_path, "plain.py")
    plugins.load([path])
    plugins.load([path])
    Path(path).write_text(FILES["plain.py"] + "\n")
    with pytest.raises(ConfigError, match=r"another file of that name is loaded"):
        plugins.load([path])


def test_a_config_that_names_what_a_plug_in_would_add_says_so(stages: Stages) -> None:
    with pytest.raises(
        ConfigError, match=r"there is no 'plain'. Known: resnet, .* One of a plug-in needs --plugin"
    ):
        with_values(stages.experiment, {"student.generator.family": "plain"}, where="--set")
    values = stages.student_job().training.model_dump(mode="json")
    with pytest.raises(
        ConfigError, match=r"terms.mi: kind is one of vem, vid, critic; that of a plug-in needs its --plugin"
    ):
        validated(
            DistillTraining,
            values | {"terms": {"mi": values["terms"]["mi"] | {"kind": "laplace"}}},
            where="here",
        )
