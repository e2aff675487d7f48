"""Nothing from a file runs, nothing from a file takes the machine, and what is no file is refused unread."""

import gzip
import io
import itertools
import json
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, features

import raydistill
from raydistill import plugins, reading
from raydistill.commands import evaluate
from raydistill.config.batch import load_batch
from raydistill.config.data import FolderData
from raydistill.config.space import load_space
from raydistill.data.classes import MOST_CLASSES
from raydistill.data.detect import find
from raydistill.data.files import file_at, files_of, pictures_of
from raydistill.data.folder import folder_source
from raydistill.data.inspect import inspect
from raydistill.data.picture_files import FORMATS, opened
from raydistill.errors import CheckpointError, InputError
from raydistill.evaluation.extractors import load_extractor, load_weights
from raydistill.evaluation.picture_sets import of_files
from raydistill.evaluation.segmenters import load_segmenter
from raydistill.exchange import key_layouts
from raydistill.exchange.checkpoint_files import read_weights
from raydistill.exchange.generator_file import open_generator
from raydistill.models import saved
from raydistill.records.tables import read_any_table

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def in_seconds() -> Iterator[None]:
    """A reader that opens a FIFO waits for ever: it is ended."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises((InputError, CheckpointError)) as caught:
        read()
    return str(caught.value)


# ---- what runs ---------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n/x 1 def\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_an_eps_named_like_a_picture_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", lambda *given, **more: started.append(given))
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **more: started.append(given))
    (tmp_path / name).write_bytes(EPS)
    assert "it is none of PNG, JPEG, BMP, WEBP, TIFF, PPM, GIF, AVIF" in refusal(
        file_at(tmp_path / name).image
    )
    assert "none of PNG" in refusal(lambda: of_files(tmp_path, in_order_of_split=False, device=CPU))
    assert started == []


@pytest.mark.parametrize("kind", ["ICO", "PCX", "SGI", "TGA", "PDF", "JPEG2000"])
def test_other_formats_are_refused_whatever_their_name(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, kind)
    assert "it is none of PNG, JPEG, BMP, WEBP, TIFF, PPM, GIF, AVIF" in refusal(
        lambda: opened(stream.getvalue(), "a.png")
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_the_formats_of_the_list_are_decoded(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    stream = io.BytesIO()
    Image.new("RGB", (16, 12)).save(stream, kind)
    assert opened(stream.getvalue(), "a").image.size == (16, 12)


def test_pictures_and_torch_files_are_opened_in_one_place_each() -> None:
    calls = {
        "Image.open": ["data/picture_files.py"],
        "np.load": [
            "data/prepared.py",
            "evaluation/published_statistics.py",  # a user's: without objects, up to the limit of a file
            "evaluation/real_statistics.py",
            "sweep/rates.py",
        ],  # the others: what raydistill wrote
        "torch.load": ["models/tensor_files.py", "training/checkpoint.py"],
        "torch.jit.load": ["evaluation/extractors.py", "exchange/evaluator_file.py", "exchange/export.py"],
        "gzip.decompress": [],
        "archive.read": [],
    }
    root, found = Path(raydistill.__file__).parent, {name: list[str]() for name in calls}
    for path in sorted(root.rglob("*.py")):
        for name in re.findall(r"[\w.]+(?=\()", path.read_text()):
            if name in found and (where := path.relative_to(root).as_posix()) not in found[name]:
                found[name].append(where)
    assert found == calls


# ---- what is no file ---------------------------------------------------------------------------------------


def make(kind: str, path: Path) -> None:
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2 * reading.MOST_BYTES)  # takes no disk


KINDS = ("FIFO", "socket", "device", "folder", "sparse")
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "picture": ("a.png", lambda path: file_at(path).image()),
    "picture of a set": ("a.png", lambda path: pictures_of(path.parent)[0].read()),
    "picture of a layout": ("a.png", lambda path: folder_source(shapes_of(path.parent))),
    "zip": ("a.zip", lambda path: files_of(path)[0].read()),
    "npz": ("a.npz", lambda path: find(path)),
    "IDX": ("train-images-idx3-ubyte", lambda path: find(path.parent)),
    "IDX.gz": ("train-images-idx3-ubyte.gz", lambda path: find(path.parent)),
    "checkpoint": ("a.pth", read_weights),
    "safetensors": ("a.safetensors", read_weights),
    "exported": ("a.safetensors", open_generator),
    "extractor": ("a.pth", lambda path: load_extractor(f"vgg16={path}", CPU)),
    "script": ("a.pt", lambda path: load_segmenter(f"torchscript={path}", CPU)),
    "csv": ("a.csv", read_any_table),
    "json": ("a.json", read_any_table),
    "parquet": ("a.parquet", read_any_table),
    "report": ("a.json", lambda path: evaluate._read_report(path)),
    "space": ("a.py", lambda path: load_space(str(path))),
    "batch": ("a.py", load_batch),
    "plug-in": ("a.py", lambda path: plugins.load([str(path)])),
}


def shapes_of(root: Path) -> FolderData:
    return FolderData(root=str(root), height=8, width=8)


@pytest.mark.parametrize(
    ("reader", "kind"),
    # pictures may lie in a folder of any name
    [each for each in itertools.product(READERS, KINDS) if each != ("picture of a set", "folder")],
)
def test_what_is_no_regular_file_or_has_no_end_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    name, read = READERS[reader]
    if reader.startswith("picture of"):
        for index in range(20):
            Image.new("RGB", (8, 8)).save(tmp_path / f"b{index}.png")
    make(kind, tmp_path / name)
    message = refusal(lambda: read(tmp_path / name))
    assert name in message and "\n" not in message


@pytest.mark.parametrize("name", ["classes.json", "train.txt"])
def test_a_fifo_where_a_list_may_be_is_not_passed_over(tmp_path: Path, name: str) -> None:
    for folder, mode in (("images", "RGB"), ("labels", "L")):
        (tmp_path / folder).mkdir()
        Image.new(mode, (8, 8)).save(tmp_path / folder / "a.png")
    os.mkfifo(tmp_path / name)
    message = refusal(lambda: folder_source(shapes_of(tmp_path)))
    assert f"{name}: cannot be read" in message and "it is a FIFO, not a regular file" in message


def test_files_without_a_size_are_not_read_on(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("/proc/self/maps")
    assert "it has more bytes than its size says" in refusal(lambda: read_any_table(tmp_path / "a.json"))


# ---- pictures that claim -----------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("header", [png_header, bmp_header])
@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (40_000, 25_000, "decompression bomb"),  # Pillow's own limit comes first here
        (12_000, 12_000, "12000x12000 pixels, at most 134,217,728 are decoded"),
        (1, 70_000, "1x70000 pixels, at most 134,217,728 are decoded, and 65,536 of a side"),
        (100_000, 2, "and 65,536 of a side"),
    ],
)
def test_a_picture_that_claims_too_much_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, header: Callable[[int, int], bytes], width: int, height: int, says: str
) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    assert says in refusal(lambda: opened(header(width, height), "a.png"))


def test_a_line_of_pixels_on_a_contact_sheet_takes_no_gigabytes(tmp_path: Path) -> None:
    Image.new("L", (60_000, 2)).save(tmp_path / "0.png")
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    _, shown = inspect(tmp_path, "pictures")
    from raydistill.data.contact_sheet import contact_sheet

    assert contact_sheet(shown).width < 2.1 * 16 * 96


def test_a_batch_of_pictures_to_score_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 64 * 3 * 8 * 8 - 1)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    message = refusal(lambda: of_files(tmp_path, in_order_of_split=False, device=CPU))
    assert "a.png: a batch of 64 pictures like it claims 12,288 bytes" in message


# ---- archives and arrays that claim ------------------------------------------------------------------------


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def npy(shape: str, dtype: str = "|u1", content: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def test_an_entry_that_claims_a_thousand_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 10**6)
    archive = zipped(tmp_path / "a.zip", {"a.png": bytes(2 * 10**6)})
    assert archive.stat().st_size < 3000
    assert "a.zip/a.png: cannot be read: it claims 2,000,000 bytes" in refusal(files_of(archive)[0].read)
    bomb = zipped(tmp_path / "a.npz", {"images.npy": npy("(2000000,)", "|u1", bytes(2 * 10**6))})
    assert "what is packed in it claims 2,000," in refusal(lambda: find(bomb))
    several = zipped(tmp_path / "b.npz", {f"{index}.npy": bytes(400_000) for index in range(3)})
    assert "what is packed in it claims 1,200,000 bytes" in refusal(lambda: find(several))


def test_an_entry_whose_header_lies_is_cut_where_the_header_says(tmp_path: Path) -> None:
    number = 16 * 2**20 + 12_345
    archive = zipped(tmp_path / "a.zip", {"a.png": bytes(number)})
    size = struct.pack("<I", number)
    assert archive.read_bytes().count(size) == 2  # in the entry's header and in the directory
    archive.write_bytes(archive.read_bytes().replace(size, struct.pack("<I", 100)))
    file = files_of(archive)[0]
    tracemalloc.start()
    message = refusal(file.read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a.zip/a.png: cannot be read: Bad CRC-32" in message and peak < 4 * 2**20


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_whose_output_is_not_bounded_are_refused(tmp_path: Path, method: int) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": bytes(100)}, method)
    assert "another method than stored or deflated" in refusal(files_of(archive)[0].read)


def test_damaged_data_in_an_entry_and_names_that_are_none_end_in_one_line(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": os.urandom(300)})
    content = bytearray(archive.read_bytes())
    content[40] ^= 0xFF
    archive.write_bytes(content)
    assert "a.zip/a.png: cannot be read" in refusal(files_of(archive)[0].read)
    assert files_of(zipped(tmp_path / "b.zip", {".": b"x"})) == []


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"images.npy": npy("(1000000000000,)")}, "0 bytes of an array uint8 (1000000000000,)"),
        ({"images.npy": npy("(4611686018427387904, 4, 4)")}, "0 bytes of an array"),
        ({"images.npy": npy("(1000000000, 0, 3)")}, "1,000,000,000 pictures of 0 x 3"),
        ({"images.npy": npy("(0, 10000000000000000000000000)")}, "cannot be read as npz"),
        ({"images.npy": npy("(-1, -12)", content=bytes(12))}, "cannot be read as npz"),
        ({"images.npy": npy("(1,)", "|O", pickle.dumps([1]))}, "an array of Python objects"),
        ({"images.npy": npy("-" * 9000 + "1")}, "the header of an array is damaged"),
        ({"images.npy": b"\x80\x04."}, "the header of an array is damaged"),
        (
            {
                "images.npy": npy("(2, 1, 1)", content=bytes(2)),
                "labels.npy": npy("(2,)", "<i8", struct.pack("<2q", 0, 10**9)),
            },
            f"the class id 1,000,000,000. Allowed: 0 to {MOST_CLASSES - 1:,}",
        ),
    ],
)
def test_an_npz_that_claims_what_it_has_not_is_refused(
    tmp_path: Path, entries: dict[str, bytes], says: str
) -> None:
    message = refusal(lambda: find(zipped(tmp_path / "a.npz", entries)))
    assert "a.npz" in message and says in message


def test_more_pictures_than_memory_has_places_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill.data import arrays

    monkeypatch.setattr(arrays, "MOST_BYTES", 10 * 1024)
    path = zipped(tmp_path / "a.npz", {"images.npy": npy("(11, 1, 1)", content=bytes(11))})
    assert "11 pictures of 1 x 1. Allowed: at most 10 pictures" in refusal(lambda: find(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3), "claims 79,228,162"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**17, 2**10, 2**10), "claims 137,438,953,472 bytes"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 10**9, 0, 28), "1,000,000,000 pictures of 0 x 28"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8 * 2**20), "more than 8 bytes after a header"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_file_is_unpacked_as_far_as_its_header_says(
    tmp_path: Path, content: bytes, says: str, ending: str
) -> None:
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    tracemalloc.start()
    message = refusal(lambda: find(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.name in message and says in message and peak < 2 * 2**20


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps({"labels": [["a.png", 10**9]]}), "the class id 1,000,000,000. Allowed: 0 to 99,999"),
        ('{"labels": ' + "[" * 100_000, "nested too deeply"),
        ('{"labels": [["a.png", ' + "9" * 5000 + "]]}", "dataset.json: ValueError"),
        ('{"labels": [["a.png", 1e400]]}', "has the label inf"),
    ],
)
def test_a_dataset_json_that_claims_is_refused(tmp_path: Path, text: str, says: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "dataset.json").write_text(text)
    assert says in refusal(lambda: find(tmp_path))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"classes": ["a"], "ignore_index": ' + "9" * 5000 + "}", "[" * 500 + "]" * 500]
)
def test_a_classes_json_that_claims_is_refused(tmp_path: Path, text: str) -> None:
    from raydistill.data.classes import listed_classes

    (tmp_path / "classes.json").write_text(text)
    message = refusal(lambda: listed_classes(tmp_path / "classes.json"))
    assert "classes.json" in message and len(message) < 1000


def test_a_table_that_claims_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": np.zeros(100_000)}).to_parquet(path)
    monkeypatch.setattr(reading, "MOST_BYTES", 10**7)
    assert path.stat().st_size < 10_000
    assert "a table of 100,000 rows claims 25,600,000 bytes" in refusal(lambda: read_any_table(path))
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert "nested too deeply" in refusal(lambda: read_any_table(tmp_path / "a.json"))


# ---- checkpoints that claim --------------------------------------------------------------------------------

TERA = 10**12
STRIDED = {
    "expanded": lambda: torch.zeros(1).expand(TERA),
    "overlapping": lambda: torch.zeros(4).as_strided((10**6, 10**6, 2), (0, 0, 1)),
    "many": lambda: torch.zeros(1).expand(2**29),
}


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize(
    "reader", [read_weights, lambda path: load_weights(path, torch.nn.Linear(1, 1), "a layer")]
)
def test_a_small_checkpoint_whose_tensor_claims_terabytes_is_refused(
    tmp_path: Path, reader: Callable[[Path], object], name: str
) -> None:
    path, number = tmp_path / "a.pth", 3 if name == "many" else 1
    torch.save({f"{index}.weight": STRIDED[name]() for index in range(number)}, path)
    assert path.stat().st_size < 3000
    message = refusal(lambda: reader(path))
    assert "a.pth" in message and "what its tensors hold claims" in message


@pytest.mark.parametrize("name", ["sparse", "meta", "quantized"])
def test_a_tensor_that_is_no_dense_array_is_refused(tmp_path: Path, name: str) -> None:
    tensors = {
        "sparse": torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (TERA,)),
        "meta": torch.empty(TERA, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
    }
    torch.save({"weight": tensors[name]}, tmp_path / "a.pth")
    message = refusal(lambda: read_weights(tmp_path / "a.pth"))
    assert "a tensor that is not dense" in message or "not a whole PyTorch file" in message


def test_a_checkpoint_with_packed_records_is_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"weight": torch.zeros(100_000)}, plain)
    with zipfile.ZipFile(plain) as archive:
        zipped(packed, {name: archive.read(name) for name in archive.namelist()})
    assert "what is packed in it claims" in refusal(lambda: read_weights(packed))
    assert set(read_weights(plain)) == {"weight"}


def nvlabs(body: bytes) -> bytes:
    """A pickle that begins like NVlabs' and goes on with `body`."""
    return b"\x80\x02X" + struct.pack("<I", 23) + b"torch_utils.persistence" + b"0" + body


def test_an_nvlabs_pickle_that_claims_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(nvlabs(b"}r\xff\xff\xff\x7f."))  # LONG_BINPUT: a place for 2 ** 31 objects
    assert "not a whole NVlabs pickle" in refusal(lambda: read_weights(path))
    stream = io.BytesIO()
    torch.save(torch.zeros(1).untyped_storage(), stream)
    bomb = (
        b"}(X\x05\x00\x00\x00G_ema" + inert(b"}(X\x0b\x00\x00\x00_parameters}(X\x01\x00\x00\x00w"
        b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n(B"
        + struct.pack("<I", len(stream.getvalue()))
        + stream.getvalue()
        + b"tRK\x00(\x8a\x06\x00\x00\x00\x00\x00\x01t(K\x00ttRuu") + b"u."
    )  # fmt: skip
    path.write_bytes(nvlabs(bomb))
    assert "what its tensors hold claims" in refusal(lambda: read_weights(path))


def inert(state: bytes) -> bytes:
    """An object of a module's class with this state."""
    return b"ctorch.nn.modules.linear\nLinear\n)R" + state + b"b"


def test_an_nvlabs_network_that_holds_itself_ends(tmp_path: Path) -> None:
    """One child twice on every level is as bad: 2 ** 40 modules."""
    circle = inert(b"q\x01}(X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00ah\x01uu")
    levels = inert(b"}")
    for _ in range(40):
        levels = inert(
            b"}(X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00a" + levels + b"q\x02X\x01\x00\x00\x00bh\x02uu"
        )
    for network in (circle, levels):
        (tmp_path / "a.pkl").write_bytes(nvlabs(b"}(X\x05\x00\x00\x00G_ema" + network + b"u."))
        message = refusal(lambda: read_weights(tmp_path / "a.pkl"))
        assert "a network of more than 10,000 modules" in message


def test_prefixes_without_end_are_taken_off(tmp_path: Path) -> None:
    torch.save({"module." * 3000 + "weight": torch.zeros(1)}, tmp_path / "a.pth")
    assert set(read_weights(tmp_path / "a.pth")) == {"weight"}


def test_layouts_with_shapes_that_claim_end_in_one_line() -> None:
    one = torch.zeros(1)
    style = dict.fromkeys(
        ["style.1.weight", "input.input", "conv1.conv.weight", "to_rgbs.0.conv.weight"], one
    )
    many = {
        f"convs.{index}.conv.{end}": one for index in range(60) for end in ("weight", "modulation.weight")
    }
    assert "60 convolutions; a network for 1024 pixels has 16" in refusal(
        lambda: key_layouts.recognise(style | many)
    )
    flat = {"model.1.weight": one, "model.10.conv_block.1.weight": one}
    assert "looks like ResNet" in refusal(lambda: key_layouts.recognise(flat))
    digits = {"model.1.weight": one, f"model.{'9' * 5000}.conv_block.1.weight": one}
    assert "looks like ResNet" in refusal(lambda: key_layouts.recognise(digits))


def test_a_network_whose_files_claim_is_refused(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("[" * 100_000)
    assert "nested too deeply" in refusal(lambda: saved.stored(tmp_path))
    header = json.dumps({"w": {"dtype": "F32", "shape": [TERA], "data_offsets": [0, 4 * TERA]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "not a whole safetensors file" in refusal(lambda: read_weights(path))
    header = json.dumps(
        {"__metadata__": {"format": "raydistill generator 1", "config": "[" * 100_000}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "nested too deeply" in refusal(lambda: open_generator(path))


def test_nothing_is_lost_for_what_is_whole(tmp_path: Path) -> None:
    state: dict[str, Any] = OrderedDict(a=torch.arange(6.0).view(2, 3).t(), b=torch.tensor(3))
    torch.save({"g_ema": state}, tmp_path / "a.pth")
    read = read_weights(tmp_path / "a.pth")
    assert read["a"].equal(state["a"]) and read["b"].equal(state["b"])
