"""Where what a job names lies: in a trial.json relative to the store, in memory absolute.

So a results folder can be moved or copied. What lies outside of the store keeps its path. An earlier version
wrote absolute paths: they are looked up in the store around the trial first, and count there where the digest
fits. Whoever loads data or a network compares its digest, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raydistill.config.base import digest
from raydistill.reading import parse_json, read_text
from raydistill.records import mirror

_KEYS = {"path", "digest"}
"""Of a `Stored` in JSON."""
_CACHE = "cache"
"""The folder of a store that has what trials share."""
DATA = "data"
"""Folder in that of a sweep with what its data are: their info.json, and none of their pictures."""


def store_of(sweep: Path) -> Path:
    """The store of a sweep's folder: STORE/sweeps/NAME, or STORE/NAME where it was copied out of `sweeps`."""
    folder = sweep.absolute().parent
    return folder.parent if folder.name == "sweeps" else folder


def relative(job: Mapping[str, Any], trial_dir: Path) -> dict[str, Any]:
    """A job's JSON for its trial.json: paths of what trials share in the store become relative to it.

    Args:
        trial_dir: SWEEP/trials/ID or SWEEP/retrained/ID.
    """
    store = store_of(trial_dir.absolute().parents[1])

    def within(stored: Mapping[str, str]) -> str:
        path = Path(stored["path"])
        is_inside = path.is_absolute() and path.is_relative_to(store / _CACHE)
        return path.relative_to(store).as_posix() if is_inside else stored["path"]

    return {name: _replaced(value, within) for name, value in job.items()}


def absolute(job: Mapping[str, Any], trial_dir: Path) -> dict[str, Any]:
    """The JSON of a job that was read from a trial.json, with absolute paths: where things lie now.

    Of data that are not there it is the sweep's folder `DATA`, if that is of these data: enough for a size or
    the names of classes.
    """
    sweep = trial_dir.absolute().parents[1]
    store = store_of(sweep)

    def place(stored: Mapping[str, str]) -> str:
        found = _found(stored, store)
        is_here = found.exists() or mirror.mirrored_path(found) is not None
        if not is_here and _has_digest(sweep / DATA, stored["digest"]):
            found = sweep / DATA
        return str(found)

    return {name: _replaced(value, place) for name, value in job.items()}


def _replaced(value: Any, place: Callable[[Mapping[str, str]], str]) -> Any:
    """JSON data in which each `Stored` has the path that `place` gives."""
    if isinstance(value, dict):
        if set(value) == _KEYS and all(isinstance(part, str) for part in value.values()):
            return {name: place(value) if name == "path" else part for name, part in value.items()}
        return {name: _replaced(part, place) for name, part in value.items()}
    return [_replaced(part, place) for part in value] if isinstance(value, list) else value


def _found(stored: Mapping[str, str], store: Path) -> Path:
    """Where a `Stored` of a trial in `store` lies."""
    path = Path(stored["path"])
    if not path.is_absolute():
        return store / path
    if _CACHE not in path.parts or path.is_relative_to(store):
        return path
    from_end = path.parts[::-1].index(_CACHE)
    here = store.joinpath(*path.parts[-from_end - 1 :])
    return here if _has_digest(here, stored["digest"]) else path


def _has_digest(path: Path, expected: str) -> bool:
    """Whether a path of a store has this content, as its name or its own file says; nothing large is read.

    In the local copy of an object store, which holds what was asked for so far, what is not there counts.
    """
    if not path.exists():
        return mirror.mirrored_path(path) is not None
    if path.is_file():  # named after its content, see `planning.scorers.copied`
        return path.stem == expected[:16]
    for name, digest_of in (("info.json", lambda content: content.get("digest")), ("meta.json", digest)):
        if (path / name).is_file():
            try:
                content = parse_json(read_text(path / name))
            except (OSError, ValueError):
                return False
            return isinstance(content, dict) and digest_of(content) == expected
    return False
