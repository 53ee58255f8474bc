"""Result files of KITTI's benchmark: what is written is read back, and what is wrong is named by file and line."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featherseg.data.kitti_results import read_result, read_results, result_text, write_results
from featherseg.errors import FeathersegError
from featherseg.metrics.kitti import KittiDetections

LINE = "Car -1 -1 -10 1.5 2 30 40.25 -1 -1 -1 -1000 -1000 -1000 -10 0.75"
ONE = KittiDetections(("Car",), np.array([[1.5, 2, 30, 40.25]]), np.array([0.75]))
NOTHING = KittiDetections((), np.zeros((0, 4)), np.zeros(0))


def test_a_detection_is_a_line_of_the_benchmarks_format() -> None:
    assert result_text(ONE) == f"{LINE}\n"


def test_every_image_has_a_file(tmp_path: Path) -> None:
    paths = write_results(tmp_path / "results", ["000000", "000007"], [ONE, NOTHING])
    assert [path.name for path in paths] == ["000000.txt", "000007.txt"]
    assert paths[1].read_text() == ""
    assert [len(found.names) for found in read_results(tmp_path / "results", ["000007", "000000"])] == [0, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20))
def test_single_precision_comes_back_to_the_bit(tmp_path: Path, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(-1e-3, 1000, (count, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + random.uniform(0.1, 500, (count, 2)).astype(np.float32)], 1)
    scores = (random.standard_normal(count) * 10.0 ** random.integers(-9, 3, count)).astype(np.float32)
    names = tuple(random.choice(["Car", "Pedestrian", "Cyclist", "vehicle"], count).tolist())
    path = tmp_path / "000000.txt"
    path.write_text(result_text(KittiDetections(names, boxes, scores)))
    found = read_result(path)
    assert found.names == names
    np.testing.assert_array_equal(found.boxes.astype(np.float32), boxes)
    np.testing.assert_array_equal(found.scores.astype(np.float32), scores)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE.rsplit(" ", 1)[0], r"line 2: 15 fields, where a result has 16: without a score this is a label file"),
        (f"{LINE} 1", r"line 2: 17 fields, where a result has 16"),
        (LINE.replace("0.75", "nan"), r"line 2: the field 'score' is 'nan', not a number"),
        (LINE.replace("0.75", "-inf"), r"line 2: the field 'score' is '-inf', not a number"),
        (LINE.replace("1.5", "NaN"), r"line 2: the field 'left' is 'NaN', not a number"),
        (LINE.replace("40.25", "1"), r"line 2: the box \(1\.5, 2, 30, 1\) has no area"),
        (LINE.replace("Car", "DontCare"), r"line 2: no class is called 'DontCare'"),
        (LINE.replace("Car", "car"), r"line 2: no class is called 'car'; did you mean 'Car'"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "000003.txt").write_text(f"{LINE}\n{line}\n")
    with pytest.raises(FeathersegError, match=rf"000003\.txt: {message}"):
        read_results(tmp_path, ["000003"])


def test_images_without_a_file_are_named(tmp_path: Path) -> None:
    write_results(tmp_path, ["000000"], [ONE])
    with pytest.raises(FeathersegError, match=r"1 of 2 images have no result file, 000001\.txt among them"):
        read_results(tmp_path, ["000000", "000001"])


def test_files_of_no_image_are_named(tmp_path: Path) -> None:
    write_results(tmp_path, ["000000", "000001"], [ONE, ONE])
    with pytest.raises(FeathersegError, match=r"1 files belong to no image of the split, 000001\.txt among them"):
        read_results(tmp_path, ["000000"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeathersegError, match="nowhere: no such folder"):
        read_results(tmp_path / "nowhere", ["000000"])


def test_a_class_that_the_benchmark_does_not_know_is_not_written(tmp_path: Path) -> None:
    strange = KittiDetections(("lorry",), ONE.boxes, ONE.scores)
    with pytest.raises(FeathersegError, match="'lorry' is no class of KITTI"):
        write_results(tmp_path, ["000000"], [strange])
    assert list(tmp_path.iterdir()) == []


def test_as_many_keys_as_detections_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_results(tmp_path, ["000000", "000001"], [ONE])
