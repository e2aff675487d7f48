"""Dropout of U-Nets: where it is, what it does, and that its random numbers belong to images."""

from pathlib import Path

import pytest
import torch
from conftest import TINY
from torch import nn

from raydistill import testing
from raydistill.config.architectures import UnetGenerator, UnetWidths
from raydistill.config.base import digest
from raydistill.config.paths import with_values
from raydistill.config.presets import shapes32
from raydistill.models import dropout, unet
from raydistill.models.dropout import ImageDropout
from raydistill.training import loop

UNET = UnetGenerator(widths=UnetWidths.uniform(2), num_levels=8, dropout=0.5)


def layers(network: nn.Module) -> dict[str, ImageDropout]:
    return {name: each for name, each in network.named_modules() if isinstance(each, ImageDropout)}


def test_it_is_on_the_three_inner_doublings_of_a_unet_of_eight_levels() -> None:
    """Level 7 is the deepest; ups count from there, so levels 6, 5 and 4 are ups 1, 2 and 3."""
    network = unet.Unet(UNET, 3)
    assert list(layers(network)) == ["ups.1.3", "ups.2.3", "ups.3.3"]
    assert not layers(unet.Unet(UNET.model_copy(update={"dropout": 0.0}), 3))
    assert list(network.state_dict()) == list(
        unet.Unet(UNET.model_copy(update={"dropout": 0.0}), 3).state_dict()
    )


def test_a_unet_without_dropout_has_the_digest_that_it_had() -> None:
    assert "dropout" not in UnetGenerator().model_dump()
    assert digest(UnetGenerator()) != digest(UnetGenerator(dropout=0.5))


def test_what_stays_is_scaled_up_and_an_eval_network_changes_nothing() -> None:
    layer, x = ImageDropout(0.3, 4), torch.ones(4, 8, 32, 32)
    layer.keys = dropout.noise.image_keys(0, "test", range(4))
    kept = layer(x)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(layer.eval()(x), x)


def test_an_images_numbers_depend_on_no_other_image_and_differ_by_place_seed_and_network() -> None:
    x = torch.ones(4, 4, 8, 8)

    def masks(images: range, place: int = 4, seed: int = 0, purpose: str = "generator") -> torch.Tensor:
        network = nn.Sequential(nn.Conv2d(4, 4, 1), ImageDropout(0.5, place))
        dropout.begin(network, seed, purpose)
        dropout.show([network], images)
        found: torch.Tensor = network[1](x[: len(images)])
        return found

    whole = masks(range(8, 12))
    assert torch.equal(masks(range(10, 12)), whole[2:])  # another worker's part, or a microbatch
    for other in (masks(range(8, 12), 5), masks(range(8, 12), 4, 1), masks(range(8, 12), 4, 0, "back")):
        assert not torch.equal(other, whole)
    assert not torch.equal(whole[0], whole[1])


def test_without_the_images_a_forward_in_train_mode_is_refused() -> None:
    network = unet.Unet(UNET, 3)
    with pytest.raises(RuntimeError, match=r"dropout of 1 images.*those of none.*models\.dropout\.show"):
        network(torch.zeros(1, 3, 256, 256))
    assert network.eval()(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 256, 256)


def test_the_loop_shows_every_minibatch_and_microbatch_its_own_images(tmp_path: Path) -> None:
    values = {
        **{path: each for path, each in TINY.items() if not path.startswith("teacher.generator.")},
        "data.height": 64,
        "data.width": 64,
        "teacher.generator.family": "unet",
        **{f"teacher.generator.widths.{name}": each for name, each in UnetWidths.uniform(1)},
        "teacher.generator.num_levels": 6,
        "teacher.generator.norm": "instance",
        "teacher.generator.dropout": 0.5,
    }
    experiment = with_values(shapes32(), values, where="test")
    _, trained, step = testing.begin(tmp_path, experiment, "teacher")
    (layer,) = layers(trained.networks["generator"]).values()
    loop.begin(trained, [step])
    assert layer.keys is not None and len(layer.keys) == len(step)
    expected = dropout.noise.image_keys(layer.seed, "dropout/generator/4", step.images)
    assert torch.equal(layer.keys, expected)
    first = step.output.detach().clone()
    loop.begin(trained, [step])
    assert torch.equal(step.output, first)  # a resume is a replay
    dropout.show(trained.networks.values(), range(100, 100 + len(step)))
    trained.forward(step)
    assert not torch.equal(step.output, first)
