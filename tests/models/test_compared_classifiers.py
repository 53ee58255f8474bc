"""MobileNet V1 and ShuffleNet V1, the classifiers that pyramid MobileNet is compared with."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model
from featherseg.models.shufflenet_v1 import shuffle

# 1000 classes at 224x224: parameters and 10^6 multiply-accumulates. MobileNet V2 and ShuffleNet V2 are torchvision's
# to the unit; of the two first versions the papers print 4.2 M and 569 M, and 140 M for 1x (their Tables 8 and 1).
COSTS = {
    "mobilenet_v1": (4_231_976, 568.7),
    "mobilenet_v2": (3_504_872, 300.8),
    "shufflenet_v1": (1_865_728, 137.5),
    "shufflenet_v2": (2_278_604, 144.9),
}


def meta(name, **arguments):
    with torch.device("meta"):
        return create_model(name, **arguments)


@pytest.mark.parametrize("name", COSTS)
def test_classifiers_cost_what_was_published(name):
    counted = count(name, (224, 224), 1000)
    assert (counted.parameters, round((counted.conv_macs + counted.matrix_macs) / 1e6, 1)) == COSTS[name]


# Zhang et al. 2018, Table 1: the complexity of ShuffleNet 1x, 143, 140, 137, 133 and 137 M for these groups.
@pytest.mark.parametrize(("groups", "macs"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_s_groups_cost_what_its_table_prints(groups, macs):
    counted = count("shufflenet_v1", (224, 224), 1000, groups=groups)
    assert (counted.conv_macs + counted.matrix_macs) / 1e6 == pytest.approx(macs, abs=1.5)


def shapes_after(network, modules, side=224):
    found = []
    for name in modules:
        network.get_submodule(name).register_forward_hook(lambda module, given, output: found.append(output.shape[1:3]))
    network.eval()(torch.empty(1, 3, side, side, device="meta"))
    return [tuple(shape) for shape in found]


@pytest.mark.parametrize(("groups", "width"), [(1, 144), (2, 200), (3, 240), (4, 272), (8, 384)])
def test_shufflenet_s_stages_have_the_published_widths_and_sizes(groups, width):
    stages = shapes_after(meta("shufflenet_v1", groups=groups), ["base.stage2", "base.stage3", "base.stage4"])
    assert stages == [(width, 28), (2 * width, 14), (4 * width, 7)]


def test_mobilenet_v1_s_maps_are_those_of_its_table():
    network = meta("mobilenet_v1")
    blocks = shapes_after(network, [f"base.blocks.{number}" for number in range(13)])
    sides = {64: [112], 128: [56] * 2, 256: [28] * 2, 512: [14] * 6, 1024: [7] * 2}
    assert blocks == [(width, side) for width, found in sides.items() for side in found]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_shuffle_is_pytorch_s_in_either_memory_layout(groups, layout):
    x = torch.randn(2, 12, 3, 4).to(memory_format=layout)
    assert torch.equal(shuffle(x, groups), F.channel_shuffle(x, groups))
    assert shuffle(x, groups).is_contiguous(memory_format=layout)


def test_a_unit_is_its_definition():
    torch.manual_seed(0)
    network = create_model("shufflenet_v1", 3).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)

    def layer(unit, name, x, **settings):
        state = unit.get_submodule(name).state_dict()
        x = F.conv2d(x, state["conv.weight"], **settings)
        return F.batch_norm(x, *(state[f"bn.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    for unit, channels, stride, grouped in (
        (network.base.stage2[0], 24, 2, 1),
        (network.base.stage3[0], 240, 2, 3),
        (network.base.stage3[1], 480, 1, 3),
    ):
        x = torch.randn(1, channels, 9, 7).double()
        y = F.channel_shuffle(layer(unit, "before", x, groups=grouped).relu(), 3)
        y = layer(unit, "depthwise", y, padding=1, stride=stride, groups=y.shape[1])
        y = layer(unit, "after", y, groups=3)
        expected = x + y if stride == 1 else torch.cat((F.avg_pool2d(x, 3, 2, 1), y), 1)
        with torch.no_grad():
            torch.testing.assert_close(unit(x), expected.relu(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("groups", [0, 5, "3", True])
def test_other_numbers_of_groups_are_refused(groups):
    with pytest.raises(FeathersegError, match="it must be 1, 2, 3, 4 or 8"):
        meta("shufflenet_v1", groups=groups)
