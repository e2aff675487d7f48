"""`raydistill evaluate`: scores generators, ONNX files and folders of pictures against real pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from raydistill.commands import remeasured
from raydistill.commands.named_data import data_config, prepared_data
from raydistill.config.base import Frozen, Stored
from raydistill.config.command_options import EvaluateOptions
from raydistill.config.data import FolderData
from raydistill.config.paths import parse_assignments, validated
from raydistill.data import Split, load_split, prepare, read_info
from raydistill.data.folder import class_maps
from raydistill.data.prepared import has_pictures
from raydistill.errors import ConfigError, DataError, say_notice
from raydistill.evaluation import picture_sets
from raydistill.evaluation.evaluator_scores import evaluator_networks
from raydistill.evaluation.extractors import Extractor, load_extractor
from raydistill.evaluation.lpips import open_lpips
from raydistill.evaluation.picture_sets import Pictures
from raydistill.evaluation.published_statistics import (
    PublishedStatistics,
    open_statistics,
    statistics_metric,
    statistics_of,
)
from raydistill.evaluation.scorer import Scorer
from raydistill.evaluation.scoring import CONDITIONS, Score, require_same_conditions
from raydistill.evaluation.segmenters import Labels, Segmenter, labels_of, load_segmenter
from raydistill.exchange.trained_generator import TrainedGenerator, find_generator
from raydistill.models import saved
from raydistill.models.inputs import trained_latent_size
from raydistill.models.networks import has_pixel_classes
from raydistill.reading import read_text
from raydistill.records import measured, store
from raydistill.records.measured import Measurement
from raydistill.terminal import Terminal

VERSION = 1
"""Of the JSON that `--json` prints."""


class Report(Frozen):
    """What `--json` prints and `--against` reads."""

    version: int = VERSION
    scores: dict[str, list[Score]]
    """What was given, as it was typed -> its scores."""


def run(options: EvaluateOptions) -> int:
    """Prints the scores; returns the exit code, 0.

    Raises:
        InputError: something is wrong with what was given; raised before anything is computed, where that is
            possible.
        RunError: the outputs of a network are no pictures.
    """
    earlier = {} if options.against is None else _read_report(Path(options.against)).scores
    trials = {} if options.no_record else remeasured.trials_among(options.given)
    scores = evaluate(options, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for given, own in scores.items():
        for other in earlier.values():
            require_same_conditions(own, other, f"{given} against {options.against}")
    if options.as_json:
        print(Report(scores=scores).model_dump_json(indent=1))
    else:
        _print(_short(scores) | {f"before: {name}": own for name, own in _short(earlier).items()})
    when, how = measured.now(), remeasured.how("evaluate", options)
    remeasured.record(
        {
            given: [_measurement(each, digest, when, how) for each in scores[given]]
            for given, digest in trials.items()
        }
    )
    return 0


def _measurement(score: Score, network: str, when: str, how: str) -> Measurement:
    """A score as it is recorded beside its trial. `network`: digest of what was scored."""
    low, high = score.interval or (None, None)
    return Measurement(
        name=measured.name_of(score.name),
        value=score.value,
        low=low,
        high=high,
        conditions={name: getattr(score, name) for name in CONDITIONS},
        network=network,
        when=when,
        how=how,
    )


def score(*given: str | Path, **options: Any) -> pd.DataFrame:
    """Scores generators or pictures against real pictures, and prints nothing.

    Args:
        given: folders of networks, trials or checkpoints, ONNX files, or pictures in folders, zip or npz
            files. Pictures are read as 8 bit a channel; networks put out (B, 3, H, W) in [-1, 1].
        options: what `raydistill evaluate` takes, by its fields in `EvaluateOptions`: `data`, `split`,
            `real`, `extractors=("inception=FILE",)`, `evaluator`, `num`, `resamples` and so on.

    Returns:
        One row for each of `given` and each score: `given`, `name` ("val/kd_inception"), `value`, the 95 %
        interval `low` and `high`, `ceiling` (of the real pictures), and the conditions of the score, among
        them `num_samples` and `extractor_digest`. Scores are comparable where the conditions are equal.

    Raises:
        InputError: something is wrong with what was given; raised before anything is computed, where that is
            possible.
        RunError: the outputs of a network are no pictures.
    """
    values = {"given": tuple(map(str, given)), **options}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scores = evaluate(validated(EvaluateOptions, values, where="score"), device)
    rows = []
    for name, own in scores.items():
        for each in own:
            low, high = each.interval or (None, None)
            rows.append({"given": name, **each.model_dump(exclude={"interval"}), "low": low, "high": high})
    return pd.DataFrame(rows)


def evaluate(options: EvaluateOptions, device: torch.device) -> dict[str, list[Score]]:
    """All scores of everything that was given: what was given, as it was typed -> its scores.

    Raises:
        InputError, RunError: see `run`.
    """
    for given in options.given:
        if not Path(given).exists():
            raise DataError(f"{given}: there is no such file or folder")
    networks = {given: find_generator(Path(given)) for given in options.given}
    trained = {given: network for given, network in networks.items() if network is not None}
    split, real = _real(options, trained, device)
    extractors = [load_extractor(text, device) for text in options.extractors]
    labels = [_labels(options, load_segmenter(text, device), split) for text in options.segmenters]
    if split is not None and (evaluator := _evaluator(options, trained)) is not None:
        network = saved.load(evaluator, split.info, device)
        extractor, segmenter = evaluator_networks(network, evaluator.digest)
        extractors.insert(0, extractor)
        if has_pixel_classes(split.info):
            labels.insert(0, labels_of(segmenter, split))
    if not extractors and not labels and not options.paired and options.lpips is None:
        raise ConfigError(
            "nothing to score with: "
            "give --extractor KIND=FILE, --evaluator FOLDER, --segmenter KIND=FILE, or --paired"
        )
    fakes = {given: _pictures(given, trained.get(given), split, options, device) for given in options.given}
    if options.num is not None:
        for name, part in {"the real pictures": real, **fakes}.items():
            if part.num < options.num:
                raise DataError(f"--num {options.num}: {name}: there are {part.num}. Give at most that.")
        real = real.subset(options.num)
        fakes = {given: fake.subset(options.num) for given, fake in fakes.items()}
    if len(numbers := {fake.num for fake in fakes.values()}) > 1:
        raise DataError(
            f"these have {sorted(numbers)} pictures; distances are compared at one number only. "
            f"Give --num {min(numbers)}."
        )
    by_name = {each.name: each for each in extractors}
    published = [_published(text, by_name) for text in options.real_statistics]
    lpips = None if options.lpips is None else open_lpips(Path(options.lpips), device)
    split_name = "all" if options.real else options.split
    scorer = Scorer(real, split_name, extractors, labels, lpips=lpips, published=published)
    return {given: scorer.score(fake, num_resamples=options.resamples) for given, fake in fakes.items()}


# ---- what is scored ----------------------------------------------------------------------------------------


def _pictures(
    given: str,
    trained: TrainedGenerator | None,
    split: Split | None,
    options: EvaluateOptions,
    device: torch.device,
) -> Pictures:
    """The pictures of one that was given: from files, or put out by a generator for the split's inputs."""
    path = Path(given)
    if trained is None and path.suffix.lower() != ".onnx":
        return picture_sets.of_files(path, in_order_of_split=options.paired, device=device)
    if split is None:
        raise ConfigError(
            f"{given}: a generator needs inputs, and --real has pictures only. "
            "Give --data, whose inputs it gets."
        )
    if trained is None:
        return picture_sets.of_onnx(path, split, device)
    network, digest, latent = trained.load(split.info, device)
    return picture_sets.of_generator(given, digest, network, split, device, latent)


# ---- what it is compared with ------------------------------------------------------------------------------


def _real(
    options: EvaluateOptions, trained: Mapping[str, TrainedGenerator], device: torch.device
) -> tuple[Split | None, Pictures]:
    """The real pictures, and the split that they are; None where they are files without one."""
    if options.real is not None:
        if options.data is not None or options.set:
            raise ConfigError(
                "--real takes the pictures of a folder as they are: no --data or --set beside it"
            )
        if options.real_split != "own":
            raise ConfigError(f"--real-split {options.real_split}: of which data? --real has no splits")
        path = Path(options.real)
        return None, picture_sets.of_files(path, in_order_of_split=options.paired, device=device)
    stored = _data(options, trained)
    split = load_split(stored, options.split)
    if options.real_split != "own" and options.split != "train" and split.info.pairing == "pairs":
        raise ConfigError("--real-split train+test: is for unpaired data; these are pairs. Leave it out")
    return split, picture_sets.real_pictures(split, stored, options.split, options.real_split, device)


def _published(text: str, extractors: Mapping[str, Extractor]) -> PublishedStatistics:
    """The statistics of --real-statistics NAME=FILE."""
    name, path = statistics_of(text, extractors)
    metric = statistics_metric(extractors[name].metric("fd"), path)
    return open_statistics(path, metric, name, extractors[name].num_features)


def _data(options: EvaluateOptions, trained: Mapping[str, TrainedGenerator]) -> Stored:
    """The data of --data, prepared now where they are not; else what all the given trials were trained on."""
    if options.data is None:
        jobs = [network.job for network in trained.values() if network.job is not None]
        by_digest = {job.data.digest: job.data for job in jobs}
        if len(by_digest) > 1:
            raise DataError(
                f"mixed digests: the given networks were trained on the data {', '.join(by_digest)}. "
                "Give --data."
            )
        if not by_digest:
            raise ConfigError(
                "no data to compare with: "
                "give --data FOLDER (a data set) or --real FOLDER (pictures as they are)"
            )
        (its_own,) = by_digest.values()
        if not has_pictures(Path(its_own.path)):
            raise DataError(
                f"the data {its_own.digest} of the trial are not here, in {its_own.path}: "
                "copy the folder cache of the sweep's results folder, too, or give --data"
            )
        return its_own
    if (stored := prepared_data(options.data)) is not None:
        return stored
    values = parse_assignments(list(options.set))
    config = data_config(options.data, values, lambda: _size(options, trained, values))
    jobs = [network.job for network in trained.values() if network.job is not None]
    takes_noise = bool(jobs) and all(trained_latent_size(job.training) is not None for job in jobs)
    return prepare(config, store.open_store(options.store) / "cache" / "data", whole_pictures=takes_noise)


def _size(
    options: EvaluateOptions, trained: Mapping[str, TrainedGenerator], values: Mapping[str, Any]
) -> tuple[int, int]:
    """Height and width that a folder is decoded at: as --set says, or those of what is scored."""
    if {"data.height", "data.width"} <= set(values):
        return values["data.height"], values["data.width"]
    for given in options.given:
        if given in trained and (job := trained[given].job) is not None:
            info = read_info(job.data)
            return info.height, info.width
        if given not in trained and not given.lower().endswith(".onnx"):
            width, height = picture_sets.list_pictures(Path(given))[0].image().size
            return height, width
    raise ConfigError(
        f"--data {options.data}: at which size? "
        "Give --set data.height=H --set data.width=W, as the network was trained."
    )


def _evaluator(options: EvaluateOptions, trained: Mapping[str, TrainedGenerator]) -> Stored | None:
    """The named evaluator, or the one that all the given trials were scored by; None without one.

    Raises:
        CheckpointError: the named folder has no evaluator.
    """
    if options.evaluator is not None:
        folder = Path(options.evaluator)
        inner = folder / "network"
        return saved.stored(inner if inner.is_dir() else folder, kind="evaluator")
    jobs = [network.job for network in trained.values() if network.job is not None]
    evaluators = {job.evaluator.digest: job.evaluator for job in jobs if job.evaluator is not None}
    if len(evaluators) != 1:
        return None
    (its_own,) = evaluators.values()
    if not Path(its_own.path).exists():
        where = f"the evaluator {its_own.digest} of the trial is not here, in {its_own.path}"
        if not (options.extractors or options.segmenters or options.lpips or options.paired):
            raise ConfigError(
                f"{where}: copy the folder cache of the sweep's results folder, too, "
                "or score by --evaluator FOLDER or --extractor KIND=FILE"
            )
        say_notice(f"{where}: its scores are left out")
        return None
    return its_own


def _labels(options: EvaluateOptions, segmenter: Segmenter, split: Split | None) -> Labels:
    """The label files of --data, for scores at their own size, as published for Cityscapes: 2048x1024.

    Of prepared data, such as those of the trials, the labels at the size of the pictures: as in a sweep.

    Raises:
        ConfigError: there are no labels.
    """
    if split is None or not split.info.has_labels:
        raise ConfigError("--segmenter needs labels: give --data FOLDER with label files")
    if options.data is None or prepared_data(options.data) is not None or split.info.layout == "shapes":
        return labels_of(segmenter, split)
    info = split.info
    config = data_config(
        options.data, parse_assignments(list(options.set)), lambda: (info.height, info.width)
    )
    assert isinstance(config, FolderData)
    ids, classes = class_maps(config, options.split)

    def truth(index: int) -> Tensor:
        return torch.from_numpy(np.array(ids(index))).long()

    height, width = truth(0).shape
    resize = f"scores bilinear to {width}x{height}"
    return Labels(segmenter, truth, len(classes.names), classes.ignore_index, resize)


# ---- JSON and table ----------------------------------------------------------------------------------------


def _read_report(path: Path) -> Report:
    """What `--json` printed into a file. Raises DataError where it is something else."""
    try:
        return Report.model_validate_json(read_text(path))
    except (OSError, ValueError) as error:
        raise DataError(f"--against {path}: not what `raydistill evaluate --json` prints: {error}") from None


def _short(scores: Mapping[str, list[Score]]) -> dict[str, list[Score]]:
    """The scores by the last part of each path, where no two paths have the same."""
    names = [Path(given).name for given in scores]
    return dict(zip(names if len(set(names)) == len(names) else scores, scores.values()))


def _print(scores: Mapping[str, list[Score]]) -> None:
    """Prints a row for each score, without columns that are empty, then what the extractors' weights are."""
    terminal = Terminal()
    every = [(given, score) for given, own in scores.items() for score in own]
    rows = [
        {
            "given": given,
            "score": score.name,
            "value": "infinite" if score.value is None else f"{score.value:.6g}",
            "95 %": "" if score.interval is None else f"{score.interval[0]:.6g} to {score.interval[1]:.6g}",
            "real": "" if score.ceiling is None else f"{score.ceiling:.6g}",
            "n": score.num_samples,
            "real n": score.num_real,
            "resize": score.resize,
            "statistics": score.real_statistics,
            "": "biased: n <= features" if score.biased else "",
        }
        for given, score in every
    ]
    table = pd.DataFrame(rows)
    terminal.rows(
        "scores",
        table.loc[:, (table != "").any()],
        keys=["given", "score"],
        texts=["given", "resize", ""],
    )
    extractors = [(score.extractor, score.extractor_digest) for _, score in every if score.extractor]
    for name, digest in dict.fromkeys(extractors):
        terminal.entry("extractor: ", f"{name}, SHA-256 {digest}")
