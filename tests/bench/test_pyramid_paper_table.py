"""The pyramid paper's tables beside ours."""

import json

import pytest

from featherseg.bench.paper_tables import paper_table


@pytest.fixture(scope="module")
def rows():
    return paper_table("pyramid_mobilenet")


# Parameters of each network at 1000, 102 and 257 classes, and 10^6 multiply-accumulates at 1000, by hand from the
# papers' architecture tables; those of torchvision for MobileNet V2.
NETWORKS = {
    "MobileNetv1": (4_231_976, 3_311_526, 3_470_401, 568.740352),
    "MobileNetv2": (3_504_872, 2_354_534, 2_553_089, 300.774272),
    "Shufflenet": (1_865_728, 1_002_750, 1_151_705, 137.460672),
    "Proposed model": (3_520_424, 2_370_086, 2_568_641, 300.774272),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_classifier_is_counted_for_each_data_set(rows, name):
    found = {row["classes"]: row for row in rows if row["row"].startswith(f"{name}, ") and "arguments" not in row}
    assert tuple(found[classes]["ours"]["parameters"] for classes in (1000, 102, 257)) == NETWORKS[name][:3]
    assert found[1000]["ours"]["mmacs"] == NETWORKS[name][3]


def test_accuracies_are_the_printed_ones(rows):
    top1 = {(row["table"], row["row"].split(",")[0]): row["paper"].get("top1") for row in rows}
    assert [top1["4", name] for name in NETWORKS] == [76.4, 79.8, 78.7, 80.1]
    assert [top1["5", name] for name in NETWORKS] == [64.6, 72.3, 70.4, 72.4]


def test_readings_say_what_they_are(rows):
    costs = {row["row"]: row["ours"]["parameters"] for row in rows if "arguments" in row}
    assert costs["Proposed model, reading=full"] == 6_666_920
    assert costs["Proposed model, widths=late"] == 3_391_656
    assert len(costs) == 9


def test_table_1_holds_for_counted_convolutions(rows):
    found = [row for row in rows if row["table"] == "1"]
    assert len(found) == 4
    assert [row["ours"]["parameters"] for row in found] == [row["paper"]["parameters"] for row in found]
    assert [row["paper"]["receptive_field"] for row in found] == [3, 3, 3, 9]


def test_every_layer_of_tables_2_and_3_has_the_printed_output(rows):
    layers = [row for row in rows if row["table"] in ("2", "3")]
    assert len(layers) == 22
    assert [row["ours"] for row in layers] == [row["paper"] for row in layers]


def test_detectors_are_counted_on_what_they_take(rows):
    ssd, ours = (row for row in rows if row["table"] == "7")
    # torchvision's ssd300_vgg16 with 2 classes; the trunk to layer 17 and a head 320 wide with 24 anchors.
    assert (ssd["ours"]["parameters"], round(ssd["ours"]["mmacs"] / 1e3, 2)) == (23_745_908, 30.43)
    assert ours["ours"]["parameters"] == 1_825_984 + 960_440
    assert (ssd["paper"]["map"], ours["paper"]["map"]) == (68.4, 65.8)


def test_the_rows_are_json(rows):
    assert json.loads(json.dumps(rows)) == rows
