"""The graph as OpenVINO gets it: in its own words where its CPU is slow with ONNX's, and the same numbers."""

import pytest
import torch
from lively import CLASSES, blots
from torch import nn

import featherseg
from featherseg.deploy.image_graph import ImageGraph
from featherseg.models.output import InputSpec, SegmentationOutput


def test_openvino_gets_slopes_of_as_many_sides_as_the_maps_have():
    pytest.importorskip("openvino")
    from featherseg.deploy import openvino as door

    content = door.convert(ImageGraph(featherseg.create_model("fassd_net_l2", 3).eval(), size=(64, 64), batch=1))
    model = door.openvino_core().read_model(*content)
    slopes = [list(node.input_value(1).get_shape()) for node in model.get_ops() if node.get_type_name() == "PRelu"]
    assert len(slopes) == 18
    assert all(shape == [1, shape[1], 1, 1] for shape in slopes)


@pytest.mark.parametrize("size", [None, (65, 97)])
def test_openvino_shuffles_channels_without_transposing(size):
    pytest.importorskip("openvino")
    from featherseg.deploy import openvino as door

    found = door.operators(
        door.convert(ImageGraph(featherseg.create_model("shufflenet_v2_basic", 3).eval(), size=size))
    )
    assert found["ShuffleChannels"] == 13
    assert found["Transpose"] == 1  # of the pixels


def test_what_only_looks_like_a_shuffle_stays_what_it_is():
    pytest.importorskip("openvino")
    from featherseg.deploy import openvino as door

    class Turned(nn.Module):
        """Channels split and exchanged as in a shuffle, and joined with the sides exchanged."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, CLASSES, 1)
            self.input_spec = InputSpec(min_size=1, output_stride=1)

        def forward(self, images):
            x = self.first(images)
            batch, channels, height, width = x.shape
            rows = x.permute(0, 2, 3, 1).reshape(batch, height * width, 2, channels // 2).transpose(2, 3)
            return SegmentationOutput(self.last(rows.reshape(batch, width, height, channels).permute(0, 3, 1, 2)))

    torch.manual_seed(3)
    network = Turned().eval()
    found = door.convert(ImageGraph(network))
    assert "ShuffleChannels" not in door.operators(found)
    image = torch.from_numpy(blots(4, 1, (9, 14)))
    expected = network(network.input_spec.normalise(image)).logits
    made = door.OpenVinoSession(found, threads=1).run(image)
    torch.testing.assert_close(made, expected.detach(), rtol=1e-4, atol=1e-4)
