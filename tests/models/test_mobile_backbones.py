"""ShuffleNet V2, MobileNet V2 and EfficientNet-Lite0: sizes, strides and rates, channel routing, classifiers."""

import re
from copy import deepcopy

import pytest
import torch
from synthetic_weights import synthetic_images, synthetic_tensor
from torch import nn
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models import efficientnet_lite, mobilenet_v2
from featherseg.models.importer import import_encoder
from featherseg.models.mobile_layers import LayerStyle
from featherseg.models.mobilenet_v2 import InvertedResidualTrunk
from featherseg.models.registry import create_model
from featherseg.models.shufflenet_v2 import ShuffleNetV2Trunk, interleave

BACKBONES = ("shufflenet_v2", "mobilenet_v2", "efficientnet_lite0")
CHANNELS = {"shufflenet_v2": 464, "mobilenet_v2": 320, "efficientnet_lite0": 320}


def trunk_of(backbone, output_stride=32, padding="symmetric", **arguments):
    style = LayerStyle(padding, relu6=backbone != "shufflenet_v2")
    if backbone == "shufflenet_v2":
        return ShuffleNetV2Trunk(style, output_stride, **arguments)
    groups = {"mobilenet_v2": mobilenet_v2.GROUPS, "efficientnet_lite0": efficientnet_lite.GROUPS}[backbone]
    return InvertedResidualTrunk(groups, style, output_stride)


def filled(network):
    """``network`` in ``eval()`` with synthetic weights."""
    state = network.state_dict()
    network.load_state_dict({key: synthetic_tensor(key, tensor.shape) for key, tensor in state.items()})
    return network.eval()


def strides_and_dilations(module):
    """Of the spatial convolutions in ``module``, as ``(stride, dilation)``."""
    spatial = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    return [(m.stride[0], m.dilation[0]) for m in spatial]


SHUFFLENET_RATES = [  # (output stride, dilation, (stride, rate) of unit 1 and rate of the rest, in stages 2, 3 and 4)
    (32, "paper", ((2, 1), 1), ((2, 1), 1), ((2, 1), 1)),
    (16, "paper", ((2, 1), 1), ((2, 1), 1), ((1, 1), 2)),
    (16, "released", ((2, 1), 1), ((2, 1), 1), ((1, 1), 1)),
    (8, "paper", ((2, 1), 1), ((1, 1), 2), ((1, 2), 4)),
]


@pytest.mark.parametrize(("output_stride", "dilation", *[f"stage{n}" for n in (2, 3, 4)]), SHUFFLENET_RATES)
def test_shufflenet_s_stages_have_the_stated_strides_and_rates(output_stride, dilation, stage2, stage3, stage4):
    trunk = trunk_of("shufflenet_v2", output_stride, dilation=dilation)
    for stage, (first, rest) in ((trunk.stage2, stage2), (trunk.stage3, stage3), (trunk.stage4, stage4)):
        assert strides_and_dilations(stage[0]) == [first, first]
        assert {found for unit in list(stage)[1:] for found in strides_and_dilations(unit)} == {(1, rest)}


def test_released_dilation_is_refused_at_stride_8_with_the_reason():
    with pytest.raises(FeathersegError, match=r'refused at output_stride 8.*rate at 1.*Take dilation="paper"'):
        create_model("shufflenet_v2_dpc", output_stride=8, dilation="released")


MOBILENET_RATES = {16: [(1, 1), (1, 2), (1, 2), (1, 2)], 8: [(1, 2), (1, 4), (1, 4), (1, 4)]}


@pytest.mark.parametrize("output_stride", MOBILENET_RATES)
def test_mobilenet_s_last_four_blocks_have_the_stated_strides_and_rates(output_stride):
    found = strides_and_dilations(trunk_of("mobilenet_v2", output_stride).blocks[13:])
    assert found == MOBILENET_RATES[output_stride]


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_rates_see_what_strides_saw(backbone, output_stride, padding):
    # What rates are for: of a denser map, every second or fourth pixel is the map that strides give.
    images = synthetic_images(65, 97).double()
    coarse = filled(trunk_of(backbone, 32, padding)).double()
    dense = trunk_of(backbone, output_stride, padding).double().eval()
    dense.load_state_dict(coarse.state_dict())
    step = 32 // output_stride
    with torch.no_grad():
        torch.testing.assert_close(dense(images)[1][..., ::step, ::step], coarse(images)[1], rtol=1e-9, atol=1e-9)


MAP_SIZES = {
    (769, 769): (49, 49),
    (225, 225): (15, 15),
    (1025, 2049): (65, 129),
    (360, 640): (23, 40),
    (224, 224): (14, 14),
}


@pytest.mark.parametrize("padding", ["symmetric", "tf_same"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_maps_have_the_stated_size(backbone, padding):
    with torch.device("meta"):
        trunk = trunk_of(backbone, 16, padding).eval()
        for size, map_size in MAP_SIZES.items():
            skip, features = trunk(torch.empty(1, 3, *size))
            assert features.shape == (1, CHANNELS[backbone], *map_size)
            assert skip.shape == (1, 24, -(-size[0] // 4), -(-size[1] // 4))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_tf_same_is_symmetric_padding_on_sizes_of_16k_plus_1_alone(backbone):
    symmetric = filled(trunk_of(backbone, 16)).double()
    same = trunk_of(backbone, 16, "tf_same").double().eval()
    same.load_state_dict(symmetric.state_dict())
    for size, agree in (((33, 49), True), ((64, 48), False), ((33, 50), False)):
        images = synthetic_images(*size).double()
        with torch.no_grad():
            ours, theirs = same(images)[1], symmetric(images)[1]
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9) == agree
        if not agree:
            assert (ours - theirs).abs().max() > 0.05 * theirs.abs().max()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_interleaving_is_the_channel_shuffle_in_either_memory_layout(layout):
    first, second = (torch.randn(2, 5, 3, 4).to(memory_format=layout) for _ in range(2))
    shuffled = interleave(first, second)
    assert torch.equal(shuffled, torch.stack((first, second), 2).flatten(1, 2))
    assert shuffled.is_contiguous(memory_format=layout)


def torchvision_stage(stage, x, order):
    """A stage as torchvision routes it, written with PyTorch's own shuffle; ``order`` of unit 1's two branches."""
    second, main = stage[0](x)
    x = F.channel_shuffle(torch.cat((main, second) if order == "main first" else (second, main), 1), 2)
    for unit in list(stage)[1:]:
        passes, processed = x.chunk(2, 1)
        x = F.channel_shuffle(torch.cat((passes, unit(processed)), 1), 2)
    return x


def reversed_channels(stage):
    """``stage`` with the channels between its units in reversed order."""
    stage = deepcopy(stage)

    def reverse_output(layer):
        layer.conv.weight.data = layer.conv.weight.data.flip(0)
        for tensor in (layer.bn.weight.data, layer.bn.bias.data, layer.bn.running_mean, layer.bn.running_var):
            tensor.copy_(tensor.flip(0))

    for layer in (stage[0].main.after, stage[0].second.after, *(unit.after for unit in list(stage)[1:])):
        reverse_output(layer)
    for unit in list(stage)[1:]:
        unit.before.conv.weight.data = unit.before.conv.weight.data.flip(1)
    return stage


@pytest.mark.parametrize("name", ["stage2", "stage3", "stage4"])
def test_tf_routing_is_torchvision_s_with_reversed_channels_and_unit_1_the_other_way_round(name):
    stage = filled(trunk_of("shufflenet_v2")).double().get_submodule(name)
    x = torch.randn(1, stage[0].main.before.conv.in_channels, 9, 11).double()
    with torch.no_grad():
        ours = interleave(*stage(x).chunk(2, 1))
        theirs = torchvision_stage(reversed_channels(stage), x, "main first")
    torch.testing.assert_close(ours, theirs.flip(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["stage2", "stage3", "stage4"])
def test_torchvision_routing_is_torchvision_s(name):
    trunk = filled(trunk_of("shufflenet_v2", routing="torchvision", stage2_mid_channels=58)).double()
    stage = trunk.get_submodule(name)
    x = torch.randn(1, stage[0].main.before.conv.in_channels, 9, 11).double()
    with torch.no_grad():
        torch.testing.assert_close(stage(x), torchvision_stage(stage, x, "second first"), rtol=1e-10, atol=1e-10)


def test_the_two_routings_are_two_networks():
    one, other = filled(trunk_of("shufflenet_v2")), trunk_of("shufflenet_v2", routing="torchvision").eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        difference = one(synthetic_images(33, 33))[1] - other(synthetic_images(33, 33))[1]
    assert difference.abs().max() > 0.1


def test_shufflenet_s_parts_have_the_published_parameters():
    trunk = trunk_of("shufflenet_v2")
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in trunk.named_children()}
    assert parts == {"conv1": 696, "pool": 0, "stage2": 26_962, "stage3": 244_180, "stage4": 501_352}
    wide = trunk_of("shufflenet_v2", stage2_mid_channels=58)
    assert sum(p.numel() for p in wide.parameters()) - sum(parts.values()) == 3_230


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("dilation", "releasd", "did you mean 'released'"),
        ("routing", "tensorflow", "it must be tf or torchvision"),
        ("stage2_mid_channels", 48, "it must be 24 or 58"),
    ],
)
def test_a_wrong_reading_of_shufflenet_is_refused(argument, value, message):
    with pytest.raises(FeathersegError, match=message):
        create_model("shufflenet_v2_basic", **{argument: value})


# torchvision's shufflenet_v2_x1_0 and mobilenet_v2; the weights file of EfficientNet-Lite0.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("shufflenet_v2", 2_278_604), ("mobilenet_v2", 3_504_872), ("efficientnet_lite0", 4_652_008)],
)
def test_classifiers_have_the_published_parameters(name, parameters):
    with torch.device("meta"):
        network = create_model(name, 1000)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_classifier_s_trunk_starts_the_segmentation_network(backbone):
    same = {"routing": "tf", "stage2_mid_channels": 24} if backbone == "shufflenet_v2" else {}
    classifier, network = create_model(backbone, 7, **same), create_model(f"{backbone}_dpc", output_stride=8)
    head = deepcopy(network.head.state_dict())
    report = import_encoder(network, classifier.state_dict())
    assert all(
        torch.equal(value, classifier.base.state_dict()[key]) for key, value in network.base.state_dict().items()
    )
    assert all(torch.equal(value, head[key]) for key, value in network.head.state_dict().items())
    assert report.percent == 100
    assert {key.split(".")[0] for key in report.ignored} <= {"conv5", "head", "fc"}


def ours_of(key):
    """Our name of a tensor in the EfficientNet-Lite0 file."""
    for pattern, name in (
        (r"^_conv_stem\.", "base.stem.conv."),
        (r"^_bn0\.", "base.stem.bn."),
        (r"^_conv_head\.", "head.conv."),
        (r"^_bn1\.", "head.bn."),
        (r"^_fc\.", "fc."),
        (r"^_blocks\.0\._bn1", "base.blocks.0.depthwise.bn"),
        (r"^_blocks\.(\d+)\._(expand|depthwise|project)_conv", r"base.blocks.\1.\2.conv"),
        (r"^_blocks\.(\d+)\._bn0", r"base.blocks.\1.expand.bn"),
        (r"^_blocks\.(\d+)\._bn1", r"base.blocks.\1.depthwise.bn"),
        (r"^_blocks\.(\d+)\._bn2", r"base.blocks.\1.project.bn"),
    ):
        if re.match(pattern, key):
            return re.sub(pattern, name, key)
    raise KeyError(key)


@pytest.mark.shared
def test_efficientnet_lite0_is_the_network_of_its_weights_file(shared_data):
    file = shared_data / "pretrained-weights" / "efficientnet_lite0_imagenet_mixed16.pth"
    theirs = {ours_of(key): tensor.shape for key, tensor in torch.load(file, weights_only=True).items()}
    with torch.device("meta"):
        own = {key: tensor.shape for key, tensor in create_model("efficientnet_lite0", 1000).state_dict().items()}
    assert {key: shape for key, shape in own.items() if key in theirs} == theirs
    assert {key.split(".")[-1] for key in own.keys() - theirs.keys()} <= {"num_batches_tracked"}
