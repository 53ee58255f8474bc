"""Folders of images and masks: the YAML, the pairing, the mapping of stored values, and their mistakes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.data.folder import FolderDataset
from featherseg.data.folder_schema import EXAMPLE, read_spec
from featherseg.data.headers import SpoiltFile
from featherseg.data.palette import distinct_colours
from featherseg.errors import FeathersegError

HEAD = "name: tiny\nclasses: [road, car]\nsplits:\n  train: {images: images/train, masks: masks/train}\n"


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def image(height: int = 2, width: int = 3) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def described(root: Path, text: str = HEAD, mask: np.ndarray | None = None) -> Path:
    save(root / "images/train/a.jpg", image())
    save(root / "masks/train/a.png", np.array([[0, 1, 255]] * 2, np.uint8) if mask is None else mask)
    (root / "data.yaml").write_text(text)
    return root / "data.yaml"


def test_description_gives_names_ids_and_size(tmp_path: Path):
    dataset = FolderDataset.from_yaml(described(tmp_path), "train")
    assert (dataset.labels.classes, dataset.name, len(dataset)) == (("road", "car"), "tiny/3x2", 1)
    assert dataset.read(0).label.tolist() == [[0, 1, 255]] * 2


def test_display_colours_of_classes_become_the_palette(tmp_path: Path):
    text = HEAD.replace("[road, car]", "{road: [1, 2, 3], car: [4, 5, 6]}")
    assert FolderDataset.from_yaml(described(tmp_path, text), "train").labels.palette == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize("count", [1, 19, 254])
def test_classes_without_colours_get_distinct_ones(count: int):
    assert len(set(distinct_colours(count))) == count


def test_mask_suffix_and_one_common_folder(tmp_path: Path):
    save(tmp_path / "all/a.jpg", image())
    save(tmp_path / "all/a_mask.png", np.ones((2, 3), np.uint8))
    path = tmp_path / "data.yaml"
    path.write_text("name: t\nclasses: [x, y]\nmask_suffix: _mask\nsplits: {train: {images: all, masks: all}}\n")
    dataset = FolderDataset.from_yaml(path, "train")
    assert dataset.paths(0) == (tmp_path / "all/a.jpg", tmp_path / "all/a_mask.png")


@pytest.mark.parametrize("absolute", [False, True])
def test_globs_reach_into_subfolders(tmp_path: Path, absolute: bool):
    for city in "zürich", "bern":
        save(tmp_path / f"frames/{city}/{city}.png", image())
        save(tmp_path / f"truth/{city}/{city}.png", np.zeros((2, 3), np.uint8))
    start = f"{tmp_path}/" if absolute else ""
    path = tmp_path / "data.yaml"
    path.write_text(
        f"name: t\nclasses: [x]\nsplits:\n  val: {{images: '{start}frames/*/*.png', masks: '{start}truth/**/*.png'}}\n",
        encoding="utf-8",
    )
    dataset = FolderDataset.from_yaml(path, "val")
    assert [dataset.key(i) for i in range(len(dataset))] == ["bern", "zürich"]


@pytest.mark.parametrize("stored", ["ignore: 7\n", "ignore: [7, 9]\n"])
def test_ignored_values_become_255(tmp_path: Path, stored: str):
    path = described(tmp_path, HEAD + stored, np.array([[0, 7, 1]] * 2, np.uint8))
    assert FolderDataset.from_yaml(path, "train").read(0).label[0].tolist() == [0, 255, 1]


def test_ignored_value_of_a_sixteen_bit_mask(tmp_path: Path):
    path = described(tmp_path, HEAD + "ignore: 65535\n", np.array([[0, 65535, 1]] * 2, np.uint16))
    assert FolderDataset.from_yaml(path, "train").read(0).label[0].tolist() == [0, 255, 1]


def test_id_map_takes_ids_names_and_ignore(tmp_path: Path):
    path = described(
        tmp_path, HEAD + "id_map: {1000: car, 26: 0, 3: ignore}\n", np.array([[1000, 26, 3]] * 2, np.uint16)
    )
    assert FolderDataset.from_yaml(path, "train").read(0).label[0].tolist() == [1, 0, 255]


def test_ignored_values_need_not_stand_in_the_id_map(tmp_path: Path):
    path = described(tmp_path, HEAD + "ignore: [9]\nid_map: {5: car}\n", np.array([[5, 9, 255]] * 2, np.uint8))
    assert FolderDataset.from_yaml(path, "train").read(0).label[0].tolist() == [1, 255, 255]


def test_value_missing_from_the_id_map_is_refused(tmp_path: Path):
    path = described(tmp_path, HEAD + "id_map: {1: car}\n", np.array([[1, 4, 4]] * 2, np.uint8))
    with pytest.raises(SpoiltFile, match=r"a\.png: .*does not list: 4 \(4 pixels\)"):
        FolderDataset.from_yaml(path, "train").read(0)


@pytest.mark.parametrize(
    "colours",
    [
        "colours: {road: [9, 8, 7], car: [[1, 1, 1], [2, 2, 2]], ignore: [0, 0, 0]}\n",
        "colours: classes\n",
    ],
)
def test_masks_that_store_colours(tmp_path: Path, colours: str):
    text = HEAD.replace("[road, car]", "{road: [9, 8, 7], car: [1, 1, 1]}") + colours
    second = 1 if colours == "colours: classes\n" else 2
    mask = np.array([[(9, 8, 7), (1, 1, 1), (second,) * 3]] * 2, np.uint8)
    assert FolderDataset.from_yaml(described(tmp_path, text, mask), "train").read(0).label[0].tolist() == [0, 1, 1]


def test_id_that_is_no_class_is_refused_with_file_and_ids(tmp_path: Path):
    path = described(tmp_path, mask=np.array([[0, 1, 2]] * 2, np.uint8))
    with pytest.raises(SpoiltFile, match=r"masks/train/a\.png: ids that are no class of tiny .*2 \(2 pixels\)"):
        FolderDataset.from_yaml(path, "train").read(0)


def test_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path):
    path = described(tmp_path, mask=np.zeros((5, 4), np.uint8))
    with pytest.raises(SpoiltFile, match=r"the mask is 4 x 5 pixels, but its image a\.jpg is 3 x 2"):
        FolderDataset.from_yaml(path, "train").read(0)


def test_unpaired_files_are_named(tmp_path: Path):
    path = described(tmp_path)
    for number in range(7):
        save(tmp_path / f"images/train/lone{number}.png", image())
    with pytest.raises(FeathersegError, match=r"no mask for lone0\.png, .*lone4\.png and 2 more"):
        FolderDataset.from_yaml(path, "train")


def test_two_images_of_one_stem_are_refused(tmp_path: Path):
    path = described(tmp_path)
    save(tmp_path / "images/train/a.png", image())
    with pytest.raises(FeathersegError, match=r"same stem as .*a\.jpg"):
        FolderDataset.from_yaml(path, "train")


def test_empty_folder_is_refused(tmp_path: Path):
    path = described(tmp_path)
    for file in [*tmp_path.glob("images/train/*"), *tmp_path.glob("masks/train/*")]:
        file.unlink()
    with pytest.raises(FeathersegError, match="split 'train' holds no images"):
        FolderDataset.from_yaml(path, "train")


def test_folder_that_is_not_there_is_named(tmp_path: Path):
    path = described(tmp_path, HEAD.replace("masks/train", "mask/train"))
    with pytest.raises(FeathersegError, match=r"mask/train: no such folder"):
        FolderDataset.from_yaml(path, "train")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD.replace("classes:", "clases:"), r"unknown key 'clases'\. .*; did you mean 'classes'"),
        (HEAD.replace("masks:", "mask:"), r"unknown key 'splits\.train\.mask'\. .*; did you mean 'masks'"),
        (HEAD + "ignore_index: 3\n", "unknown key 'ignore_index'.*Valid here: name, classes, splits"),
        (HEAD.replace("name: tiny", "name: 3"), "'name' must be text.*, not 3"),
        (HEAD.replace("car]", "no]"), r"'classes\.1' must be text .*not False"),
        (HEAD.replace("[road, car]", "road"), "'classes' must be a .*not 'road'"),
        (HEAD.replace("[road, car]", "{road: [1, 2, 300]}"), r"'classes\.road\.2' .*less than or equal to 255"),
        (HEAD + "ignore: none\n", "'ignore' must be .*not 'none'"),
        (HEAD + "id_map: {a: 1}\n", "'id_map.a' must be a whole number"),
        ("classes: [x]\n", "'name' is missing"),
        (HEAD.replace("images: images/train, ", ""), r"'splits\.train\.images' is missing"),
        (HEAD.replace("road, car", "road, road"), "names 'road' twice"),
        (HEAD.replace("road, car", ""), "names 0 classes"),
        (HEAD.replace("tiny", "a/b"), "'name' .*pattern"),
        (HEAD + "id_map: {1: caar}\n", r"'caar', which is no class\. .*; did you mean 'car'"),
        (HEAD + "id_map: {1: 2}\n", r"'id_map\.1' maps to 2\. Give 0\.\.1"),
        (HEAD + "colours: {bus: [1, 2, 3]}\n", "'bus', which is no class"),
        (HEAD + "colours: classes\n", "needs colours in 'classes'"),
        (HEAD + "colours: {car: [1, 2, 3]}\nid_map: {0: 0}\n", "both 'id_map' and 'colours'"),
        (HEAD + "ignore: 1\n", "'ignore' holds 1, which is the id of class 'car'"),
        (HEAD + "name: again\n", "line 5: not valid YAML: key 'name' stands twice"),
        ("a: [1,\n", "not valid YAML"),
        ("- 1\n", "must hold 'key: value' lines"),
    ],
)
def test_mistake_in_the_yaml_is_explained(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(FeathersegError, match=complaint) as caught:
        read_spec(path)
    assert str(caught.value).startswith(str(path))


def test_missing_yaml_is_named(tmp_path: Path):
    with pytest.raises(FeathersegError, match=r"gone\.yaml: no such file"):
        read_spec(tmp_path / "gone.yaml")


def test_example_is_valid_with_and_without_its_remarks(tmp_path: Path):
    path = tmp_path / "data.yaml"
    path.write_text(EXAMPLE)
    assert set(read_spec(path).splits) == {"train", "val"}
    without = [line for line in EXAMPLE.splitlines() if not line.startswith("# colours")]
    path.write_text("\n".join(line.removeprefix("# ") for line in without))
    assert read_spec(path).mask_suffix == "_mask"


def test_plain_folder_takes_its_classes_from_a_text_file(tmp_path: Path):
    described(tmp_path)
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    dataset = FolderDataset.from_folder(tmp_path, "train")
    assert dataset.labels.classes == ("road", "car")
    assert len(dataset) == 1


def test_plain_folder_without_classes_shows_a_yaml_that_works(tmp_path: Path):
    described(tmp_path, mask=np.array([[0, 3, 255]] * 2, np.uint8))
    with pytest.raises(FeathersegError) as caught:
        FolderDataset.from_folder(tmp_path, "train")
    (tmp_path / "featherseg.yaml").write_text(str(caught.value).split("\n", 1)[1])
    dataset = FolderDataset.from_yaml(tmp_path / "featherseg.yaml", "train")
    assert dataset.labels.classes == ("class_0", "class_1", "class_2", "class_3")
    assert dataset.read(0).label[0].tolist() == [0, 3, 255]


def test_fingerprint_follows_content_and_not_place(tmp_path: Path):
    first = FolderDataset.from_yaml(described(tmp_path / "one"), "train").fingerprint()
    assert FolderDataset.from_yaml(described(tmp_path / "two"), "train").fingerprint() == first
    other = described(tmp_path / "three", mask=np.zeros((2, 3), np.uint8))
    assert FolderDataset.from_yaml(other, "train").fingerprint() != first
