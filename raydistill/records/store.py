"""The results folder: one place for everything that sweeps read again.

STORE/store.json          version
      cache/              prepared data, evaluators and teachers, each under its fingerprint
      sweeps/<name>/      sweep.json, trials/, tables, page
      mlflow.db           the default tracking store, with mlartifacts/
"""

import contextlib
import fcntl
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from raydistill.config.experiment import JOB_VERSION
from raydistill.errors import StoreError
from raydistill.records import remote
from raydistill.records.files import write_json_atomic

STORE_VERSION = 1
NEEDED_GB = 0.5


def open_store(given: str | Path) -> Path:
    """Creates or checks the store that a `--store` names; absolute path, of an object store that of the local copy.

    Raises:
        StoreError: not writable, too little space, another version's, or a kind of URL that is not read.
    """
    store = remote.folder_of(str(given))
    version_file = store / "store.json"
    try:
        store.mkdir(parents=True, exist_ok=True)
        remote.require_bucket(store)
        remote.pull(version_file)
        probe = store / f".probe-{secrets.token_hex(4)}"
        probe.write_text("probe")
        probe.unlink()
        if not version_file.exists():
            if any(not path.name.startswith(".") for path in store.iterdir()):
                raise StoreError(
                    f"--store {store}: not empty and not a raydistill store (no store.json); give a new or empty folder"
                )
            write_json_atomic(version_file, {"store_version": STORE_VERSION})
            remote.push(version_file)
        version = json.loads(version_file.read_text()).get("store_version")
    except (OSError, ValueError) as error:
        raise StoreError(
            f"--store {store}: cannot be used: {error}; give a folder that can be written"
        ) from error
    if version != STORE_VERSION:
        raise StoreError(
            f"--store {store}: written by store version {version}, this raydistill reads {STORE_VERSION}; give another folder"
        )
    if (free := shutil.disk_usage(store).free / 2**30) < NEEDED_GB:
        raise StoreError(
            f"--store {store}: {free:.2f} GiB free, needed {NEEDED_GB}; free some space or give another folder"
        )
    for sweep in remote.folders(store / "sweeps"):
        remote.pull(sweep / "sweep.json")
    return store


def create_sweep(
    store: Path,
    name: str | None,
    space: str,
    facts: dict[str, Any],
    files: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """A new sweep folder with `sweep.json` and `files`, by name, as JSON. name None: `<space>-<number>`.

    Raises:
        StoreError: the name is taken or is no plain file name.
    """
    sweeps = store / "sweeps"
    if name is None:
        numbers = [
            int(found[1])
            for path in sweeps.glob(f"{space}-*")
            if (found := re.fullmatch(rf"{re.escape(space)}-(\d+)", path.name))
        ]
        name = f"{space}-{max(numbers, default=0) + 1:03d}"
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise StoreError(f"--name {name!r}: use letters, digits, '.', '_' and '-'")
    folder, hidden = sweeps / name, sweeps / f".{name}-{secrets.token_hex(4)}"
    record = {
        "store_version": STORE_VERSION,
        "sweep_id": secrets.token_hex(8),
        "name": name,
        "created": time.time(),
        "job_version": JOB_VERSION,
        **facts,
    }
    for file, content in {**files, "sweep.json": record}.items():
        write_json_atomic(hidden / file, content)
    try:
        hidden.rename(folder)
    except OSError as error:
        shutil.rmtree(hidden)
        raise StoreError(
            f"--name {name}: {folder} exists; add --resume to go on with it, or give another name"
        ) from error
    remote.push(folder)
    return folder


def find_sweep(
    store: Path, name: str | None, definition: str, plugins: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """The sweep to resume: the named one, else the newest of the same definition. `plugins`: as `plugins.recorded` has them.

    Raises:
        StoreError: there is none, or the named one was started with other settings.
    """
    if name is not None:
        folder = store / "sweeps" / name
        if not (folder / "sweep.json").exists():
            raise StoreError(
                f"--resume --name {name}: there is no such sweep in {store / 'sweeps'}; leave --resume out to start it"
            )
        _require_same_version([folder], f"--resume --name {name}")
        require_same_plugins(folder, plugins, f"--resume --name {name}")
        if read_sweep(folder)["definition"] != definition:
            raise StoreError(
                f"--resume --name {name}: that sweep was started with another space, data, config or seed; use the same command"
            )
        return folder
    same = [
        path.parent
        for path in (store / "sweeps").glob("[!.]*/sweep.json")
        if read_sweep(path.parent)["definition"] == definition
    ]
    if not same:
        older = [path.parent for path in (store / "sweeps").glob("[!.]*/sweep.json")]
        _require_same_version(
            sorted(older), "--resume: no sweep has the same space, data, config and seed, and"
        )
        for folder in sorted(
            (path.parent for path in (store / "sweeps").glob("[!.]*/sweep.json")), reverse=True
        ):
            if set(read_sweep(folder).get("plugins", {})) == set(plugins) != set():
                require_same_plugins(folder, plugins, f"--resume: sweep {folder.name}")
        raise StoreError(
            f"--resume: no sweep in {store / 'sweeps'} has the same space, data, config and seed; leave --resume out to start one"
        )
    return max(same, key=lambda folder: read_sweep(folder)["created"])


def _require_same_version(folders: Sequence[Path], where: str) -> None:
    """Raises StoreError with the names of sweeps whose jobs an earlier version wrote: theirs have other names and keys."""
    older = [folder.name for folder in folders if read_sweep(folder).get("job_version", 2) != JOB_VERSION]
    if older:
        raise StoreError(
            f"{where} {', '.join(older)}: made by an earlier version of raydistill, whose trials cannot be gone on with; "
            f"start a new sweep, with --warm-start {older[-1]} to begin with what it knows"
        )


def require_same_plugins(folder: Path, plugins: Mapping[str, Any], where: str) -> None:
    """Raises StoreError with what changed, where a sweep was started with other plug-ins than these."""
    before = read_sweep(folder).get("plugins", {})
    for name in {**before, **plugins}:
        if name not in plugins:
            raise StoreError(
                f"{where}: was started with the plug-in {name}; add --plugin with its path or module"
            )
        if name not in before:
            raise StoreError(
                f"{where}: was started without the plug-in {name}; leave that --plugin out, or start a new sweep"
            )
        if before[name]["digest"] != plugins[name]["digest"]:
            what = _first_change(before[name]["files"], plugins[name]["files"])
            raise StoreError(
                f"{where}: the plug-in {name} has changed since: {what}. "
                f"Put it back (its text is in {folder}/sweep.json), or start a new sweep"
            )


def _first_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    for module in sorted({*before, *now}):
        old, new = (files.get(module, "").splitlines() for files in (before, now))
        for index, (a, b) in enumerate(zip_longest(old, new)):
            if a != b:
                return f"line {index + 1} of {module} was {(a or '').strip()!r}, now {(b or '').strip()!r}"
    return "white space at the end of a line"


def read_sweep(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder}/sweep.json: not readable ({error})") from error
    if facts.get("store_version") != STORE_VERSION:
        raise StoreError(
            f"{folder}: written by store version {facts.get('store_version')}, this raydistill reads {STORE_VERSION}"
        )
    return facts


@contextlib.contextmanager
def locked(path: Path, *, what: str, wait: bool) -> Iterator[None]:
    """Holds an exclusive lock on a file while the block runs; the system frees it when the process dies.

    Raises:
        StoreError: another process holds it and `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise StoreError(f"{what} is being run by another process; wait for it to end") from None
        yield
