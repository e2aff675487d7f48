"""The local copy of an S3-compatible store: what goes up, what comes down, and what is refused."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3

from raydistill.errors import StoreError
from raydistill.records import mirror, remote, store


@pytest.fixture(scope="module")
def query(tmp_path_factory) -> Iterator[str]:
    with s3.served(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def machines(query, tmp_path, monkeypatch):
    """The folders of one store on two machines."""
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    roots = []
    for name in ("one", "two"):
        monkeypatch.setenv(mirror.FOLDER, str(tmp_path / name))
        roots.append(mirror.folder_of(f"s3://{s3.BUCKET}/{tmp_path.name}?{query}"))
    return roots


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def files(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if not name.startswith(".")}


def test_a_folder_goes_up_on_one_machine_and_comes_down_on_another(machines):
    one, two = machines
    trial = "sweeps/a/trials/0001"
    for name in ("trial.json", "log.txt", "checkpoint-000000000100/meta.json", "network/network.safetensors"):
        write(one / trial / name, name)
    for name in ("ray/x.json", "lock", "tmp-checkpoint-1/meta.json", ".hidden"):
        write(one / trial / name, "stays here")
    remote.push(one / trial)
    remote.pull(two / trial)
    sent = ["checkpoint-000000000100/meta.json", "log.txt", "network/network.safetensors", "trial.json"]
    assert sorted(files(two / trial)) == sent and all(files(two / trial)[name] == name for name in sent)
    assert [path.name for path in remote.folders(two / "sweeps")] == ["a"]


def test_only_what_changed_is_copied(machines, monkeypatch):
    one, two = machines
    for name in ("a", "b"):
        write(one / "x" / name, name)
    remote.push(one / "x")
    copied = []
    for name in ("_upload", "_download"):
        copy = getattr(remote, name)
        monkeypatch.setattr(remote, name, lambda *args, copy=copy: (copied.append(1), copy(*args)))
    remote.push(one / "x")
    remote.pull(one / "x")
    assert copied == []  # the machine that wrote it does not fetch it again
    write(one / "x/b", "c")  # as long as before
    remote.push(one / "x")
    remote.pull(two / "x")
    assert len(copied) == 1 + 2 and files(two / "x") == {"a": "a", "b": "c"}
    remote.pull(two / "x")
    assert len(copied) == 3


def test_an_older_checkpoint_goes_when_a_newer_one_is_there(machines):
    one, two = machines
    write(one / "t/checkpoint-000000000100/meta.json", "100")
    remote.push(one / "t")
    shutil.rmtree(one / "t/checkpoint-000000000100")
    write(one / "t/checkpoint-000000000200/meta.json", "200")
    remote.push(one / "t")
    remote.pull(two / "t")
    assert files(two / "t") == {"checkpoint-000000000200/meta.json": "200"}


def test_what_a_dead_worker_left_half_written_does_not_come_down(machines, monkeypatch):
    """The process dies before the last file, which is the one that says that the rest is there."""
    one, two = machines
    write(one / "t/checkpoint-000000000100/meta.json", "100")
    remote.push(one / "t")
    for name in ("mi.energy.safetensors", "generator.safetensors", "meta.json"):
        write(one / "t/checkpoint-000000000200" / name, name)
    upload, left = remote._upload, [2]

    def dies(*args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        upload(*args)

    monkeypatch.setattr(remote, "_upload", dies)
    with pytest.raises(KeyboardInterrupt):
        remote.push(one / "t")
    remote.pull(two / "t")
    assert files(two / "t") == {"checkpoint-000000000100/meta.json": "100"}


def test_removed_here_and_there(machines):
    one, two = machines
    write(one / "x/a/b", "b")
    write(one / "y", "y")
    for path in (one / "x", one / "y"):
        remote.push(path)
        remote.remove(path)
        assert not path.exists()
        remote.pull(two / path.relative_to(one))
        assert not (two / path.relative_to(one)).exists()
    remote.remove(one / "never there")


def test_a_second_machine_finds_the_sweep_to_resume(machines):
    one, two = machines
    store.create_sweep(store.open_store(one), None, "default", {"definition": "d"})
    found = store.find_sweep(store.open_store(two), None, "d")
    assert found == two / "sweeps/default-001"
    assert (
        store.create_sweep(store.open_store(two), None, "default", {"definition": "d"}).name == "default-002"
    )


def test_ordinary_folders_are_left_alone(tmp_path):
    write(tmp_path / "x/a", "a")
    remote.push(tmp_path / "x")
    remote.pull(tmp_path / "x")
    assert remote.folders(tmp_path) == [tmp_path / "x"]
    assert remote.ray_storage(tmp_path / "x") == {"storage_path": str(tmp_path / "x")}
    assert mirror.folder_of("runs") == Path("runs").absolute()


@pytest.mark.parametrize(
    "url, says",
    [
        ("gs://bucket/runs", "give a folder, or s3://bucket/prefix"),
        ("s3://bucket", "give a folder, or s3://bucket/prefix"),
        ("s3://bucket/runs?endpoint=x", "endpoint is not known or empty"),
        ("s3://bucket/runs?endpoint_override=", "endpoint_override"),
        ("s3://key:secret@bucket/runs", "no credentials in the URL"),
        (f"s3://bucket/{'x' * 300}", "too long"),
    ],
)
def test_other_urls_are_refused(url, says):
    with pytest.raises(StoreError, match=says) as raised:
        mirror.folder_of(url)
    assert "secret" not in str(raised.value)


def test_a_bucket_that_is_not_there_is_refused(machines, query):
    with pytest.raises(StoreError, match="there is no bucket elsewhere"):
        store.open_store(mirror.folder_of(f"s3://elsewhere/runs?{query}"))


def test_a_store_that_is_down_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(mirror.FOLDER, str(tmp_path))
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="cannot be reached"):
        store.open_store(
            mirror.folder_of("s3://results/runs?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1")
        )
    assert os.listdir(tmp_path)  # the local copy's folder, which a next try uses


def test_the_address_of_a_sweep_names_its_folder_in_the_copy(tmp_path, monkeypatch):
    monkeypatch.setenv(mirror.FOLDER, str(tmp_path))
    query = "endpoint_override=http://127.0.0.1:9"
    store_folder = mirror.folder_of(f"s3://bucket/prefix?{query}")
    assert mirror.sweep_of(f"s3://bucket/prefix/sweeps/mine?{query}") == store_folder / "sweeps" / "mine"
    with pytest.raises(StoreError, match="give the sweep as"):
        mirror.sweep_of(f"s3://bucket/prefix/mine?{query}")
