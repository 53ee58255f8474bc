"""Street scenes as a Cityscapes folder: the formats and the cases that the real one has."""

from pathlib import Path

import numpy as np
import pytest

from featherseg.data.headers import inspect
from featherseg.data.images import read_mask, read_wide_mask
from featherseg.data.streets import Streets
from featherseg.data.streets.cityscapes_tree import MINIATURE, cityscapes_scene, write_cityscapes
from featherseg.metrics.cityscapes_labels import LABEL_IDS, LABELS

SCENES = Streets("train", 40, size=(64, 128))


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return [cityscapes_scene(SCENES, index) for index in range(len(SCENES))]


def test_instance_numbers_agree_with_labels_and_boxes() -> None:
    for index in range(6):
        sample, numbers = SCENES.read_with_instances(index)
        np.testing.assert_array_equal(sample.label, SCENES.read(index).label)
        boxes = SCENES.scene_boxes(index)
        shown = [number for number in range(1, int(numbers.max()) + 1) if (numbers == number).any()]
        assert len(shown) == len(boxes)
        for number, box in zip(shown, boxes, strict=True):
            rows, columns = np.nonzero(numbers == number)
            assert (columns.min(), rows.min()) == (box.x0, box.y0)
            assert (columns.max() + 1, rows.max() + 1) == (box.x1, box.y1)


def test_every_class_void_and_instances_of_unjudged_classes_occur(scenes) -> None:
    ids = {int(i) for _, label_ids, _ in scenes for i in np.unique(label_ids)}
    assert ids >= {*LABEL_IDS, 1, 3, 4, 9, 29, 30}
    instances = np.unique(np.concatenate([np.unique(instance_ids) for _, _, instance_ids in scenes]))
    with_instances = {label.id for label in LABELS if label.has_instances}
    assert {int(i) // 1000 for i in instances if i > 1000} == with_instances
    assert {int(i) for i in instances if i < 1000} & with_instances  # crowds


def test_instances_of_one_image_and_class_have_numbers_of_their_own(scenes) -> None:
    several = [max((i for i in np.unique(instances) if i > 1000), default=0) % 1000 for _, _, instances in scenes]
    assert max(several) >= 1


def test_files_have_the_official_names_and_formats(cityscapes_tree: Path) -> None:
    expected = set()
    for split, cities in MINIATURE.items():
        for city, count in cities.items():
            for number in range(count):
                stem = f"{split}/{city}/{city}_{number:06d}_000019"
                kinds = {"test": ["gtFine"], "train_extra": ["gtCoarse"]}.get(split, ["gtFine", "gtCoarse"])
                expected.add(f"leftImg8bit/{stem}_leftImg8bit.png")
                expected |= {f"{kind}/{stem}_{kind}_{ids}.png" for kind in kinds for ids in ("labelIds", "instanceIds")}
    files = {path.relative_to(cityscapes_tree).as_posix(): path for path in cityscapes_tree.rglob("*.png")}
    assert set(files) == expected
    for name, path in files.items():
        header = inspect(path.read_bytes(), path)
        assert (header.height, header.width) == (64, 128)
        assert (header.bits, header.colour) == ((16 if "instance" in name else 8), (2 if "left" in name else 0))


def test_labels_of_test_are_void(cityscapes_tree: Path) -> None:
    for path in cityscapes_tree.glob("gtFine/test/*/*.png"):
        assert set(np.unique(read_wide_mask(path))) <= {1, 3}


def test_the_tree_is_a_function_of_its_arguments(tmp_path: Path) -> None:
    frames = {"val": {"lindau": 1}}
    first, second = (write_cityscapes(tmp_path / name, frames, size=(32, 64), seed=4) for name in "ab")
    other = write_cityscapes(tmp_path / "c", frames, size=(32, 64), seed=5)
    label = "gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png"
    np.testing.assert_array_equal(read_mask(first / label), read_mask(second / label))
    assert (read_mask(first / label) != read_mask(other / label)).any()
