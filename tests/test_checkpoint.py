"""Checkpoints of two small networks: what goes to disk and comes back, and which one is the newest."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raydistill.distributed import gather_state
from raydistill.errors import CheckpointError, NoticeWarning
from raydistill.records.trials import Evaluation
from raydistill.training import checkpoint
from raydistill.training.checkpoint import Progress

Parts = tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]


def parts(seed: int, steps: int) -> Parts:
    """Networks with buffers, of which one has taken some steps of Adam."""
    torch.manual_seed(seed)
    networks: dict[str, nn.Module] = {
        "first": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)),
        "second": nn.Linear(2, 2),
    }
    optimizer = torch.optim.Adam(networks["first"].parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        networks["first"](torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return networks, {"first": optimizer}


def saved(folder: Path, nimg: int, given: Parts, history: list[Evaluation] | None = None) -> None:
    checkpoint.save(folder, "job", Progress(nimg, history or []), gather_state(*given))


def point(nimg: int) -> Evaluation:
    return Evaluation(nimg=nimg, wall_sec=nimg / 8, numbers={"val/miou": 0.25})


def test_everything_that_moves_comes_back_into_other_networks(tmp_path: Path) -> None:
    """The next step from there is the same, so moments and step counts are back, too."""
    history = [Evaluation(nimg=8, wall_sec=1.5, numbers={"val/miou": 0.25})]
    ours, theirs = parts(0, steps=3), parts(1, steps=1)
    saved(tmp_path, 8, ours, history)
    assert checkpoint.load(tmp_path, "job", *theirs) == Progress(8, history)
    for name, network in ours[0].items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, theirs[0][name].state_dict()[key])
    x = torch.randn(5, 3)
    for networks, optimizers in (ours, theirs):
        optimizers["first"].zero_grad()
        networks["first"](x).square().sum().backward()
        optimizers["first"].step()
    for mine, other in zip(ours[0]["first"].parameters(), theirs[0]["first"].parameters(), strict=True):
        assert torch.equal(mine, other)


def test_without_a_checkpoint_a_training_begins_at_its_first_image(tmp_path: Path) -> None:
    given = parts(0, steps=0)
    before = given[0]["second"].weight.clone()
    assert checkpoint.load(tmp_path, "job", *given) == Progress(0, []) and checkpoint.newest(tmp_path) is None
    assert torch.equal(given[0]["second"].weight, before) and checkpoint.read_history(tmp_path) == []
    assert checkpoint.newest(tmp_path / "absent") is None


def test_the_last_two_are_kept_whatever_the_number_of_digits(tmp_path: Path) -> None:
    before: list[str] = []
    for nimg in (8, 16, 1000, 99_999, 100_000):
        saved(tmp_path, nimg, parts(0, steps=0), [point(nimg)])
        names = sorted(path.name for path in tmp_path.iterdir())
        assert (
            names == [*before, f"checkpoint-{nimg:012d}"]
            and checkpoint.newest(tmp_path) == tmp_path / names[-1]
        )
        before = names[-1:]
        assert checkpoint.load(tmp_path, "job", *parts(1, steps=0)) == Progress(nimg, [point(nimg)])
        assert checkpoint.read_history(tmp_path) == [point(nimg)]
    saved(tmp_path, 100_000, parts(2, steps=1), [point(5)])
    assert checkpoint.read_history(tmp_path) == [point(5)], "the same image again: written anew"


def test_the_newest_is_the_one_that_has_seen_the_most_images(tmp_path: Path) -> None:
    """Two of them: a kill between the rename and the removal of the older one."""
    for nimg in (900, 1000):
        saved(tmp_path / str(nimg), nimg, parts(0, steps=0))
        (path,) = (tmp_path / str(nimg)).iterdir()
        path.rename(tmp_path / path.name)
    newest = checkpoint.newest(tmp_path)
    assert newest is not None and newest.name == "checkpoint-000000001000"
    assert checkpoint.load(tmp_path, "job", *parts(0, steps=0)).nimg == 1000


def test_a_checkpoint_is_flushed_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    final = tmp_path / "checkpoint-000000000008"
    monkeypatch.setattr(checkpoint, "to_disk", lambda path: flushed.append((path.name, final.exists())))
    saved(tmp_path, 8, parts(0, steps=1))
    files = {"first.safetensors", "second.safetensors", "optimizers.pt", "meta.json"}
    assert {path.name for path in final.iterdir()} == files
    assert {name for name, _ in flushed[:4]} == files and flushed[4][0].startswith("tmp-checkpoint-")
    assert not any(is_there for _, is_there in flushed[:5]) and flushed[5:] == [(tmp_path.name, True)]
    meta = json.loads((final / "meta.json").read_text())
    assert set(meta["sha256"]) == files - {"meta.json"}
    assert (meta["version"], meta["job_key"], meta["nimg"], meta["history"]) == (1, "job", 8, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "first.safetensors: missing or damaged": lambda path: (path / "first.safetensors").write_bytes(b""),
    "second.safetensors: missing or damaged": lambda path: (path / "second.safetensors").unlink(),
    "optimizers.pt: missing or damaged": lambda path: cut(path / "optimizers.pt"),
    "meta.json: missing or damaged": lambda path: cut(path / "meta.json"),
    "meta.json: missing or damaged (": lambda path: [each.unlink() for each in path.iterdir()],
    "meta.json: damaged (version: Field required": lambda path: (path / "meta.json").write_text("{}"),
    "meta.json: damaged (the whole: ": lambda path: (path / "meta.json").write_text("[]"),
    "meta.json: damaged (nimg: 8, which": lambda path: changed(path / "meta.json", nimg=8),
    "meta.json: damaged (nimg: Input should be a valid integer": lambda path: changed(
        path / "meta.json", nimg="16"
    ),
    "meta.json: damaged (history.0": lambda path: changed(path / "meta.json", history=[{"val/miou": 1}]),
    "meta.json: damaged (sha256: no first.safetensors": lambda path: changed(
        path / "meta.json", sha256={"optimizers.pt": "0", "second.safetensors": "0"}
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_it_and_a_line_says_so(
    tmp_path: Path, what: str
) -> None:
    """With the state of the one before; and the next one that is saved takes the damaged one's place."""
    older = parts(3, steps=1)
    saved(tmp_path, 8, older, [point(8)])
    saved(tmp_path, 16, parts(4, steps=2), [point(8), point(16)])
    DAMAGES[what](tmp_path / "checkpoint-000000000016")
    lines: list[str] = []
    into = parts(0, steps=0)
    assert checkpoint.load(tmp_path, "job", *into, lines.append) == Progress(8, [point(8)])
    assert torch.equal(into[0]["second"].weight, older[0]["second"].weight)
    (line,) = lines
    assert f"checkpoint-000000000016/{what}" in line
    assert line.endswith("; going on from checkpoint-000000000008, the one before")
    saved(tmp_path, 12, into)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-000000000008",
        "checkpoint-000000000012",
    ]


@pytest.mark.parametrize("name", ["first.safetensors", "second.safetensors", "optimizers.pt"])
def test_a_file_with_one_other_bit_is_damaged_and_without_another_checkpoint_it_starts_again(
    tmp_path: Path, name: str
) -> None:
    saved(tmp_path, 8, parts(0, steps=1))
    path = tmp_path / "checkpoint-000000000008" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    untouched, lines = parts(5, steps=0), list[str]()
    before = untouched[0]["second"].weight.clone()
    assert checkpoint.load(tmp_path, "job", *untouched, lines.append) == Progress(0, [])
    assert torch.equal(untouched[0]["second"].weight, before)
    assert lines == [
        f"{path}: missing or damaged (sha256 differs); no whole checkpoint is left, so the training starts "
        "from its beginning"
    ]
    with pytest.warns(NoticeWarning, match="no whole checkpoint is left"):
        assert checkpoint.read_history(tmp_path) == [] and checkpoint.newest(tmp_path) is None


def test_a_checkpoint_that_is_replaced_while_it_is_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 8, parts(0, steps=0), [point(8)])
    listed = checkpoint._all

    def then_gone(folder: Path) -> list[Path]:
        found = listed(folder)
        monkeypatch.setattr(checkpoint, "_all", listed)
        saved(folder, 16, parts(0, steps=0), [point(16)])
        shutil.rmtree(folder / "checkpoint-000000000008")
        return found

    monkeypatch.setattr(checkpoint, "_all", then_gone)
    assert checkpoint.read_history(tmp_path, pytest.fail) == [point(16)]


def test_what_is_named_otherwise_is_no_checkpoint_and_stays(tmp_path: Path) -> None:
    saved(tmp_path, 8, parts(0, steps=0))
    shutil.copytree(tmp_path / "checkpoint-000000000008", tmp_path / "checkpoint-000000000008 (copy)")
    (tmp_path / "checkpoint-000000000099").write_text("a file")
    assert checkpoint.newest(tmp_path, pytest.fail) == tmp_path / "checkpoint-000000000008"
    saved(tmp_path, 16, parts(0, steps=0))
    assert (tmp_path / "checkpoint-000000000008 (copy)").exists()


def test_a_checkpoint_of_another_job_or_version_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 8, parts(0, steps=0))
    with pytest.raises(CheckpointError, match="belongs to job job, not another"):
        checkpoint.load(tmp_path, "another", *parts(0, steps=0))
    meta = tmp_path / "checkpoint-000000000008" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"version": 0}))
    with pytest.raises(CheckpointError, match="version 0, this raydistill reads 1"):
        checkpoint.load(tmp_path, "job", *parts(0, steps=0))
    for path in tmp_path.glob("checkpoint-*"):  # what both messages say
        shutil.rmtree(path)
    assert checkpoint.load(tmp_path, "another", *parts(0, steps=0)) == Progress(0, [])


def test_what_a_kill_left_beside_it_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "tmp-checkpoint-000000000099-1").mkdir()
    assert checkpoint.newest(tmp_path) is None
    saved(tmp_path, 8, parts(0, steps=0))
    newest = checkpoint.newest(tmp_path)
    assert newest is not None and newest.name == "checkpoint-000000000008"
