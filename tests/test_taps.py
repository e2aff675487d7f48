"""Outputs of layers by name: which layers, and that taking them out changes nothing."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from families import CASES, Case, case
from test_import import shaken
from torch import Tensor, nn
from torch.nn import functional as F

from raydistill import distributed
from raydistill.config.training import Execution
from raydistill.errors import ConfigError
from raydistill.models import GENERATORS, networks, taps
from raydistill.models.tap_names import spread
from raydistill.testing.generators import built, info_of, inputs

all_kinds = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def every(case: Case) -> dict[str, str]:
    """All taps of a case."""
    known = GENERATORS[case.config.family].taps
    assert known is not None
    return known(case.config)


def nine_blocks(family: str) -> Case:
    widths = {"stem": 2, "down": 2, "trunk": 3, "up": 2, "head": 2}
    hidden = ("hidden",) if family == "resnet" else ("hidden1", "hidden2", "hidden3")
    return case(family, {"widths": widths | dict.fromkeys(hidden, 2), "num_blocks": 9}, 3, 16, 16)


def unet_of(num_levels: int) -> Case:
    widths = {"down1": 2, "down2": 3, "down3": 4, "deep": 5, "up3": 6, "up2": 7, "up1": 8}
    size = 2**num_levels
    return case("unet", {"widths": widths, "num_levels": num_levels, "norm": "instance"}, 3, size, 2 * size)


# ---- which layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["resnet", "mobile_resnet"])
def test_the_default_taps_of_nine_blocks_are_the_published_modules(family: str) -> None:
    """`model.9`, `.12`, `.15` and `.18`, whose numbers this package's modules share."""
    found = taps.module_paths(nine_blocks(family).config, None, "student.base.taps")
    assert found == {"down": "9", "block3": "12", "block6": "15", "block9": "18"}


def test_the_taps_of_a_resnet_are_after_the_last_halving_and_after_each_block() -> None:
    case = nine_blocks("resnet")
    module, x = built(case).eval(), inputs(case)
    assert isinstance(module, nn.Sequential)
    with torch.no_grad(), taps.tapped(module, every(case)) as found:
        module(x)
    with torch.no_grad():
        h = module[8](module[7](F.relu(module[5](module[4](F.relu(module[2](module[1](module[0](x)))))))))
        h = F.relu(h)
        torch.testing.assert_close(found["down"], h)
        for block in range(1, 10):
            h = h + module[9 + block].conv_block(h)
            torch.testing.assert_close(found[f"block{block}"], h)


@pytest.mark.parametrize(
    ("num_levels", "names"),
    [
        (4, ("down2", "down3", "up2", "up1")),
        (5, ("down2", "down4", "up3", "up1")),
        (8, ("down2", "down4", "up3", "up1")),
    ],
)
def test_the_default_taps_of_a_unet_are_the_published_ones_where_it_is_deep_enough(
    num_levels: int, names: tuple[str, ...]
) -> None:
    config = unet_of(num_levels).config
    assert tuple(taps.module_paths(config, None, "taps")) == names
    module = GENERATORS["unet"].build(config, 3)
    for path in every(unet_of(num_levels)).values():
        module.get_submodule(path)


def test_the_taps_of_a_unet_are_what_the_published_modules_put_out() -> None:
    """junyanz' modules are the (leaky) ReLUs before a convolution: of the 3rd and 5th down-convolution, and
    of the up-convolutions of levels 3 and 1, which see the shortcut first."""
    case = unet_of(6)
    module: Any = built(case).eval()
    x, seen = inputs(case, 2), list[Tensor]()
    with torch.no_grad(), taps.tapped(module, every(case)) as found:
        module(x)
    with torch.no_grad():
        h = x
        for level in range(6):
            h = module.downs[level][0](F.leaky_relu(h, 0.2) if level else h)
            h = module.downs[level][1](h) if 0 < level < 5 else h
            seen.append(h)
        rising = {5: h}
        for level in range(5, 0, -1):
            given = F.relu(rising[level])
            rising[level - 1] = torch.cat(
                [
                    F.leaky_relu(seen[level - 1], 0.2),
                    module.ups[5 - level][2](module.ups[5 - level][1](given)),
                ],
                1,
            )
    torch.testing.assert_close(found["down2"], F.leaky_relu(seen[1], 0.2))
    torch.testing.assert_close(found["down4"], F.leaky_relu(seen[3], 0.2))
    torch.testing.assert_close(found["up3"], F.relu(rising[3]))
    torch.testing.assert_close(found["up1"], F.relu(rising[1]))
    # widths 16 and 4 of ngf 1 in the published U-Net: shortcut and what comes from below
    assert found["up3"].shape[1] == 5 + 5 and found["up1"].shape[1] == 3 + 7


@pytest.mark.parametrize(
    ("count", "number", "expected"),
    [
        (9, 3, (3, 6, 9)),
        (6, 3, (2, 4, 6)),
        (4, 3, (2, 3, 4)),
        (2, 3, (1, 2)),
        (1, 3, (1,)),
        (16, 4, (4, 8, 12, 16)),
    ],
)
def test_spread_takes_the_last_and_even_distances(count: int, number: int, expected: tuple[int, ...]) -> None:
    names = [str(place) for place in range(1, count + 1)]
    assert spread(names, number) == tuple(map(str, expected))


@all_kinds
def test_every_family_has_taps_and_its_defaults_are_among_them(case: Case) -> None:
    found = taps.module_paths(case.config, None, "taps")
    assert found.items() <= every(case).items() and 2 <= len(found) <= 4


# ---- taking them out ---------------------------------------------------------------------------------------


@all_kinds
def test_a_network_gives_the_same_bits_and_gradients_with_taps_and_without(case: Case) -> None:
    x, results = inputs(case), []
    for names in ((), every(case)):
        module = shaken(case).train()
        with taps.tapped(module, dict.fromkeys(()) if not names else every(case)):
            pictures = module(x)
        pictures.square().sum().backward()
        results.append([pictures.detach(), *(value.grad for value in module.parameters()), *module.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True) if a is not None)


@all_kinds
def test_taps_keep_their_graphs_and_have_the_shapes_that_were_foretold(case: Case) -> None:
    module = built(case).train()
    with taps.tapped(module, every(case)) as found:
        module(inputs(case))
    expected = taps.shapes(case.config, tuple(every(case)), case.in_channels, case.height, case.width)
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == expected
    assert list(expected) == list(every(case))
    first = next(iter(found.values()))
    gradients = torch.autograd.grad(first.square().sum(), list(module.parameters()), allow_unused=True)
    assert any(value is not None and bool(value.any()) for value in gradients)


@all_kinds
def test_no_hook_is_left_after_a_forward_and_after_an_error(case: Case) -> None:
    module = built(case)
    with pytest.raises(ZeroDivisionError), taps.tapped(module, every(case)):
        module(inputs(case))
        raise ZeroDivisionError
    with pytest.raises(AttributeError), taps.tapped(module, every(case) | {"none": "not.there"}):
        pass
    assert not any(each._forward_hooks for each in module.modules())


def test_a_network_that_is_not_called_once_is_refused() -> None:
    case = CASES["resnet"]
    module = built(case)
    nothing = pytest.raises(RuntimeError, match=r"was not called, or has no output at down")
    with nothing, taps.tapped(module, every(case)):
        pass
    with pytest.raises(RuntimeError, match=r"down was reached twice"), taps.tapped(module, every(case)):
        module(inputs(case))
        module(inputs(case))
    assert not any(each._forward_hooks for each in module.modules())


def test_a_compiled_network_is_refused_in_its_forward() -> None:
    """torch.compile keeps the hooks of its first call: later ones would get nothing, or what is old."""
    case = CASES["resnet"]
    module = built(case)
    module.forward = torch.compile(module.forward, backend="eager")  # type: ignore[method-assign]
    refused = pytest.raises(RuntimeError, match="a compiled network has no taps")
    with refused, taps.tapped(module, every(case)):
        pass


@pytest.mark.parametrize("name", ["resnet", "unet-deep", "enhance", "stylegan2"])
def test_a_sharded_network_has_the_same_taps_and_gradients(name: str) -> None:
    """FSDP2 with blocks of their own, in lists, too; spectral norms are refused elsewhere."""
    case = CASES[name]
    module, sharded, x = built(case), built(case), inputs(case)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        how = Execution(sharding="fsdp", fsdp_min_params=1)
        distributed.shard(sharded, how, torch.device("cpu"), distributed.current())
        assert sum(distributed.is_sharded(each) for each in sharded.modules()) > 2
        losses = []
        for network in (module, sharded):
            with taps.tapped(network, every(case)) as found:
                pictures = network(x)
            losses.append([pictures, *found.values()])
            sum(value.square().mean() for value in losses[-1]).backward()  # type: ignore[union-attr]
        assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))
        for plain, parts in zip(module.parameters(), sharded.parameters(), strict=True):
            assert (plain.grad is None) == (parts.grad is None)
            if plain.grad is not None:
                torch.testing.assert_close(plain.grad, parts.grad.full_tensor())  # type: ignore[union-attr]
    finally:
        dist.destroy_process_group()


def test_activation_checkpointing_and_taps_go_together() -> None:
    case = CASES["unet-deep"]
    info, x = info_of(case), inputs(case)
    gradients = []
    for is_on in (False, True):
        module = networks.generator(case.config, info, 0)
        if is_on:
            for block in distributed._blocks(module):
                block.forward = _checkpointed(block.forward)  # type: ignore[method-assign]
        with taps.tapped(module, every(case)) as found:
            module(x)
        sum(value.square().mean() for value in found.values()).backward()  # type: ignore[union-attr]
        gradients.append([value.grad for value in module.parameters()])
    assert all(a is None or torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def _checkpointed(forward: Any) -> Any:
    return lambda x: torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False)


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("down", "block3"), "'block3' is no layer of this resnet; use some of down, block1, block2"),
        (("model.9",), "'model.9' is no layer of this resnet; use some of down, block1, block2"),
        (("down", "down"), "'down' is given twice; give it once"),
        ((), "empty; name some of down, block1, block2"),
    ],
)
def test_wrong_names_are_refused_with_those_that_there_are(names: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        taps.module_paths(CASES["resnet"].config, names, "student.base.taps")
    assert str(error.value) == f"student.base.taps: {says}"


def test_a_family_without_taps_or_without_defaults_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CASES["resnet"].config
    whole = GENERATORS["resnet"]
    monkeypatch.setitem(GENERATORS, "resnet", whole._replace(default_taps=None))
    with pytest.raises(ConfigError, match=r"no default taps; name some of down, block1, block2"):
        taps.module_paths(config, None, "student.base.taps")
    assert taps.module_paths(config, ["block1"], "student.base.taps") == {"block1": "10"}
    monkeypatch.setitem(GENERATORS, "resnet", whole._replace(taps=None))
    with pytest.raises(
        ConfigError, match=r"^student\.base\.taps: the family 'resnet' lists no layers.*Family"
    ):
        taps.module_paths(config, ["block1"], "student.base.taps")
