"""What may be wrong in a COCO folder: each fault is one finding of the check, and one message if it is in the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_miniature import HEIGHT, WIDTH, annotation, box, content, make_coco, write_json
from PIL import Image

from featherseg.data.check import check_dataset
from featherseg.data.coco import Coco
from featherseg.data.sources import open_dataset
from featherseg.errors import FeathersegError

Change = Callable[[dict[str, Any]], Any]


def findings(root: Path) -> list[tuple[str, str, str]]:
    """The problems of a check but for classes that a miniature cannot all show."""
    report = check_dataset(root)
    found = [(p.level, p.kind, f"{p.where}: {p.what}. {p.mend}") for p in report.problems if p.kind != "absent class"]
    assert report.ok == all(level != "error" for level, _, _ in found)
    return found


def changed(change: Change) -> dict[str, Any]:
    value = content(3)
    change(value)
    return value


def add(segmentation: Any) -> Change:
    """A further annotation of the first image."""
    return lambda value: value["annotations"].append(annotation(77, 1, 1, segmentation))


RUNS = {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (add([]), "empty segmentation", "annotations with an empty segmentation (1): 77 (000000000001.jpg)"),
        (add([[1, 1, 5, 5]]), "too few points", "annotations with a polygon of fewer than three points (1): 77"),
        (add(box(60, 0, 70, 9)), "outside the image", "annotations with a polygon wholly outside its image (1): 77"),
        (lambda v: v["annotations"][0].pop("segmentation") and add(box(0, 0, 40, 25))(v), "empty segmentation", "101"),
    ],
    ids=["empty", "points", "outside", "none"],
)
def test_what_draws_nothing_is_a_warning_and_does_not_stop_a_training(
    tmp_path: Path, change: Change, kind: str, words: str
):
    root = make_coco(tmp_path, changed(change))
    ((level, found, text),) = findings(root)
    assert (level, found) == ("warning", kind)
    assert words in text
    assert len([open_dataset(root, "train").read(index) for index in range(3)]) == 3


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (add(RUNS), "RLE size", "annotation 77 (person) has an RLE of size 40 x 50, but its image is 50 x 40"),
        (add({"size": [HEIGHT, WIDTH], "counts": [5]}), "bad RLE", "runs do not add up to its image's 2000 pixels"),
        (add({"size": [HEIGHT, WIDTH], "counts": "?"}), "bad RLE", "do not add up"),
        (add([[1, 2, 3, 4, 5, 6, 7]]), "bad segmentation", "a polygon of 7 coordinates, an odd number"),
        (add([[1, 2, "x", 4, 5, 6]]), "bad segmentation", "coordinates are not all numbers"),
        (add(box(0, 0, 1e9, 9)), "outside the image", "reaches to 1e+09, far outside the 50 x 40 image"),
        (add("mask"), "bad segmentation", "neither a list of polygons nor an RLE"),
    ],
    ids=["size", "runs", "packed", "odd", "words", "far", "text"],
)
def test_an_annotation_that_cannot_be_drawn_is_an_error_of_its_image(
    tmp_path: Path, change: Change, kind: str, words: str
):
    root = make_coco(tmp_path, changed(change))
    ((level, found, text),) = findings(root)
    assert (level, found) == ("error", kind)
    assert words in text
    assert "000000000001.jpg" in text
    dataset = Coco(root, "train", lenient=True)
    with pytest.raises(FeathersegError, match=r"000000000001\.jpg: annotation 77 \(person\)"):
        dataset.read(0)
    assert dataset.read(1).label.max() == 3


def test_an_annotation_that_cannot_be_drawn_is_refused_before_anything_is_read(tmp_path: Path):
    root = make_coco(tmp_path, changed(add([[1, 2, 3, 4, 5, 6, 7]])))
    with pytest.raises(FeathersegError) as told:
        open_dataset(root, "train")
    for words in (
        "instances_train2017.json: annotations that cannot be drawn (1): 77 (000000000001.jpg) has a polygon of 7",
        "Mend or remove them in the JSON; `featherseg check` lists all.",
    ):
        assert words in str(told.value)


def test_a_check_lists_every_annotation_that_cannot_be_drawn(tmp_path: Path):
    value = content(3)
    value["annotations"] += [annotation(200 + k, 1 + k % 3, 1, "mask") for k in range(8)]
    found = findings(make_coco(tmp_path, value))
    assert [kind for _, kind, _ in found] == ["bad segmentation"] * 8
    assert {k for k in range(8) for _, _, text in found if f"annotation {200 + k} (person)" in text} == set(range(8))


def test_annotations_that_cannot_be_drawn_are_refused_by_a_kept_index_too(tmp_path: Path):
    root = make_coco(tmp_path / "coco", changed(add("mask")))
    for _ in range(2):
        with pytest.raises(FeathersegError, match=r"cannot be drawn \(1\): 77"):
            Coco(root, "train", cache=tmp_path / "kept")


def unknown(**fields: Any) -> Change:
    return lambda value: value["annotations"].append(annotation(77, 1, 1, box(0, 0, 9, 9)) | fields)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (unknown(image_id=99), "unknown image", "annotations of image ids that it does not list (1): 99"),
        (unknown(category_id=98), "unknown category", "annotations of category ids that it does not list (1): 98"),
        (unknown(image_id="1"), "bad annotation", "annotations without a sound image_id or category_id (1): at byte"),
        (lambda v: v["annotations"].append(5), "bad annotation", "without a sound image_id"),
        (lambda v: v["images"].append({"id": 9}), "bad image entry", "without a sound id, file_name, height or width"),
        (lambda v: v["images"].append(dict(v["images"][0], id=9, width=0)), "bad image entry", "height or width (1)"),
        (lambda v: v["images"].append(7), "bad image entry", "height or width (1): at byte"),
        (lambda v: v["images"].append(dict(v["images"][0], id=9, file_name="a\0.jpg")), "bad image entry", "file_name"),
        (lambda v: v["images"].append(dict(v["images"][0], id=9, file_name="\ud800")), "bad image entry", "file_name"),
        (lambda v: v["images"].append(v["images"][0]), "bad image entry", "id another image has (1): 1 (000000000001"),
    ],
)
def test_a_json_that_contradicts_itself_is_refused(tmp_path: Path, change: Change, kind: str, words: str):
    root = make_coco(tmp_path, content(3))
    write_json(root, changed(change))
    ((level, found, text),) = findings(root)
    assert (level, found) == ("error", kind)
    assert words in text
    with pytest.raises(FeathersegError, match=r"instances_train2017\.json: .*(Remove|Mend|Give)"):
        open_dataset(root, "train")


def test_many_alike_are_one_finding_with_their_number(tmp_path: Path):
    value = content(3)
    value["annotations"] += [annotation(200 + k, 1, 1, []) for k in range(1500)]
    ((_, _, text),) = findings(make_coco(tmp_path, value))
    assert "an empty segmentation (1,500): 200 (000000000001.jpg), " in text
    assert "and 1495 more" in text


def test_an_odd_annotation_of_an_image_that_is_left_out_is_found_too(tmp_path: Path):
    value = content(3)
    value["annotations"][0]["segmentation"] = []
    ((level, kind, _),) = findings(make_coco(tmp_path, value))
    assert (level, kind) == ("warning", "empty segmentation")


def test_annotations_of_other_categories_are_not_looked_at(tmp_path: Path):
    value = content(3)
    value["annotations"].append(annotation(77, 1, 5, "nonsense"))
    assert findings(make_coco(tmp_path, value)) == []


def test_a_missing_picture_is_found(tmp_path: Path):
    root = make_coco(tmp_path, content(3))
    (root / "train2017/000000000002.jpg").unlink()
    ((level, kind, text),) = findings(root)
    assert (level, kind) == ("error", "missing file")
    assert "000000000002.jpg: no such file" in text
    with pytest.raises(FeathersegError, match=r"1 of 3 images are missing: 000000000002\.jpg\. .*train2017\.zip"):
        open_dataset(root, "train")


@pytest.mark.parametrize(("change", "kind"), [(lambda data: data[:200], "truncated file"), (None, "size mismatch")])
def test_a_spoilt_picture_is_found(tmp_path: Path, change: Callable[[bytes], bytes] | None, kind: str):
    root = make_coco(tmp_path, content(3))
    picture = root / "train2017/000000000002.jpg"
    if change:
        picture.write_bytes(change(picture.read_bytes()))
    else:
        Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(picture)
    ((level, found, text),) = findings(root)
    assert (level, found) == ("error", kind)
    assert "000000000002.jpg" in text
    with pytest.raises(FeathersegError, match=r"000000000002\.jpg"):
        open_dataset(root, "train").read(1)


def test_missing_annotations_are_named_with_where_to_get_them(tmp_path: Path):
    root = make_coco(tmp_path)
    (root / "annotations/instances_train2017.json").unlink()
    message = r"instances_train2017\.json: no such file\. Download annotations_trainval2017\.zip"
    with pytest.raises(FeathersegError, match=message):
        open_dataset(root, "train")
    ((level, kind, text),) = findings(root)
    assert (level, kind) == ("error", "split")
    assert "annotations_trainval2017.zip" in text


def test_missing_pictures_are_named_with_where_to_get_them(tmp_path: Path):
    root = tmp_path
    write_json(root, content())
    with pytest.raises(
        FeathersegError, match=r"neither train2017/ nor images/train2017/ is there\. Download train2017"
    ):
        open_dataset(root, "train")
    assert [kind for _, kind, _ in findings(root)] == ["split"]


@pytest.mark.parametrize("text", ["", "{", json.dumps(content())[:-300], "[]", '{"images": 3}', "\0\0", "{}"])
def test_a_garbled_json_is_one_finding(tmp_path: Path, text: str):
    root = make_coco(tmp_path)
    write_json(root, text)
    with pytest.raises(FeathersegError, match=r"instances_train2017\.json: "):
        open_dataset(root, "train")
    ((level, kind, words),) = findings(root)
    assert (level, kind) == ("error", "split")
    assert "instances_train2017.json" in words


@pytest.mark.parametrize("entry", [{"id": 3}, {"id": 3, "name": "\ud800"}, {"id": 3, "name": ""}, None])
def test_a_category_without_a_name_is_refused(tmp_path: Path, entry: Any):
    value = content()
    value["categories"].append(entry)
    with pytest.raises(FeathersegError, match=r"category at byte [\d,]+ has no id or no name"):
        Coco(make_coco(tmp_path, value), "train")


def test_two_categories_of_one_id_are_refused(tmp_path: Path):
    """The annotations of the one would silently be drawn as the other."""
    value = content()
    value["categories"].append({"id": 5, "name": "car"})
    with pytest.raises(FeathersegError, match="'airplane' and 'car' have the same id, 5"):
        Coco(make_coco(tmp_path, value), "train")


def test_a_json_without_a_class_names_what_it_has(tmp_path: Path):
    value = content()
    value["categories"][0]["name"] = "persons"
    with pytest.raises(FeathersegError, match=r"no category 'person'\. There are: persons, bicycle, .*mean 'persons'"):
        Coco(make_coco(tmp_path, value), "train")


@pytest.mark.parametrize("classes", [(), ("car", "car")])
def test_a_choice_of_classes_is_checked(tmp_path: Path, classes: tuple[str, ...]):
    with pytest.raises(FeathersegError, match="Choose 1 to 253 categories, each once"):
        Coco(make_coco(tmp_path), "train", classes=classes)


def test_one_class_given_as_text_is_refused(tmp_path: Path):
    with pytest.raises(FeathersegError, match="give a list of category names, or 'all'"):
        Coco(make_coco(tmp_path), "train", classes="car")


def test_a_split_without_enough_labelled_pixels_is_refused(tmp_path: Path):
    value = content()
    for found in value["annotations"]:
        found["segmentation"] = box(0, 0, 3, 3)
    root = make_coco(tmp_path, value)
    with pytest.raises(
        FeathersegError, match=r"none of its 2 images shows 1,000 pixels of person, bicycle.*min_pixels"
    ):
        open_dataset(root, "train")
    assert [kind for _, kind, _ in findings(root)] == ["empty split"]


def test_a_json_that_changes_while_it_is_used_is_noticed(tmp_path: Path):
    root = make_coco(tmp_path)
    dataset = open_dataset(root, "train")
    write_json(root, "x" * 10)
    with pytest.raises(FeathersegError, match="has changed since its index was made"):
        dataset.read(0)
