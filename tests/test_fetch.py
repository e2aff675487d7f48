"""`raydistill data fetch`, against a server on loopback: checked, resumed, unpacked whole or not at all."""

import hashlib
import io
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from raydistill.commands.cli import main
from raydistill.data import fetch
from raydistill.data.fetch import Download


class Server(NamedTuple):
    url: str
    files: dict[str, bytes]
    ranges: list[str]
    """The Range header of every request, empty where there is none."""
    cut: dict[str, int]
    """Name -> after so many bytes the connection breaks."""


@pytest.fixture
def server() -> Iterator[Server]:
    files, ranges, cut = dict[str, bytes](), list[str](), dict[str, int]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if name not in files:
                return self.send_error(404)
            content, etag = files[name], hashlib.md5(files[name]).hexdigest()
            wanted = self.headers.get("Range", "")
            ranges.append(wanted)
            start = (
                int(wanted.removeprefix("bytes=").removesuffix("-"))
                if wanted and self.headers.get("If-Range") == etag
                else 0
            )
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(content[start : cut.get(name)])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield Server(f"http://127.0.0.1:{http.server_port}", files, ranges, cut)
    http.shutdown()
    http.server_close()


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["raydistill", "data", "fetch", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            main()
        printed = capsys.readouterr()
        return int(exit_info.value.code or 0), printed.out + printed.err

    return call


def zipped(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in names.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_more_than_files_and_folders_is_refused(
    run: Any, server: Server, tmp_path: Path, kind: bytes
) -> None:
    folder, link, buffer = tarfile.TarInfo("facades"), tarfile.TarInfo("facades/link"), io.BytesIO()
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, kind, "/etc/passwd"
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(folder)
        archive.addfile(link)
    server.files["facades.tar.gz"] = buffer.getvalue()
    code, printed = run("facades", "--mirror", server.url)
    assert code == 2 and "facades/link is neither a file nor a folder" in " ".join(printed.split())
    assert not list(tmp_path.rglob("link"))


def test_an_archive_is_unpacked_without_its_only_folder_and_its_sha256_is_kept(
    run: Any, server: Server
) -> None:
    server.files["horse2zebra.zip"] = zipped(
        {"horse2zebra/trainA/a.jpg": b"a", "horse2zebra/trainB/b.jpg": b"b"}
    )
    server.files["facades.tar.gz"] = tarred({"facades/train/1.jpg": b"1"})
    code, printed = run("horse2zebra", "--mirror", server.url)
    sha256 = hashlib.sha256(server.files["horse2zebra.zip"]).hexdigest()
    assert (
        code == 0
        and "nobody publishes a checksum" in printed
        and sha256 in printed
        and "data inspect data/horse2zebra" in printed
    )
    assert Path("data/horse2zebra/trainA/a.jpg").read_bytes() == b"a"
    assert Path("data/horse2zebra/SHA256SUMS").read_text() == f"{sha256}  horse2zebra.zip\n"
    assert (
        run("facades", "--mirror", f"{server.url}/")[0] == 0
        and Path("data/facades/train/1.jpg").read_bytes() == b"1"
    )
    assert sorted(path.name for path in Path("data").iterdir()) == ["facades", "horse2zebra"]
    requests = len(server.ranges)
    assert "is there" in run("facades", "--mirror", server.url)[1] and len(server.ranges) == requests


def test_a_download_that_broke_off_goes_on_where_it_was(run: Any, server: Server) -> None:
    content = server.files["horse2zebra.zip"] = zipped(
        {"trainA/a.jpg": bytes(range(256)) * 20, "trainB/b.jpg": b"b"}
    )
    server.cut["horse2zebra.zip"] = 1000
    code, printed = run("horse2zebra", "--mirror", server.url)
    assert (
        code == 2 and f"broke off after 1,000 of {len(content):,} bytes. The same command goes on" in printed
    )
    assert not Path("data/horse2zebra").exists()
    server.cut.clear()
    code, printed = run("horse2zebra", "--mirror", server.url)
    assert code == 0 and "going on after 0.0 MB" in printed and server.ranges == ["", "bytes=1000-"]
    assert Path("data/horse2zebra/trainA/a.jpg").read_bytes() == bytes(range(256)) * 20


def test_a_file_that_changed_on_the_server_meanwhile_is_fetched_from_the_start(
    run: Any, server: Server
) -> None:
    server.files["horse2zebra.zip"] = zipped({"trainA/a.jpg": b"old" * 1000, "trainB/b.jpg": b""})
    server.cut["horse2zebra.zip"] = 1000
    run("horse2zebra", "--mirror", server.url)
    server.cut.clear()
    server.files["horse2zebra.zip"] = zipped({"trainA/a.jpg": b"new" * 1000, "trainB/b.jpg": b""})
    assert run("horse2zebra", "--mirror", server.url)[0] == 0
    assert Path("data/horse2zebra/trainA/a.jpg").read_bytes() == b"new" * 1000


def test_a_wrong_checksum_is_refused_and_nothing_is_left(
    run: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["one-ubyte.gz"] = b"content"
    right = hashlib.md5(b"content").hexdigest()
    for md5, expected in (("0" * 32, 2), (right, 0)):
        monkeypatch.setitem(fetch.SETS, "small", (Download("http://nowhere.invalid/one-ubyte.gz", md5),))
        code, printed = run("small", "--mirror", server.url)
        assert code == expected
        assert (f"md5 {right}, expected {md5}. It was removed" in printed) == bool(expected)
        assert list(Path("data").rglob("one-ubyte.gz")) == (
            [] if expected else [Path("data/small/one-ubyte.gz")]
        )


def test_a_demanded_sha256_is_checked(run: Any, server: Server) -> None:
    server.files["horse2zebra.zip"] = zipped({"trainA/a.jpg": b"a", "trainB/b.jpg": b"b"})
    code, printed = run("horse2zebra", "--mirror", server.url, "--sha256", "ab" * 32)
    assert code == 2 and f"expected {'ab' * 32}" in printed and not Path("data/horse2zebra").exists()
    assert (
        run(
            "horse2zebra",
            "--mirror",
            server.url,
            "--sha256",
            hashlib.sha256(server.files["horse2zebra.zip"]).hexdigest().upper(),
        )[0]
        == 0
    )
    assert "sets of one file" in run("fashion_mnist", "--sha256", "ab")[1]


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp/evil.jpg"])
def test_an_archive_that_leaves_its_folder_is_refused_whole(
    run: Any, server: Server, tmp_path: Path, name: str
) -> None:
    server.files["horse2zebra.zip"] = zipped({"trainA/a.jpg": b"a", name: b"evil"})
    server.files["facades.tar.gz"] = tarred({"train/a.jpg": b"a", name: b"evil"})
    for which in ("horse2zebra", "facades"):
        code, printed = run(which, "--mirror", server.url)
        assert code == 2 and "leaves the folder it would be unpacked to" in printed
    assert not any(path.name in ("horse2zebra", "facades", "evil.jpg") for path in tmp_path.rglob("*"))


def test_a_damaged_archive_is_removed_so_that_the_next_try_fetches_it(run: Any, server: Server) -> None:
    server.files["horse2zebra.zip"] = b"<html>moved</html>"
    code, printed = run("horse2zebra", "--mirror", server.url)
    assert code == 2 and "horse2zebra.zip: cannot be unpacked" in printed
    server.files["horse2zebra.zip"] = zipped({"trainA/a.jpg": b"a", "trainB/b.jpg": b"b"})
    assert run("horse2zebra", "--mirror", server.url)[0] == 0


def test_without_a_connection_or_a_file_it_is_said_what_to_do(run: Any, server: Server) -> None:
    code, printed = run("horse2zebra", "--mirror", "http://127.0.0.1:9")
    assert (
        code == 2
        and "cannot be reached or broke off" in printed
        and "copy the file to data/.horse2zebra.parts/horse2zebra.zip" in printed
    )
    code, printed = run("horse2zebra", "--mirror", server.url)
    assert code == 2 and "the server answers 404" in printed
    Path("data/.horse2zebra.parts/horse2zebra.zip").write_bytes(
        zipped({"trainA/a.jpg": b"a", "trainB/b.jpg": b"b"})
    )
    assert run("horse2zebra", "--mirror", "http://127.0.0.1:9")[0] == 0, (
        "the file that was copied there is taken"
    )


def test_unknown_sets_and_those_fetched_by_hand_are_said(run: Any) -> None:
    code, printed = run("horse2zebras")
    assert code == 2 and "Nearest: 'horse2zebra'" in printed
    code, printed = run("cityscapes")
    assert code == 2 and "gtFine_trainvaltest.zip" in printed and "register at" in printed


def test_every_published_checksum_and_address_is_whole() -> None:
    for downloads in fetch.SETS.values():
        for download in downloads:
            assert download.url.startswith("http") and len(download.md5) in (0, 32)
