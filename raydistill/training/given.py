"""A teacher that was given: nothing is trained, its network is taken over and scored once."""

import time
from pathlib import Path

import torch

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.evaluation.evaluator_scores import EvaluatorScorer
from raydistill.evaluation.samples import write_grid
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.records.trials import Evaluation
from raydistill.training import peak
from raydistill.training.loop import SAMPLES, TrainingResult


def score_given(job: Job, *, state_dir: Path) -> TrainingResult:
    """Copies the given network to `state_dir/network` and scores it on val. Collective.

    Raises:
        CheckpointError: the network is missing, damaged, or not for this data.
        DivergenceError: a picture that it makes is not finite.
    """
    assert job.teacher is not None and job.evaluator is not None
    start_sec, mapped, workers = time.monotonic(), peak.start(), distributed.current()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = state_dir / "network"
    if workers.is_main:
        saved.copied(job.teacher, folder)
    distributed.barrier(workers)
    stored = saved.stored(folder)
    latent = latent_size(saved.generator_config(stored))
    scorer = EvaluatorScorer(job.data, job.evaluator, "val", device, workers, latent)
    network = saved.load(stored, scorer.split.info, device)
    before_sec = time.monotonic()
    numbers = scorer.generator(network)
    scoring_sec = time.monotonic() - before_sec
    if workers.is_main:
        columns = {"output": lambda part: network(part.inputs)}
        write_grid(state_dir / SAMPLES, scorer.split, columns, device, latent)
    distributed.barrier(workers)
    wall_sec = time.monotonic() - start_sec
    evaluation = Evaluation(nimg=0, wall_sec=wall_sec, numbers=numbers, scoring_sec=scoring_sec)
    return TrainingResult(0, numbers, [evaluation], wall_sec, scorer.context, stored, {}, peak.gb(mapped))
