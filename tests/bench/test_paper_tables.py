"""Our figures beside the paper's, row by row."""

import json

import pytest

from featherseg.bench.paper_tables import paper_table
from featherseg.errors import FeathersegError

# What the published code gives: parameters, conv MACs and the paper's own count in 10^9.
EXPECTED = {
    "FC-HarDNet-70": (4_119_257, 35.217, 35.502),
    "Baseline": (1_896_365, 32.630, 32.909),
    "+ASPP": (3_849_069, 36.506, 36.793),
    "+DAPF": (2_362_509, 33.581, 33.866),
    "+MDA": (2_379_207, 43.733, 44.156),
    "ASPP+MDA": (4_331_911, 47.609, 48.039),
    "DAPF+MDA = FASSD-Net": (2_845_351, 44.684, 45.112),
    "FASSD-Net-L1": (2_845_351, 19.767, 19.958),
    "FASSD-Net-L2": (2_289_454, 8.561, 8.677),
    "FC-HarDNet-70 L1": (4_119_257, 15.543, 15.669),
    "FC-HarDNet-70 L2": (2_857_143, 6.525, 6.609),
}


@pytest.fixture(scope="module")
def rows():
    return {row["row"]: row for row in paper_table("fassd_net")}


@pytest.mark.parametrize("name", EXPECTED)
def test_costs_agree_with_the_published_code(rows, name):
    parameters, macs, operations = EXPECTED[name]
    ours = rows[name]["ours"]
    assert ours["parameters"] == parameters
    assert ours["conv_macs"] / 1e9 == pytest.approx(macs, rel=0.005)
    assert ours["gflops"] == pytest.approx(operations, abs=6e-4)


@pytest.mark.parametrize("name", EXPECTED)
def test_costs_agree_with_the_printed_figures(rows, name):
    paper, ours = rows[name]["paper"], rows[name]["ours"]
    assert ours["gflops"] == pytest.approx(paper["gflops"], rel=0.01)
    assert ours["parameters"] == pytest.approx(paper["parameters"], rel=0.005)


def test_the_tables_are_complete_and_json(rows):
    assert sum("I" in row["table"].split(", ") for row in rows.values()) == 7
    assert sum("IV" in row["table"].split(", ") for row in rows.values()) == 6
    assert sum(row["table"] == "II" for row in rows.values()) == 17
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_every_stage_has_the_printed_size(rows):
    stages = [row for row in rows.values() if row["table"] == "II"]
    assert [row["ours"] for row in stages] == [row["paper"] for row in stages]


def test_an_unknown_paper_gets_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'fassd_net'"):
        paper_table("fasd_net")
