"""Counting, against sums done by hand on small networks and against the published figures."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError

# Parameters, and MACs in 10^9 at 1024x2048 and 19 classes, of the published code.
PUBLISHED = {
    "fc_hardnet_70": (4_119_257, 35.217),
    "fassd_net_baseline": (1_896_365, 32.630),
    "fassd_net_aspp": (3_849_069, 36.506),
    "fassd_net_dapf": (2_362_509, 33.581),
    "fassd_net_mda": (2_379_207, 43.733),
    "fassd_net_aspp_mda": (4_331_911, 47.609),
    "fassd_net": (2_845_351, 44.684),
    "fassd_net_l1": (2_845_351, 19.767),
    "fassd_net_l2": (2_289_454, 8.561),
    "fc_hardnet_70_l1": (4_119_257, 15.543),
    "fc_hardnet_70_l2": (2_857_143, 6.525),
}


class Small(nn.Module):
    """One of each operator that counts; ``head`` runs in training alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 8, 1, groups=2)
        self.slopes = nn.PReLU(8)
        self.linear = nn.Linear(8, 5)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        if self.training:
            self.head(x)
        x = F.avg_pool2d(self.slopes(self.grouped(x)), 2)
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        return self.linear(x.mean((2, 3)))


def test_every_operator_counts_as_told():
    pixels = 6 * 10
    complexity = count(Small(), (6, 10))
    assert complexity.conv_macs == pixels * (4 * 3 * 9 + 8 * 2)
    assert complexity.matrix_macs == 8 * 5
    assert complexity.elements == {
        "bias": pixels * 8 + 5,
        "batch norm": 2 * pixels * 4,
        "activation": pixels * 4 + pixels * 8,
        "pooling": pixels * 8 + pixels * 8,
    }
    assert complexity.count == complexity.conv_macs + complexity.matrix_macs + sum(complexity.elements.values())


def test_heads_that_eval_does_not_run_are_not_deployed():
    complexity = count(Small(), (6, 10))
    head = 4 * 2 + 2
    assert complexity.parameters == 108 + 8 + 24 + 8 + 45 + head
    assert complexity.parameters_deployed == complexity.parameters - head
    assert complexity.weight_bytes == 4 * complexity.parameters_deployed


def test_functions_and_modules_count_alike():
    class Functional(nn.Module):
        def forward(self, x):
            return F.relu(F.avg_pool2d(F.relu(x), 2), inplace=True)

    modules = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(inplace=True))
    assert count(Functional(), (8, 8)).count == count(modules, (8, 8)).count == 192 + 192 + 48


def test_a_given_module_is_left_as_it_is():
    module = Small().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    count(module, (6, 10))
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_activation_bytes_are_what_operators_write():
    module = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU())
    assert count(module, (4, 4)).activation_bytes == 2 * 48 * 4


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    parameters, giga_macs = PUBLISHED[name]
    complexity = count(name)
    assert complexity.parameters == complexity.parameters_deployed == parameters
    assert complexity.conv_macs / 1e9 == pytest.approx(giga_macs, abs=5e-4)


@pytest.mark.parametrize(("alpha", "parameters"), [(1, 3_536_839), (4, 2_584_279), (6, 2_508_526)])
def test_alpha_gives_the_published_parameters(alpha, parameters):
    assert count("fassd_net", (64, 64), alpha=alpha).parameters == parameters


def test_the_dictionary_has_the_contract_s_fields():
    values = count("fassd_net_l2", (64, 96), 11).to_dict()
    assert {"model", "parameters", "parameters_deployed", "conv_macs", "size"} <= set(values)
    assert (values["model"], values["size"], values["num_classes"]) == ("fassd_net_l2", [64, 96], 11)


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_a_size_without_pixels_is_refused(size):
    with pytest.raises(FeathersegError, match="no pixels"):
        count("fassd_net_l2", size)


def test_arguments_for_a_ready_module_are_refused():
    with pytest.raises(FeathersegError, match="alpha"):
        count(Small(), (6, 10), alpha=2)
