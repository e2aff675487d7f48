"""What every family of generators has to hold."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raydistill.config.architectures import Generator
from raydistill.data import DataInfo
from raydistill.models import GENERATORS, cost, input_shape, networks, saved, taps


class GeneratorCase(NamedTuple):
    """A small generator of a family, and pictures that it takes."""

    config: Generator
    in_channels: int
    """Channels of an input; 3 where it takes noise."""
    height: int
    """Height and width of an input, or of a picture where it takes noise, in pixels."""
    width: int


def info_of(case: GeneratorCase) -> DataInfo:
    """Data that the generator fits: label maps where it takes other than 3 channels."""
    return DataInfo(
        layout="labelled" if case.in_channels != 3 else "aligned",
        height=case.height,
        width=case.width,
        class_names=(),
        palette=(),
        ignore_index=None,
        counts={},
        split_rule="",
        num_classes=None if case.in_channels == 3 else case.in_channels,
    )


def built(case: GeneratorCase, seed: int = 0) -> nn.Module:
    """The generator with random weights of the seed."""
    return networks.generator(case.config, info_of(case), seed)


def inputs(case: GeneratorCase, number: int = 3) -> Tensor:
    """So many inputs, (number, C, H, W) or (number, latent), in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, *input_shape(*case), generator=generator).clamp(-1, 1)


def counts(case: GeneratorCase) -> tuple[int, int]:
    """MACs and parameters, from the table and from the module alike."""
    table, module = GENERATORS[case.config.family].layers(*case), built(case)
    found = cost.macs(table), cost.params(table)
    assert found == (cost.module_macs(module, (1, *input_shape(*case))), cost.module_params(module))
    return found


class GeneratorContract:
    """The contract of a family. A subclass, whose name begins with Test, has a fixture `case`:

    class TestPlain(GeneratorContract):
        @pytest.fixture
        def case(self):
            return GeneratorCase(PlainGenerator(), in_channels=3, height=16, width=16)
    """

    def unused_widths(self, case: GeneratorCase) -> set[str]:
        """Names of widths that this config has no layer for; an absent one (None) is always left out."""
        return set()

    def test_a_generator_gives_pictures_of_its_size_in_range(self, case: GeneratorCase) -> None:
        """Pictures are `scale` times as large as inputs, where the config has a `scale`."""
        module, scale = built(case).eval(), getattr(case.config, "scale", 1)
        with torch.no_grad():
            pictures = module(inputs(case))
        assert pictures.shape == (3, 3, scale * case.height, scale * case.width)
        assert pictures.dtype == torch.float32 and bool(pictures.isfinite().all())
        if GENERATORS[case.config.family].bounded:
            assert bool((pictures.abs() <= 1).all())

    def test_a_picture_does_not_depend_on_the_others_in_the_batch_of_a_finished_generator(
        self, case: GeneratorCase
    ) -> None:
        """In eval mode."""
        module, x = built(case).eval(), inputs(case)
        with torch.no_grad():
            torch.testing.assert_close(module(x)[1:2], module(x[1:2]), rtol=1e-4, atol=1e-5)

    def test_a_generator_built_on_the_meta_device_has_the_state_of_a_real_one(
        self, case: GeneratorCase
    ) -> None:
        """So that it can be counted and loaded without being initialised."""
        with torch.device("meta"):
            meta = GENERATORS[case.config.family].build(case.config, case.in_channels)
        real = built(case)
        assert {name: value.shape for name, value in meta.state_dict().items()} == {
            name: value.shape for name, value in real.state_dict().items()
        }
        meta.load_state_dict(real.state_dict(), assign=True)
        with torch.no_grad():
            assert torch.equal(meta.eval()(inputs(case)), real.eval()(inputs(case)))

    def test_a_generator_comes_back_from_its_folder_and_from_its_config_as_json(
        self, case: GeneratorCase, tmp_path: Path
    ) -> None:
        """With statistics and spectral norms that a forward has moved."""
        module = built(case).train()
        with torch.no_grad():
            module(inputs(case))
        stored = saved.save(tmp_path / "network", "generator", module, case.config)
        loaded = saved.load(stored, info_of(case), torch.device("cpu"))
        with torch.no_grad():
            assert torch.equal(loaded(inputs(case)), module.eval()(inputs(case)))
        config = GENERATORS[case.config.family].config
        assert config.model_validate_json(case.config.model_dump_json()) == case.config

    def test_every_parameter_of_a_generator_gets_a_gradient_and_a_second_one_exists(
        self, case: GeneratorCase
    ) -> None:
        """Langevin chains and path lengths differentiate twice."""
        torch.manual_seed(0)
        module = built(case).train().double()
        for parameter in module.parameters():
            if parameter.numel() == 1:  # a gate that starts at 0 hides what is behind it
                torch.nn.init.constant_(parameter, 0.1)
        x = inputs(case).double().requires_grad_(True)
        pictures = module(x)
        (first,) = torch.autograd.grad((pictures * torch.randn_like(pictures)).sum(), x, create_graph=True)
        (first.square().sum() + pictures.square().sum()).backward()
        missing = [
            name
            for name, value in module.named_parameters()
            if value.grad is None or not bool(value.grad.isfinite().all())
        ]
        assert missing == []

    def test_a_tap_is_a_layer_that_is_called_once_and_puts_out_one_tensor(self, case: GeneratorCase) -> None:
        """Its defaults are among them, and pictures stay the same bits. A family may have none."""
        if (known := GENERATORS[case.config.family].taps) is None:
            return
        module, x = built(case).eval(), inputs(case)
        with torch.no_grad(), taps.tapped(module, known(case.config)) as outputs:
            pictures = module(x)
        with torch.no_grad():
            assert torch.equal(pictures, module(x))
        assert all(output.ndim == 4 and len(output) == len(x) for output in outputs.values())
        if (default := GENERATORS[case.config.family].default_taps) is not None:
            assert set(default(case.config)) <= set(outputs)

    def test_generators_of_one_seed_are_equal_and_of_two_seeds_are_not(self, case: GeneratorCase) -> None:
        """Random weights come from the seed alone."""
        first, again, other = (
            nn.utils.parameters_to_vector(built(case, seed).parameters()) for seed in (0, 0, 1)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_the_closed_form_counts_what_the_module_counts_and_grows_with_every_width(
        self, case: GeneratorCase
    ) -> None:
        """`layers` counts the MACs and parameters of the module, and each width costs something."""
        before, unused = counts(case), self.unused_widths(case)
        for name, value in case.config.widths:
            if value is None or name in unused:
                continue
            widths = case.config.widths.model_copy(update={name: value + 8})
            after = counts(case._replace(config=case.config.model_copy(update={"widths": widths})))
            assert after[0] > before[0] and after[1] > before[1], name
