"""What is known of a candidate's accuracy: which figures count, and under which protocol they are compared."""

from typing import Any

import pytest

from featherseg.bench.choice_accuracy import (
    Accuracy,
    common,
    image_size,
    of_cards,
    of_file,
    of_weights,
    read_cards,
)
from featherseg.cards import card, write_card
from featherseg.deploy.carried import carried
from featherseg.errors import FeathersegError

VAL, TEST = "camvid11/480x360/train→val", "camvid11/480x360/train→test"
TRAINED = {"training": {"val": {"score": 65.5, "protocol": VAL, "precision": "bf16"}}}


def evaluation(
    miou: float, protocol: str = TEST, precision: str = "fp32", sha256: str = "1f", kind: str = "evaluation"
):
    figures = {"miou": miou}
    more: dict[str, Any] = {"weights_sha256": sha256, "precision": precision}
    return card(kind, protocol=protocol, figures=figures, command="c", seeds=[], data_fingerprint=None, **more)


def test_trained_weights_carry_their_last_judging():
    assert of_weights(TRAINED) == [Accuracy(65.5, VAL, "weights", "bf16")]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"training": {}},
        {"training": {"val": None}},
        {"training": {"val": {"score": None, "protocol": VAL}}},
        {"training": {"val": {"score": 60.0}}},
        TRAINED | {"balance": {"biases": [0.1]}},
    ],
)
def test_weights_without_a_figure_of_their_own_have_none(metadata):
    assert of_weights(metadata) == []


def test_int8_files_carry_what_quantize_judged_in_each_float_precision():
    judged = {"int8": {"miou": 0.61}, "int8_bf16": {"miou": 0.6}, "float32": {"miou": 0.62}}
    about = {"verdicts": judged, "judged_on": {"images": "camvid/val", "count": 101}}
    metadata = {"export": {"quantization": about}}
    assert of_file(metadata, "fp32") == [Accuracy(61.0, "camvid/val, 101 images", "quantize")]
    assert of_file(metadata, "bf16") == [Accuracy(60.0, "camvid/val, 101 images", "quantize")]


@pytest.mark.parametrize(
    "metadata",
    [{}, {"export": {"precision": "fp32"}}, {"export": {"quantization": {"verdicts": {"int8": {"miou": None}}}}}],
)
def test_files_that_were_judged_by_agreement_or_not_at_all_have_none(metadata):
    assert of_file(metadata, "fp32") == []


def test_a_float_file_carries_the_accuracy_of_its_weights_in_every_float_precision():
    metadata = carried(TRAINED, labels_alike=True) | {"export": {"precision": "fp32"}}
    assert of_file(metadata, "fp32") == of_file(metadata, "bf16") == [Accuracy(65.5, VAL, "weights", "bf16")]


def test_an_int8_file_never_has_the_accuracy_of_its_weights():
    assert of_file(TRAINED | {"export": {"precision": "int8"}}, "fp32") == []


def test_an_int8_export_carries_what_it_was_judged_at():
    export = {
        "precision": "int8",
        "miou": {"float32": 0.7, "int8": 0.62},
        "judged_on": {"images": "a/val", "count": 20},
    }
    assert of_file({"export": export}, "fp32") == [Accuracy(62.0, "a/val, 20 images", "quantize")]
    assert of_file({"export": export}, "bf16") == []


@pytest.mark.parametrize(
    ("about", "alike"),
    [(TRAINED, False), (TRAINED | {"balance": {"biases": [0.1]}}, True), ({"training": {"step": 3}}, True), ({}, True)],
)
def test_an_accuracy_that_is_not_the_files_own_is_not_carried(about, alike):
    assert "training" not in carried(about, labels_alike=alike)


def test_a_card_is_of_the_file_with_its_digest_and_of_no_other():
    cards = [evaluation(60.0), evaluation(50.0, sha256="2e")]
    assert of_cards(cards, "1f", "fp32") == [Accuracy(60.0, TEST, "card", "fp32")]
    assert of_cards(cards, "3d", "fp32") == []


@pytest.mark.parametrize("order", [1, -1])
def test_a_card_of_the_same_precision_comes_before_others(order):
    cards = [evaluation(60.0), evaluation(59.0, precision="bf16")][::order]
    assert of_cards(cards, "1f", "bf16")[0].miou == 59.0
    assert of_cards(cards, "1f", "fp32")[0].miou == 60.0


def test_cards_of_several_views_do_not_count():
    assert of_cards([evaluation(70.0, f"{TEST}+flip"), evaluation(71.0, f"{TEST}+ms0.5,1")], "1f", "fp32") == []


def test_cards_are_read_from_files_and_folders_and_those_of_other_kinds_passed_over(tmp_path):
    folder = tmp_path / "cards"
    write_card(folder / "a.json", evaluation(60.0))
    write_card(folder / "speed.json", evaluation(1.0, kind="speed"))
    write_card(tmp_path / "b.json", evaluation(61.0))
    assert sorted(one["figures"]["miou"] for one in read_cards([folder, tmp_path / "b.json"])) == [60.0, 61.0]


def test_a_card_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FeathersegError, match=r"nowhere\.json"):
        read_cards([tmp_path / "nowhere.json"])


def test_figures_are_compared_under_the_protocol_that_most_have():
    val, test = Accuracy(70.0, VAL, "weights"), Accuracy(60.0, TEST, "card")
    protocol, found = common({"a": [test, val], "b": [val], "c": [val], "d": []})
    assert protocol == VAL
    assert found == {"a": val, "b": val, "c": val}


def test_of_as_many_the_first_protocol_is_taken_which_is_that_of_cards():
    val, test = Accuracy(70.0, VAL, "weights"), Accuracy(60.0, TEST, "card")
    assert common({"a": [test, val]}) == (TEST, {"a": test})


def test_where_nothing_is_known_nothing_is_compared():
    assert common({"a": [], "b": []}) == (None, {})


@pytest.mark.parametrize(
    ("protocol", "size"),
    [
        (VAL, (360, 480)),
        ("camvid11/480x360/val, 50 images", (360, 480)),
        ("small/48x32/train→val", (32, 48)),
        ("camvid/val, 101 images", None),
        ("mixed/train→val", None),
        (None, None),
    ],
)
def test_a_protocol_tells_the_size_of_its_images(protocol, size):
    assert image_size(protocol) == size
