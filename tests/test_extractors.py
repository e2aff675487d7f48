"""Feature networks: the published layouts, the loaders, the names, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from raydistill.errors import DataError
from raydistill.evaluation import extractors
from raydistill.evaluation.extractors import KNOWN, TF_INCEPTION, Extractor, load_extractor, resize_pictures
from raydistill.evaluation.segmenters import load_segmenter
from raydistill.models.backbones.drn import DRN105
from raydistill.models.backbones.inception import Inception
from raydistill.models.backbones.squeezenet import SqueezeNet, read_compressed
from raydistill.models.backbones.vgg import VGG16

CPU = torch.device("cpu")
COMPRESSED = Path(__file__).parents[2] / "shared" / "data" / "squeezenet_dc" / "compressed_SqueezeNet.net"


def noise(num: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (num, 3, height, width), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the published names."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(Inception().state_dict(), path)
    return path


# ---- published layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "num_parameters", "entries"),
    [
        (
            Inception,
            23850960,
            {
                "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
                "Conv2d_4a_3x3.bn.running_var": (192,),
                "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
                "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
                "Mixed_6e.branch7x7dbl_2.conv.weight": (192, 192, 7, 1),
                "Mixed_7a.branch7x7x3_2.conv.weight": (192, 192, 1, 7),
                "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
                "Mixed_7c.branch_pool.conv.weight": (192, 2048, 1, 1),
                "fc.weight": (1008, 2048),
            },
        ),
        (
            VGG16,
            138_357_544,
            {
                "features.0.weight": (64, 3, 3, 3),
                "features.10.weight": (256, 128, 3, 3),
                "features.28.bias": (512,),
                "classifier.0.weight": (4096, 25088),
                "classifier.6.weight": (1000, 4096),
            },
        ),
        (
            DRN105,
            54_302_915,
            {
                "base.0.0.weight": (16, 3, 7, 7),
                "base.2.0.weight": (32, 16, 3, 3),
                "base.3.0.downsample.0.weight": (256, 32, 1, 1),
                "base.5.22.conv2.weight": (256, 256, 3, 3),
                "base.6.0.downsample.1.running_mean": (2048,),
                "base.7.0.weight": (512, 2048, 3, 3),
                "base.8.1.bias": (512,),
                "seg.weight": (19, 512, 1, 1),
                "up.weight": (19, 1, 16, 16),
            },
        ),
        (SqueezeNet, 1_248_424, {}),
    ],
)
def test_a_network_has_the_published_parameters(
    network: type[nn.Module], num_parameters: int, entries: dict[str, tuple[int, ...]]
) -> None:
    with torch.device("meta"):
        built = network()
    assert sum(parameter.numel() for parameter in built.parameters()) == num_parameters
    state = built.state_dict()
    assert {name: tuple(state[name].shape) for name in entries} == entries


def test_the_average_pools_of_inception_leave_out_the_padding() -> None:
    """A block with unit weights on a constant picture is constant up to its border, as TensorFlow's is
    and torchvision's is not."""
    block = Inception().eval().Mixed_5b
    ones = torch.ones(1, 192, 5, 5)
    along = block._along(("average",), ones)
    assert torch.equal(along, ones)


# ---- loaders -----------------------------------------------------------------------------------------------


def test_inception_is_loaded_by_its_published_names(inception_file: Path) -> None:
    extractor = load_extractor(f"inception={inception_file}", CPU)
    assert (extractor.name, extractor.resize, extractor.num_features) == ("inception", "tf_bilinear", 2048)
    pictures = noise(2, 40, 30)
    one, two = (extractor.network(pictures[index : index + 1]) for index in range(2))
    torch.testing.assert_close(extractor.network(pictures), torch.cat([one, two]), rtol=1e-4, atol=1e-6)
    assert not torch.equal(one, two)


def test_only_the_published_inception_gives_an_fid(inception_file: Path) -> None:
    ours = load_extractor(f"inception={inception_file}", CPU)
    assert (ours.metric("fd"), ours.metric("kd")) == ("fd_inception", "kd_inception")
    assert ours.weights == f"weights of unknown digest {ours.sha256[:16]}"
    published = Extractor("inception", TF_INCEPTION, "tf_bilinear", 2048, ours.network)
    assert (published.metric("fd"), published.metric("kd")) == ("fid", "kid")
    assert "2015-12-05" in published.weights and TF_INCEPTION.startswith("6726825d") and len(KNOWN) == 3
    assert (
        Extractor("script_inception", TF_INCEPTION, "none", 2048, ours.network).metric("fd")
        == "fd_script_inception"
    )


def test_weights_of_another_network_are_refused(tmp_path: Path, inception_file: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    for file in (tmp_path / "a.safetensors", inception_file):
        with pytest.raises(
            DataError,
            match=f"{file}: these are not the weights of VGG16: .*Give the file as it was published",
        ):
            extractors.load_weights(file, nn.Sequential(nn.Linear(1, 1)), "VGG16")


@pytest.mark.parametrize(
    "content, says",
    [
        (pickle.dumps({"weight": Path}), "nothing was run: it asks for pathlib.Path. Save the plain"),
        (b"not a network", "not a whole PyTorch file"),
        (b"", "not a whole PyTorch file"),
        (b"PK\x03\x04" + bytes(100), "not a whole PyTorch file"),
        (bytes(range(256)) * 20, "not a whole PyTorch file"),
        (pickle.dumps([1, 2]), "not a whole PyTorch file"),
    ],
)
@pytest.mark.parametrize("option, load", [("inception", load_extractor), ("drn105", load_segmenter)])
def test_what_is_no_file_of_tensors_is_refused_in_one_line(
    tmp_path: Path, content: bytes, says: str, option: str, load: Callable[[str, torch.device], object]
) -> None:
    file = tmp_path / "w.pth"
    if says.startswith("nothing"):
        torch.save({"weight": Path}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match="not the weights of") as refused:
        load(f"{option}={file}", CPU)
    message = str(refused.value)
    assert says in message and "\n" not in message and "weights_only" not in message


def test_a_file_that_holds_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(DataError, match=r"it holds a list, no state_dict\. Give the file"):
        load_extractor(f"vgg16={tmp_path / 'list.pth'}", CPU)


@pytest.mark.parametrize("given", ["resnet=file", "inception", "inception="])
def test_an_extractor_is_a_kind_and_a_file(given: str) -> None:
    with pytest.raises(
        DataError, match=r"KIND=FILE\. Allowed kinds: inception, squeezenet, vgg16, torchscript"
    ):
        load_extractor(given, CPU)


def test_a_missing_file_and_a_pointer_of_git_lfs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is downloaded"):
        load_extractor(f"inception={tmp_path / 'none.pth'}", CPU)
    (tmp_path / "pointer.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    with pytest.raises(DataError, match="git lfs pull"):
        load_extractor(f"inception={tmp_path / 'pointer.pth'}", CPU)


@pytest.mark.parametrize(("cut", "added"), [(1000, 0), (0, 1)])
def test_a_compressed_squeezenet_that_is_not_whole_is_refused(tmp_path: Path, cut: int, added: int) -> None:
    with torch.device("meta"):
        biases = [parameter for name, parameter in SqueezeNet().named_parameters() if name.endswith("bias")]
    whole = bytes(4 * len(biases)) + b"".join(bytes(1024 + 4 * len(bias)) for bias in biases)
    (tmp_path / "whole").write_bytes(whole)
    assert not any(bool(parameter.any()) for parameter in read_compressed(tmp_path / "whole").parameters())
    (tmp_path / "net").write_bytes(whole[: len(whole) - cut] + bytes(added))
    with pytest.raises(DataError, match="as it was published"):
        read_compressed(tmp_path / "net")


def test_a_torchscript_file_is_named_by_its_file_and_gets_whole_numbers(tmp_path: Path) -> None:
    class Means(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            assert pictures.dtype == torch.uint8
            return pictures.float().mean((2, 3))

    torch.jit.script(Means()).save(tmp_path / "means.pt")
    extractor = load_extractor(f"torchscript={tmp_path / 'means.pt'}", CPU)
    assert (extractor.metric("fd"), extractor.resize, extractor.num_features) == (
        "fd_script_means",
        "none",
        3,
    )
    pictures = noise(2, 5, 7)
    torch.testing.assert_close(extractor.network(pictures), pictures.float().mean((2, 3)))


def test_a_torchscript_file_that_gives_no_rows_is_refused(tmp_path: Path) -> None:
    torch.jit.script(nn.Identity()).save(tmp_path / "same.pt")
    with pytest.raises(DataError, match=r"one picture gives \(1, 3, 64, 64\). Needed"):
        load_extractor(f"torchscript={tmp_path / 'same.pt'}", CPU)
    (tmp_path / "broken.pt").write_bytes(b"no archive")
    with pytest.raises(DataError, match="not a TorchScript file"):
        load_extractor(f"torchscript={tmp_path / 'broken.pt'}", CPU)


# ---- resize filters ----------------------------------------------------------------------------------------


def test_the_filter_of_tensorflow_samples_from_the_corner() -> None:
    """0, 10 at 2 -> 4 pixels: places 0, .5, 1, 1.5; centred ones would be -.25, .25, .75, 1.25."""
    row = torch.tensor([[[[0, 10], [0, 10]]]], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert resize_pictures(row, "tf_bilinear", 4)[0, 0, 0].tolist() == [0, 5, 10, 10]
    assert resize_pictures(row, "bilinear", 4)[0, 0, 0].tolist() == [0, 2.5, 7.5, 10]
    picture = noise(1, 16, 16)
    assert torch.equal(resize_pictures(picture, "tf_bilinear", 16), picture.float())
    torch.testing.assert_close(
        resize_pictures(picture.mT, "tf_bilinear", 7), resize_pictures(picture, "tf_bilinear", 7).mT
    )


# ---- real weights ------------------------------------------------------------------------------------------


@pytest.mark.realdata
@pytest.mark.skipif(not COMPRESSED.exists(), reason="squeezenet_dc is not there")
def test_the_compressed_squeezenet_has_the_published_number_of_weights_and_tells_pictures_apart() -> None:
    network = read_compressed(COMPRESSED)
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    assert sum(int((weight != 0).sum()) for weight in weights) == 415_921
    extractor = load_extractor(f"squeezenet={COMPRESSED}", CPU)
    assert extractor.weights.startswith("SqueezeNet") and extractor.num_features == 512
    features = extractor.network(
        torch.cat([noise(1, 64, 64), torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)])
    )
    assert bool((features >= 0).all()) and float(features.norm(dim=1).min()) > 0.1


def test_squeezenet_gives_the_average_of_its_last_fire_over_positions() -> None:
    torch.manual_seed(0)
    network = SqueezeNet().eval()
    pictures = noise(2, 64, 96).float()
    with torch.no_grad():
        positions, features = network.layers(pictures), network(pictures)
    torch.testing.assert_close(features, positions.flatten(2).sum(2) / positions[0, 0].numel())
    assert features.shape == (2, 512) and positions.shape[2:] != (1, 1)
