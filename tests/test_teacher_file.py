"""A checkpoint file as a sweep's teacher: imported on the way, once, with the refusals of `teacher import`;
and files that hold several networks."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from families import CASES, case
from safetensors.torch import save_file
from test_bad_input import Run, says  # noqa: F401
from test_file_scorers import Means, script
from test_given_teacher import SMALL, pairs, plan_of  # noqa: F401
from test_import import Evil, as_resnet, as_sagan, as_unet, put, shaken

from raydistill.config.architectures import PatchDiscriminator
from raydistill.errors import ConfigError, DataError, InputError
from raydistill.exchange import import_teacher
from raydistill.exchange.export import FORMATS, write_checked
from raydistill.exchange.generator_file import inputs_for, open_generator
from raydistill.exchange.import_teacher import import_file
from raydistill.models import discriminator, saved
from raydistill.records import tables
from raydistill.sweep.run import _new_sweep, _work_of_stages
from raydistill.trials.ledger import Ledger
from raydistill.trials.stages import train_evaluator, train_stages

WIDTHS = {"down1": 8, "down2": 16, "down3": 32, "deep": 64, "up3": 32, "up2": 16, "up1": 8}
UNET = case("unet", {"widths": WIDTHS, "num_levels": 4, "norm": "instance"}, 3, 16, 16)
State = dict[str, torch.Tensor]


def unet(seed: int = 0) -> State:
    """A U-Net's tensors as pix2pix names them."""
    state = as_unet(shaken(UNET).state_dict(), 4)
    return {name: value + seed for name, value in state.items()}


def critic() -> State:
    module = discriminator(PatchDiscriminator(width=4), 6)
    return {f"model.{name}": value for name, value in module.state_dict().items()}


def weights(folder: Path) -> State:
    return saved.load_generator(saved.stored(folder, kind="generator"))[1]


# ---- a file that is given to a sweep -----------------------------------------------------------------------


def test_a_file_is_imported_once_and_is_the_teacher_that_the_import_command_makes_of_it(
    pairs: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, store = put(tmp_path / "latest_net_G.pth", unet()), tmp_path / "runs"
    import_file(file, tmp_path / "by-command", (16, 16))
    plan = plan_of(pairs, store, teacher=str(file))
    given = plan.experiment.given_teacher
    assert given is not None and given.digest == saved.stored(tmp_path / "by-command").digest
    assert Path(given.path).parent == store / "cache" / "imported"
    assert json.loads((Path(given.path) / "import.json").read_text())["height"] == 16
    same = plan_of(pairs, store, teacher=str(tmp_path / "by-command"))
    assert same.definition == plan.definition
    monkeypatch.setattr("raydistill.planning.teacher_file.import_file", None)  # it is not called again
    copy = tmp_path / "elsewhere.pth"
    file.rename(copy)
    assert plan_of(pairs, store, teacher=str(copy)).experiment.given_teacher == given


def test_what_was_damaged_in_the_store_is_imported_again(pairs: Path, tmp_path: Path) -> None:  # noqa: F811
    file, store = put(tmp_path / "g.pth", unet()), tmp_path / "runs"
    given = plan_of(pairs, store, teacher=str(file)).experiment.given_teacher
    assert given is not None
    torn = Path(given.path) / "weights.safetensors"
    torn.write_bytes(torn.read_bytes()[:100])
    assert plan_of(pairs, store, teacher=str(file)).experiment.given_teacher == given and saved.is_whole(
        given
    )


def test_every_kind_of_file_gives_the_same_teacher(pairs: Path, tmp_path: Path) -> None:  # noqa: F811
    save_file(unet(), tmp_path / "g.safetensors")
    import_file(put(tmp_path / "g.pt", {"netG": unet()}), tmp_path / "folder", (16, 16))
    generator = open_generator(tmp_path / "folder", (16, 16))
    exported = tmp_path / "student.safetensors"
    write_checked(generator, inputs_for(generator, number=2)[0], FORMATS["safetensors"], exported)
    for file in ("g.pt", "g.safetensors", "student.safetensors"):
        given = plan_of(pairs, tmp_path / "runs", teacher=str(tmp_path / file)).experiment.given_teacher
        assert given is not None and given.digest == saved.stored(tmp_path / "folder").digest, file


def test_the_teacher_of_a_file_is_scored_once_and_is_the_reference_of_the_table(
    pairs: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    plan = plan_of(pairs, tmp_path / "runs", teacher=str(put(tmp_path / "g.pth", unet())))
    cache = plan.store / "cache"
    assert _work_of_stages(plan, cache) == "evaluator: training once, given teacher: scoring once"
    train_evaluator(plan.experiment, plan.data, cache, lambda numbers: None)
    assert _work_of_stages(plan, cache) == "given teacher: scoring once"
    stages = train_stages(plan.experiment, plan.data, cache, lambda numbers: None)
    table = Ledger(plan, _new_sweep(plan), stages).table().set_index("role")
    teacher = table.loc["teacher"]
    given = plan.experiment.given_teacher
    assert given is not None and teacher["status"] == "COMPLETE" and teacher["nimg"] == 0
    assert teacher["metric.val/kd_evaluator"] == stages.teacher_result.metrics["val/kd_evaluator"]
    assert teacher["cost.macs"] == json.loads((Path(given.path) / "import.json").read_text())["macs"]
    assert (table.loc["uniform", "digest.teacher"] == given.digest).all()
    (tmp_path / "g.pth").unlink()  # a resume takes the store's copy, and anything else needs the file
    again = plan_of(pairs, tmp_path / "runs", teacher=str(tmp_path / "g.pth"), resume=True)
    assert again.experiment.given_teacher == given and again.definition == plan.definition
    with pytest.raises(ConfigError, match="there is no such file"):
        plan_of(pairs, tmp_path / "runs", teacher=str(tmp_path / "g.pth"))


@pytest.mark.slow
def test_a_whole_sweep_by_ray_has_the_teacher_of_a_file_as_its_reference(
    pairs: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Scored by all scorers first; in tables, page and MLflow; and the objective's reference is its own."""
    put(tmp_path / "latest_net_G.pth", unet())
    script(tmp_path, "means", Means())
    options = ["--store", "runs", "--space", "unet", "--data", str(pairs), "--teacher", "latest_net_G.pth"]
    options += ["--extractor", "torchscript=means.pt", "--objective", "val/kd_script_means:min"]
    options += ["--objective", "cost/macs:min", "--trials", "2", "--nimg", "16"]
    values = (
        *SMALL,
        "data.height=16",
        "data.width=16",
        "student.batch_size=4",
        "student.report_every_nimg=16",
    )
    options += [text for value in values for text in ("--set", value)]
    command = [sys.executable, "-P", "-m", "raydistill", "sweep", *options, "--seconds-per-image", "0.05"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and "given teacher: scoring once" in done.stdout
    folder = tmp_path / "runs/sweeps/unet-001"
    table = tables.read_table(folder / "trials.parquet").set_index("role")
    teacher = table.loc["teacher"]
    assert teacher["nimg"] == 0 and teacher["status"] == "COMPLETE"
    own = teacher["metric.val/kd_script_means"]
    assert own == own and f"reference of val/kd_script_means: {4 * own:g}" in done.stdout
    assert (table["status"] == "COMPLETE").all() and table["front.member"].any()
    assert table.loc["uniform", "digest.teacher"].nunique() == 1
    assert '"label":"teacher"' in (folder / "frontier.html").read_text().replace(" ", "")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    ids = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(ids, "tags.`raydistill.role` = 'teacher'")
    assert run.data.metrics["val/kd_script_means"] == own


SWEEP = ("--space", "unet", "--store", "store", "--set", "data.height=16", "--set", "data.width=16")


def test_a_file_that_cannot_be_a_teacher_is_refused_before_any_cost(
    says: Run,  # noqa: F811
    pairs: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    put(tmp_path / "hostile.pth", {"netG": Evil(tmp_path / "marker")})
    put(tmp_path / "critic.pth", critic())
    put(tmp_path / "sagan.pth", as_sagan(shaken(CASES["sagan"]).state_dict()))
    put(tmp_path / "several.pth", {"netG_A": unet(), "netG_B": unet(1), "epoch": 3})
    put(tmp_path / "nan.pth", {name: value * float("nan") for name, value in unet().items()})
    deep = case("unet", {"widths": WIDTHS, "num_levels": 5, "norm": "instance"}, 3, 32, 32)
    put(tmp_path / "deep.pth", as_unet(shaken(deep).state_dict(), 5))
    (tmp_path / "empty.pkl").write_bytes(b"")
    (tmp_path / "text.pt").write_text("not weights")
    os.mkfifo(tmp_path / "pipe.pth")
    for name, part in {
        "absent.pth": "there is no such file",
        "empty.pkl": "the file is empty",
        "text.pt": "not a whole PyTorch file",
        "pipe.pth": "it is a FIFO, not a regular file",
        "hostile.pth": "refused, nothing was run: it asks for",
        "critic.pth": "this is a discriminator (PatchGAN)",
        "sagan.pth": "a sagan takes noise; give one that takes pictures",
        "several.pth": "holds several networks: netG_A, netG_B. Name one of them: --network NAME, or "
        "--teacher-network NAME",
        "nan.pth": "its output is not finite",
        "deep.pth": "unet needs heights and widths divisible by 32",
    }.items():
        shutil.rmtree("store", ignore_errors=True)
        line = says("plan", *SWEEP, "--data", str(pairs), "--teacher", name)
        assert part in line and line.startswith("--teacher "), line
    shutil.rmtree("store")
    line = says("sweep", *SWEEP, "--data", str(pairs), "--teacher-network", "netG_A")
    assert line == "--teacher-network netG_A: of which file? Give --teacher FILE"
    several = (*SWEEP, "--data", str(pairs), "--teacher", "several.pth", "--teacher-network", "netG_C")
    assert "holds no network 'netG_C'; it holds netG_A, netG_B" in says("plan", *several)
    shutil.rmtree("store")
    (tmp_path / "folder").mkdir()
    folder = (*SWEEP, "--data", str(pairs), "--teacher", "folder", "--teacher-network", "netG")
    assert "folder is no checkpoint file, and a folder has one network" in says("plan", *folder)
    assert not (tmp_path / "marker").exists()


def test_the_disk_that_is_full_leaves_no_half_of_a_teacher(
    pairs: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace = os.replace

    def full(source: Any, target: Any, **more: Any) -> None:
        if "imported" in Path(target).parts:
            raise OSError(28, "No space left on device")
        replace(source, target, **more)

    file = put(tmp_path / "g.pth", unet())
    with monkeypatch.context() as patch:
        patch.setattr(import_teacher.os, "replace", full)
        with pytest.raises(InputError, match=r"cannot be written.*No space left on device"):
            plan_of(pairs, tmp_path / "runs", teacher=str(file))
    assert list((tmp_path / "runs" / "cache" / "imported").iterdir()) == []
    assert plan_of(pairs, tmp_path / "runs", teacher=str(file)).experiment.given_teacher is not None


# ---- files that hold several networks ----------------------------------------------------------------------


def test_the_named_network_of_several_is_taken(tmp_path: Path) -> None:
    first, second = unet(), unet(1)
    put(tmp_path / "flat.pth", {"netG_A": first, "netG_B": second, "netD_A": critic(), "epoch": 3})
    inner = {"netG_A": {"state_dict": first}, "netG_B": {"state_dict": second}}
    put(tmp_path / "deeper.pth", {"model": inner, "optimizer": {"state": {0: {"exp_avg": first}}}})
    joined = {f"netG_A.{name}": value for name, value in first.items()}
    joined |= {f"netG_B.module.{name}": value for name, value in second.items()}
    save_file(joined, tmp_path / "joined.safetensors")
    put(tmp_path / "lightning.ckpt.pth", {"state_dict": joined, "epoch": 3})
    files = ("flat.pth", "deeper.pth", "joined.safetensors", "lightning.ckpt.pth")
    for file in files:
        with pytest.raises(DataError, match=r"holds several networks: netG_A, netG_B.*--network NAME"):
            import_file(tmp_path / file, tmp_path / "out")
        with pytest.raises(DataError, match=r"holds no network 'netg_a'; it holds .*netG_A, netG_B"):
            import_file(tmp_path / file, tmp_path / "out", network="netg_a")
        for name, expected in (("netG_A", first), ("netG_B", second)):
            out = tmp_path / f"{file}-{name}"
            assert import_file(tmp_path / file, out, (16, 16), name).network == name
            want = tmp_path / f"{file}-{name}-alone"
            import_file(put(tmp_path / "alone.pth", expected), want, (16, 16))
            found = weights(out)
            assert all(torch.equal(value, found[key]) for key, value in weights(want).items()), (file, name)
    assert not (tmp_path / "out").exists()


def test_a_generator_that_stands_alone_or_under_a_known_name_needs_no_name(tmp_path: Path) -> None:
    first, average = unet(), unet(1)
    put(tmp_path / "rosinality.pth", {"g": first, "d": critic(), "g_ema": average})
    put(tmp_path / "alone.pth", {"netG_A": first, "epoch": 3})
    save_file({f"generator.{name}": value for name, value in first.items()}, tmp_path / "alone.safetensors")
    for file, network, number in (
        ("rosinality.pth", None, 1),
        ("rosinality.pth", "g", 0),
        ("alone.pth", None, 0),
        ("alone.safetensors", None, 0),
    ):
        out = tmp_path / f"{file}-{network}"
        import_file(tmp_path / file, out, (16, 16), network)
        want = tmp_path / f"want-{file}-{network}"
        import_file(put(tmp_path / "one.pth", unet(number)), want, (16, 16))
        found = weights(out)
        assert all(torch.equal(value, found[key]) for key, value in weights(want).items()), (file, network)


def test_a_name_that_is_no_networks_is_refused_and_nothing_is_run(tmp_path: Path) -> None:
    put(tmp_path / "a.pth", {"netG": as_resnet(shaken(CASES["resnet"]).state_dict()), "epoch": 3})
    (tmp_path / "b.pkl").write_bytes(
        pickle.dumps({"G": Evil(tmp_path / "marker"), "n": "torch_utils.persistence"})
    )
    for file, network, part in (
        ("a.pth", "epoch", "holds no network 'epoch'; it holds netG"),
        ("a.pth", "", "holds no network ''; it holds netG"),
        ("b.pkl", "G", "refused, nothing was run"),
    ):
        with pytest.raises((ConfigError, DataError), match=part):
            import_file(tmp_path / file, tmp_path / "out", network=network)
    assert not (tmp_path / "marker").exists() and not (tmp_path / "out").exists()
