"""The networks from files that score a sweep's generators: opened from the store, and what they measure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from raydistill.config.scoring import ScorerFile
from raydistill.errors import CheckpointError
from raydistill.evaluation.extractors import Extractor, distance_name, open_extractor, sha256_of
from raydistill.evaluation.lpips import Lpips, open_lpips
from raydistill.evaluation.published_statistics import PublishedStatistics, open_statistics
from raydistill.evaluation.segmenters import Segmenter, open_segmenter


class FileScorers(NamedTuple):
    """The networks of a `Scoring`, ready to score."""

    extractors: Sequence[Extractor] = ()
    segmenters: Sequence[Segmenter] = ()
    lpips: Lpips | None = None
    published: Sequence[PublishedStatistics] = ()


def open_files(files: Sequence[ScorerFile], device: torch.device) -> FileScorers:
    """The networks of files in the store, and the statistics beside their extractors.

    Raises:
        CheckpointError: a file is not the one that was given.
        DataError: it cannot be read, or has the weights of another network.
    """
    for each in files:
        if sha256_of(Path(each.file.path)) != each.file.digest:
            raise CheckpointError(
                f"{each.file.path}: not the file that was given as {each.role} {each.name} (digest differs); "
                "remove it, and give the same command with --resume"
            )
    extractors, segmenters, lpips = list[Extractor](), list[Segmenter](), None
    for each in files:
        path = Path(each.file.path)
        if each.role == "extractor":
            extractors.append(open_extractor(each.kind, path, each.name, device))
        elif each.role == "segmenter":
            segmenters.append(open_segmenter(each.kind, path, each.name, device))
        elif each.role == "lpips":
            lpips = open_lpips(path, device)
    features = {each.name: each.num_features for each in extractors}
    published = [
        open_statistics(Path(each.file.path), each.name, each.kind, features[each.kind])
        for each in files
        if each.role == "statistics"
    ]
    return FileScorers(extractors, segmenters, lpips, published)


def quantities(file: ScorerFile) -> dict[str, Literal["min", "max"]]:
    """What a network measures, as it stands in names of metrics -> which way is better."""
    name = file.name
    if file.role == "segmenter":
        return {f"miou_{name}": "max"}
    if file.role == "lpips":
        return {"lpips": "min"}
    if file.role == "statistics":
        return {name: "min"}
    distances = (distance_name(kind, name, file.file.digest) for kind in ("kd", "fd"))
    return {**dict.fromkeys(distances, "min"), f"precision_{name}": "max", f"recall_{name}": "max"}
