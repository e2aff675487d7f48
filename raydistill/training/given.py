"""A teacher that was given: nothing is trained, its network is taken over and scored once."""

import time
from pathlib import Path

import torch

from raydistill import distributed
from raydistill.config.experiment import Job
from raydistill.data import load_split
from raydistill.evaluation.evaluator_scores import score_network
from raydistill.evaluation.samples import write_grid
from raydistill.models import saved
from raydistill.models.inputs import latent_size
from raydistill.records.trials import Evaluation
from raydistill.training.loop import SAMPLES, TrainingResult


def score_given(job: Job, *, state_dir: Path) -> TrainingResult:
    """Copies the given network to `state_dir/network` and scores it on val. Collective.

    Where there are several workers, each computes all scores: they need no other's.

    Raises:
        CheckpointError: the network is missing, damaged, or not for this data.
        DivergenceError: a picture that it makes is not finite.
    """
    assert job.teacher is not None and job.evaluator is not None
    start_sec, workers = time.monotonic(), distributed.current()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = state_dir / "network"
    if workers.is_main:
        saved.copied(job.teacher, folder)
    distributed.barrier(workers)
    network = saved.stored(folder)
    numbers, context = score_network(network, job.data, job.evaluator, "val", device)
    if workers.is_main:
        val, latent = load_split(job.data, "val"), latent_size(saved.generator_config(network))
        generator = saved.load(network, val.info, device)
        columns = {"output": lambda part: generator(part.inputs)}
        write_grid(state_dir / SAMPLES, val, columns, device, latent)
    distributed.barrier(workers)
    wall_sec = time.monotonic() - start_sec
    evaluation = Evaluation(nimg=0, wall_sec=wall_sec, numbers=numbers)
    return TrainingResult(0, numbers, [evaluation], wall_sec, context, network)
