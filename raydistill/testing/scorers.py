"""What every extractor and every segmenter from a file has to hold. Nothing is trained."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raydistill.errors import DataError
from raydistill.evaluation.extractors import EXTRACTORS, TF_INCEPTION, load_extractor
from raydistill.evaluation.segmenters import SEGMENTERS, load_segmenter
from raydistill.planning.scorer_memory import META

CPU = torch.device("cpu")


def pictures(number: int = 3, height: int = 40, width: int = 32) -> Tensor:
    """Pictures of noise, uint8 (number, 3, height, width)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (number, 3, height, width), generator=generator, dtype=torch.uint8)


class ExtractorContract:
    """The contract of a kind of extractor. A subclass, whose name begins with Test, has a fixture `option`,
    what follows --extractor:

        class TestMeans(ExtractorContract):
            @pytest.fixture
            def option(self, tmp_path):
                save_file({"scale": torch.ones(3)}, tmp_path / "means.safetensors")
                return f"means={tmp_path / 'means.safetensors'}"
    """

    def test_each_picture_has_features_of_its_own(self, option: str) -> None:
        """The same alone, in any minibatch and at any time; another picture has others."""
        extractor = load_extractor(option, CPU)
        require_of_each_picture_alone(extractor.network, pictures())
        features = extractor.network(pictures())
        assert features.shape == (3, extractor.num_features) and features.is_floating_point()
        assert not torch.equal(features[0], features[1])
        assert extractor.network(pictures(2, 48, 56)).shape == (2, extractor.num_features)

    def test_the_file_decides_who_it_is(self, option: str) -> None:
        """Read again it is the same; and only the published Inception gives a metric called fid."""
        first, second = (load_extractor(option, CPU) for _ in range(2))
        assert first[:4] == second[:4]
        assert torch.equal(first.network(pictures()), second.network(pictures()))
        assert (first.metric("fd") == "fid") == (first.sha256 == TF_INCEPTION)

    def test_a_file_of_something_else_is_refused(
        self, option: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """In one line that names it."""
        require_refusal(option, load_extractor, tmp_path_factory)

    def test_memory_is_predicted_by_the_network_that_is_loaded(self, option: str) -> None:
        """On the meta device, where there are no numbers."""
        kind = EXTRACTORS[option.partition("=")[0]]
        if kind.network is None:
            pytest.skip("only its file has the network")
        with META:
            side = kind.size or 40
            dtype = torch.uint8 if kind.resize == "none" else torch.float32
            features = kind.network().eval()(torch.empty(2, 3, side, side, dtype=dtype))
        assert features.shape == (2, load_extractor(option, CPU).num_features)


class SegmenterContract:
    """The contract of a kind of segmenter. A subclass, whose name begins with Test, has fixtures `option`,
    what follows --segmenter, and `num_classes`, of which it gives scores.
    """

    def test_each_picture_has_class_scores_of_its_own(self, option: str, num_classes: int) -> None:
        """The same alone, in any minibatch and at any time; another picture has others."""
        segmenter = load_segmenter(option, CPU)
        require_of_each_picture_alone(segmenter.scores, pictures())
        scores = segmenter.scores(pictures())
        assert scores.dim() == 4 and scores.shape[:2] == (3, num_classes) and scores.is_floating_point()
        assert not torch.equal(scores[0], scores[1])

    def test_the_file_decides_who_it_is(self, option: str) -> None:
        """Read again it is the same."""
        first, second = (load_segmenter(option, CPU) for _ in range(2))
        assert first[:3] == second[:3] and torch.equal(first.scores(pictures()), second.scores(pictures()))

    def test_a_file_of_something_else_is_refused(
        self, option: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """In one line that names it."""
        require_refusal(option, load_segmenter, tmp_path_factory)

    def test_memory_is_predicted_by_the_network_that_is_loaded(self, option: str, num_classes: int) -> None:
        """On the meta device, where there are no numbers."""
        kind = SEGMENTERS[option.partition("=")[0]]
        if kind.network is None:
            pytest.skip("only its file has the network")
        with META:
            assert kind.network().eval()(torch.empty(2, 3, 40, 32)).shape[:2] == (2, num_classes)


def require_of_each_picture_alone(network: Callable[[Tensor], Tensor], given: Tensor) -> None:
    """Asserts that what a network says of a picture depends on it alone, and that it leaves it as it was."""
    before = given.clone()
    found = network(given)
    assert bool(torch.isfinite(found).all()) and not found.requires_grad
    assert torch.equal(found, network(given)) and torch.equal(given, before)
    alone = torch.cat([network(given[index : index + 1]) for index in range(len(given))])
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-4)
    turned = network(given.flip(0)).flip(0)
    torch.testing.assert_close(found, turned, rtol=1e-3, atol=1e-4)


def require_refusal(
    option: str, load: Callable[[str, torch.device], object], folders: pytest.TempPathFactory
) -> None:
    """Asserts that a file of another content is refused, and one that is not there."""
    kind, file = option.split("=")
    other = folders.mktemp("other") / f"other{file[file.rindex('.') :]}"
    for content in (b"something else", None):
        if content is not None:
            other.write_bytes(content)
        else:
            other.unlink()
        with pytest.raises(DataError, match=str(other)) as refused:
            load(f"{kind}={other}", CPU)
        assert "\n" not in str(refused.value)
