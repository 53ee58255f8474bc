"""A prediction and the files it is saved as."""

import json

import numpy as np
from colour_network import CLASSES, PALETTE, colour_segmenter
from PIL import Image

from featherseg.data.labels import LabelSet
from featherseg.deploy.segmentation import Segmentation

LABELS = LabelSet("colours", tuple(CLASSES), tuple((r, g, b) for r, g, b in PALETTE))


def example() -> Segmentation:
    labels = np.zeros((30, 40), np.uint8)
    labels[:15], labels[20:, :20] = 2, 1
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    return Segmentation(labels, LABELS, image)


def test_shares_count_every_class_and_sum_to_one():
    shares = example().shares()
    assert shares == {"dark": 400 / 1200, "red": 200 / 1200, "green": 600 / 1200, "blue": 0.0}


def test_a_whole_overlay_is_the_colours_and_an_empty_one_the_image():
    result = example()
    np.testing.assert_array_equal(result.overlay(1.0), np.array(PALETTE, np.uint8)[result.labels])
    np.testing.assert_array_equal(result.overlay(0.0), result.image)


def test_saved_label_map_holds_the_ids(tmp_path):
    result = example()
    files = result.save(tmp_path, "one")
    with Image.open(files.labels) as stored:
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.array(stored), result.labels)


def test_saved_overlay_shows_the_image_in_its_colours_above_a_legend(tmp_path):
    result = example()
    files = result.save(tmp_path, "one")
    assert files.overlay == tmp_path / "one_overlay.png"
    with Image.open(files.overlay) as stored:
        picture = np.array(stored)
    np.testing.assert_array_equal(picture[:30, :40], result.overlay())
    legend = picture[30:]
    for number, present in ((0, True), (1, True), (2, True), (3, False)):
        assert (legend == PALETTE[number]).all(-1).any() == present


def test_saved_shares_are_those_of_the_prediction(tmp_path):
    result = example()
    stored = json.loads(result.save(tmp_path, "one").shares.read_text())
    assert stored["size"] == {"height": 30, "width": 40}
    assert stored["shares"] == {name: round(share, 6) for name, share in result.shares().items()}


def test_overlay_can_be_left_out_and_stems_may_hold_folders_and_dots(tmp_path):
    files = example().save(tmp_path, "monday/cam.0001", overlay=False)
    assert files.overlay is None
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "monday/cam.0001.json",
        "monday/cam.0001.png",
    ]


def test_a_one_pixel_image_has_a_readable_picture():
    picture = colour_segmenter().predict(np.zeros((1, 1, 3), np.uint8)).picture()
    assert picture.shape[1] >= 200
    assert picture.shape[0] > 10
