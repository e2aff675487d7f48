"""`raydistill teacher import`: every key layout, written here as its authors' code writes it, and files
that are refused."""

import argparse
import json
import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import CASES, Case, case
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.commands.cli import main
from raydistill.config.architectures import PatchDiscriminator
from raydistill.errors import DataError
from raydistill.exchange.generator_file import inputs_for, open_generator
from raydistill.exchange.import_teacher import import_file
from raydistill.models import GENERATORS, discriminator, saved, stylegan2

State = dict[str, Tensor]


def shaken(case: Case) -> nn.Module:
    """A generator in which every tensor matters: random statistics, and none of the zeros that hide what
    is behind them."""
    torch.manual_seed(0)
    module = GENERATORS[case.config.family].build(case.config, case.in_channels)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith(("gamma", "noise_strength", "mean_style", "running_mean")) or (
            name.endswith("bias") and "affine" not in name
        ):
            nn.init.normal_(value, 0.1, 0.1)
        if name.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 1.5)
    return module.eval()


# ---- the layouts: our names -> theirs ----------------------------------------------------------------------


def as_resnet(state: State, dropout: bool = False) -> State:
    """junyanz: with a dropout in the blocks, the second convolution is number 6 and its norm 7."""
    moved = {"5": "6", "6": "7"} if dropout else {}
    return {
        "model." + re.sub(r"(?<=conv_block\.)[56](?=\.)", lambda m: moved.get(m[0], m[0]), name): v
        for name, v in state.items()
    }


def as_mobile_resnet(state: State) -> State:
    return as_resnet(state, dropout=True)


def as_unet(state: State, levels: int, blocks: int = 0) -> State:
    """pix2pix: each level inside the one above it; OMGD's deep one has blocks on both ways."""
    prefixes = ["model.model."]
    for level in range(1, levels):
        prefixes.append(prefixes[-1] + f"{(1 if level == 1 else 3) + blocks}.model.")
    places: dict[str, str] = {}
    for level, prefix in enumerate(prefixes):
        down, up, last = f"downs.{level}.", f"ups.{levels - 1 - level}.", level == levels - 1
        shift = 0 if last else blocks
        first, second = (0, 3 + 2 * blocks) if level == 0 else (1, (3 if last else 5) + shift)
        places |= {
            f"{down}0.": f"{prefix}{first}.",
            f"{up}{blocks + 1 if level == 0 else 1}.": f"{prefix}{second}.",
        }
        if level:
            places[f"{up}2."] = f"{prefix}{second + 1}."
        if level and not last:
            places[f"{down}1."] = f"{prefix}2."
        for index in range(shift):
            places[f"{down}{index + (1 if level == 0 else 2)}.conv_block."] = (
                f"{prefix}{index + (1 if level == 0 else 3)}.conv_block."
            )
            there = index + (2 + blocks if level == 0 else 7 + blocks)
            places[f"{up}{index + (0 if level == 0 else 3)}.conv_block."] = f"{prefix}{there}.conv_block."
    out = {}
    for name, value in state.items():
        ours = max((place for place in places if name.startswith(place)), key=len)
        rest = (
            re.sub(r"^1[12](?=\.)", lambda m: str(int(m[0]) + 1), name.removeprefix(ours))
            if "conv_block" in ours
            else name.removeprefix(ours)
        )
        out[places[ours] + rest] = value
    return out


def as_sagan(state: State) -> State:
    theirs = {
        "parametrizations.weight.original": "module.weight_bar",
        "parametrizations.weight.0._u": "module.weight_u",
    }
    theirs |= {"parametrizations.weight.0._v": "module.weight_v"}
    out = {}
    for name, value in state.items():
        if match := re.match(r"layers\.(\d)\.0\.(.*)", name):
            out[f"l{int(match[1]) + 1}.0.{theirs.get(match[2], f'module.{match[2]}')}"] = value
        elif match := re.match(r"layers\.(\d)\.1\.(.*)", name):
            out[f"l{int(match[1]) + 1}.1.{match[2]}"] = value
        elif match := re.match(r"attention(16|32)\.(gamma|query|key|value)(.*)", name):
            number, suffix = 1 if match[1] == "16" else 2, "" if match[2] == "gamma" else "_conv"
            out[f"attn{number}.{match[2]}{suffix}{match[3]}"] = value
        else:
            out[name.replace("head", "last.0")] = value
    return out


def as_rosinality(state: State) -> State:
    def layer(kind: str, index: int) -> str:
        return (
            {"convs": "conv1", "rgbs": "to_rgb1"}[kind]
            if index == 0
            else f"{'convs' if kind == 'convs' else 'to_rgbs'}.{index - 1}"
        )

    kernel = torch.outer(line := torch.tensor([1.0, 3.0, 3.0, 1.0]), line) / 64
    out = {"input.input": state["constant"]}
    for name, value in state.items():
        if match := re.match(r"mapping\.(\d+)\.(.*)", name):
            out[f"style.{int(match[1]) + 1}.{match[2]}"] = value
        elif match := re.match(r"(convs|rgbs)\.(\d+)\.(.*)", name):
            place, rest = layer(match[1], int(match[2])), match[3]
            if rest == "noise":
                out[f"noises.noise_{match[2]}"] = value
            elif rest == "noise_strength":
                out[f"{place}.noise.weight"] = value
            elif rest == "weight":
                out[f"{place}.conv.weight"] = value[None]
            elif rest == "bias":
                out[f"{place}.activate.bias" if match[1] == "convs" else f"{place}.bias"] = (
                    value if match[1] == "convs" else value.view(1, 3, 1, 1)
                )
            else:
                out[f"{place}.conv.{rest.replace('affine', 'modulation')}"] = value
    out |= {
        name.replace("conv.weight", "conv.blur.kernel"): 4 * kernel
        for name in list(out)
        if re.match(r"convs\.\d*[02468]\.conv\.weight", name)
    }
    return out | {
        name.replace("conv.weight", "upsample.kernel"): 4 * kernel
        for name in out
        if re.match(r"to_rgbs\.\d+\.conv\.weight", name)
    }


def as_nvlabs(state: State) -> State:
    kernel = torch.outer(line := torch.tensor([1.0, 3.0, 3.0, 1.0]), line) / 64
    out = {"synthesis.b4.const": state["constant"][0], "mapping.w_avg": state["mean_style"]}
    for name, value in state.items():
        if match := re.match(r"mapping\.(\d+)\.(.*)", name):
            out[f"mapping.fc{match[1]}.{match[2]}"] = value
        elif match := re.match(r"convs\.(\d+)\.(.*)", name):
            number = int(match[1]) + 1
            place = f"synthesis.b{4 * 2 ** (number // 2)}.conv{number % 2}"
            reshaped = {
                "noise": value[0, 0] if value.ndim == 4 else value,
                "noise_strength": value.reshape([1] * 0) if value.numel() == 1 else value,
            }
            out[f"{place}.{ {'noise': 'noise_const'}.get(match[2], match[2]) }"] = reshaped.get(
                match[2], value
            )
            out[f"{place}.resample_filter"] = kernel
        elif match := re.match(r"rgbs\.(\d+)\.(.*)", name):
            out[f"synthesis.b{4 * 2 ** int(match[1])}.torgb.{match[2]}"] = value
    return out


UNET7 = case(
    "unet",
    {"widths": CASES["unet"].config.widths.model_dump(), "num_levels": 7, "norm": "instance"},
    3,
    128,
    128,
)
LAYOUTS: dict[str, tuple[Case, Callable[[State], State], str]] = {
    "resnet": (CASES["resnet"]._replace(in_channels=3), as_resnet, "ResNet"),
    "resnet-dropout": (
        CASES["resnet"]._replace(in_channels=3),
        lambda state: as_resnet(state, dropout=True),
        "ResNet",
    ),
    "resnet-batch": (CASES["resnet-batch"], as_resnet, "ResNet"),
    "mobile_resnet": (CASES["mobile_resnet"], as_mobile_resnet, "mobile ResNet"),
    "unet": (CASES["unet"], lambda state: as_unet(state, 4), "U-Net"),
    "unet-128-instance": (UNET7, lambda state: as_unet(state, 7), "U-Net"),
    "unet-deep": (
        CASES["unet-deep"]._replace(in_channels=3),
        lambda state: as_unet(state, 4, blocks=1),
        "U-Net",
    ),
    "sagan": (CASES["sagan"], as_sagan, "SAGAN"),
    "rosinality": (CASES["stylegan2"], as_rosinality, "StyleGAN2 (rosinality, CAGC)"),
    "nvlabs": (CASES["stylegan2"], as_nvlabs, "StyleGAN2 (NVlabs)"),
}
all_layouts = pytest.mark.parametrize(("case", "rename", "name"), LAYOUTS.values(), ids=LAYOUTS)


def put(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def require_same(folder: Path, case: Case, module: nn.Module) -> None:
    found = open_generator(folder, (case.height, case.width))
    assert found.config == case.config and found.in_channels == case.in_channels
    inputs = inputs_for(found)[0]
    with torch.no_grad():
        torch.testing.assert_close(found.module(inputs), module(inputs), rtol=0, atol=1e-6)


@all_layouts
def test_a_file_of_each_layout_gives_the_generator_that_wrote_it(
    case: Case, rename: Callable[[State], State], name: str, tmp_path: Path
) -> None:
    module = shaken(case)
    file = put(tmp_path / "net.pth", rename(module.state_dict()))
    imported = import_file(file, tmp_path / "out", (case.height, case.width))
    assert imported.layout.startswith(name) and imported.family == case.config.family
    assert imported.params == sum(parameter.numel() for parameter in module.parameters())
    require_same(tmp_path / "out", case, module)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: OrderedDict(state),
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {
            "g_ema": state,
            "g": {name: value + 1 for name, value in state.items()},
            "args": argparse.Namespace(size=16),
        },
        lambda state: {
            "model": {"netG": {f"module.{name}": value for name, value in state.items()}},
            "step": 1,
        },
        lambda state: {
            name: value.double() if value.is_floating_point() else value for name, value in state.items()
        },
    ],
)
def test_wrappers_and_what_stands_beside_a_generator_change_nothing(
    wrap: Callable[[State], Any], tmp_path: Path
) -> None:
    case = CASES["resnet-batch"]
    module = shaken(case)
    import_file(put(tmp_path / "net.pth", wrap(as_resnet(module.state_dict()))), tmp_path / "out", (16, 16))
    require_same(tmp_path / "out", case, module)


def test_statistics_of_old_instance_norms_are_left_out_and_counts_that_old_batch_norms_lack_filled_in(
    tmp_path: Path,
) -> None:
    case = LAYOUTS["resnet"][0]
    module = shaken(case)
    state = as_resnet(module.state_dict())
    old = {f"model.{at}.running_{what}": torch.rand(4) for at in (2, 5, 8) for what in ("mean", "var")}
    old |= {
        "model.10.conv_block.2.running_mean": torch.rand(4),
        "model.10.conv_block.6.running_var": torch.rand(4),
    }
    imported = import_file(put(tmp_path / "old.pth", state | old), tmp_path / "out", (16, 24))
    assert set(imported.dropped) == set(old)
    require_same(tmp_path / "out", case, module)
    batch = CASES["resnet-batch"]
    module = shaken(batch)
    without = {
        name: value
        for name, value in as_resnet(module.state_dict()).items()
        if not name.endswith("num_batches_tracked")
    }
    import_file(put(tmp_path / "older.pth", without), tmp_path / "out2", (16, 16))
    require_same(tmp_path / "out2", batch, module)


def test_a_safetensors_file_of_a_known_layout_is_read_too(tmp_path: Path) -> None:
    module = shaken(CASES["unet"])
    save_file(
        {name: value.clone() for name, value in as_unet(module.state_dict(), 4).items()},
        tmp_path / "net.safetensors",
    )
    import_file(tmp_path / "net.safetensors", tmp_path / "out", (32, 48))
    require_same(tmp_path / "out", CASES["unet"], module)


def test_a_stylegan2_without_a_mean_style_gets_that_of_seeded_latents(tmp_path: Path) -> None:
    module = shaken(CASES["stylegan2"])
    assert isinstance(module, stylegan2.Generator)
    import_file(put(tmp_path / "net.pt", {"g_ema": as_rosinality(module.state_dict())}), tmp_path / "out")
    found = open_generator(tmp_path / "out").module
    assert isinstance(found, stylegan2.Generator)
    with torch.no_grad():
        styles = module.styles(torch.randn(20_000, 12))
    torch.testing.assert_close(found.mean_style, styles.mean(0), rtol=0, atol=0.1 * float(styles.std()))


# ---- NVlabs' pickle ----------------------------------------------------------------------------------------


@pytest.fixture
def nvlabs_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.SimpleNamespace]:
    """The names that a pickle of NVlabs asks for, present while one is written."""
    persistence, package, util = (
        types.ModuleType(name) for name in ("torch_utils.persistence", "torch_utils", "dnnlib.util")
    )

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("source code in a file was about to be run")

    class EasyDict(dict[str, Any]):
        pass

    for owner, value in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        value.__module__, value.__qualname__ = owner.__name__, value.__name__
        setattr(owner, value.__name__, value)
    for module in (package, persistence, types.ModuleType("dnnlib"), util):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield types.SimpleNamespace(reconstruct=_reconstruct_persistent_obj, EasyDict=EasyDict)
    monkeypatch.undo()


class Persistent:
    """Pickles as a network of NVlabs does: by its source code and its state."""

    def __init__(self, tensors: State, names: Any):
        self.names = names
        self.state: dict[str, Any] = {
            "_parameters": OrderedDict(),
            "_buffers": OrderedDict(),
            "_modules": OrderedDict(),
            "training": False,
        }
        children: dict[str, State] = {}
        for name, value in tensors.items():
            head, dot, rest = name.partition(".")
            if dot:
                children.setdefault(head, {})[rest] = value
            elif name.endswith(("w_avg", "noise_const", "resample_filter")):
                self.state["_buffers"][name] = value
            else:
                self.state["_parameters"][name] = nn.Parameter(value)
        for name, inner in children.items():
            self.state["_modules"][name] = Persistent(inner, names)

    def __reduce__(self) -> Any:
        source = "raise SystemExit('this source was run')"
        meta = self.names.EasyDict(
            type="class", version=6, module_src=source, class_name="Generator", state=self.state
        )
        return self.names.reconstruct, (meta,)


def test_a_pickle_of_nvlabs_is_read_without_running_the_source_in_it(
    nvlabs_names: types.SimpleNamespace, tmp_path: Path
) -> None:
    case = CASES["stylegan2"]
    module = shaken(case)
    network = Persistent(as_nvlabs(module.state_dict()), nvlabs_names)
    content = {
        "training_set_kwargs": nvlabs_names.EasyDict(path="x"),
        "G": network,
        "G_ema": network,
        "D": None,
        "augment_pipe": None,
    }
    (tmp_path / "network.pkl").write_bytes(pickle.dumps(content))
    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        sys.modules.pop(name)
    imported = import_file(tmp_path / "network.pkl", tmp_path / "out")
    assert imported.layout == "StyleGAN2 (NVlabs)" and len(imported.dropped) == 5
    require_same(tmp_path / "out", case, module)


# ---- files that are refused --------------------------------------------------------------------------------


class Evil:
    """Unpickling it would make a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def refused(file: Path) -> str:
    """What the import of a file says; it must leave nothing behind."""
    before = sorted(file.parent.iterdir())
    with pytest.raises(DataError) as error:
        import_file(file, file.parent / "out")
    assert sorted(file.parent.iterdir()) == before
    assert str(error.value).startswith(str(file))
    return str(error.value)


def test_a_hostile_file_is_refused_and_nothing_in_it_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    state = as_resnet(shaken(CASES["resnet"]).state_dict())
    says = refused(put(tmp_path / "a.pth", state | {"model.99.weight": Evil(marker)}))
    assert "refused, nothing was run: it asks for" in says and "system" in says
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"G_ema": Evil(marker), "note": "torch_utils.persistence"}))
    assert "refused, nothing was run: the pickle asks for" in refused(tmp_path / "b.pkl")
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Evil(marker), protocol=2))
    assert "system" in refused(tmp_path / "c.pth")
    evil_storage = pickle.dumps(Evil(marker))
    (tmp_path / "d.pkl").write_bytes(
        b"\x80\x02ctorch.storage\n_load_from_bytes\nB"
        + len(evil_storage).to_bytes(4, "little")
        + evil_storage
        + b"\x85R.torch_utils.persistence"
    )
    refused(tmp_path / "d.pkl")
    assert not marker.exists()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    good = put(tmp_path / "good.pth", as_resnet(shaken(CASES["resnet"]).state_dict())).read_bytes()
    contents = {
        "empty.pth": (b"", "the file is empty"),
        "short.pth": (good[: len(good) // 2], "not a whole PyTorch file"),
        "noise.pth": (bytes(range(256)) * 20, "not a whole PyTorch file"),
        "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        "page.pth": (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        "short.safetensors": (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "not a whole safetensors file"),
        "short.pkl": (
            b"\x80\x03}q\x00(X\x01\x00\x00\x00Gtorch_utils.persistence",
            "not a whole NVlabs pickle",
        ),
    }
    for name, (content, says) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert says in refused(tmp_path / name), name
    assert "there is no such file" in refused(tmp_path / "absent.pth")


def test_an_unknown_layout_is_refused_with_what_was_found_what_is_known_and_the_nearest(
    tmp_path: Path,
) -> None:
    says = refused(
        put(tmp_path / "a.pth", {"encoder.0.weight": torch.zeros(3), "decoder.1.bias": torch.zeros(3)})
    )
    assert (
        "no known layout: 2 tensors, such as decoder.1.bias, encoder.0.weight. Known: " in says
        and "Nearest: " in says
    )
    state = as_rosinality(shaken(CASES["stylegan2"]).state_dict())
    says = refused(
        put(tmp_path / "b.pth", {name: value for name, value in state.items() if name != "input.input"})
    )
    assert "Nearest: StyleGAN2 (rosinality, CAGC), which also has input.input" in says
    assert "holds epoch, loss; a generator is looked for under g_ema" in refused(
        put(tmp_path / "c.pth", {"epoch": 1, "loss": {"a": 1}})
    )
    assert "holds a list" in refused(put(tmp_path / "d.pth", [1, 2]))


def test_a_known_layout_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    state = as_resnet(shaken(CASES["resnet"]).state_dict())
    more = refused(put(tmp_path / "a.pth", state | {"model.10.conv_block.9.weight": torch.zeros(1)}))
    assert (
        "looks like ResNet" in more and "1 tensors are not understood: model.10.conv_block.9.weight" in more
    )
    less = refused(
        put(tmp_path / "b.pth", {name: value for name, value in state.items() if name != "model.4.weight"})
    )
    assert "model.4.weight is missing" in less
    pruned = dict(state) | {
        "model.11.conv_block.1.weight": torch.zeros(3, 8, 3, 3),
        "model.11.conv_block.5.weight": torch.zeros(8, 3, 3, 3),
    }
    assert "the widths inside the blocks differ ([3, 5]); this family has one width there" in refused(
        put(tmp_path / "c.pth", pruned)
    )
    mixed = dict(state) | {"model.7.weight": torch.zeros(9, 6, 3, 3)}
    assert "looks like ResNet" in refused(put(tmp_path / "d.pth", mixed))


def test_a_discriminator_is_named_as_one(tmp_path: Path) -> None:
    critic = discriminator(PatchDiscriminator(width=4), 6)
    file = put(tmp_path / "d.pth", {f"model.{name}": value for name, value in critic.state_dict().items()})
    assert "this is a discriminator (PatchGAN); give the file of its generator" in refused(file)


def test_the_command_prints_what_was_read_and_refuses_to_overwrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "latest_net_G.pth", as_unet(shaken(CASES["unet"]).state_dict(), 4))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["raydistill", "teacher", "import", "latest_net_G.pth", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    assert run("--size", "32x48") == 0
    printed, facts = (
        capsys.readouterr().out,
        json.loads((tmp_path / "latest_net_G-imported" / "import.json").read_text()),
    )
    for part in (
        "U-Net (pix2pix",
        "family unet, takes picture 3x32x48",
        f"{facts['params']:,} parameters",
        facts["output_digest"],
        "at 32x48",
    ):
        assert part in printed
    stored = saved.stored(tmp_path / "latest_net_G-imported", kind="generator")
    assert saved.load_generator(stored)[0] == CASES["unet"].config
    assert run() == 2 and "exists already" in capsys.readouterr().err
    assert run("--out", "other", "--size", "30x30") == 2 and "divisible by 16" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
