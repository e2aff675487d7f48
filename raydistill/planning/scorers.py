"""The networks from files that score a sweep, checked before any cost and copied into its store."""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch
from pydantic import BaseModel

from raydistill import models
from raydistill.config.architectures import Generator
from raydistill.config.base import Stored
from raydistill.config.experiment import require_strangers
from raydistill.config.scorer_options import ScorerOptions
from raydistill.config.scoring import Role, ScorerFile, Scoring
from raydistill.config.space import SearchSpace
from raydistill.config.variants import PLUGIN_DIGESTS
from raydistill.data import DataInfo
from raydistill.errors import ConfigError, DataError
from raydistill.evaluation.extractors import (
    EXTRACTORS,
    distance_name,
    kind_and_file,
    scorer_name,
    sha256_of,
)
from raydistill.evaluation.file_scorers import open_files, quantities
from raydistill.evaluation.lpips import SMALLEST
from raydistill.evaluation.published_statistics import statistics_metric, statistics_of
from raydistill.evaluation.segmenters import SEGMENTERS
from raydistill.records import remote
from raydistill.records.files import write_atomic


def given_files(
    options: ScorerOptions, copies: Mapping[str, Path] = MappingProxyType({})
) -> tuple[ScorerFile, ...]:
    """The networks that the options name, where they lie. Their content is hashed, not read.

    Args:
        copies: option -> what is taken where its file is not there, see `records.store.copies`.

    Raises:
        DataError: a kind is unknown, a file cannot be read, or two give scores of one name.
    """
    files: list[ScorerFile] = []
    given: tuple[tuple[Role, tuple[str, ...], Mapping[str, object]], ...] = (
        ("extractor", options.extractors, EXTRACTORS),
        ("segmenter", options.segmenters, SEGMENTERS),
    )
    for role, texts, kinds in given:
        for text in texts:
            kind, path = kind_and_file(f"--{role}", text, kinds)
            name, plugin = scorer_name(kind, path), PLUGIN_DIGESTS.get(kinds[kind])
            stored = stored_file(path, copies.get(f"--{role} {text}"))
            files.append(ScorerFile(role=role, kind=kind, name=name, file=stored, plugin=plugin))
    if options.lpips is not None:
        stored = stored_file(Path(options.lpips), copies.get(f"--lpips {options.lpips}"))
        files.append(ScorerFile(role="lpips", kind="vgg16", name="vgg16", file=stored))
    files += [_statistics(text, files, copies) for text in options.real_statistics]
    seen: dict[tuple[str, str], ScorerFile] = {}
    for each in files:
        if (other := seen.setdefault((each.role, each.name), each)) is not each:
            raise DataError(
                f"--{each.role}: {other.file.path} and {each.file.path} give scores of one name, "
                f"{each.name}; leave one out, or give a torchscript file another name"
            )
    return tuple(files)


def options_of(options: ScorerOptions) -> list[str]:
    """The options that name files, as they are typed, in the order of `given_files`."""
    lpips = () if options.lpips is None else (options.lpips,)
    named = (("extractor", options.extractors), ("segmenter", options.segmenters), ("lpips", lpips))
    every = (*named, ("real-statistics", options.real_statistics))
    return [f"--{option} {text}" for option, texts in every for text in texts]


def _statistics(text: str, files: Sequence[ScorerFile], copies: Mapping[str, Path]) -> ScorerFile:
    """The file of --real-statistics NAME=FILE. Raises DataError where there is no such extractor."""
    known = {each.name: each.file.digest for each in files if each.role == "extractor"}
    name, path = statistics_of(text, known)
    metric = statistics_metric(distance_name("fd", name, known[name]), path)
    stored = stored_file(path, copies.get(f"--real-statistics {text}"))
    return ScorerFile(role="statistics", kind=name, name=metric, file=stored)


def stored_file(path: Path, copy: Path | None) -> Stored:
    """A file that is named, or where it is not there its copy."""
    if copy is not None and not path.exists():
        remote.pull(copy)
    found = copy if copy is not None and copy.is_file() and not path.exists() else path
    return Stored(path=str(found.absolute()), digest=sha256_of(found))


def qualities_of(files: tuple[ScorerFile, ...]) -> dict[str, Literal["min", "max"]]:
    """What the networks measure on val, by the names of objectives -> which way is better."""
    return {f"val/{name}": better for each in files for name, better in quantities(each).items()}


def num_features(scoring: Scoring) -> dict[str, int]:
    """Name of each extractor's Frechet distance -> number of its features."""
    opened = open_files([each for each in scoring.files if each.role == "extractor"], torch.device("cpu"))
    return {each.metric("fd"): each.num_features for each in opened.extractors}


def with_references(space: SearchSpace, files: tuple[ScorerFile, ...]) -> SearchSpace:
    """The space with the reference 0 for shares that the networks measure, where none is given."""
    shares = {name for name, better in qualities_of(files).items() if better == "max"}
    objectives = tuple(
        each.model_copy(update={"reference": 0.0}) if each.name in shares and each.reference is None else each
        for each in space.objectives
    )
    return space.model_copy(update={"objectives": objectives})


def scoring_of(
    options: ScorerOptions,
    files: tuple[ScorerFile, ...],
    info: DataInfo,
    store: Path,
    *,
    generator: Generator,
    losses: Sequence[BaseModel],
    workers: int,
    reports: bool = False,
) -> Scoring | None:
    """What scores trainings beside the evaluator, with copies of its files in the store.

    Args:
        files: What `given_files` returned.
        generator: Of the generators that are scored.
        losses: What losses are made of: configs of trainings, and networks.
        workers: The most that share an evaluation.
        reports: Whether every report needs the scores.

    Returns:
        None: no option asks for it.

    Raises:
        ConfigError: what is asked for cannot be measured on these data, or a loss uses one of the files.
        DataError: a file is not of the network that it should be, or is of other classes than the data.
    """
    if not files and options.num_scored is None and options.real_split == "own":
        if options.score_every:
            raise ConfigError("--score-every: nothing is scored by files; give --extractor or --segmenter")
        return None
    _check_number(options, info, max(2, workers))
    _check_data(files, generator, info)
    if options.real_split != "own" and info.pairing == "pairs":
        raise ConfigError(
            f"--real-split {options.real_split}: is for unpaired data and for noise; these data are pairs, "
            "which are compared with their own. Leave it out"
        )
    scoring = Scoring(
        files=files,
        num=options.num_scored,
        real=options.real_split,
        at_reports=bool(files) and (options.score_every or reports),
        statistics=str(store / "cache" / "statistics"),
    )
    try:
        require_strangers(scoring, losses)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _try_out(files, info)
    copies = tuple(each.model_copy(update={"file": copied(each.file, store)}) for each in files)
    return scoring.model_copy(update={"files": copies})


def _check_number(options: ScorerOptions, info: DataInfo, least: int) -> None:
    """Raises ConfigError where too few pictures would be scored."""
    counts = [info.counts["val"], *([info.input_counts["val"]] if info.input_counts else [])]
    most = min(counts)
    number = most if options.num_scored is None else options.num_scored
    if not least <= number <= most:
        raise ConfigError(
            f"--num-scored {number}: the data have {most} val pictures, and scores need {least} or more; "
            f"give {least} to {most}, or more data"
            if options.num_scored is not None
            else f"the data have {most} val pictures, and distances need {least} or more; give more data"
        )


def _check_data(files: tuple[ScorerFile, ...], generator: Generator, info: DataInfo) -> None:
    """Raises ConfigError where networks need what the data or the generators do not have."""
    takes_noise = models.GENERATORS[generator.family].takes == "noise"
    are_pairs = info.pairing == "pairs" and not takes_noise
    for each in files:
        if each.role == "segmenter" and not (info.has_labels and are_pairs):
            why = "labels, and this data has none"
            if info.has_labels:
                why = "pictures that belong to labels, which noise does not give"
            raise ConfigError(f"--segmenter {each.kind}: needs {why}; leave it out, or give --extractor")
        if each.role == "lpips" and not are_pairs:
            raise ConfigError("--lpips: needs pairs of input and target; leave it out, or give --extractor")
        if each.role == "lpips" and min(info.height, info.width) < SMALLEST:
            raise ConfigError(f"--lpips: needs pictures of {SMALLEST} pixels a side, or more")


def _try_out(files: tuple[ScorerFile, ...], info: DataInfo) -> None:
    """Opens each file and shows each network one picture. Raises DataError where it cannot score such."""
    picture = torch.zeros(1, 3, info.height, info.width, dtype=torch.uint8)
    opened = open_files(files, torch.device("cpu"))
    extractors, segmenters = iter(opened.extractors), iter(opened.segmenters)
    for each in files:
        where = f"--{each.role} {each.file.path}"
        try:
            if each.role == "extractor":
                next(extractors).network(picture)
            if each.role == "segmenter":
                _check_classes(next(segmenters).scores(picture), info, where)
        except RuntimeError as error:  # of a TorchScript file
            reason = " ".join(str(error).split())[-200:]
            raise DataError(
                f"{where}: cannot score colour pictures of {info.width}x{info.height}: {reason}"
            ) from None


def _check_classes(given: object, info: DataInfo, where: str) -> None:
    """Raises DataError where these are no class scores of one picture."""
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if not isinstance(given, torch.Tensor) or given.dim() != 4 or given.shape[1] != info.num_classes:
        raise DataError(
            f"{where}: gives {shape} for one picture, and the data have {info.num_classes} classes; "
            f"needed: class scores (1, {info.num_classes}, h, w)"
        )


def copied(file: Stored, store: Path, kind: str = "scorers") -> Stored:
    """The copy of a file in the folder `kind` of the store's cache, named after its content; made where it is
    missing.
    """
    source = Path(file.path)
    copy = store / "cache" / kind / f"{file.digest[:16]}{source.suffix}"
    remote.pull(copy)
    if not copy.is_file() or sha256_of(copy) != file.digest:
        write_atomic(copy, partial(shutil.copyfile, source))
        remote.push(copy)
    return Stored(path=str(copy), digest=file.digest)
