"""The store, or results folder: one place for everything that sweeps read again.

STORE/store.json          version
      cache/              prepared data, evaluators and teachers, each in a folder named after its digest
      sweeps/<name>/      sweep.json, trials/, tables, page
      mlflow.db           the default tracking store, with mlartifacts/
"""

import re
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from raydistill.config.experiment import JOB_VERSION
from raydistill.config.sweep_options import LONGEST_NAME
from raydistill.errors import StoreError
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror, owners, remote
from raydistill.records.files import write_json_atomic

STORE_VERSION = 1
NEEDED_GB = 0.5
"""Free space in GiB without which no store is opened."""


def open_store(given: str | Path) -> Path:
    """Create or check the store that a `--store` names.

    Returns:
        Its absolute path; for an object store that of the local copy.

    Raises:
        StoreError: it cannot be written, has too little space or another version, or is a URL that is not
            understood.
    """
    store = mirror.folder_of(str(given))
    version_file = store / "store.json"
    try:
        store.mkdir(parents=True, exist_ok=True)
        remote.require_bucket(store)
        remote.pull(version_file)
        probe = store / f".probe-{owners.mark()}"
        probe.write_text("probe")
        probe.unlink()
        if not version_file.exists():
            if any(not path.name.startswith(".") for path in store.iterdir()):
                are_sweeps = next(store.glob("*/sweep.json"), None) is not None
                advice = (
                    "it has sweeps that were copied out of a store: to go on with them, copy the whole store"
                    if are_sweeps
                    else "give a new or empty folder"
                )
                raise StoreError(
                    f"--store {store}: not empty and not a raydistill store (no store.json); {advice}"
                )
            write_json_atomic(version_file, {"store_version": STORE_VERSION})
            remote.push(version_file)
        version = parse_json(read_text(version_file))
        version = version.get("store_version") if isinstance(version, dict) else None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"--store {store}: cannot be used: {error}; give a folder that can be written"
        ) from error
    if version != STORE_VERSION:
        raise StoreError(
            f"--store {store}: written by store version {version}, this raydistill reads {STORE_VERSION}; "
            "give another folder"
        )
    if (free := shutil.disk_usage(store).free / 2**30) < NEEDED_GB:
        raise StoreError(
            f"--store {store}: {free:.2f} GiB free, needed {NEEDED_GB}; "
            "free some space or give another folder"
        )
    owners.remove_left(store, below=True)
    owners.remove_left_temporaries()
    for sweep in remote.folders(store / "sweeps"):
        remote.pull(sweep / "sweep.json")
    return store


def create_sweep(
    store: Path,
    name: str | None,
    space: str,
    facts: Mapping[str, object],
    files: Mapping[str, object] = MappingProxyType({}),
) -> Path:
    """Make the folder of a new sweep and return it.

    Args:
        name: None: `<space>-<number>`, with the next free number.
        facts: what `sweep.json` says of the sweep.
        files: further files, name -> content, written as JSON.

    Raises:
        StoreError: the name is taken or is no plain file name.
    """
    sweeps = store / "sweeps"
    if name is None:
        pattern = re.compile(rf"{re.escape(space)}-(\d+)")
        matches = [pattern.fullmatch(path.name) for path in sweeps.glob("*-*")]
        highest = max((int(match[1]) for match in matches if match), default=0)
        name = f"{space}-{highest + 1:03d}"
    require_name(name)
    folder, hidden = sweeps / name, sweeps / f".{owners.mark()}"
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


def require_name(name: str) -> None:
    """Raises StoreError where a sweep cannot have this name."""
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise StoreError(f"--name {name!r}: use letters, digits, '.', '_' and '-'")
    if (size := len(name.encode())) > LONGEST_NAME:
        raise StoreError(f"--name {name}: a name of {size:,} bytes; allowed are {LONGEST_NAME}")


def find_sweep(
    store: Path, name: str | None, definition: str, plugins: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """The sweep to resume: the named one, else the newest of the same definition.

    Args:
        definition: digest of everything that makes two sweeps the same.
        plugins: the plug-ins of this process, as `plugins.sweep_record` returns them.

    Raises:
        StoreError: there is none, or the named one was started with other settings or plug-ins.
    """
    sweeps = store / "sweeps"
    if name is not None:
        require_name(name)
        folder = sweeps / name
        if not (folder / "sweep.json").exists():
            raise StoreError(
                f"--resume --name {name}: there is no such sweep in {sweeps}; leave --resume out to start it"
            )
        _require_same_version([folder], f"--resume --name {name}")
        require_same_plugins(folder, plugins, f"--resume --name {name}")
        if read_sweep(folder)["definition"] != definition:
            raise StoreError(
                f"--resume --name {name}: that sweep was started with another space, data, config or seed; "
                "use the same command"
            )
        return folder
    folders = [path.parent for path in sweeps.glob("[!.]*/sweep.json")]
    same = [folder for folder in folders if read_sweep(folder)["definition"] == definition]
    if not same:
        _require_same_version(
            sorted(folders), "--resume: no sweep has the same space, data, config and seed, and"
        )
        for folder in sorted(folders, reverse=True):  # a plug-in that has changed is the likely reason
            if set(read_sweep(folder).get("plugins", {})) == set(plugins) != set():
                require_same_plugins(folder, plugins, f"--resume: sweep {folder.name}")
        raise StoreError(
            f"--resume: no sweep in {sweeps} has the same space, data, config and seed; "
            "leave --resume out to start one"
        )
    return max(same, key=lambda folder: read_sweep(folder)["created"])


def copies(store: Path, name: str | None) -> dict[str, Path]:
    """Option that named a file -> its copy in the store, as sweeps recorded it when they began.

    Args:
        name: of which sweep; None: of all, and of a text that several were given, what the newest has.
    """
    folders = [path.parent for path in (store / "sweeps").glob("[!.]*/sweep.json")]
    facts = [read_sweep(folder) for folder in folders if name in (None, folder.name)]
    out: dict[str, Path] = {}
    for each in sorted(facts, key=lambda each: float(each["created"])):
        out |= {option: store / copy for option, copy in each.get("copies", {}).items()}
    return out


def _require_same_version(folders: Sequence[Path], where: str) -> None:
    """Raises StoreError with the names of sweeps of an earlier version, whose jobs have other names and
    keys."""
    older = [folder.name for folder in folders if read_sweep(folder).get("job_version", 2) != JOB_VERSION]
    if older:
        raise StoreError(
            f"{where} {', '.join(older)}: made by an earlier version of raydistill, "
            "whose trials cannot be gone on with; "
            f"start a new sweep, with --warm-start {older[-1]} to begin with what it knows"
        )


def require_same_plugins(folder: Path, plugins: Mapping[str, Any], where: str) -> None:
    """Check that a sweep was started with these plug-ins.

    Args:
        where: what the message begins with.

    Raises:
        StoreError: it was started with others; the message says what differs.
    """
    before = read_sweep(folder).get("plugins", {})
    for name in {**before, **plugins}:
        if name not in plugins:
            raise StoreError(
                f"{where}: was started with the plug-in {name}; add --plugin with its path or module"
            )
        if name not in before:
            raise StoreError(
                f"{where}: was started without the plug-in {name}; "
                "leave that --plugin out, or start a new sweep"
            )
        if before[name]["digest"] != plugins[name]["digest"]:
            what = _first_change(before[name]["files"], plugins[name]["files"])
            raise StoreError(
                f"{where}: the plug-in {name} has changed since: {what}. "
                f"Put it back (its text is in {folder}/sweep.json), or start a new sweep"
            )


def _first_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first line that differs, of files given as module -> text."""
    for module in sorted({*before, *now}):
        old, new = (files.get(module, "").splitlines() for files in (before, now))
        for index, (a, b) in enumerate(zip_longest(old, new)):
            if a != b:
                return f"line {index + 1} of {module} was {(a or '').strip()!r}, now {(b or '').strip()!r}"
    return "white space at the end of a line"


def read_sweep(folder: Path) -> dict[str, Any]:
    """The content of a sweep's `sweep.json`.

    Raises:
        StoreError: the file cannot be read, has another version, or a key is missing or of another type.
    """
    path = folder / "sweep.json"
    advice = f"Put back the file that was there, or move {folder} out of the store"
    try:
        facts = parse_json(read_text(path))
        if not isinstance(facts, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: damaged or unreadable: {error}. {advice}") from error
    if (version := facts.get("store_version")) != STORE_VERSION:
        raise StoreError(
            f"{folder}: written by store version {version}, this raydistill reads {STORE_VERSION}"
        )
    try:
        _SweepFacts.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise StoreError(f"{path}: damaged: {key}: {first['msg']}. {advice}") from error
    return facts


class _PluginFacts(BaseModel):
    """What a `sweep.json` says of a plug-in."""

    model_config = ConfigDict(strict=True)

    digest: str
    files: dict[str, str]


class _SweepFacts(BaseModel):
    """The keys of a `sweep.json` that are read, beside whatever else was written."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    sweep_id: str
    created: float
    definition: str
    job_version: int = 2
    plugins: dict[str, _PluginFacts] = {}
    warm_start: dict[str, Any] = {}
    copies: dict[str, str] = {}
