"""Judging: counts at native resolution, views, and what cannot be judged."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featherseg.data.dataset import Sample, Shortfall
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.errors import FeathersegError
from featherseg.metrics.confusion import confusion_matrix
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.training import evaluation
from featherseg.training.evaluation import View, evaluate, probabilities

LABELS = LabelSet("three", ("a", "b", "c"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


class ChannelNetwork(nn.Module):
    """Logits at stride 2: four times each colour channel, so that a pixel's class is its strongest channel."""

    def __init__(self, factor: float = 4.0) -> None:
        super().__init__()
        self.input_spec = InputSpec("RGB", (0.0,) * 3, (1.0,) * 3, min_size=2, output_stride=2, align_corners=False)
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.factor * nn.functional.avg_pool2d(self.input_spec.pad(images), 2))


@dataclass
class Pictures:
    """Random pictures of random sizes with random labels, some of them ignored."""

    count: int = 5
    name: str = "three/random"
    split: str = "val"
    labels: LabelSet = LABELS

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return f"picture-{index}"

    def paths(self, index: int) -> None:
        return None

    def fingerprint(self) -> str:
        return "none"

    def read(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        height, width = (8, 12) if index < 3 else (int(rng.integers(3, 15)), int(rng.integers(3, 15)))
        label = rng.integers(0, 4, (height, width)).astype(np.uint8)
        label[label == 3] = IGNORE
        return Sample(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), label, self.key(index))


def counted_one_by_one(network: ChannelNetwork) -> np.ndarray:
    """Each image alone: enlarge the logits to the label's size, arg-max, count."""
    counts = []
    for index in range(len(Pictures())):
        sample = Pictures().read(index)
        inputs = network.input_spec.normalise(torch.from_numpy(sample.image)[None])
        with torch.no_grad():
            full = network.input_spec.enlarge(network(inputs).logits, sample.label.shape)
        counts.append(confusion_matrix(sample.label, full.argmax(1)[0].to(torch.uint8).numpy(), 3))
    return np.stack(counts)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_counts_are_those_of_each_image_alone(batch_size: int) -> None:
    judged = evaluate(ChannelNetwork(), Pictures(), batch_size=batch_size)
    np.testing.assert_array_equal(judged.confusions, counted_one_by_one(ChannelNetwork()))


def test_counts_do_not_depend_on_how_much_is_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "PIXELS_AT_ONCE", 1)
    judged = evaluate(ChannelNetwork(), Pictures(), batch_size=8)
    np.testing.assert_array_equal(judged.confusions, counted_one_by_one(ChannelNetwork()))


def test_views_are_named_in_the_protocol() -> None:
    judged = evaluate(ChannelNetwork(), Pictures(), view=View(flip=True, scales=(0.5, 1.0)))
    assert judged.protocol == "three/random/train→val+flip+ms0.5,1"


class HalfOfThem(Pictures):
    """A source that knows that its split is not whole."""

    def shortfall(self) -> Shortfall:
        return Shortfall("5 of 10 pictures", "half of them are missing")


def test_a_split_that_is_not_the_official_one_is_marked_in_the_protocol() -> None:
    assert evaluate(ChannelNetwork(), HalfOfThem()).protocol == "three/random/train→val, 5 of 10 pictures"
    judged = evaluate(ChannelNetwork(), HalfOfThem(), view=View(flip=True))
    assert judged.protocol == "three/random/train→val+flip, 5 of 10 pictures"


def test_a_mirrored_view_of_a_mirrored_image_is_the_mirrored_result() -> None:
    images = torch.from_numpy(Pictures().read(0).image)[None]
    view = View(flip=True)
    mirrored = probabilities(ChannelNetwork(), images.flip(2).contiguous(), view).flip(-1)
    torch.testing.assert_close(probabilities(ChannelNetwork(), images, view), mirrored)


def test_the_network_is_left_in_its_mode() -> None:
    network = ChannelNetwork().train()
    evaluate(network, Pictures())
    assert network.training


def test_output_that_is_not_finite_is_refused_by_name() -> None:
    with pytest.raises(FeathersegError, match=r"picture-0.*not finite"):
        evaluate(ChannelNetwork(float("nan")), Pictures())


def test_another_number_of_classes_is_refused() -> None:
    two = LabelSet("two", ("a", "b"), ((255, 0, 0), (0, 255, 0)))
    with pytest.raises(FeathersegError, match="2 classes, the network gives 3"):
        evaluate(ChannelNetwork(), Pictures(labels=two))
