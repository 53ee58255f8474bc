"""Operators and shapes of an architecture: those that run, and the published sums over the published table."""

import json
from collections import Counter

import pytest
import torch
from test_fasterseg import TINY

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_architecture import parse
from featherseg.models.fasterseg_cells import ConvNorm, ConvOperator, FactorizedReduce
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.models.fasterseg_shapes import operator_shapes, published_latency

SKIPPING = {
    **TINY,
    "branches": [
        {
            "scale": 16,
            "layers": [
                {"operator": "skip", "in": 8, "out": 8},
                {"operator": "skip", "in": 8, "out": 6, "stride": 2},
                {"operator": "conv", "in": 6, "out": 6},
            ],
        },
        {"scale": 8, "layers": [{"operator": "conv_2x_downup", "in": 8, "out": 10}]},
    ],
}


@pytest.mark.parametrize("content", [TINY, SKIPPING, PUBLISHED["fasterseg_student"].to_dict()])
def test_the_listed_operators_are_those_that_a_network_runs(content):
    architecture = parse(content, "test")
    with torch.device("meta"):
        network = FasterSeg(architecture, 19).eval()
    ran = Counter()

    def note(module, inputs, output):
        channels = output.shape[1]
        ran[(*inputs[0].shape[2:], inputs[0].shape[1], channels)] += 1

    for module in network.modules():
        if isinstance(module, ConvOperator | FactorizedReduce | ConvNorm) and module is not network.heads8.conv_3x3:
            module.register_forward_hook(note)
    network.heads8.register_forward_hook(note)
    with torch.no_grad():
        network(torch.empty(1, 3, 128, 256, device="meta"))
    listed = operator_shapes(architecture, (128, 256))
    assert Counter((one.height, one.width, one.in_channels, one.out_channels) for one in listed) == ran


@pytest.fixture
def published(shared_data):
    specs = shared_data.parent / "specs"
    nets = json.loads((specs / "fasterseg_arch.json").read_text())["nets"]
    return nets["student"], json.loads((specs / "fasterseg_latency_1080ti.json").read_text())["ms"]


def to_1_8(student):
    """The student's alternative path that stays at 1/8, from its decoded operators and widths."""
    decoded = student["all_decoded_paths"]["0"]
    names = ("skip", "conv", "conv_downup", "conv_2x", "conv_2x_downup")
    widths = [64, *(8 * width for width in decoded["widths"]), 64]
    return {
        "scale": 8,
        "layers": [
            {"operator": names[op], "in": before, "out": after}
            for op, before, after in zip(decoded["ops"], widths[:-1], widths[1:], strict=True)
        ],
    }


# The figures that the published search stored beside its architecture, in milliseconds.
@pytest.mark.shared
def test_the_published_student_takes_what_its_search_stored(published):
    assert published_latency(PUBLISHED["fasterseg_student"], published[1]) == 6.4139770511337275


@pytest.mark.shared
def test_its_alternative_on_branches_to_1_32_and_1_8_does_too(published):
    student, table = published
    content = PUBLISHED["fasterseg_student"].to_dict()
    branches = [content["branches"][0], to_1_8(student)]
    architecture = parse({"stem": [32, 64, 64], "head_width": 64, "branches": branches}, "alternative")
    assert published_latency(architecture, table) == 6.260467391822158


@pytest.mark.shared
def test_with_the_right_entries_the_student_is_faster(published):
    right = published_latency(PUBLISHED["fasterseg_student"], published[1], official=False)
    assert right == pytest.approx(5.702, abs=5e-4)


def test_an_operator_that_a_table_lacks_is_named():
    with pytest.raises(FeathersegError, match="no entry ConvNorm_H1024_W2048_Cin3_Cout32_kernel3_stride2"):
        published_latency(PUBLISHED["fasterseg_student"], {})
