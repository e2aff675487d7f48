"""The feature network that --features names: VGG16 from a file, checked before any cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from raydistill.config.base import Stored
from raydistill.config.experiment import Experiment
from raydistill.config.scoring import ScorerFile
from raydistill.errors import ConfigError
from raydistill.evaluation.lpips import LPIPS
from raydistill.models.backbones.vgg import VGG16
from raydistill.models.features import SMALLEST, read_vgg16
from raydistill.models.tensor_files import load_weights
from raydistill.planning.scorers import stored_file


def with_given_features(experiment: Experiment, given: str | None, copies: Mapping[str, Path]) -> Experiment:
    """The experiment with the file of --features, which has been read.

    Args:
        given: the file; None: no option names one.
        copies: option -> what is taken where its file is not there, see `records.store.copies`.

    Raises:
        ConfigError: no loss looks at features, or the pictures are too small for VGG16.
        DataError: the file cannot be read, or has the weights of another network.
    """
    if given is None:
        return experiment
    if not experiment.needs_features:
        raise ConfigError(f"--features {given}: no loss of the students looks at features; leave it out")
    sides = experiment.data.height, experiment.data.width
    if min(sides) < SMALLEST:
        raise ConfigError(
            f"--features {given}: VGG16 needs pictures of {SMALLEST} pixels a side or more, and these have "
            f"{sides[1]}x{sides[0]}; leave it out, or set data.height and data.width"
        )
    file = stored_file(Path(given), copies.get(f"--features {given}"))
    read_vgg16(Path(file.path))
    return experiment.model_copy(update={"given_features": file})


def require_other_weights(features: Stored | None, files: Sequence[ScorerFile]) -> None:
    """Raises ConfigError where a file that scores has the convolutions of VGG16 that give a loss.

    Equal files are found by their digest (`config.experiment.require_strangers`); this finds the same weights
    in another file, such as that of LPIPS.
    """
    if features is None:
        return
    of_loss = _convolutions(read_vgg16(Path(features.path)))
    for each in files:
        if each.role == "lpips":
            network = load_weights(Path(each.file.path), LPIPS(), "LPIPS 0.1 on VGG16", ignore="lins.").net
        elif each.role == "extractor" and each.kind == "vgg16":
            network = load_weights(Path(each.file.path), VGG16(), "VGG16")
        else:
            continue
        if all(map(torch.equal, of_loss, _convolutions(network))):
            raise ConfigError(
                f"{each.role} {each.name}: its convolutions are those of --features {features.path}: what "
                "gives a loss never scores; leave one of the two out"
            )


def _convolutions(network: nn.Module) -> list[Tensor]:
    """The weights of its convolutions, in order."""
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
