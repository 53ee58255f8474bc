"""Boxes of the procedural scenes: they agree with what is painted, and with KITTI's way to annotate."""

import numpy as np
import pytest

from featherseg.data.detection_sources import detection_splits, open_detection
from featherseg.data.labels import CAMVID11
from featherseg.data.sources import STREETS_COUNTS, open_dataset
from featherseg.data.streets import SceneVehicle, Streets
from featherseg.data.streets.boxes import StreetBoxes, street_truth
from featherseg.errors import FeathersegError

SIZE = (120, 160)
CAR_ID = CAMVID11.classes.index("car")


def vehicle(extent: tuple[float, float, float, float], visible: float = 1.0, **changed: object) -> SceneVehicle:
    values: dict = {"kind": "saloon", "extent": extent, "visible": visible, "pixels": 500, **changed}
    return SceneVehicle(**values)


def test_the_picture_is_that_of_the_segmentation_source() -> None:
    plain, boxes = (
        open_dataset("streets", "val", size=SIZE, count=4),
        open_detection("streets", "val", size=SIZE, count=4),
    )
    for index in range(4):
        assert boxes.read(index).image.tobytes() == plain.read(index).image.tobytes()
        assert boxes.key(index) == plain.key(index)


def test_the_label_is_that_of_the_segmentation_source() -> None:
    scenes = Streets("val", 3, SIZE)
    for index in range(3):
        assert scenes.read_with_vehicles(index)[0].label.tobytes() == scenes.read(index).label.tobytes()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_splits_have_the_lengths_of_the_segmentation_source(split: str) -> None:
    assert split in detection_splits("streets")
    found = open_detection("streets", split)
    assert len(found) == STREETS_COUNTS[split]
    assert isinstance(found, StreetBoxes)
    assert found.scenes.size == (240, 320)


def test_a_scene_is_the_same_whatever_was_read_before() -> None:
    forwards, backwards = (open_detection("streets", "train", size=SIZE, count=6) for _ in range(2))
    first = [forwards.read(index) for index in range(6)]
    last = [backwards.read(index) for index in reversed(range(6))][::-1]
    for a, b in zip(first, last, strict=True):
        assert a.image.tobytes() == b.image.tobytes()
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.ignored, b.ignored)


def test_a_caller_may_write_into_an_image() -> None:
    data = open_detection("streets", "train", size=SIZE, count=1)
    data.read(0).image[:] = 0
    assert data.read(0).image.any()


def test_every_pixel_of_a_vehicle_lies_in_a_box() -> None:
    scenes = Streets("train", 12, SIZE)
    for index in range(12):
        sample, vehicles = scenes.read_with_vehicles(index)
        left = sample.label == CAR_ID
        for box in street_truth(vehicles, SIZE).boxes:
            x0, y0 = np.floor(box[:2] - 0.5).astype(int).clip(0)
            x1, y1 = np.ceil(box[2:] + 0.5).astype(int)
            left[y0:y1, x0:x1] = False
        assert not left.any()


def test_the_box_of_a_vehicle_that_nothing_hides_is_that_of_its_pixels() -> None:
    """Within a pixel, and the sixteenths that polygons are rounded to: they are rasterised with their edges."""
    scenes = Streets("train", 15, SIZE)
    compared = 0
    for index in range(15):
        sample, vehicles = scenes.read_with_vehicles(index)
        if not vehicles or vehicles[-1].visible < 1:
            continue
        box = street_truth(vehicles[-1:], SIZE).boxes[0]
        boxes = scenes.scene_boxes(index)
        seen = [b for b in boxes if b.name == "car"][-1]
        np.testing.assert_allclose(box, (seen.x0, seen.y0, seen.x1, seen.y1), atol=1.1)
        assert (sample.label[seen.y0 : seen.y1, seen.x0 : seen.x1] == CAR_ID).any()
        compared += 1
    assert compared > 4


def test_boxes_grow_with_the_picture() -> None:
    """Geometry, not pixels: twice the size is twice the box."""
    small, large = Streets("train", 6, SIZE), Streets("train", 6, (2 * SIZE[0], 2 * SIZE[1]))
    compared = 0
    for index in range(6):
        few, many = small.read_with_vehicles(index)[1], large.read_with_vehicles(index)[1]
        if len(few) == len(many):
            for a, b in zip(few, many, strict=True):
                np.testing.assert_allclose(2 * np.array(a.extent), b.extent, atol=1e-6)
                compared += 1
    assert compared > 5


def test_a_box_is_cut_at_the_image_and_says_how_much_is_beyond() -> None:
    truth = street_truth([vehicle((-30.0, 20.0, 70.0, 60.0))], SIZE)
    assert truth.boxes.tolist() == [[0.0, 20.0, 70.0, 60.0]]
    assert truth.truncation.tolist() == [pytest.approx(0.3)]


def test_a_hidden_part_belongs_to_the_box() -> None:
    assert street_truth([vehicle((10.0, 20.0, 70.0, 60.0), 0.3)], SIZE).boxes.tolist() == [[10.0, 20.0, 70.0, 60.0]]


@pytest.mark.parametrize(
    ("visible", "level"), [(1.0, 0), (0.9, 0), (0.89, 1), (0.5, 1), (0.49, 2), (0.2, 2), (0.19, 3), (0.1, 3)]
)
def test_the_visible_share_decides_the_level_of_occlusion(visible: float, level: int) -> None:
    truth = street_truth([vehicle((10.0, 20.0, 70.0, 60.0), visible)], SIZE)
    assert truth.occlusion.tolist() == [level]
    assert truth.names == ("Car",)


@pytest.mark.parametrize(
    "hardly_seen",
    [
        vehicle((10.0, 20.0, 70.0, 60.0), 0.09),
        vehicle((10.0, 20.0, 70.0, 60.0), pixels=15),
        vehicle((10.0, 20.0, 70.0, 27.9)),
    ],
    ids=["hidden", "few pixels", "low"],
)
def test_what_is_hardly_seen_is_ignored(hardly_seen: SceneVehicle) -> None:
    assert street_truth([hardly_seen], SIZE).names == ("DontCare",)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("hatchback", "Car"), ("suv", "Car"), ("estate", "Car"), ("van", "Van"), ("lorry", "Truck"), ("bus", "Truck")],
)
def test_kinds_have_the_types_of_kitti(kind: str, name: str) -> None:
    assert street_truth([vehicle((10.0, 20.0, 70.0, 60.0), kind=kind)], SIZE).names == (name,)


def test_a_scene_without_vehicles_has_no_boxes() -> None:
    truth = street_truth([], SIZE)
    assert truth.names == ()
    assert truth.boxes.shape == (0, 4)


def boxes_by_type(data: StreetBoxes, count: int, *names: str) -> list[list[float]]:
    truths = [data.truth(index) for index in range(count)]
    found = [box for truth in truths for name, box in zip(truth.names, truth.boxes, strict=True) if name in names]
    return np.array(found, np.float32).reshape(-1, 4).tolist()


@pytest.mark.parametrize(
    ("target", "learnt", "ignored"),
    [("Car", ("Car",), ("Van", "DontCare")), ("vehicle", ("Car", "Van", "Truck"), ("DontCare",))],
)
def test_the_target_decides_what_is_learnt_and_what_ignored(
    target: str, learnt: tuple[str, ...], ignored: tuple[str, ...]
) -> None:
    data = StreetBoxes(Streets("train", 8, SIZE), target)
    samples = [data.read(index) for index in range(8)]
    assert data.classes == (target,)
    assert [box for s in samples for box in s.boxes.tolist()] == boxes_by_type(data, 8, *learnt)
    assert [box for s in samples for box in s.ignored.tolist()] == boxes_by_type(data, 8, *ignored)
    assert all(s.boxes.dtype == np.float32 and s.labels.dtype == np.int64 for s in samples)
    assert sum(len(s.boxes) for s in samples) > 8


def test_boxes_of_a_split_have_a_fingerprint_of_their_own() -> None:
    scenes = Streets("train", 4, SIZE)
    prints = {scenes.fingerprint(), StreetBoxes(scenes).fingerprint(), StreetBoxes(scenes, "vehicle").fingerprint()}
    assert len(prints) == 3


def test_an_unknown_target_or_split_is_refused() -> None:
    with pytest.raises(FeathersegError, match=r"'car'; did you mean 'Car'\. There are: Car, vehicle\.$"):
        open_detection("streets", "train", target="car")
    with pytest.raises(FeathersegError, match=r"no split 'vall'; did you mean 'val'\."):
        open_detection("streets", "vall")
