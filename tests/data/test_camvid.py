"""CamVid in both layouts, on tiny imitations made here and on the real data where it is at hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featherseg.data.camvid import CAMVID32, CamVid, CamVidOriginal, original_splits, segnet_splits
from featherseg.data.camvid_split import RUNS, split_stems
from featherseg.data.headers import SpoiltFile
from featherseg.data.labels import CAMVID11
from featherseg.errors import FeathersegError


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def make_segnet(root: Path, split: str = "train", stems: tuple[str, ...] = ("b", "a")) -> Path:
    for number, stem in enumerate(stems):
        save(root / split / f"{stem}.png", np.full((4, 6, 3), number, np.uint8))
        save(root / f"{split}annot" / f"{stem}.png", np.array([[number, 11, 255, 10, 0, 1]] * 4, np.uint8))
    return root


def make_original(root: Path, stems: tuple[str, ...]) -> Path:
    colours = np.array([colour for colour, _ in CAMVID32.values()], np.uint8).reshape(4, 8, 3)
    for stem in stems:
        save(root / "701_StillsRaw_full" / f"{stem}.png", np.zeros((4, 8, 3), np.uint8))
        save(root / "LabeledApproved_full" / f"{stem}_L.png", colours)
    return root


def test_void_becomes_ignore_and_classes_stay(tmp_path: Path):
    sample = CamVid(make_segnet(tmp_path), "train").read(0)
    assert sample.label[0].tolist() == [1, 255, 255, 10, 0, 1]


def test_without_lists_the_sorted_folder_is_the_split(tmp_path: Path):
    dataset = CamVid(make_segnet(tmp_path), "train")
    assert [dataset.key(i) for i in range(len(dataset))] == ["a", "b"]


@pytest.mark.parametrize("prefix", ["", "/SegNet/CamVid/", "CamVid/"])
def test_list_decides_order_whatever_its_paths_begin_with(tmp_path: Path, prefix: str):
    make_segnet(tmp_path, stems=("b", "a", "unlisted"))
    lines = [f"{prefix}train/{s}.png {prefix}trainannot/{s}.png" for s in ("b", "a")]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n\n")
    dataset = CamVid(tmp_path, "train")
    assert [dataset.key(i) for i in range(len(dataset))] == ["b", "a"]
    assert dataset.paths(0) == (tmp_path / "train/b.png", tmp_path / "trainannot/b.png")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("train/a.png\n", "line 1 has 1 entries"),
        ("train/a.png trainannot/a.png\ntrain/a.png trainannot/a.png\n", "line 2 lists a.png a second time"),
        ("train/a.png trainannot/lost.png\n", "no mask for a.png"),
        ("train/lost.png trainannot/a.png\n", "no image for a.png"),
        ("\n", "holds no images"),
    ],
)
def test_list_at_fault_is_refused(tmp_path: Path, text: str, complaint: str):
    make_segnet(tmp_path)
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(FeathersegError, match=complaint):
        CamVid(tmp_path, "train")


def test_id_above_void_is_refused_with_file_and_ids(tmp_path: Path):
    make_segnet(tmp_path)
    save(tmp_path / "trainannot/a.png", np.array([[12, 12, 31, 0, 0, 0]] * 4, np.uint8))
    with pytest.raises(SpoiltFile, match=r"trainannot/a\.png: .*12 \(8 pixels\), 31 \(4 pixels\)"):
        CamVid(tmp_path, "train").read(0)


def test_unknown_split_names_those_that_exist(tmp_path: Path):
    with pytest.raises(FeathersegError, match=r"no CamVid split 'test'.*There are: train\."):
        CamVid(make_segnet(tmp_path), "test")


def test_name_carries_label_set_and_width_times_height(tmp_path: Path):
    assert CamVid(make_segnet(tmp_path), "train").name == "camvid11/6x4"


def test_published_split_has_its_published_sizes_and_no_overlap():
    """367 / 101 / 233 of 701: Badrinarayanan et al. 2017, Sec. 4."""
    stems = {split: split_stems(split) for split in RUNS}
    assert {split: len(names) for split, names in stems.items()} == {"train": 367, "val": 101, "test": 233}
    assert len({name for names in stems.values() for name in names}) == 701


def test_every_run_begins_with_the_stem_it_names():
    for runs in RUNS.values():
        for stem, first, last, step in runs:
            assert stem.endswith(str(first))
            assert (last - first) % step == 0


def test_original_colours_are_grouped_to_eleven_classes(tmp_path: Path):
    root = make_original(tmp_path, split_stems("val"))
    dataset = CamVidOriginal(root, "val")
    label = dataset.read(0).label.ravel().tolist()
    grouped = {name: None if i == 255 else CAMVID11.classes[i] for name, i in zip(CAMVID32, label, strict=True)}
    assert grouped == {name: group for name, (_, group) in CAMVID32.items()}
    assert (len(dataset), dataset.name) == (101, "camvid11/8x4")


def test_grouping_uses_every_class_and_leaves_out_void_alone():
    groups = [group for _, group in CAMVID32.values()]
    assert {group for group in groups if group} == set(CAMVID11.classes)
    assert [name for name, (_, group) in CAMVID32.items() if group is None] == ["Void"]
    assert len({colour for colour, _ in CAMVID32.values()}) == 32


def test_missing_frame_of_the_original_is_named(tmp_path: Path):
    stems = split_stems("val")
    root = make_original(tmp_path, stems[1:])
    with pytest.raises(FeathersegError, match=rf"no image for {stems[0]}_L\.png"):
        CamVidOriginal(root, "val")


def test_layouts_are_told_apart(tmp_path: Path):
    segnet, original = make_segnet(tmp_path / "s"), make_original(tmp_path / "o", split_stems("val")[:1])
    assert (segnet_splits(segnet), original_splits(segnet)) == (["train"], [])
    assert (segnet_splits(original), original_splits(original)) == ([], ["train", "val", "test"])


@pytest.mark.shared
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_rule_gives_the_published_list(shared_data: Path, split: str):
    dataset = CamVid(shared_data / "camvid-480x360", split)
    assert tuple(dataset.key(i) for i in range(len(dataset))) == split_stems(split)


@pytest.mark.shared
def test_real_frame_reads_as_the_contract_says(shared_data: Path):
    dataset = CamVid(shared_data / "camvid-480x360", "val")
    sample = dataset.read(0)
    assert (sample.image.shape, sample.image.dtype) == ((360, 480, 3), np.uint8)
    assert (sample.label.shape, sample.label.dtype) == ((360, 480), np.uint8)
    assert set(np.unique(sample.label)) <= {*range(11), 255}
    assert dataset.name == "camvid11/480x360"
