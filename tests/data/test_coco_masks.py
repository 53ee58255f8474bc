"""Polygons and run lengths cover the pixels that COCO's own tools say, and what cannot be drawn is named.

The oracle is pycocotools: the reference implementation of COCO's masks.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from featherseg.data.coco_masks import BadSegmentation, Shapes, decode_runs, draw, patches, read_segmentation

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools 2.0.11


def ours(segmentation: Any, height: int, width: int) -> np.ndarray:
    label = np.zeros((height, width), np.uint8)
    draw(label, read_segmentation(segmentation, height, width), 1)
    return label


def theirs(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        return coco.decode(coco.merge(coco.frPyObjects(segmentation, height, width)))
    plain = isinstance(segmentation["counts"], list)
    return coco.decode(coco.frPyObjects(segmentation, height, width) if plain else segmentation)


def polygons(lowest: float, highest: float) -> st.SearchStrategy[list[float]]:
    """Corners on a fine grid, on COCO's hundredths, and anywhere: inside the image and beyond it."""
    corner = (
        st.integers(int(lowest), int(highest)).map(float)
        | st.integers(int(lowest * 5), int(highest * 5)).map(lambda value: value / 5)
        | st.integers(int(lowest * 100), int(highest * 100)).map(lambda value: value / 100)
        | st.floats(lowest, highest)
    )
    return st.lists(st.tuples(corner, corner), min_size=3, max_size=12).map(lambda p: [v for xy in p for v in xy])


@settings(max_examples=250)
@given(parts=st.lists(polygons(-9, 40), min_size=1, max_size=3), height=st.integers(4, 30), width=st.integers(4, 30))
def test_polygons_cover_the_same_pixels_as_pycocotools(parts: list[list[float]], height: int, width: int):
    assert np.array_equal(ours(parts, height, width), theirs(parts, height, width))


@settings(max_examples=80)
@given(parts=st.lists(polygons(-9, 40), min_size=1, max_size=3), height=st.integers(4, 30), width=st.integers(4, 30))
def test_the_bound_of_a_mask_is_never_too_small(parts: list[list[float]], height: int, width: int):
    shapes = read_segmentation(parts, height, width)
    assert shapes.most_pixels() >= np.count_nonzero(ours(parts, height, width))


@settings(max_examples=200)
@given(flips=st.lists(st.integers(0, 1), min_size=6, max_size=400), height=st.integers(1, 20), packed=st.booleans())
def test_run_lengths_cover_the_same_pixels_as_pycocotools(flips: list[int], height: int, packed: bool):
    width = max(1, len(flips) // height)
    mask = np.resize(np.array(flips, np.uint8), (height, width))
    compressed = coco.encode(np.asfortranarray(mask))
    runs = {"size": [height, width], "counts": compressed["counts"].decode()}
    if not packed:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel()]))) if mask.size else []
        runs["counts"] = np.diff([0, *edges, mask.size]).tolist()
    assert np.array_equal(ours(runs, height, width), mask)
    assert read_segmentation(runs, height, width).most_pixels() == mask.sum()


def test_long_runs_are_decoded():
    mask = np.zeros((2000, 1500), np.uint8)
    mask[100:1900, 700:] = 1
    counts = coco.encode(np.asfortranarray(mask))["counts"].decode()
    assert np.array_equal(ours({"size": [2000, 1500], "counts": counts}, 2000, 1500), mask)


def test_parts_that_overlap_are_united():
    square = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]
    assert ours([square, square], 10, 10).sum() == 36


def test_a_later_drawing_covers_an_earlier_one():
    label = np.zeros((4, 4), np.uint8)
    draw(label, read_segmentation([[0, 0, 4, 0, 4, 4, 0, 4]], 4, 4), 1)
    draw(label, read_segmentation([[0, 0, 2, 0, 2, 4, 0, 4]], 4, 4), 2)
    assert label.tolist() == [[2, 2, 1, 1]] * 4


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([], "empty segmentation"),
        (None, "empty segmentation"),
        ([[]], "too few points"),
        ([[1.0, 1.0, 5.0, 5.0]], "too few points"),
        ([[-6.0, 1.0, -1.0, 1.0, -1.0, 5.0]], "outside the image"),
        ([[1.0, 8.0, 5.0, 8.0, 3.0, 12.0]], "outside the image"),
    ],
)
def test_what_draws_nothing_is_noted_and_passed_over(segmentation: Any, kind: str):
    shapes = read_segmentation(segmentation, 8, 9)
    assert [found for found, _ in shapes.idle] == [kind]
    assert list(patches(shapes)) == []


@pytest.mark.parametrize(
    ("segmentation", "kind", "words"),
    [
        ("mask", "bad segmentation", "neither a list of polygons nor an RLE"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "bad segmentation", "neither a list of polygons nor an RLE"),
        ([[1, 2, 3, 4, 5, 6, 7]], "bad segmentation", "7 coordinates, an odd number"),
        ([[1, 2, "x", 4, 5, 6]], "bad segmentation", "not all numbers"),
        ([[1, 2, float("nan"), 4, 5, 6]], "bad segmentation", "not all numbers"),
        ([[1, 2, None, 4, 5, 6]], "bad segmentation", "not all numbers"),
        ([[[1, 2], [3, 4], [5, 6]]], "bad segmentation", "not all numbers"),
        ([[1, 2, 10**400, 4, 5, 6]], "bad segmentation", "not all numbers"),
        ([[1, 2, 1e9, 4, 5, 6]], "outside the image", "reaches to 1e\\+09, far outside the 9 x 8 image"),
        ({"size": [8, 8], "counts": [64]}, "RLE size", "RLE of size 8 x 8, but its image is 9 x 8"),
        ({"counts": [72]}, "RLE size", "RLE of size None"),
        ({"size": [8, 9]}, "bad RLE", "without counts"),
        ({"size": [8, 9], "counts": [70]}, "bad RLE", "do not add up to its image's 72 pixels"),
        ({"size": [8, 9], "counts": [70, -8, 10]}, "bad RLE", "do not add up"),
        ({"size": [8, 9], "counts": [10**30]}, "bad RLE", "without counts"),
        ({"size": [8, 9], "counts": "\x7f"}, "bad RLE", "garbled"),
        ({"size": [8, 9], "counts": "P"}, "bad RLE", "break off"),
        ({"size": [8, 9], "counts": "o" * 40}, "bad RLE", "garbled"),
        ({"size": [8, 9], "counts": "o" * 12 + "?"}, "bad RLE", "garbled"),
        ({"size": [8, 9], "counts": ""}, "bad RLE", "do not add up"),
    ],
)
def test_what_cannot_be_drawn_is_refused(segmentation: Any, kind: str, words: str):
    with pytest.raises(BadSegmentation, match=words) as caught:
        read_segmentation(segmentation, 8, 9)
    assert caught.value.kind == kind


@settings(max_examples=200)
@given(counts=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_garbled_counts_are_refused_or_decoded_and_never_break(counts: str):
    try:
        shapes = read_segmentation({"size": [3, 4], "counts": counts}, 3, 4)
    except BadSegmentation:
        return
    assert shapes.runs is not None
    assert shapes.runs.sum() == 12


def test_counts_are_decoded_by_hand():
    """6 is one character of five bits; 40 is two (8 and the bit that more follows, then 1); -1 differs from 40."""
    six, forty, minus_one = chr(48 + 6), chr(48 + 8 + 32) + chr(48 + 1), chr(48 + 31)
    assert decode_runs(six + forty + six + minus_one).tolist() == [6, 40, 6, 39]


def test_shapes_without_parts_cover_nothing():
    assert Shapes(3, 4).most_pixels() == 0


@pytest.mark.shared
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_annotation_of_the_miniature_covers_the_same_pixels_as_pycocotools(shared_data: Path, split: str):
    content = json.loads((shared_data / f"coco-mini-38/annotations/instances_{split}2017.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for annotation in content["annotations"]:
        segmentation, size = annotation["segmentation"], sizes[annotation["image_id"]]
        assert np.array_equal(ours(segmentation, *size), theirs(segmentation, *size)), annotation["id"]
