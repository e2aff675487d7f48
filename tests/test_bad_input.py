"""Bad input at the command line: one line that names it, exit code 2, nothing run, nothing left behind."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import CASES
from safetensors.torch import save_file
from test_export import network
from test_import import Evil, as_resnet, put, shaken

from raydistill.commands.cli import main
from raydistill.config.architectures import PatchDiscriminator
from raydistill.exchange import generator_file
from raydistill.exchange.generator_file import open_generator
from raydistill.models import discriminator
from raydistill.models.saved import save

Run = Callable[..., str]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder; it must end with exit code 2, and leave the folder as it was.
    Returns its one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        monkeypatch.setattr(sys, "argv", ["raydistill", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert ended.value.code == 2 and captured.err.count("\n") == 1 and captured.out == "", captured
        assert captured.err.startswith("raydistill: ")
        after = {
            path: path.stat().st_mtime_ns
            for path in tmp_path.rglob("*")
            if path.is_file() and ".raydistill" not in path.parts
        }
        assert {path: time for path, time in after.items() if "store" not in path.parts} == before
        assert not list(tmp_path.glob("store/sweeps/*"))
        return captured.err.removeprefix("raydistill: ").rstrip("\n")

    return run


# ---- widths and sizes --------------------------------------------------------------------------------------

SMALL = (
    "--store",
    "store",
    "--set",
    "data.num_train=16",
    "--set",
    "data.num_val=4",
    "--set",
    "data.num_test=4",
)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        (
            ["teacher.generator.widths.stem=0"],
            "teacher.generator.widths.stem: Input should be greater than or equal to 1 (given: 0)",
        ),
        (["teacher.generator.widths.stem=-4"], "greater than or equal to 1 (given: -4)"),
        (["teacher.generator.widths.stem=4097"], "less than or equal to 4096 (given: 4097)"),
        (
            ["teacher.generator.widths.stem=8.5"],
            "valid integer, got a number with a fractional part (given: 8.5)",
        ),
        (
            ["teacher.generator.num_blocks=257"],
            "teacher.generator.num_blocks: Input should be less than or equal to 256",
        ),
        (["teacher.generator.family=sagan"], "teacher.generator.family: there is no 'sagan'. Known: resnet"),
        (["data.height=30"], "data.height is 30. Allowed: multiples of 4. The nearest are 28 and 32"),
        (
            ["data.height=4", "data.width=4"],
            "resnet needs heights and widths divisible by 4, 8 or more, given 8 channels of 4x4",
        ),
        (
            ["teacher.generator.family=unet", "teacher.generator.num_levels=6"],
            "unet needs heights and widths divisible by 64 (2 ** num_",
        ),
        (
            ["student.init=teacher", "teacher.generator.widths.stem=2"],
            "widths.stem: 8, but the teacher it starts from has 2; give at",
        ),
        (
            ["student.init=teacher", "teacher.generator.family=unet", "teacher.generator.num_levels=4"],
            "'resnet', but the teacher",
        ),
        (["student.batch_size=15"], "student.batch_size: 15 is not divisible by the recheck's workers: 2"),
    ],
)
def test_a_width_or_a_size_that_cannot_be_ends_a_sweep_before_any_cost(
    given: list[str], part: str, says: Run
) -> None:
    assert part in says("sweep", *SMALL, *(text for value in given for text in ("--set", value)))


def test_a_search_space_with_a_width_of_zero_is_refused(says: Run, tmp_path: Path) -> None:
    (tmp_path / "zero.py").write_text(
        "from raydistill.space import Int, Objective, SearchSpace\n"
        "SPACE = SearchSpace(preset='shapes32', parameters={'student.generator.widths.stem': Int(low=0, "
        "high=4)}, uniform=(4,),\n"
        "    objectives=(Objective(name='val/miou', direction='max', reference=0.0), "
        "Objective(name='cost/macs', direction='min')))\n"
    )
    assert "student.generator.widths.stem: Input should be greater than or equal to 1 (given: 0)" in says(
        "sweep", "--space", "zero.py", *SMALL
    )


# ---- files -------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_imported_is_named(says: Run, tmp_path: Path) -> None:
    state = as_resnet(shaken(CASES["resnet"]).state_dict())
    good = put(tmp_path / "good.pth", state).read_bytes()
    marker = tmp_path / "marker"
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "short.pth").write_bytes(good[: len(good) // 2])
    (tmp_path / "short.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    put(
        tmp_path / "critic.pth",
        {
            f"model.{name}": value
            for name, value in discriminator(PatchDiscriminator(width=4), 6).state_dict().items()
        },
    )
    put(tmp_path / "hostile.pth", state | {"model.99.weight": Evil(marker)})
    (tmp_path / "hostile.pkl").write_bytes(
        pickle.dumps({"G_ema": Evil(marker), "note": "torch_utils.persistence"})
    )
    for name, part in {
        "absent.pth": "there is no such file",
        "empty.pth": "the file is empty",
        "short.pth": "not a whole PyTorch file",
        "short.safetensors": "not a whole safetensors file",
        "critic.pth": "this is a discriminator (PatchGAN); give the file of its generator",
        "hostile.pth": "refused, nothing was run: it asks for",
        "hostile.pkl": "refused, nothing was run: the pickle asks for",
    }.items():
        assert part in (line := says("teacher", "import", name)) and line.startswith(name), line
    line = says("teacher", "import", "good.pth", "--size", "18x18")
    assert line.startswith("good.pth: resnet needs heights and widths divisible by 4"), line
    assert not marker.exists()


def exported(folder: Path) -> Path:
    """A generator's exported safetensors file and, beside it, the ways in which it can be broken."""
    found = open_generator(network(CASES["enhance"], folder / "net"), (16, 16))
    metadata, state = (
        generator_file.metadata_of(found),
        {name: value.clone() for name, value in found.module.state_dict().items()},
    )
    save_file(state, folder / "whole.safetensors", metadata)
    content = (folder / "whole.safetensors").read_bytes()
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "short.safetensors").write_bytes(content[:-100])
    (folder / "huge.safetensors").write_bytes(b"\xff" * 8 + content[8:])
    (folder / "hostile.safetensors").write_bytes(pickle.dumps(Evil(folder / "marker")))
    save_file(state, folder / "foreign.safetensors")
    save_file({name: value + 1 for name, value in state.items()}, folder / "changed.safetensors", metadata)
    for name, config in {
        "list": "[1, 2]",
        "text": "{",
        "family": '{"family": "none"}',
        "blocks": '{"family": "enhance", "num_blocks": 1000000000}',
    }.items():
        save_file(state, folder / f"{name}.safetensors", metadata | {"config": config})
    save_file(
        state, folder / "other.safetensors", metadata | {"config": CASES["resnet"].config.model_dump_json()}
    )
    return folder


@pytest.mark.parametrize("command", ["export", "latency"])
def test_an_exported_file_that_cannot_be_used_is_named(command: str, says: Run, tmp_path: Path) -> None:
    exported(tmp_path)
    for name, part in {
        "absent": "not a whole exported file",
        "empty": "not a whole exported file",
        "short": "not a whole exported file",
        "huge": "not a whole exported file",
        "hostile": "not a whole exported file",
        "foreign": "not a file that `raydistill export --format safetensors` wrote; use raydistill teacher "
        "import",
        "changed": "the weights are not the ones written (digest differs)",
        "list": "a generator of family None. Known: resnet",
        "text": "not a whole exported file",
        "family": "a generator of family 'none'. Known: resnet",
        "blocks": "num_blocks: Input should be less than or equal to 256 (given: 1000000000)",
        "other": "the weights are not the ones written (digest differs)",
    }.items():
        line = says(command, f"{name}.safetensors", "--size", "16x16")
        assert part in line and line.startswith(f"{name}.safetensors"), line
    assert not (tmp_path / "marker").exists()


def broken_network(folder: Path, **meta: Any) -> None:
    """A network's folder whose meta.json has other values; None: without it."""
    network(CASES["enhance"], folder)
    found = json.loads((folder / "meta.json").read_text()) | meta
    (folder / "meta.json").write_text(
        json.dumps({name: value for name, value in found.items() if value is not None})
    )


@pytest.mark.parametrize("command", ["export", "latency"])
def test_a_folder_that_cannot_be_used_is_named(command: str, says: Run, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for name in ("short", "lost", "text", "list", "trial"):
        network(CASES["enhance"], tmp_path / name)
    content = (tmp_path / "short/weights.safetensors").read_bytes()
    (tmp_path / "short/weights.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "lost/weights.safetensors").unlink()
    (tmp_path / "text/meta.json").write_text("{")
    (tmp_path / "list/meta.json").write_text("[]")
    (tmp_path / "trial/trial.json").write_text("[]")
    save(
        tmp_path / "critic",
        "discriminator",
        discriminator(PatchDiscriminator(width=4), 6),
        PatchDiscriminator(width=4),
    )
    broken_network(tmp_path / "version", version=99)
    broken_network(tmp_path / "kind", kind=None)
    broken_network(tmp_path / "family", config={"family": "none"})
    broken_network(tmp_path / "config", config=3)
    broken_network(tmp_path / "other", config=CASES["resnet"].config.model_dump(mode="json"))
    put(tmp_path / "hostile.pth", Evil(tmp_path / "marker"))
    for name, part in {
        "absent": "no generator here. Give the folder of a trial",
        "nothing": "no generator here. Give the folder of a trial",
        "hostile.pth": "no generator here. Give the folder of a trial",
        "short": "the weights are not the ones written (digest differs)",
        "lost": "weights.safetensors is missing",
        "text": "not a readable network folder",
        "list": "version None, this raydistill reads 1",
        "trial": "not the trial of a network that this raydistill reads",
        "critic": "this network is a discriminator, needed is a generator",
        "version": "version 99, this raydistill reads 1",
        "kind": "lacks kind; it is no network that raydistill wrote",
        "family": "a generator of family 'none'. Known: resnet",
        "config": "a generator of family None. Known: resnet",
        "other": "the weights are not those of its config",
    }.items():
        line = says(command, name, "--size", "16x16")
        assert part in line and line.startswith(name), line
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("command", ["export", "latency"])
def test_a_size_that_a_generator_cannot_take_is_named(command: str, says: Run, tmp_path: Path) -> None:
    network(CASES["unet"], tmp_path / "unet")
    network(CASES["sagan"], tmp_path / "sagan")
    assert "unet needs heights and widths divisible by 16 (2 ** num_levels)" in says(
        command, "unet", "--size", "24x32"
    )
    assert "sagan needs pictures of 64x64" in says(command, "sagan", "--size", "32x32")
    for size in ("0x0", "16x0", "16", "-16x16", "99999x16", "axb"):
        assert f"--size {size}: give it as HEIGHTxWIDTH, each 1 to 8192" in says(
            command, "unet", "--size", size
        )
