"""The check of KITTI's object data: every fault is found, named, and weighed; sound data passes."""

import json
from pathlib import Path

import pytest
from kitti_miniature import CAR, PEDESTRIAN, TRUCK, write_frame, write_kitti, write_sets

from featherseg.cli.main import main
from featherseg.data.findings import Problem
from featherseg.data.kitti_check import BoxReport, check_kitti, is_kitti, summary_lines
from featherseg.errors import FeathersegError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_kitti(tmp_path)


def only(report: BoxReport, kind: str) -> Problem:
    """The one problem of its kind."""
    found = [problem for problem in report.problems if problem.kind == kind]
    assert len(found) == 1, [problem.kind for problem in report.problems]
    return found[0]


def test_sound_data_passes_with_a_word_on_its_size(root: Path) -> None:
    report = check_kitti(root)
    assert report.ok
    assert {(problem.kind, problem.where) for problem in report.problems} == {
        ("other count", "train"),
        ("other count", "val"),
        ("other count", "test"),
    }


def test_boxes_and_images_are_counted_by_type_and_split(root: Path) -> None:
    report = check_kitti(root)
    assert (report.classes["Car"].boxes, report.classes["Car"].images) == (3, 3)
    assert (report.classes["DontCare"].boxes, report.classes["Tram"].boxes) == (2, 0)
    assert report.splits["train"].class_boxes["Pedestrian"] == 2
    assert report.splits["val"].class_boxes["Pedestrian"] == 0
    assert report.splits["test"].sound == 2
    assert report.splits["train"].sizes == {"60x40": 3}


def spoil(root: Path, what: str) -> str:
    """Do one harm; returns the file that is to be named."""
    label, image = root / "training/label_2/000001.txt", root / "training/image_2/000001.png"
    match what:
        case "number of fields":
            label.write_text(f"{CAR} 0.5\n")
        case "not a number":
            label.write_text(CAR.replace("12.50", "nan"))
        case "box outside":
            label.write_text(CAR.replace("30.25", "90"))
        case "unknown class":
            label.write_text(CAR.replace("Car", "Auto"))
        case "empty box":
            label.write_text(CAR.replace("30.25", "10"))
        case "out of range":
            label.write_text(CAR.replace("0.10 1", "0.10 7"))
        case "truncated file":
            image.write_bytes(image.read_bytes()[:-20])
            return str(image)
        case "missing label":
            label.unlink()
            return str(image)
        case "missing image":
            write_frame(root, "000009", [CAR])
            (root / "training/image_2/000009.png").unlink()
            return str(root / "training/label_2/000009.txt")
    return str(label)


HARMS = (
    "number of fields", "not a number", "box outside", "unknown class", "empty box", "out of range", "truncated file",
    "missing label", "missing image",
)  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_every_harm_is_one_error_at_its_file(root: Path, harm: str) -> None:
    where = spoil(root, harm)
    report = check_kitti(root)
    assert not report.ok
    assert [problem.where for problem in report.problems if problem.level == "error"] == [where]
    assert only(report, harm).where == where


def test_faults_of_many_files_are_all_found(root: Path) -> None:
    for key in ("000000", "000002", "000005"):
        write_frame(root, key, ["Car 1 2 3"])
    report = check_kitti(root, keep=2)
    assert [problem.kind for problem in report.problems if problem.level == "error"] == ["number of fields"] * 2
    assert report.unlisted["number of fields"] == 1


def test_a_split_without_vehicles_is_an_error(root: Path) -> None:
    write_frame(root, "000002", [PEDESTRIAN])
    report = check_kitti(root)
    assert only(report, "no vehicle").where == "val"
    assert not report.ok


def test_a_split_without_cars_is_a_warning_where_there_are_trucks(root: Path) -> None:
    write_frame(root, "000002", [TRUCK])
    report = check_kitti(root)
    assert only(report, "no car").where == "val"
    assert report.ok


def test_an_image_in_both_splits_is_an_error(root: Path) -> None:
    write_sets(root, val=["000002", "000000"])
    report = check_kitti(root)
    assert only(report, "split overlap").where.endswith("000000.png")
    assert not report.ok


def test_an_empty_label_is_a_warning(root: Path) -> None:
    write_frame(root, "000005", [])
    report = check_kitti(root)
    assert only(report, "empty label").where.endswith("label_2/000005.txt")
    assert report.ok


def test_an_id_without_image_is_an_error(root: Path) -> None:
    write_sets(root, val=["000002", "000777"])
    assert "000777" in only(check_kitti(root), "missing image").what


def test_an_empty_list_is_an_error(root: Path) -> None:
    write_sets(root, val=[])
    assert only(check_kitti(root), "empty split").where == "val"


def test_a_list_with_an_id_twice_is_an_error_of_its_split(root: Path) -> None:
    write_sets(root, val=["000002", "000002"])
    report = check_kitti(root)
    assert "stands on line 1 already" in only(report, "split").what
    assert report.splits["train"].sound == 3


def test_images_that_no_list_has_are_told(root: Path) -> None:
    write_sets(root, train=["000000", "000001"])
    report = check_kitti(root)
    assert "000005" in only(report, "unused images").what
    assert report.ok


def test_without_lists_a_validation_split_is_asked_for(tmp_path: Path) -> None:
    write_frame(tmp_path, "000000", [CAR])
    report = check_kitti(tmp_path)
    assert only(report, "no split").level == "warning"
    assert list(report.splits) == ["trainval"]


def test_another_folder_is_an_error_of_its_layout(tmp_path: Path) -> None:
    assert "training/image_2/" in only(check_kitti(tmp_path), "layout").mend


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match="nowhere: no such folder"):
        check_kitti(tmp_path / "nowhere")


def test_progress_counts_all_images(root: Path) -> None:
    steps: list[tuple[int, int]] = []
    check_kitti(root, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(n, 6) for n in range(1, 7)]


def test_kitti_is_recognised_by_its_folders_and_by_its_name(root: Path, tmp_path: Path) -> None:
    assert is_kitti(root)
    assert not is_kitti(tmp_path / "training")
    assert is_kitti(tmp_path / "training", "KITTI")
    assert not is_kitti(root, "camvid")


def test_a_description_goes_before_the_layout(root: Path) -> None:
    (root / "featherseg.yaml").write_text("name: mine\n")
    assert not is_kitti(root)


def test_the_report_is_json_with_the_verdict_first(root: Path) -> None:
    told = json.loads(json.dumps(check_kitti(root).to_dict()))
    assert next(iter(told)) == "ok"
    assert told["classes"]["Car"] == {"boxes": 3, "images": 3}


def test_the_summary_tells_types_problems_and_verdict(root: Path) -> None:
    spoil(root, "number of fields")
    lines = summary_lines(check_kitti(root))
    assert any(line.split() == ["Car", "2", "2", "1", "1", "0"] for line in lines)
    assert any("000001.txt: line 1: 16 fields" in line for line in lines)
    assert lines[-1].endswith("NOT fit for training: mend the errors above.")


@pytest.mark.parametrize("words", [(), ("kitti",)])
def test_the_command_recognises_the_layout_and_fails_on_faults(
    root: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words, str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["Car"]["boxes"] == 3
    spoil(root, "not a number")
    assert main(["check", *words, str(root)]) == 1
    assert "000001.txt: line 1: the field 'top' is 'nan'" in capsys.readouterr().out


@pytest.mark.shared
def test_the_real_frames_pass(shared_data: Path) -> None:
    report = check_kitti(shared_data / "kitti-object-101")
    assert report.ok
    assert {problem.kind for problem in report.problems} == {"other count"}
    boxes = {name: count.boxes for name, count in report.classes.items() if name in ("Car", "Van", "DontCare")}
    assert boxes == {"Car": 303, "Van": 34, "DontCare": 237}
