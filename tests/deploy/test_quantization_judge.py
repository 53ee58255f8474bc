"""What int8 programs are judged on and by, and how they are timed; no runtime is needed."""

import numpy as np
import pytest
from PIL import Image

from featherseg.data.dataset import Sample
from featherseg.data.labels import LabelSet
from featherseg.deploy.quantization_images import Samples, quantization_images
from featherseg.deploy.quantization_judge import Judge
from featherseg.deploy.quantization_speed import measure
from featherseg.errors import FeathersegError

TWO = LabelSet("two", ("dark", "light"), ((0, 0, 0), (255, 255, 255)))


class Greys:
    """Images of one row of four greys; the light half is class 1."""

    split = "val"

    def __init__(self, label=(0, 0, 1, 1)) -> None:
        self.label = np.array([label], np.uint8)

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> Sample:
        grey = np.array([[0, 60, 160, 255]], np.uint8)
        return Sample(np.stack([grey] * 3, -1), self.label, str(index))


def above(threshold: int):
    return lambda image: (image[..., 0] > threshold).astype(np.uint8)


def judge(labels=TWO, source=None) -> Judge:
    return Judge(Samples(source or Greys(), range(3), None), labels, above(100))


def test_the_loss_is_that_of_miou_in_points():
    verdict = judge().judge(above(200), "int8")
    # Of the dark class 2 of 3 pixels are right, of the light one 1 of 2.
    assert verdict.miou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert verdict.loss == pytest.approx(100 * (1 - verdict.miou))
    assert verdict.agreement == 0.75


def test_without_labels_the_loss_is_the_share_of_pixels_labelled_otherwise():
    made = judge(labels=None)
    assert made.by == "agreement"
    assert made.judge(above(200), "int8").loss == 25.0
    assert made.judge(above(200), "int8").miou is None


def test_where_every_pixel_is_ignored_agreement_judges():
    assert judge(source=Greys((255, 255, 255, 255))).by == "agreement"


def test_a_program_that_is_better_than_float32_loses_less_than_nothing():
    source = Greys((0, 0, 0, 1))
    assert judge(source=source).judge(above(200), "int8").loss < 0


def test_judging_tells_how_far_it_is():
    told = []
    made = Judge(Samples(Greys(), range(3), None), TWO, above(100), lambda *step: told.append(step))
    made.judge(above(100), "int8")
    assert told[-1] == ("judging int8", 2, 3)


def test_no_images_to_judge_on_is_said():
    with pytest.raises(FeathersegError, match="no images to judge on"):
        Judge(Samples(Greys(), (), None), TWO, above(100))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def waits(clock: Clock, *seconds: float):
    turns = iter(seconds)

    def run(image) -> None:
        clock.now += next(turns)

    return run


def test_programs_are_compared_round_by_round():
    clock = Clock()
    # A load doubles the times of the last two rounds; in each of them the first program takes half as long.
    a, b = waits(clock, *[9] * 3, 1, 1, 2, 2, 2), waits(clock, *[9] * 3, 2, 2, 4, 4, 4)
    speeds = measure({"a": a, "b": b}, [np.zeros((1, 1, 3), np.uint8)], rounds=5, clock=clock)
    assert speeds.p50("a") == pytest.approx(2000)
    assert speeds.times_as_fast("a", "b") == pytest.approx(2)
    assert speeds.fastest(["b", "a"]) == "a"


def test_timing_ends_after_its_time_but_not_before_five_rounds():
    clock = Clock()
    speeds = measure({"a": waits(clock, *[8] * 99)}, [np.zeros((1, 1, 3), np.uint8)], seconds=1, clock=clock)
    assert speeds.to_dict()["rounds"] == 5


@pytest.fixture
def pictures(tmp_path):
    """Fourteen pictures of 24x32, none twice."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(14):
        Image.fromarray(np.full((24, 32, 3), 10 * number, np.uint8)).save(folder / f"{number:02}.png")
    return folder


def test_of_a_folder_every_fifth_picture_judges_and_the_others_set_the_ranges(pictures):
    images = quantization_images(pictures, None, "val", None)
    calibration, judging = ({sample.key for sample in part} for part in (images.calibration, images.judging))
    assert judging == {"04.png", "09.png"}
    assert len(calibration) == 12
    assert not calibration & judging
    assert images.labels is None


def test_images_are_left_as_they_are_or_fitted_to_a_size(pictures):
    assert {s.image.shape for s in quantization_images(pictures, None, "val", None).calibration} == {(24, 32, 3)}
    assert {s.image.shape for s in quantization_images(pictures, None, "val", (16, 16)).calibration} == {(16, 16, 3)}


def test_another_folder_judges_with_all_its_pictures(pictures, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (pictures / "00.png").rename(other / "00.png")
    images = quantization_images(pictures, other, "val", None)
    assert [sample.key for sample in images.judging] == ["00.png"]


@pytest.fixture
def data(tmp_path):
    """A data set of 12 labelled images in train and 3 in val."""
    root = tmp_path / "data"
    for split, count in (("train", 12), ("val", 3)):
        for kind, picture in (("images", np.zeros((24, 32, 3), np.uint8)), ("masks", np.zeros((24, 32), np.uint8))):
            (root / kind / split).mkdir(parents=True)
            for number in range(count):
                picture[0, 0] = number % 2
                Image.fromarray(picture).save(root / kind / split / f"{number}.png")
    (root / "classes.txt").write_text("dark\nlight")
    return root


def test_a_data_set_sets_the_ranges_by_train_and_is_judged_on_val(data):
    images = quantization_images(data, None, "val", None, count=10, judged=2)
    assert (images.calibrated_on, images.judged_on) == ("data/train", "data/val")
    assert (len(images.calibration), len(images.judging)) == (10, 2)
    assert images.labels is not None
    assert images.labels.classes == ("dark", "light")


def refused(*arguments, **options) -> str:
    with pytest.raises(FeathersegError) as caught:
        quantization_images(*arguments, **options)
    return str(caught.value)


def test_fewer_than_ten_images_are_refused(pictures):
    for picture in sorted(pictures.iterdir())[5:]:
        picture.unlink()
    assert "4 images to calibrate with, and int8 ranges need at least 10" in refused(pictures, None, "val", None)


def test_an_empty_folder_is_refused_in_one_line(tmp_path):
    said = refused(tmp_path, None, "val", None)
    assert said.startswith(f"{tmp_path}: holds no pictures")
    assert "\n" not in said


def test_an_unreadable_picture_is_named(pictures):
    (pictures / "03.png").write_bytes(b"no picture")
    with pytest.raises(FeathersegError, match=r"03\.png"):
        list(quantization_images(pictures, None, "val", None).calibration)


def test_judging_on_the_images_that_set_the_ranges_is_refused(data):
    assert "sets the ranges" in refused(data, None, "train", None)
    assert "sets the ranges" in refused(data, data, "train", None)


def test_a_split_that_is_not_there_is_refused(data):
    assert "no split 'vall'" in refused(data, data, "vall", None)


def test_counts_that_set_or_judge_nothing_are_refused(pictures):
    assert "--count 9" in refused(pictures, None, "val", None, count=9)
    assert "--judged 0" in refused(pictures, None, "val", None, judged=0)
