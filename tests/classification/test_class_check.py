"""What the checker finds in class folders."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.classification.check import check_class_folders, summary_lines
from featherseg.cli.check import shows_classes
from featherseg.errors import FeathersegError


def write(root: Path, classes: dict[str, int], seed: int = 0) -> Path:
    random = np.random.default_rng(seed)
    for kind, count in classes.items():
        (root / kind).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(root / kind / f"{number}.png"), random.integers(0, 256, (6, 7, 3)).astype(np.uint8))
    return root


@pytest.fixture
def plain(tmp_path) -> Path:
    return write(tmp_path / "plain", {"ant": 3, "bee": 3})


@pytest.fixture
def split(tmp_path) -> Path:
    root = tmp_path / "split"
    for seed, part in enumerate(("train", "val")):
        write(root / part, {"ant": 3, "bee": 3}, seed)
    return root


def found(root: Path) -> dict[str, tuple[str, str]]:
    """Kind of each problem to its level and place."""
    return {problem.kind: (problem.level, problem.where) for problem in check_class_folders(root).problems}


@pytest.mark.parametrize("layout", ["plain", "split"])
def test_sound_folders_have_no_problem(layout, request):
    root = request.getfixturevalue(layout)
    report = check_class_folders(root)
    assert report.ok
    assert not report.problems
    assert report.sizes == {"7x6": 6 if layout == "plain" else 12}
    assert "fit for training." in summary_lines(report)[-1]


@pytest.mark.parametrize("layout", ["plain", "split"])
def test_faults_of_classes_are_errors_or_warnings(layout, request):
    root = request.getfixturevalue(layout)
    place = root if layout == "plain" else root / "train"
    (place / "cow").mkdir()
    write(place, {"Bee ": 2, "emu": 1}, 9)
    (place / "ant/1.png").write_bytes(b"no picture")
    (place / "ant/notes.txt").write_text("words")
    (place / "ant/5.png").write_bytes((place / "ant/0.png").read_bytes())
    (place / "bee/5.png").write_bytes((place / "ant/2.png").read_bytes())
    kinds = found(root)
    assert kinds["empty class"] == ("error", str(place / "cow"))
    assert kinds["one image"] == ("error" if layout == "plain" else "warning", str(place / "emu"))
    assert kinds["two spellings"][0] == "warning"
    assert kinds["not an image"] == ("warning", str(place / "ant/notes.txt"))
    assert kinds["duplicate"] == ("warning", str(place / "ant/5.png"))
    assert kinds["two classes"] == ("warning", str(place / "bee/5.png"))
    assert any(where == str(place / "ant/1.png") and level == "error" for level, where in kinds.values())


def test_leakage_and_classes_of_one_split_alone_are_found(split):
    (split / "val/ant/9.png").write_bytes((split / "train/ant/0.png").read_bytes())
    (split / "val/bee").rename(split / "val/wasp")
    kinds = found(split)
    assert kinds["leakage"] == ("error", str(split / "val/ant/9.png"))
    assert kinds["unknown class"] == ("error", "split val")
    assert kinds["absent class"] == ("warning", "split val")


def test_data_with_masks_is_not_taken_for_classes(plain, split, cityscapes_tree, tmp_path):
    assert shows_classes(str(plain), None)
    assert shows_classes(str(split), None)
    assert shows_classes(str(plain), "caltech")
    assert not shows_classes(str(cityscapes_tree), None)
    for kind in ("images", "masks"):
        write(tmp_path / "masks" / kind, {"train": 2, "val": 2})
    assert not shows_classes(str(tmp_path / "masks"), None)
    assert not shows_classes("streets", None)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="holds no images in class folders"):
        check_class_folders(tmp_path)
