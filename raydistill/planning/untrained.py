"""Networks with random weights in place of those that trials share: for timing and tests of a training."""

from pathlib import Path
from typing import Any

from torch import nn

from raydistill.config.experiment import Experiment, Shared
from raydistill.data import DataInfo
from raydistill.models import networks, saved
from raydistill.training import recipes


def untrained(folder: Path, experiment: Experiment, info: DataInfo) -> Shared:
    """What all trials share, by the configs of the experiment and with random weights, in `folder`.

    The network of a file that was given is the file. A teacher that was followed has two slabs.
    """
    of_evaluator, teacher = experiment.evaluator.network, experiment.teacher
    network: nn.Module = networks.evaluator(of_evaluator, info, 0)
    evaluator = saved.save(folder / "evaluator", "evaluator", network, of_evaluator)
    # of another seed than students: one of the same config and seed would be its teacher
    other = teacher.model_copy(update={"seed": teacher.seed + 100})
    made = recipes.kind_of(teacher).networks(other, info)
    generator = saved.save(folder / "teacher", "generator", made["generator"], teacher.generator)
    features = experiment.given_features
    if experiment.trains_features:
        of_features = experiment.features.network
        network = networks.feature_network(of_features, 0)
        features = saved.save(folder / "features", "features", network, of_features)
    discriminator = None
    if "discriminator" in recipes.kind_of(teacher).stored_beside:
        own: Any = teacher
        network, config = made["discriminator"], own.discriminator
        discriminator = saved.save(folder / "discriminator", "discriminator", network, config)
    slabs = (generator, generator) if experiment.teacher_itself.keeps_reports else ()
    return Shared(evaluator, generator, features, discriminator, slabs)
