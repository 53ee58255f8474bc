"""The tables of the pyramid paper's runs, from cards made up for it."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from featherseg.cards import read_card

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def task_rows() -> Any:
    found = spec_from_file_location("task_rows", REPOSITORY / "docs" / "task_rows.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table, its head first."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def accuracy(top1: float) -> dict[str, Any]:
    figures = {"top1": top1, "top1_interval": [top1 - 2, top1 + 2], "mean_class_accuracy": top1 - 5}
    return {"figures": figures, "protocol": "caltech101-100/128x128-centre0.875/train→test.seed0"}


def test_caltechs_table_has_the_compared_first_and_the_papers_figures_beside_its_networks(task_rows) -> None:
    second = {"network": "mobilenet_v2", "difference": 1.25, "difference_interval": [-0.5, 3.0]}
    cards = {
        "caltech101/caltech101_mobilenet_v2-seed0": accuracy(62),
        "caltech101/caltech101_mobilenet_v2-seed1": accuracy(63),
        "caltech101/caltech101_pyramid_mobilenet-seed0": accuracy(61.25),
        "caltech101/caltech101_pyramid_mobilenet_long-seed0": accuracy(70),
        "caltech101/paired": {"figures": {"networks": [{"network": "pyramid_mobilenet"}, second]}},
        "complexity/pyramid_mobilenet": read_card(REPOSITORY / "results/complexity/pyramid_mobilenet.json"),
        "detectors/time": {},
    }
    head, *rows = cells(task_rows.caltech_table(cards))
    by_network = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(by_network) == ["pyramid_mobilenet", "mobilenet_v2", "pyramid_mobilenet_long"]
    assert by_network["pyramid_mobilenet"] == {
        "network": "pyramid_mobilenet",
        "protocol": "caltech101-100/128x128-centre0.875/train→test.seed0",
        "trainings": "1",
        "top-1, %": "61.2",
        "95 % interval over images": "59.2 to 63.2",
        "mean class accuracy, %": "56.2",
        "against the first, points": "–",
        "paper, %": "80.1",
    }
    plain = by_network["mobilenet_v2"]
    assert (plain["trainings"], plain["top-1, %"], plain["95 % interval over images"]) == ("2", "62.5", "–")
    assert (plain["against the first, points"], plain["paper, %"]) == ("+1.2 (-0.5 to +3.0)", "79.8")
    assert by_network["pyramid_mobilenet_long"]["paper, %"] == "–"


def test_the_detectors_table_has_both_aps_on_streets_and_on_both_halves_of_kitti(task_rows) -> None:
    levels = {"easy": 50.0, "moderate": 40.0, "hard": None}
    ap = {"Car": {"ap11": levels, "ap40": {"easy": 49.0, "moderate": 39.0, "hard": 29.0}, "boxes": {}}}
    card = {"figures": {"ap": ap, "map11": 45.0, "images": 1500}}
    names = ["kitti_ssd300_vgg16-seed0.train", "kitti_ssd300_vgg16-seed0.val", "streets_ssd300_vgg16-seed0"]
    cards = {f"detectors/{name}": card for name in [*names, "streets_pyramid_rpn-seed0"]}
    times = {"ssd300_vgg16, ms": {"median": 812.3}, "pyramid_rpn, ms": {"median": 99.6}}
    head, *rows = cells(task_rows.detector_table(cards | {"detectors/time": {"figures": times}}))
    assert [row[:3] for row in rows] == [
        ["pyramid_rpn", "0", "streets"],
        ["ssd300_vgg16", "0", "streets"],
        ["ssd300_vgg16", "0", "KITTI val"],
        ["ssd300_vgg16", "0", "KITTI train"],
    ]
    assert head[4:10] == ["AP11 easy", "AP11 moderate", "AP11 hard", "AP40 easy", "AP40 moderate", "AP40 hard"]
    assert rows[0][3:] == ["1,500", "50.0", "40.0", "–", "49.0", "39.0", "29.0", "45.0", "100"]
    assert rows[1][-1] == "812"


def test_a_network_that_was_compared_and_has_no_card_is_a_fault(task_rows) -> None:
    cards = {
        "caltech101/paired": {"figures": {"networks": [{"network": "pyramid_mobilenet"}]}},
        "complexity/pyramid_mobilenet": {"figures": {"rows": []}},
    }
    with pytest.raises(KeyError):
        task_rows.caltech_table(cards)
