"""The layout of NVlabs: pictures with dataset.json, in a folder or zip file."""

from collections import Counter
from pathlib import Path
from typing import Any

from raydistill.data.classes import numbered_names
from raydistill.data.files import File, files_of
from raydistill.data.sample import Sample, SplitsOnDisk, files_on_disk
from raydistill.errors import DataError
from raydistill.reading import MOST_TEXT_BYTES, parse_json


def find_nvlabs(root: Path) -> SplitsOnDisk | None:
    """dataset.json: {"labels": [[name, class id], ...] or null}."""
    if root.suffix.lower() != ".zip" and not (root / "dataset.json").is_file():
        return None
    files = {file.name: file for file in files_of(root)}
    if "dataset.json" not in files:
        return None
    labels = _nvlabs_labels(files)
    pictures = [file for file in files.values() if file.is_picture]
    if labels is None:
        samples = [Sample(file.name, file) for file in pictures]
        names: tuple[str, ...] = ()
    else:
        if single := next((file for file in pictures if file.name not in labels), None):
            raise DataError(f"{single.where}: has no label in dataset.json. Add it, or set labels to null.")
        if absent := sorted(set(labels) - set(files)):
            raise DataError(
                f"{files['dataset.json'].where}: {absent[0]!r} has a label and is not there. "
                "Add the picture or remove the label."
            )
        samples = [Sample(file.name, file, class_id=labels[file.name]) for file in pictures]
        names = numbered_names(labels.values(), files["dataset.json"].where)
    paths = files_on_disk(root, [*pictures, files["dataset.json"]])
    return SplitsOnDisk("nvlabs", {"train": samples}, paths, class_names=names)


def _nvlabs_labels(files: dict[str, File]) -> dict[str, int] | None:
    """Name -> class id, of dataset.json; None where it says that there are no labels."""
    where = files["dataset.json"].where
    try:
        content = parse_json(_text_of(files["dataset.json"]))["labels"]
        pairs = None if content is None else [(str(name).replace("\\", "/"), each) for name, each in content]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{where}: {error!r}. Allowed: {{"labels": null}} or {{"labels": [[name, class id], ...]}}. '
            "Correct it, or rename it where it is for something else."
        ) from None
    labels: dict[str, Any] | None = None if pairs is None else dict(pairs)
    if labels is not None and pairs is not None and len(labels) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise DataError(f"{where}: {name} is listed twice. Allowed: once. Remove one.")
    for name, label in (labels or {}).items():
        if isinstance(label, bool) or not isinstance(label, int) or label < 0:
            raise DataError(
                f"{where}: {name} has the label {label!r}. Allowed: one class id, a whole number from 0."
            )
    return labels


def _text_of(file: File) -> bytes:
    """The content of a file of text. Raises DataError where it is too large for one."""
    if len(content := file.read()) > MOST_TEXT_BYTES:
        raise DataError(
            f"{file.where}: {len(content):,} bytes, at most {MOST_TEXT_BYTES:,} are read as text."
        )
    return content
