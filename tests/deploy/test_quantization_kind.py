"""Whether calibration images are told from images of another kind than the network was trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lively import blots
from torch import nn

from featherseg.data.sources import open_dataset
from featherseg.deploy.export import network_and_metadata
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.quantization_kind import UNLIKE, distance_from_training, unlike_training
from featherseg.models.output import InputSpec, SegmentationOutput


class Source:
    """Images as a data set."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def read(self, index: int):
        return type("Read", (), {"image": self.images[index], "label": None, "key": str(index)})


def samples(images: np.ndarray) -> Samples:
    return Samples(Source(images), range(len(images)), None)


class Normed(nn.Module):
    """A convolution and a batch norm that remembers all it was shown."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.input_spec = InputSpec()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), norm)

    def forward(self, images):
        return SegmentationOutput(self.layers(images))


def trained(images: np.ndarray) -> Normed:
    network = Normed(nn.BatchNorm2d(6, momentum=None))
    with torch.no_grad():
        network.train()(network.input_spec.normalise(torch.from_numpy(images)))
    return network.eval()


def test_the_training_images_themselves_are_at_no_distance():
    images = blots(0, 6, (30, 40))
    assert distance_from_training(trained(images), samples(images)) == pytest.approx(0, abs=1e-3)


def test_the_distance_is_the_divergence_of_two_normal_distributions():
    network = trained(blots(0, 6, (30, 40)))
    norm: nn.BatchNorm2d = network.layers[1]  # type: ignore[assignment]
    images = blots(1, 3, (24, 31))
    with torch.inference_mode():
        values = network.layers[0](network.input_spec.normalise(torch.from_numpy(images)))
    expected = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(values[:, channel].mean(), (values[:, channel].var() + norm.eps).sqrt()),
            torch.distributions.Normal(norm.running_mean[channel], (norm.running_var[channel] + norm.eps).sqrt()),  # type: ignore[index]
        )
        for channel in range(6)
    ]
    found = distance_from_training(network, samples(images))
    assert found == pytest.approx(float(torch.stack(expected).median()), rel=1e-2)


def test_images_without_contrast_are_of_another_kind():
    network = trained(blots(0, 6, (30, 40)))
    assert unlike_training(network, samples(blots(1, 12, (30, 40)))) is None
    found = unlike_training(network, samples(blots(1, 12, (30, 40)) // 20))
    assert found is not None
    assert found > UNLIKE


def test_a_network_without_batch_norms_tells_nothing():
    images = blots(0, 2, (9, 9))
    assert distance_from_training(Normed(nn.Identity()).eval(), samples(images)) is None
    assert distance_from_training(Normed(nn.BatchNorm2d(6, track_running_stats=False)).eval(), samples(images)) is None


def test_the_network_keeps_no_trace_of_it():
    images = blots(0, 2, (9, 9))
    network = trained(images)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    distance_from_training(network, samples(images // 9))
    assert not network.layers[1]._forward_pre_hooks
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.shared
@pytest.mark.parametrize("weights", ["fassd_net_l2.camvid", "drbanet.camvid", "mobilenet_v2_dpc.camvid"])
def test_of_shipped_weights_photographs_of_streets_are_of_the_kind_and_masks_are_not(shared_data: Path, weights):
    network, _ = network_and_metadata(weights)
    source = open_dataset(shared_data / "camvid-480x360", "val")
    photographs = Samples(source, range(0, len(source), len(source) // 4), None)
    masks = np.stack([sample.label for sample in photographs])
    assert unlike_training(network, photographs) is None
    assert unlike_training(network, samples(np.repeat(masks[..., None], 3, 3))) is not None
