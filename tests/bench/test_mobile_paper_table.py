"""Tables 1, 2 and 5 of the ShuffleNet V2 paper beside ours, row by row, and the count of folded graphs behind them."""

import json

import pytest
import torch
from torch import nn

from featherseg.bench.complexity import count
from featherseg.bench.folding import count_folded
from featherseg.bench.paper_tables import paper_table
from featherseg.models.registry import create_model

NETWORKS = ("MobileNet V2 + Basic", "MobileNet V2 + DPC", "ShuffleNet V2 + Basic", "ShuffleNet V2 + DPC")
COSTS = [(table, row) for table in ("2", "5") for row in NETWORKS]

# Of the published TensorFlow code with random weights: operations of the frozen, folded graph by TensorFlow's profiler
# in 10^9 at 360x640 and 224x224, and the float32 TensorFlow Lite file in bytes.
PUBLISHED_CODE = {
    "shufflenet_v2_basic": (2.181, 0.467, 4_614_312),
    "shufflenet_v2_dpc": (3.055, 0.654, 6_041_960),
    "mobilenet_v2_basic": (4.699, 1.006, 8_421_260),
    "mobilenet_v2_dpc": (5.571, 1.193, 9_990_600),
}
# Twice the convolutions' multiply-accumulates in 10^9, at 360x640 and 224x224.
PURE = {
    "shufflenet_v2_basic": (2.161, 0.462),
    "shufflenet_v2_dpc": (3.029, 0.647),
    "mobilenet_v2_basic": (4.654, 0.997),
    "mobilenet_v2_dpc": (5.520, 1.181),
}


@pytest.fixture(scope="module")
def rows():
    return {(row["table"], row["row"]): row for row in paper_table("shufflenet_v2_dpc")}


@pytest.mark.parametrize(("table", "name"), COSTS)
def test_gflops_are_the_printed_ones(rows, table, name):
    row = rows[table, name]
    assert row["ours"]["gflops"] == pytest.approx(row["paper"]["gflops"], rel=0.015)


@pytest.mark.parametrize("name", NETWORKS)
def test_file_sizes_are_the_printed_ones(rows, name):
    row = rows["5", name]
    assert row["ours"]["megabytes"] == pytest.approx(row["paper"]["megabytes"], rel=0.02)


def test_every_stage_has_the_printed_size_but_for_the_width_of_the_cell(rows):
    stages = {row["row"]: row for row in rows.values() if row["table"] == "1"}
    assert len(stages) == 9
    other = {name: row["ours"]["output_size"] for name, row in stages.items() if row["ours"] != row["paper"]}
    assert other == {"DPC": [49, 49, 1280]}


def test_the_rows_are_complete_and_json(rows):
    assert [key for key in rows if key[0] != "1"] == COSTS
    assert all(row["size"] for row in rows.values())
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


@pytest.mark.parametrize("model", PUBLISHED_CODE)
def test_folded_counts_agree_with_the_published_code(model):
    large, small, file_bytes = PUBLISHED_CODE[model]
    folded = count_folded(model, (360, 640))
    assert folded.flops / 1e9 == pytest.approx(large, rel=0.002)
    assert count_folded(model, (224, 224)).flops / 1e9 == pytest.approx(small, rel=0.004)
    # The file also holds the graph: 35 to 60 kilobytes.
    assert 35_000 < file_bytes - folded.weight_bytes < 60_000


@pytest.mark.parametrize("model", PURE)
def test_convolutions_alone_cost_the_published_figure(model):
    for size, expected in zip(((360, 640), (224, 224)), PURE[model], strict=True):
        assert 2 * count(model, size).conv_macs / 1e9 == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("model", "expected"), [("shufflenet_v2_basic", 5.637), ("shufflenet_v2_dpc", 7.904)])
def test_convolutions_at_the_training_crop_cost_the_published_figure(model, expected):
    assert 2 * count(model, (769, 769)).conv_macs / 1e9 == pytest.approx(expected, abs=6e-4)


def batch_norm_channels(model):
    with torch.device("meta"):
        modules = create_model(model).named_modules()
    return {name: module.num_features for name, module in modules if isinstance(module, nn.BatchNorm2d)}


def test_every_operation_counts_as_told():
    counted, folded = count("shufflenet_v2_dpc", (64, 64)), count_folded("shufflenet_v2_dpc", (64, 64))
    assert counted.parameters - folded.weights == sum(batch_norm_channels("shufflenet_v2_dpc").values())
    biased = counted.elements["batch norm"] // 2 + counted.elements["bias"]
    pooled = 9 * 24 * 16 * 16
    normalised, compared = 2 * 3 * 64 * 64, 18 * 64 * 64
    assert folded.flops == 2 * counted.conv_macs + biased + pooled + normalised + compared


def test_a_batch_norm_that_follows_no_convolution_stays():
    # FASSD-Net's MDA begins with one, and has one on the sum of its branches.
    counted, folded = count("fassd_net_mda", (64, 64)), count_folded("fassd_net_mda", (64, 64))
    channels = batch_norm_channels("fassd_net_mda")
    stay = [name for name in channels if name.endswith(("bn_relu_1.bn", "bn_relu_2.bn"))]
    assert len(stay) == 6
    assert counted.parameters - folded.weights == sum(channels.values()) - sum(channels[name] for name in stay)
