"""The checker: every fault is found once, named, and weighed; sound data passes; memory stays flat."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from featherseg.data import check
from featherseg.data.check import CheckReport, check_dataset
from featherseg.data.check_summary import summary_lines
from featherseg.data.dataset import Sample
from featherseg.data.labels import LabelSet

YAML = """\
name: tiny
classes: [road, car]
splits:
  train: {images: images/train, masks: masks/train}
  val: {images: images/val, masks: masks/val}
"""


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def add(root: Path, split: str, stem: str, seed: int, mask: np.ndarray | None = None, side: int = 8) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    save(root / f"images/{split}/{stem}.png", image)
    save(root / f"masks/{split}/{stem}.png", np.eye(side, dtype=np.uint8) if mask is None else mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sound splits of two pairs each."""
    for number, (split, stem) in enumerate([("train", "a"), ("train", "b"), ("val", "c"), ("val", "d")]):
        add(tmp_path, split, stem, number)
    (tmp_path / "featherseg.yaml").write_text(YAML)
    return tmp_path


def kinds(report: CheckReport) -> list[tuple[str, str]]:
    return [(problem.level, problem.kind) for problem in report.problems]


def test_sound_data_passes(root: Path):
    report = check_dataset(root)
    assert report.ok
    assert report.problems == ()
    assert report.name == "tiny/8x8"


@given(labels=st.lists(st.lists(st.sampled_from([0, 1, 255]), min_size=16, max_size=16), min_size=1, max_size=4))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_equal_those_of_a_plain_loop(tmp_path_factory: pytest.TempPathFactory, labels: list[list[int]]):
    root = tmp_path_factory.mktemp("counts")
    (root / "featherseg.yaml").write_text(YAML.split("  val:")[0])
    for number, label in enumerate(labels):
        add(root, "train", str(number), number, np.array(label, np.uint8).reshape(4, 4), side=4)
    report = check_dataset(root)
    everything = [value for label in labels for value in label]
    judged = sum(value != 255 for value in everything)
    for number, name in enumerate(("road", "car")):
        assert report.classes[name].pixels == everything.count(number)
        assert report.classes[name].images == sum(number in label for label in labels)
        assert report.classes[name].share == (everything.count(number) / judged if judged else 0)
    assert report.ignore_share == everything.count(255) / len(everything)
    assert report.sizes == {"4x4": len(labels)}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("spoil", "kind", "where"),
    [
        (lambda r: truncate(r / "images/val/c.png"), "truncated file", "images/val/c.png"),
        (lambda r: truncate(r / "masks/val/c.png"), "truncated file", "masks/val/c.png"),
        (lambda r: (r / "images/val/c.png").write_text("no"), "corrupt file", "images/val/c.png"),
        (lambda r: save(r / "masks/val/c.png", np.eye(9, dtype=np.uint8)), "size mismatch", "masks/val/c.png"),
        (lambda r: save(r / "masks/val/c.png", np.eye(8, dtype=np.uint8) * 7), "id out of range", "masks/val/c.png"),
        (lambda r: save(r / "masks/val/c.png", np.zeros((8, 8, 4), np.uint8)), "mask format", "masks/val/c.png"),
        (lambda r: (r / "masks/val/c.png").unlink(), "missing mask", "images/val/c.png"),
        (lambda r: (r / "images/val/c.png").unlink(), "missing image", "masks/val/c.png"),
        (lambda r: (r / "images/val/d.png").rename(r / "images/train/d.png"), "missing mask", "images/train/d.png"),
    ],
)
def test_fault_is_an_error_that_names_the_file(root: Path, spoil: Callable[[Path], object], kind: str, where: str):
    spoil(root)
    report = check_dataset(root)
    assert not report.ok
    assert (kind, str(root / where)) in [(problem.kind, problem.where) for problem in report.problems]


def test_other_files_are_still_read_after_a_fault(root: Path):
    truncate(root / "images/train/a.png")
    report = check_dataset(root)
    assert (report.splits["train"].images, report.splits["train"].sound, report.splits["val"].sound) == (2, 1, 2)


def test_both_files_of_a_pair_are_examined(root: Path):
    truncate(root / "images/train/a.png")
    truncate(root / "masks/train/a.png")
    assert kinds(check_dataset(root)) == [("error", "truncated file")] * 2


def test_image_that_is_ignored_throughout_is_a_warning(root: Path):
    save(root / "masks/train/a.png", np.full((8, 8), 255, np.uint8))
    report = check_dataset(root)
    assert report.ok
    assert kinds(report) == [("warning", "all ignored")]


def test_image_that_is_ignored_in_part_is_no_problem(root: Path):
    mask = np.eye(8, dtype=np.uint8)
    mask[:4] = 255
    save(root / "masks/train/a.png", mask)
    assert check_dataset(root).problems == ()


def test_class_absent_from_a_split_is_a_warning(root: Path):
    for stem in "ab":
        save(root / f"masks/train/{stem}.png", np.zeros((8, 8), np.uint8))
    report = check_dataset(root)
    assert [(p.kind, p.where, p.what) for p in report.problems] == [
        ("absent class", "train", "class 'car' occurs in no mask")
    ]
    assert report.ok


def test_duplicate_within_a_split_is_a_warning_that_names_both(root: Path):
    add(root, "train", "b", 0)
    report = check_dataset(root)
    assert report.ok
    assert kinds(report) == [("warning", "duplicate")]
    assert str(root / "images/train/a.png") in report.problems[0].what
    assert report.problems[0].where == str(root / "images/train/b.png")


def test_same_pixels_in_two_splits_are_leakage_whatever_the_encoding(root: Path):
    add(root, "val", "c", 1)
    image = Image.open(root / "images/val/c.png")
    (root / "images/val/c.png").unlink()
    image.save(root / "images/val/c.bmp")
    report = check_dataset(root)
    assert not report.ok
    assert kinds(report) == [("error", "leakage")]
    assert "same decoded pixels" in report.problems[0].what


def test_same_bytes_in_another_shape_are_no_duplicate(root: Path):
    image = np.arange(8 * 4 * 3, dtype=np.uint8)
    save(root / "images/train/a.png", image.reshape(8, 4, 3))
    save(root / "images/train/b.png", image.reshape(4, 8, 3))
    save(root / "masks/train/a.png", np.eye(8, 4, dtype=np.uint8))
    save(root / "masks/train/b.png", np.eye(4, 8, dtype=np.uint8))
    assert check_dataset(root).problems == ()


def test_file_listed_in_two_splits_is_one_error_each(root: Path):
    (root / "featherseg.yaml").write_text(YAML.replace("/val", "/train"))
    assert kinds(check_dataset(root)) == [("error", "split overlap")] * 2


def test_names_shared_by_splits_are_one_warning(root: Path):
    for number, stem in enumerate("ab"):
        add(root, "val", stem, 10 + number)
    report = check_dataset(root)
    assert report.ok
    assert kinds(report) == [("warning", "shared names")]
    assert report.problems[0].what.startswith("2 names occur in both splits")


def test_empty_split_is_an_error(root: Path):
    for file in [*root.glob("images/val/*"), *root.glob("masks/val/*")]:
        file.unlink()
    report = check_dataset(root)
    assert kinds(report) == [("error", "empty split")]


def test_split_whose_folder_is_missing_is_an_error_and_the_rest_is_checked(root: Path):
    (root / "featherseg.yaml").write_text(YAML.replace("images/val", "images/vall"))
    report = check_dataset(root)
    assert kinds(report) == [("error", "split")]
    assert report.splits["train"].sound == 2


def test_what_is_wrong_with_every_split_is_said_once(tmp_path: Path):
    for split in ("train", "val"):
        save(tmp_path / "images" / split / "a.png", np.zeros((8, 8, 3), np.uint8))
        save(tmp_path / "masks" / split / "a.png", np.zeros((8, 8), np.uint8))
    (problem,) = check_dataset(tmp_path).problems
    assert (problem.kind, problem.where) == ("split", "train, val")


def test_problems_of_one_kind_are_capped_and_counted(root: Path):
    for number in range(6):
        add(root, "train", f"bad{number}", 20 + number, np.full((8, 8), 9, np.uint8))
    report = check_dataset(root, keep=2)
    assert kinds(report) == [("error", "id out of range")] * 2
    assert report.unlisted == {"id out of range": 4}


def test_progress_counts_to_the_number_of_pairs(root: Path):
    seen: list[tuple[int, int]] = []
    check_dataset(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_report_turns_into_json_with_the_promised_keys(root: Path):
    truncate(root / "images/train/a.png")
    content = json.loads(json.dumps(check_dataset(root).to_dict()))
    assert content["ok"] is False
    assert set(content["problems"][0]) == {"level", "kind", "where", "what", "mend"}
    assert set(content["classes"]["road"]) == {"pixels", "share", "images"}
    assert set(content["splits"]) == {"train", "val"}


def test_summary_tells_verdict_faults_and_what_is_left_out(root: Path):
    for number in range(5):
        add(root, "train", f"bad{number}", 20 + number, np.full((8, 8), 9, np.uint8))
    lines = summary_lines(check_dataset(root, keep=4), each=3)
    assert "ERROR: id out of range (5)" in lines
    assert "  ... and 2 more" in lines
    assert sum("bad" in line for line in lines) == 3
    assert lines[-1] == f"{root}: NOT fit for training: mend the errors above."


def test_summary_of_sound_data_says_so(root: Path):
    lines = summary_lines(check_dataset(root))
    assert lines[-1].endswith(": fit for training.")
    assert any(line.startswith("train") and line.endswith("8x8 (2)") for line in lines)


def test_columns_of_long_split_names_stay_apart(root: Path):
    with (root / "featherseg.yaml").open("a") as file:
        file.write("  a-very-long-split-name: {images: images/val, masks: masks/val}\n")
    lines = summary_lines(check_dataset(root))
    assert next(line for line in lines if line.startswith("class ")).split()[-3:] == [
        "train",
        "val",
        "a-very-long-split-name",
    ]
    assert next(line for line in lines if line.startswith("a-very-long-split-name ")).split()[1] == "2"


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path):
    """Kept samples would add 300 x 64 KiB; digests and the interpreter's tables of names are allowed 12 KiB each."""
    peaks = []
    for count in (100, 400):
        root = tmp_path / str(count)
        (root / "images/train").mkdir(parents=True)
        (root / "masks/train").mkdir(parents=True)
        (root / "featherseg.yaml").write_text(YAML.split("  val:")[0])
        for number in range(count):
            image = np.full((128, 128, 3), number % 256, np.uint8)
            image[0, 0] = number // 256
            Image.fromarray(image).save(root / f"images/train/{number}.png", compress_level=1)
            Image.fromarray(image[..., 0] % 3).save(root / f"masks/train/{number}.png", compress_level=1)
        tracemalloc.start()
        report = check_dataset(root)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.splits["train"].images == count
    assert peaks[1] - peaks[0] < 300 * 12 * 1024


class Procedure:
    """A source without files, each split a single flat image."""

    name, labels = "procedure/4x4", LabelSet("procedure", ("road",), ((0, 0, 0),))

    def __init__(self, split: str, shade: int) -> None:
        self.split, self.shade = split, shade

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        return Sample(np.full((4, 4, 3), self.shade, np.uint8), np.zeros((4, 4), np.uint8), self.key(index))

    def key(self, index: int) -> str:
        return f"{self.split}/{index}"

    def paths(self, index: int) -> None:
        return None

    def fingerprint(self) -> str:
        return ""


@pytest.mark.parametrize(("val_shade", "found"), [(1, []), (0, [("error", "leakage", "val/0")])])
def test_source_without_files_is_checked_by_its_keys(
    monkeypatch: pytest.MonkeyPatch, val_shade: int, found: list[tuple[str, str, str]]
):
    shades = {"train": 0, "val": val_shade}
    monkeypatch.setattr(check, "available_splits", lambda data: list(shades))
    monkeypatch.setattr(check, "open_dataset", lambda data, split, lenient: Procedure(split, shades[split]))
    report = check_dataset("procedure")
    assert [(p.level, p.kind, p.where) for p in report.problems] == found


@pytest.mark.shared
def test_real_camvid_is_fit_for_training(shared_data: Path):
    """Its provider states that no stem and no pixel-identical image is shared between splits."""
    report = check_dataset(shared_data / "camvid-480x360")
    assert report.ok
    assert {name: split.sound for name, split in report.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert report.sizes == {"480x360": 701}
