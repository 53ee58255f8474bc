"""Folders without splits: what is recognised, how it is cut, and what a split file says."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.classification.class_folders import ClassFolders, SplitSettings, find_class_folders
from featherseg.classification.folder import ImageFolder
from featherseg.classification.sources import available_parts, is_classified, open_images
from featherseg.classification.split import draw_split, save_split
from featherseg.errors import FeathersegError

SMALL = SplitSettings(test_count=4, val_count=2)


def write(root: Path, folders: dict[str, int], suffix: str = ".png") -> Path:
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            image = np.full((6, 7, 3), len(folder) + 9 * number, np.uint8)
            cv2.imwrite(str(root / folder / f"image_{number:04}{suffix}"), image)
    return root


@pytest.fixture
def caltech(tmp_path: Path) -> Path:
    write(tmp_path / "c/101_ObjectCategories", {"BACKGROUND_Google": 4, "Faces": 5, "Faces_easy": 5, "ant": 6})
    return tmp_path / "c"


@pytest.mark.parametrize(
    ("inside", "name"), [("101_ObjectCategories", "caltech101"), ("images", "mine"), ("", "mine")], ids=str
)
def test_layouts_are_recognised_from_outside_and_inside(tmp_path, inside, name):
    root = tmp_path / "mine"
    write(root / inside, {"ant": 2, "bee": 2})
    found = find_class_folders(root)
    assert found is not None
    assert (found.name, list(found.folders)) == (name, ["ant", "bee"])
    if inside == "101_ObjectCategories":
        assert find_class_folders(root / inside).name == "caltech101"
    assert is_classified(root)


def test_caltech_256_has_its_classes_in_their_order_without_their_numbers_and_no_strays(tmp_path):
    root = write(tmp_path / "256_ObjectCategories", {"002.american-flag": 3, "001.zebra": 3, "257.clutter": 3}, ".jpg")
    write(root / "001.zebra", {"greg": 2}, ".jpg")
    (root / "001.zebra/RENAME2").write_text("#!/bin/sh")
    images = ClassFolders(root, "trainval", SplitSettings(test_count=2))
    assert images.classes == ("zebra", "american-flag", "clutter")
    assert images.name == "caltech256"
    assert len(images) + len(ClassFolders(root, "test", SplitSettings(test_count=2))) == 9
    assert open_images(root, "train", SplitSettings(test_count=2, background=False)).classes == (
        "zebra",
        "american-flag",
    )


def test_dropped_classes_leave_the_test_part_its_number(caltech):
    settings = SplitSettings(test_count=4, val_count=2, drop=("Faces",), background=False)
    parts = {name: ClassFolders(caltech, name, settings) for name in available_parts(caltech)}
    assert parts["test"].classes == ("Faces_easy", "ant")
    assert {name: len(part) for name, part in parts.items()} == {"train": 5, "val": 2, "test": 4, "trainval": 7}


def test_images_are_read_with_the_id_of_their_class(caltech):
    images = ClassFolders(caltech, "trainval", SMALL)
    for index in range(len(images)):
        pixels, number = images.read(index)
        folder = images.key(index).split("/")[0]
        assert images.classes[number] == folder
        stored = cv2.imread(str(caltech / f"101_ObjectCategories/{images.key(index)}.png"))
        assert np.array_equal(pixels, stored[..., ::-1])


@given(
    st.sets(st.text("abc", min_size=1, max_size=6), min_size=3, max_size=40),
    st.integers(0, 99),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.randoms(),
)
def test_a_draw_cuts_every_name_into_one_part_whatever_the_order(names, seed, test, val, random):
    count = len(names)
    tested = int(test * (count - 1))
    chosen = int(val * (count - 1 - tested))
    shuffled = list(names)
    random.shuffle(shuffled)
    found = draw_split(shuffled, test=tested, val=chosen, seed=seed, where="x")
    assert sorted(found.train + found.val + found.test) == sorted(names)
    assert (len(found.test), len(found.val)) == (tested, chosen)
    assert found == draw_split(sorted(names), test=tested, val=chosen, seed=seed, where="x")
    assert found.test == draw_split(shuffled, test=tested, val=0, seed=seed, where="x").test
    assert found.part("trainval") == tuple(sorted(names - set(found.test)))


def test_other_seeds_draw_others():
    names = [f"{i:03}" for i in range(200)]
    tests = {draw_split(names, test=50, val=0, seed=seed, where="x").test for seed in range(20)}
    assert len(tests) == 20


def test_a_file_gives_the_split_back_to_a_copy_in_another_format(caltech, tmp_path):
    settings = SplitSettings(test_count=4, val_count=2, seed=7, drop=("Faces",))
    drawn = ClassFolders(caltech, "train", settings)
    path = save_split(tmp_path / "split.json", drawn.division, drawn.classes, {"data": "caltech101"})
    copy = write(tmp_path / "copy/images", {"BACKGROUND_Google": 4, "Faces": 5, "Faces_easy": 5, "ant": 6}, ".webp")
    for part in ("train", "val", "test"):
        again = ClassFolders(copy.parent, part, SplitSettings(file=path))
        assert again.classes == drawn.classes
        assert [again.key(i) for i in range(len(again))] == list(drawn.division.part(part))
    assert again.division.digest() == drawn.division.digest()


def test_two_images_of_one_name_are_told_apart_by_their_suffix(tmp_path):
    root = write(tmp_path / "x", {"ant": 4})
    cv2.imwrite(str(root / "ant/image_0001.jpg"), np.zeros((6, 7, 3), np.uint8))
    images = ClassFolders(root, "trainval", SplitSettings(test_count=1, val_count=0))
    keys = {*images.division.train, *images.division.test}
    assert {"ant/image_0000", "ant/image_0001.jpg", "ant/image_0001.png"} < keys


def test_folders_with_splits_are_opened_as_before(tmp_path):
    write(tmp_path / "x/train", {"ant": 2})
    write(tmp_path / "x/val", {"ant": 2})
    assert isinstance(open_images(tmp_path / "x", "val"), ImageFolder)
    assert available_parts(tmp_path / "x") == ["train", "val"]
    with pytest.raises(FeathersegError, match=r"splits of its own, so that data\.drop_classes has nothing to decide"):
        open_images(tmp_path / "x", "val", SplitSettings(drop=("ant",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SplitSettings(), r"20 images, and 2,000 for testing and 0 for choosing.*data\.test_count"),
        (SplitSettings(test_count=4, drop=("Face",)), r"data\.drop_classes names 'Face'.*did you mean 'Faces'"),
        (
            SplitSettings(test_count=4, drop=("Faces", "Faces_easy", "ant"), background=False),
            "no class is left",
        ),
        (SplitSettings(test_count=18, val_count=0), r"no image of .* fell to train"),
        (SplitSettings(file=Path("nowhere.json")), "the split cannot be read"),
    ],
)
def test_a_cut_that_cannot_be_made_says_how_to_mend_it(caltech, settings, message):
    with pytest.raises(FeathersegError, match=message):
        ClassFolders(caltech, "train", settings)


def test_numbers_stay_in_the_names_where_they_alone_tell_classes_apart(tmp_path):
    write(tmp_path / "apes", {"001.ape": 3, "002.ape": 3, "003.bear": 3})
    images = ClassFolders(tmp_path / "apes", "trainval", SplitSettings(test_count=1))
    assert images.classes == ("001.ape", "002.ape", "003.bear")
    assert len(images) == 8


def test_a_class_with_one_image_is_named(caltech):
    write(caltech / "101_ObjectCategories", {"emu": 1})
    with pytest.raises(FeathersegError, match=r"emu: the class has one image.*data\.drop_classes=\[emu\]"):
        ClassFolders(caltech, "train", SMALL)


def test_an_empty_class_and_an_unknown_part_are_named(caltech):
    with pytest.raises(FeathersegError, match="no split 'tests'; did you mean 'test'"):
        ClassFolders(caltech, "tests", SMALL)
    (caltech / "101_ObjectCategories/emu").mkdir()
    with pytest.raises(FeathersegError, match="emu: the class has no image"):
        ClassFolders(caltech, "train", SMALL)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a split file: it is no JSON"),
        ("[]", "not a split file. It is a JSON object"),
        ('{"classes": ["ant"], "test": ["ant/image_0009"]}', r"1 images that are not in the folder.*did you mean"),
        (
            '{"classes": ["ant"], "test": ["ant/image_0000"], "val": ["ant/image_0000"]}',
            "lists ant/image_0000 twice",
        ),
        ('{"classes": ["emu"], "test": ["ant/image_0000"]}', "classes names 'emu'"),
        (
            '{"classes": ["ant"], "test": ["ant/image_0000"], "train": {"images": 9, "sha256": "ab"}}',
            "written with 9 training images, and the folder holds 5",
        ),
    ],
)
def test_a_spoilt_split_file_is_refused(caltech, tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(FeathersegError, match=message):
        ClassFolders(caltech, "train", SplitSettings(file=path))


def test_a_split_by_hand_needs_classes_and_test_alone(caltech, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"classes": ["ant"], "test": ["ant/image_0002"]}))
    assert len(ClassFolders(caltech, "train", SplitSettings(file=path))) == 5
    with pytest.raises(FeathersegError, match="no images for 'val'"):
        ClassFolders(caltech, "val", SplitSettings(file=path))


@pytest.mark.shared
def test_caltech_101_is_cut_as_the_paper_cuts_it(shared_data):
    """8,677 images without the background; the paper's 9,145 have 468 more."""
    settings = SplitSettings(drop=("Faces",))
    parts = {name: ClassFolders(shared_data / "caltech101-s168", name, settings) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 5618, "val": 624, "test": 2000}
    assert len(parts["test"].classes) == 100
    image, number = parts["test"].read(0)
    assert min(image.shape[:2]) <= 168
    assert parts["test"].classes[number] == parts["test"].key(0).split("/")[0]
