"""What a Cityscapes folder lacks is said, with where it is obtained."""

import shutil

import cv2
import numpy as np
import pytest

from featherseg.data.check import CheckReport, Problem, check_dataset
from featherseg.data.cityscapes_check import CITIES, COUNTS, PACKAGES
from featherseg.errors import FeathersegError


@pytest.fixture(autouse=True)
def miniature_is_official(monkeypatch: pytest.MonkeyPatch) -> None:
    """The miniature's cities and counts stand for the official ones, so that nothing is missing at first."""
    cities = {"train": ("aachen", "ulm", "zurich"), "val": ("frankfurt", "munster"), "test": ("berlin", "munich")}
    extra = {"train_extra": ("augsburg", "bad-honnef")}
    monkeypatch.setattr("featherseg.data.cityscapes_check.CITIES", cities | extra)
    monkeypatch.setattr("featherseg.data.cityscapes_check.COUNTS", {"train": 4, "val": 3, "test": 2, "train_extra": 2})


def found(report: CheckReport, kind: str) -> list[Problem]:
    return [problem for problem in report.problems if problem.kind == kind]


def only(report: CheckReport, kind: str) -> Problem:
    (problem,) = found(report, kind)
    return problem


@pytest.mark.parametrize("data", [".", "gtFine", "gtCoarse"])
def test_a_whole_tree_lacks_nothing(cityscapes_tree, data) -> None:
    report = check_dataset(cityscapes_tree / data, layout="cityscapes")
    assert report.ok
    assert {problem.kind for problem in report.problems} <= {"absent class"}


def test_withheld_labels_of_test_are_no_finding(cityscapes_tree) -> None:
    assert "test" not in {problem.where for problem in check_dataset(cityscapes_tree).problems}


@pytest.mark.parametrize("layout", [None, "cityscapes"])
def test_a_missing_city_is_an_error_that_names_it(cityscapes_copy, layout) -> None:
    shutil.rmtree(cityscapes_copy / "leftImg8bit/val/munster")
    shutil.rmtree(cityscapes_copy / "gtFine/val/munster")
    report = check_dataset(cityscapes_copy, layout=layout)
    problem = only(report, "missing city")
    assert not report.ok
    assert problem.where == str(cityscapes_copy / "leftImg8bit/val")
    assert "no images of munster: 1 of 2 cities of 'val'" in problem.what
    assert "leftImg8bit_trainvaltest.zip" in problem.mend


def test_a_city_without_labels_is_an_error_that_names_it(cityscapes_copy) -> None:
    shutil.rmtree(cityscapes_copy / "gtFine/train/ulm")
    report = check_dataset(cityscapes_copy)
    assert "images and no labels of ulm" in only(report, "city without labels").what
    assert "gtFine_trainvaltest.zip" in only(report, "city without labels").mend
    assert only(report, "missing mask").where == str(
        cityscapes_copy / "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png"
    )


def test_a_label_without_image_is_an_error(cityscapes_copy) -> None:
    next(cityscapes_copy.glob("leftImg8bit/train/aachen/*_000001_*")).unlink()
    assert "aachen_000001_000019_gtFine_labelIds.png" in only(check_dataset(cityscapes_copy), "missing image").where


def test_a_missing_frame_shows_in_the_count(cityscapes_copy) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        for path in cityscapes_copy.glob(f"{kind}/train/aachen/*_000001_*"):
            path.unlink()
    report = check_dataset(cityscapes_copy)
    assert report.ok
    assert "3 images, where the official split has 4" in only(report, "other count").what


def test_a_missing_instance_file_is_a_warning(cityscapes_copy) -> None:
    next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png")).unlink()
    report = check_dataset(cityscapes_copy)
    assert report.ok
    problem = only(report, "missing instances")
    assert "1 of 3 labels have no instanceIds file: munster_000000_000019_gtFine_labelIds.png" in problem.what
    assert "IoU is judged and iIoU is not" in problem.mend


def test_a_spoilt_instance_file_is_an_error(cityscapes_copy) -> None:
    path = next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png"))
    cv2.imwrite(str(path), np.zeros((5, 6), np.uint16))
    assert only(check_dataset(cityscapes_copy), "size mismatch").where == str(path)


def test_an_instance_file_of_one_byte_a_pixel_is_held_against_its_label(cityscapes_copy) -> None:
    """As some tools store masks without instances."""
    label = next(cityscapes_copy.glob("gtFine/val/munster/*_labelIds.png"))
    path = label.with_name(label.name.replace("labelIds", "instanceIds"))
    path.write_bytes(label.read_bytes())
    assert not found(check_dataset(cityscapes_copy), "instances disagree")
    cv2.imwrite(str(path), np.zeros((64, 128), np.uint8))
    assert only(check_dataset(cityscapes_copy), "instances disagree").where == str(path)


def test_instances_that_contradict_the_labels_are_an_error(cityscapes_copy) -> None:
    path = next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png"))
    instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    instances[20:22, 30:33] = np.where(instances[20:22, 30:33] == 23, 11, 23)
    cv2.imwrite(str(path), instances)
    problem = only(check_dataset(cityscapes_copy), "instances disagree")
    assert problem.where == str(path)
    assert "6 pixels another class than munster_000000_000019_gtFine_labelIds.png" in problem.what


def test_a_city_of_another_split_is_a_warning(cityscapes_copy) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (cityscapes_copy / kind / "train" / "ulm").rename(cityscapes_copy / kind / "train" / "atlantis")
    assert "atlantis is no city" in only(check_dataset(cityscapes_copy), "unknown city").what


@pytest.mark.parametrize(
    ("folder", "package"),
    [
        ("gtFine", "gtFine_trainvaltest.zip"),
        ("leftImg8bit", "leftImg8bit_trainvaltest.zip"),
    ],
)
@pytest.mark.parametrize("layout", [None, "cityscapes"])
def test_half_a_tree_says_which_package_is_missing_and_where_it_comes_from(
    cityscapes_copy, folder, package, layout
) -> None:
    shutil.rmtree(cityscapes_copy / folder)
    report = check_dataset(cityscapes_copy, layout=layout)
    assert not report.ok
    (problem,) = [p for p in found(report, "missing package") if p.level == "error"]
    assert f"no {folder}/train, {folder}/val, {folder}/test" in problem.what
    for word in (package, PACKAGES[package], "cityscapes-dataset.com", "csDownload", str(cityscapes_copy)):
        assert word in problem.mend


def test_an_empty_folder_lacks_everything(tmp_path) -> None:
    report = check_dataset(tmp_path, layout="cityscapes")
    assert not report.ok
    told = " ".join(problem.mend for problem in found(report, "missing package"))
    assert all(package in told for package in PACKAGES)


def test_a_tree_without_coarse_labels_is_fit_and_says_how_to_get_them(cityscapes_copy) -> None:
    shutil.rmtree(cityscapes_copy / "gtCoarse")
    shutil.rmtree(cityscapes_copy / "leftImg8bit/train_extra")
    report = check_dataset(cityscapes_copy)
    assert report.ok
    mends = [problem.mend for problem in found(report, "missing package")]
    assert [next(p for p in PACKAGES if p in mend) for mend in mends] == ["gtCoarse.zip", "leftImg8bit_trainextra.zip"]


def test_a_tree_without_test_is_fit(cityscapes_copy) -> None:
    shutil.rmtree(cityscapes_copy / "leftImg8bit/test")
    report = check_dataset(cityscapes_copy)
    assert report.ok
    assert "no leftImg8bit/test" in only(report, "missing package").what


def test_a_named_layout_that_is_not_there_is_an_error(cityscapes_copy) -> None:
    report = check_dataset(cityscapes_copy, layout="camvid")
    assert not report.ok
    assert "not laid out as CamVid" in only(report, "layout").what


def test_other_data_is_not_searched_for_cities(tmp_path) -> None:
    for kind, picture in (("images", np.zeros((4, 4, 3), np.uint8)), ("masks", np.eye(4, dtype=np.uint8))):
        (tmp_path / kind / "train").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / kind / "train" / "a.png"), picture)
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert check_dataset(tmp_path).problems == ()


def test_an_unknown_layout_is_refused_with_the_known_ones(tmp_path) -> None:
    with pytest.raises(FeathersegError, match=r"did you mean 'cityscapes'.*camvid, cityscapes"):
        check_dataset(tmp_path, layout="cityscape")


def test_the_name_of_a_data_set_without_its_folder_is_told_what_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeathersegError, match="featherseg check cityscapes FOLDER"):
        check_dataset("cityscapes")


def test_a_root_that_does_not_exist_is_refused(tmp_path) -> None:
    with pytest.raises(FeathersegError, match="no such folder"):
        check_dataset(tmp_path / "nowhere", layout="cityscapes")


def test_the_official_table_has_fifty_cities() -> None:
    """Cordts et al. 2016, Sec. 2: 50 cities, 5,000 fine and 20,000 coarse images (19,998 in the packages)."""
    assert len({city for cities in CITIES.values() for city in cities}) == 50
    assert COUNTS["train"] + COUNTS["val"] + COUNTS["test"] == 5000
