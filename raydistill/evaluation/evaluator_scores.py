"""Scores of generators by the evaluator, a network that takes part in no loss.

They are the numbers of trials and of their tables.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.config.base import Stored, digest
from raydistill.config.scoring import Scoring
from raydistill.data import load_split, to_float
from raydistill.data.source import SplitName
from raydistill.distributed import ALONE, Workers
from raydistill.evaluation.extractors import Extractor
from raydistill.evaluation.file_scorers import FileScorers, open_files
from raydistill.evaluation.measures import Measure
from raydistill.evaluation.metrics import is_biased
from raydistill.evaluation.picture_sets import Pictures, of_generator, real_pictures
from raydistill.evaluation.scorer import Scorer
from raydistill.evaluation.scoring import Score
from raydistill.evaluation.segmenters import Segmenter, labels_of
from raydistill.models import saved
from raydistill.models.evaluator import EvaluatorOutput, PictureEvaluator, PixelEvaluator
from raydistill.models.inputs import latent_size, num_inputs
from raydistill.models.networks import has_pixel_classes

MOST_PSNR = 100.0
"""dB: what equal pictures count in a mean; their own PSNR is infinite."""
_BROKEN = "a generated picture is not finite at an evaluation; lower the learning rate"


class EvaluatorScorer:
    """Scores generators on one split by the evaluator. Collective.

    Args:
        data, evaluator: The prepared data and the trained evaluator.
        split: Which split the pictures are made for.
        latent: How many numbers a noise input has; None: generators take the split's inputs.
        extractors: Further extractors that give distances.
        scoring: Networks from files that score, too, and how many pictures are scored; None: no file, and
            all pictures.
    """

    def __init__(
        self,
        data: Stored,
        evaluator: Stored,
        split: SplitName,
        device: torch.device,
        workers: Workers = ALONE,
        latent: int | None = None,
        extractors: Sequence[Extractor] = (),
        scoring: Scoring | None = None,
    ):
        self.device, self.latent, self.split = device, latent, load_split(data, split)
        self.scoring = scoring
        info = self.split.info
        network = saved.load(evaluator, info, device)
        extractor, segmenter = evaluator_networks(network, evaluator.digest)
        are_pairs = latent is None and info.pairing == "pairs"
        files = FileScorers() if scoring is None else open_files(scoring.files, device)
        has_classes = are_pairs and has_pixel_classes(info)
        segmenters = [segmenter, *files.segmenters] if has_classes else []
        labels = [labels_of(each, self.split) for each in segmenters]
        extractors = [extractor, *extractors, *files.extractors]
        which = "own" if scoring is None else scoring.real
        self.real = self._subset(real_pictures(self.split, data, split, which, device))
        self._own = (extractor.name, segmenter.suffix)
        shared = None if scoring is None else Path(scoring.statistics)
        self.scorer = Scorer(
            self.real,
            split,
            extractors,
            labels,
            workers,
            files.lpips if are_pairs else None,
            shared,
            self._own,
            files.published,
        )
        self.measures: list[Measure] = ["miou", "kd", "fd"]
        """What the numbers are of. Generated pictures are not like inputs that are label maps."""
        if not info.inputs_are_labels:
            self.measures += ["psnr", "ssim"]
        num = num_inputs(self.split, latent)
        self.context = context_of(self.scorer, num if self.num is None else min(num, self.num))
        """What the numbers are computed with: those with another context are not compared."""

    @property
    def num(self) -> int | None:
        """How many pictures are scored; None: all."""
        return None if self.scoring is None else self.scoring.num

    def _subset(self, pictures: Pictures) -> Pictures:
        return pictures if self.num is None else pictures.subset(min(self.num, pictures.num))

    def generator(self, generate: Callable[[Tensor], Tensor], *, is_last: bool = True) -> dict[str, float]:
        """The numbers of a generator by name, see `numbers`. Collective.

        Args:
            generate: Inputs (B, C, H, W), or noise (B, latent) -> pictures (B, 3, H, W) in [-1, 1].
            is_last: Whether its training is at its end, where every network scores.

        Raises:
            DivergenceError: a picture is not finite; raised by every worker.
        """
        fake = of_generator("the generator", "", generate, self.split, self.device, self.latent, _BROKEN)
        return self.numbers(self._subset(fake), is_last=is_last)

    def numbers(self, fake: Pictures, *, is_last: bool = True) -> dict[str, float]:
        """The numbers of pictures that are made for the split, by name. Collective.

        `<split>/kd_evaluator` and `<split>/fd_evaluator` always; `<split>/miou` where there are labels.
        Where inputs are pictures that belong to the targets, also `<split>/psnr` in dB and, where they
        are large enough, `<split>/ssim`. Networks from files give theirs at the end, or at every report (see
        `file_scorers.quantities`).
        """
        by: list[str] | None = None
        measures = list(self.measures)
        if self.scoring is not None and self.scoring.files:
            if is_last or self.scoring.at_reports:
                measures += ["precision", "recall", "lpips"]
            else:
                by = list(self._own)
        return numbers_of(self.scorer.score(fake, measures, most_psnr=MOST_PSNR, by=by))


def evaluator_networks(
    evaluator: PixelEvaluator | PictureEvaluator, evaluator_digest: str
) -> tuple[Extractor, Segmenter]:
    """The evaluator as an extractor, by its bottleneck, and as a segmenter without a suffix.

    It runs once where both are given the same tensor in turn. What it gave goes with that tensor.
    """
    last: list[tuple[weakref.ref[Tensor], EvaluatorOutput]] = []

    def output(pictures: Tensor) -> EvaluatorOutput:
        if not last or last[0][0]() is not pictures:
            last.clear()
            with torch.no_grad():
                given = evaluator(to_float(pictures))
            last.append((weakref.ref(pictures, lambda _: last.clear()), given))
        return last[0][1]

    extractor = Extractor(
        "evaluator",
        evaluator_digest,
        "none",
        evaluator.feature_width,
        lambda pictures: output(pictures).features,
    )
    return extractor, Segmenter(
        "", "evaluator", evaluator_digest, lambda pictures: output(pictures).prediction
    )


def numbers_of(scores: Iterable[Score]) -> dict[str, float]:
    """The values of scores by name, as they stand in the tables of trials."""
    return {score.name: math.inf if score.value is None else score.value for score in scores}


def context_of(scorer: Scorer, num_samples: int) -> dict[str, Any]:
    """What the numbers of `num_samples` pictures are computed with, as it stands in the tables of trials.

    Of several networks: all names, the most features, and one digest of all their real statistics.
    """
    extractors, statistics = scorer.extractors, [scorer.statistics(each) for each in scorer.extractors]
    segmenters = [labels for labels in scorer.labels if labels.segmenter.suffix]
    statistics += [scorer.class_statistics(labels) for labels in segmenters]
    statistics += [] if scorer.lpips is None else [scorer.lpips.sha256]
    statistics += [each.sha256 for each in scorer.published]
    names = [extractor.name for extractor in extractors]
    names += [f"segmenter {labels.segmenter.suffix.strip('_')}" for labels in segmenters]
    names += [] if scorer.lpips is None else ["lpips"]
    names += [each.metric for each in scorer.published]
    num_features = max(extractor.num_features for extractor in extractors)
    return {
        "extractor": ", ".join(names),
        "split": scorer.split,
        "resize": ", ".join(extractor.resize for extractor in extractors),
        "num_samples": num_samples,
        "num_features": num_features,
        "biased": is_biased(min(scorer.real.num, num_samples), num_features),
        "real_statistics": statistics[0] if len(statistics) == 1 else digest(statistics),
    }


def score_network(
    network: Stored,
    data: Stored,
    evaluator: Stored,
    split: SplitName,
    device: torch.device,
    scoring: Scoring | None = None,
    workers: Workers = ALONE,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Numbers of a stored generator, and their context (see `EvaluatorScorer`). Collective."""
    latent = latent_size(saved.generator_config(network))
    scorer = EvaluatorScorer(data, evaluator, split, device, workers, latent, scoring=scoring)
    return scorer.generator(saved.load(network, scorer.split.info, device)), scorer.context


def score_real(
    data: Stored,
    evaluator: Stored,
    split: SplitName,
    device: torch.device,
    scoring: Scoring | None = None,
) -> dict[str, float]:
    """The same numbers of the real pictures of a split, by one worker: their mIoU is the ceiling
    of every generator's.

    Of unpaired data there are as many as inputs, as of every generator's pictures: some twice, or not all.
    """
    scorer = EvaluatorScorer(data, evaluator, split, device, scoring=scoring)
    info = scorer.split.info
    if scorer.num is not None:
        return scorer.numbers(scorer.real._replace(in_order_of_split=info.pairing == "pairs"))
    indices = np.arange(num_inputs(scorer.split, None)) % len(scorer.split)
    return scorer.numbers(scorer.real._replace(indices=indices, in_order_of_split=info.pairing == "pairs"))
