"""`raydistill generate`: the pictures that `evaluate` scores, as files; named like their inputs, whole, made
once; and what is refused."""

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Stages
from families import CASES, case
from PIL import Image
from test_bad_input import Run, says  # noqa: F401
from test_export import network
from test_import import Evil, as_unet, put, shaken
from test_run_evaluate import Trial, scores, script, trial, values  # noqa: F401

from raydistill.commands.cli import main
from raydistill.commands.generate import run
from raydistill.config.network_options import GenerateOptions, shard_of
from raydistill.data import load_split
from raydistill.errors import ConfigError, DataError, RunError, StoreError
from raydistill.evaluation import generated
from raydistill.evaluation.picture_sets import of_generator
from raydistill.exchange.export import FORMATS, write_checked
from raydistill.exchange.generator_file import inputs_for, open_generator
from raydistill.exchange.import_teacher import import_file

UNET = case(
    "unet",
    {
        "widths": {"down1": 4, "down2": 6, "down3": 8, "deep": 8, "up3": 8, "up2": 6, "up1": 4},
        "num_levels": 4,
        "norm": "instance",
    },
    3,
    16,
    16,
)
SIZE = ("data.height=16", "data.width=16")


def generate(given: str | Path, out: Path, **options: Any) -> dict[str, np.ndarray]:
    """Name -> pixels of all pictures in the folder afterwards."""
    options = {"store": str(out.parent / "store")} | options
    assert run(GenerateOptions(given=str(given), out=str(out), **options)) == 0
    return pixels(out)


def pixels(out: Path) -> dict[str, np.ndarray]:
    folder = out / "pictures"
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in files}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


def pictures(folder: Path, *names: str, size: tuple[int, int] = (16, 16)) -> Path:
    """A folder of pictures of noise, each another one."""
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that was imported, without data of its own."""
    folder = tmp_path_factory.mktemp("unet")
    file = put(folder / "net_G.pth", as_unet(shaken(UNET).state_dict(), 4))
    import_file(file, folder / "teacher", (16, 16))
    return folder / "teacher"


@pytest.fixture(scope="module")
def stylegan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(CASES["stylegan2"], tmp_path_factory.mktemp("stylegan") / "network")


# ---- the same pictures as evaluate's -----------------------------------------------------------------------


def test_a_generated_folder_has_the_scores_of_its_network_to_the_digit(
    trial: Trial,  # noqa: F811
    stages: Stages,
    script: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {
        "data": stages.data.path,
        "evaluator": stages.evaluator.path,
        "extractors": (script,),
        "paired": True,
        "resamples": 20,
    }
    reference = scores(trial.folder, **options)
    made = generate(trial.folder, tmp_path / "fakes")
    assert len(made) == len(load_split(stages.data, "val")) and next(iter(made)) == "000000.png"
    found = scores(tmp_path / "fakes", **options)
    assert {"val/miou", "val/psnr", "val/fd_script_means", "val/kd_evaluator"} < set(reference)
    assert {name: (score.value, score.interval) for name, score in found.items()} == {
        name: (score.value, score.interval) for name, score in reference.items()
    }
    assert values(scores(tmp_path / "fakes" / "pictures", **options)) == values(reference)


def test_every_form_of_a_network_makes_its_pictures(
    trial: Trial,  # noqa: F811
    stages: Stages,
    tmp_path: Path,
) -> None:
    reference = generate(trial.folder, tmp_path / "trial")
    generator = open_generator(trial.folder)
    inputs = inputs_for(generator, number=2)[0]
    files = {name: tmp_path / f"student{FORMATS[name].suffix}" for name in FORMATS}
    for name, file in files.items():
        write_checked(generator, inputs, FORMATS[name], file)
    checkpoint = max(trial.folder.glob("checkpoint-*"))
    forms = (trial.folder / "network", checkpoint, files["safetensors"])
    for index, form in enumerate(forms):
        assert same(generate(form, tmp_path / f"{index}", data=stages.data.path), reference), form
    for index, given in enumerate((str(files["onnx"]), f"torchscript={files['torchscript']}")):
        made = generate(given, tmp_path / f"exported{index}", data=stages.data.path)
        assert list(made) == list(reference)
        apart = [np.abs(made[name].astype(int) - reference[name]) for name in made]
        assert max(values.max() for values in apart) <= 1, given  # 1e-4 before the rounding


def test_noise_is_that_of_evaluate_and_belongs_to_the_number_of_a_picture(
    stylegan: Path, stages: Stages, tmp_path: Path
) -> None:
    made = generate(stylegan, tmp_path / "a", num=70)
    assert len(made) == 70 and len(np.unique([picture.tobytes() for picture in made.values()])) == 70
    generator = open_generator(stylegan)
    split = load_split(stages.data, "val")
    info = split.info.model_copy(update={"height": generator.height, "width": generator.width})
    latent = generator.input_shape[0]
    cpu = torch.device("cpu")
    same_split = type(split)(split.targets[:70], None, None, info)
    expected = of_generator("g", "", generator.module, same_split, cpu, latent)
    for index, batch in enumerate(expected.batches()):
        numbers = range(64 * index, 64 * index + len(batch))
        for number, picture in zip(numbers, batch.permute(0, 2, 3, 1).numpy()):
            assert np.array_equal(made[f"{number:06d}.png"], picture)
    assert not same(generate(stylegan, tmp_path / "b", num=70, seed=1), made)


def test_truncation_pulls_styles_to_their_mean(stylegan: Path, tmp_path: Path) -> None:
    whole = generate(stylegan, tmp_path / "whole", num=4)
    assert same(generate(stylegan, tmp_path / "one", num=4, truncation=1.0), whole)
    half = generate(stylegan, tmp_path / "half", num=4, truncation=0.5)
    mean = generate(stylegan, tmp_path / "mean", num=4, truncation=0.0)
    assert len({picture.tobytes() for picture in mean.values()}) == 1  # every style is the mean
    assert not same(half, whole) and not same(half, mean)


# ---- names -------------------------------------------------------------------------------------------------


def test_pictures_are_named_like_their_inputs(unet: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "b.jpg", "a/x.png", "a/y.jpeg", "deep/er/x.PNG", "b.png", "ü ♥.webp")
    made = generate(unet, tmp_path / "out", data=str(folder), set=SIZE)
    names = ["a/x.png", "a/y.png", "b.jpg.png", "b.png.png", "deep/er/x.png", "ü ♥.png"]
    assert list(made) == names and all(picture.shape == (16, 16, 3) for picture in made.values())
    assert len({picture.tobytes() for picture in made.values()}) == len(names)
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    assert same(generate(unet, tmp_path / "packed", data=str(packed), set=SIZE), made)


def test_inputs_of_a_data_set_are_those_of_its_split_and_in_its_order(unet: Path, tmp_path: Path) -> None:
    """ "p-b" is before "p" among file names and after it among stems: pairs stay pairs."""
    for split, names in (("train", ("1", "2")), ("val", ("p", "p-b", "q")), ("test", ("x", "y"))):
        pictures(tmp_path / "pairs" / split, *(f"{name}.png" for name in names), size=(16, 32))
    options: dict[str, Any] = {"data": str(tmp_path / "pairs"), "set": SIZE}
    made = generate(unet, tmp_path / "out", **options)
    assert set(made) == {"p.png", "p-b.png", "q.png"}
    assert set(generate(unet, tmp_path / "test", split="test", **options)) == {"x.png", "y.png"}
    common = options | {"store": str(tmp_path / "store"), "paired": True}
    network_scores = scores(unet, **common)
    assert set(network_scores) >= {"val/psnr", "val/ssim"}
    assert values(scores(tmp_path / "out", **common)) == values(network_scores)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.jpg", "a.png", "b.png"], ("a.jpg.png", "a.png.png", "b.png")),
        (["a.jpg", "a.png", "a.jpg.bmp"], ("a.jpg.png", "a.png.png", "a.jpg.bmp.png")),
        (["00000000", "00000000"], ("000000.png", "000001.png")),
        (["x/a.jpg", "y/a.jpg"], ("x/a.png", "y/a.png")),
        (["no.ending.here"], ("no.ending.here.png",)),
    ],
)
def test_no_two_inputs_share_a_name(inputs: list[str], expected: tuple[str, ...]) -> None:
    assert generated.output_names(inputs) == expected


# ---- parts and interrupts ----------------------------------------------------------------------------------


def test_parts_and_a_resumed_run_make_the_same_pictures_and_each_once(
    stylegan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = generate(stylegan, tmp_path / "whole", num=150)
    out = tmp_path / "parts"
    assert list(generate(stylegan, out, num=150, shard=(2, 3))) == [f"{n:06d}.png" for n in range(64, 128)]
    assert not (out / "grid.png").exists()
    with pytest.raises(DataError, match=r"86 of 150 pictures are not made yet"):
        generated.pictures_in(out)
    generate(stylegan, out, num=150, shard=(1, 3))
    assert same(generate(stylegan, out, num=150, shard=(3, 3)), reference)
    assert (out / "grid.png").read_bytes() == (tmp_path / "whole" / "grid.png").read_bytes()
    folder = out / "pictures"
    torn = {"000001.png": b"", "000070.png": (folder / "000070.png").read_bytes()[:-20]}
    for name, content in torn.items():
        (folder / name).write_bytes(content)
    (folder / "000149.png").unlink()
    (folder / ".own-0123abcd-1-0123abcd.png").write_bytes(b"half of a picture of another machine")
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("0*.png") if path.name not in torn}
    capsys.readouterr()
    with pytest.raises(DataError, match=r"3 of 150 pictures are not made yet"):
        generated.pictures_in(out)
    generate(stylegan, out, num=150)
    assert "3 of 150 pictures made, 147 were there" in capsys.readouterr().out
    (folder / ".own-0123abcd-1-0123abcd.png").unlink()
    assert same(pixels(out), reference)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_full_disk_leaves_no_half_of_a_picture_and_the_same_command_goes_on(
    stylegan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = Image.Image.save, []

    def fills(self: Image.Image, path: Any, *arguments: Any, **more: Any) -> None:
        saved.append(path)
        if len(saved) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(self, path, *arguments, **more)

    monkeypatch.setattr(Image.Image, "save", fills)
    with pytest.raises(StoreError, match=r"000002.png: cannot be written: No space left on device"):
        generate(stylegan, tmp_path / "out", num=5)
    assert sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir()) == [
        "000000.png",
        "000001.png",
    ]
    assert len(generate(stylegan, tmp_path / "out", num=5)) == 5 and len(saved) == 3 + 3 + 1


def test_another_run_into_the_same_folder_is_refused(unet: Path, stylegan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = generate(stylegan, out, num=3)
    other = case("stylegan2", CASES["stylegan2"].config.model_dump() | {"num_mapping_layers": 1}, 3, 16, 16)
    network(other, tmp_path / "other")
    folder = pictures(tmp_path / "in", "a.png")
    for given, options, part in (
        (tmp_path / "other", {"num": 3}, "network: "),
        (stylegan, {"num": 4}, "names: other ones"),
        (stylegan, {"num": 3, "seed": 7}, "seed: 0, now 7"),
        (stylegan, {"num": 3, "truncation": 0.5}, "truncation: None, now 0.5"),
        (unet, {"data": str(folder), "set": SIZE}, "network: "),
    ):
        with pytest.raises(StoreError, match=rf"--out .*holds the pictures of another run \({part}"):
            generate(given, out, **options)
    assert same(pixels(out), made)
    first = generate(unet, tmp_path / "changed", data=str(folder), set=SIZE)
    pictures(folder, "b.png", "a.png")
    (folder / "b.png").unlink()
    with pytest.raises(StoreError, match=r"another run \(data: "):
        generate(unet, tmp_path / "changed", data=str(folder), set=SIZE)
    assert same(pixels(tmp_path / "changed"), first)


# ---- bad input ---------------------------------------------------------------------------------------------


def test_what_cannot_be_generated_ends_in_one_line_and_makes_nothing(
    says: Run,  # noqa: F811
    unet: Path,
    stylegan: Path,
    tmp_path: Path,
) -> None:
    shutil.copytree(unet, tmp_path / "unet")
    shutil.copytree(stylegan, tmp_path / "stylegan")
    network(CASES["sagan"], tmp_path / "sagan")
    network(CASES["resnet"], tmp_path / "five")
    folder = pictures(tmp_path / "in", "a.png", "b.png")
    pictures(tmp_path / "bad", "a.png", "b.png")
    (tmp_path / "bad" / "b.png").write_text("no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.tex").write_text("years of work")
    put(tmp_path / "hostile.pt", Evil(tmp_path / "marker"))
    put(tmp_path / "hostile.pth", Evil(tmp_path / "marker"))
    size = ("--set", "data.height=16", "--set", "data.width=16")
    data = ("--data", "in", *size)
    long = pictures(tmp_path / "long", f"{'x' * 251}.jpg", f"{'x' * 251}.png")
    for arguments, part in (
        (["absent", *data], "absent: no generator here. Give the folder of a trial"),
        (["in", *data], "in: no generator here"),
        (["hostile.pt", *data], "is given as torchscript=hostile.pt, which RUNS its code"),
        (["hostile.pth", *data], "imported by raydistill teacher import"),
        (["torchscript=hostile.pth", *data], "not a TorchScript file"),
        (["torchscript=absent", *data], "absent: cannot be read"),
        (["unet"], "unet: of which pictures? Give --data FOLDER"),
        (["unet", "--num", "4"], "unet: takes pictures, not noise; give --data FOLDER"),
        (["unet", "--seed", "4", *data], "unet: takes pictures, not noise; give --data FOLDER"),
        (["stylegan"], "stylegan: takes noise, not pictures; give --num N"),
        (["stylegan", *data], "stylegan: takes noise, not pictures; give --num N"),
        (["stylegan", "--num", "0"], "num: Input should be greater than"),
        (["stylegan", "--num", "2", "--seed", "-1"], "seed: Input should be greater than"),
        (["stylegan", "--num", "2", "--truncation", "2"], "truncation: Input should be less than or equal"),
        (["stylegan", "--num", "2", "--truncation", "nan"], "truncation: Input should be"),
        (["sagan", "--num", "2", "--truncation", "0.5"], "sagan is a sagan, which has none"),
        (["unet", *data, "--truncation", "0.5"], "unet is a unet, which has none; families with one: style"),
        (["unet", "--data", "in"], "unet: at which size are the pictures of --data read?"),
        (["unet", "--data", "in", "--set", "data.height=20", "--set", "data.width=16"], "divisible by 16"),
        (["five", *data], "five: takes inputs of 5 channels, this data has 3"),
        (["unet", "--data", "absent", *size], "--data absent: there is no such folder"),
        (["unet", "--data", "empty", *size], "empty: no .png, .jpg"),
        (["unet", "--data", "long", *size], "its picture's name would have more than 255 bytes"),
        (["unet", *data, "--shard", "3/2"], "--shard 3/2: give it as K/N"),
    ):
        line = says("generate", *arguments, "--out", "out")
        assert part in line, (arguments, line)
        assert not (tmp_path / "out").exists(), arguments
    assert long.is_dir() and not (tmp_path / "marker").exists()
    for out in ("in", "in/out", "."):
        assert "inside of --data in, or around it" in says("generate", "unet", *data, "--out", out)
    os.symlink(folder, tmp_path / "link")
    assert "inside of --data" in says("generate", "unet", *data, "--out", "link/out")
    used = ("generate", "unet", *data, "--out")
    assert "--out used: not empty, and raydistill generate did not write it" in says(*used, "used")
    assert "Not a directory" in says(*used, "used/thesis.tex")
    assert "cannot be locked: Not a directory" in says(*used, "used/thesis.tex/out")


def test_names_that_leave_the_folder_are_refused(unet: Path, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../evil.png", picture.getvalue())
    with pytest.raises(DataError, match=r"leaves the folder it would be unpacked to"):
        generate(unet, tmp_path / "deep" / "out", data=str(tmp_path / "evil.zip"), set=SIZE)
    assert not (tmp_path / "deep").exists()
    out = tmp_path / "out"
    generate(unet, out, data=str(pictures(tmp_path / "in", "a.png")), set=SIZE)
    manifest = json.loads((out / "generate.json").read_text())
    (out / "generate.json").write_text(json.dumps(manifest | {"names": ["../../in/a.png"]}))
    with pytest.raises(DataError, match=r"'../../in/a.png' leaves the folder"):
        scores(out, real=str(tmp_path / "in"), paired=True)


def test_a_damaged_picture_or_output_is_named(unet: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    (folder / "b.png").write_text("no picture")
    with pytest.raises(DataError, match=r"b.png: cannot be read as a picture"):
        generate(unet, tmp_path / "out", data=str(folder), set=SIZE)
    pictures(folder, "a.png", "b.png", "c.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "c.png")
    with pytest.raises(DataError, match=r"c.png: this picture is grey"):
        generate(unet, tmp_path / "grey", data=str(folder), set=SIZE)
    broken = shaken(UNET)
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    import raydistill.models.saved as saved

    saved.save(tmp_path / "broken", "generator", broken, UNET.config)
    good = pictures(tmp_path / "good", "a.png")
    with pytest.raises(RunError, match=r"a generated picture has NaN or infinity"):
        generate(tmp_path / "broken", tmp_path / "nan", data=str(good), set=SIZE)
    assert pixels(tmp_path / "nan") == {}


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "a/b", "1/2/3", "1/9999999"])
def test_a_part_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give it as K/N"):
        shard_of(text)
    assert shard_of("2/8") == (2, 8)


def test_the_command_says_what_it_made(
    stylegan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["raydistill", "generate", str(stylegan), "--num", "3", "--out", "out", "--shard", "1/2"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == "out/pictures: 3 of 3 pictures made, part 1 of 2\n"
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {
        "pictures",
        "grid.png",
        "generate.json",
    }
