"""The pictures of a report: sizes, and that what they should show is in their pixels."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from featherseg.data.labels import CAMVID11, LabelSet
from featherseg.metrics.calibration import calibration_counts
from featherseg.report import plots


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=2).sum())


RED_BLUE = LabelSet("two", ("red", "blue"), ((250, 10, 20), (20, 10, 250)))


def test_a_bar_is_as_long_as_its_score():
    picture = pixels(plots.iou_bars(RED_BLUE, np.array([0.9, 0.3])))
    red, blue = count(picture, (250, 10, 20)), count(picture, (20, 10, 250))
    assert red / blue == pytest.approx(3, rel=0.1)


def test_an_absent_class_has_no_bar_and_no_part_in_the_mean():
    picture = pixels(plots.iou_bars(RED_BLUE, np.array([0.5, np.nan])))
    alone = pixels(plots.iou_bars(RED_BLUE, np.array([0.5, 0.5])))
    assert count(picture, (20, 10, 250)) == 0
    assert count(picture, (250, 10, 20)) == count(alone, (250, 10, 20))


def test_scores_of_another_label_set_are_refused():
    with pytest.raises(ValueError, match="11 classes"):
        plots.iou_bars(CAMVID11, np.zeros(19))


def test_the_loss_curve_shows_a_score_only_where_rows_have_one():
    losses = [{"step": s, "loss": 2.0 - s / 100} for s in range(100)]
    orange = (0xD9, 0x48, 0x0F)
    assert count(pixels(plots.loss_curve(losses)), orange) == 0
    with_score = plots.loss_curve(
        [*losses, {"step": 50, "evaluation": {"score": 30.0}}, {"step": 99, "evaluation": {"score": 60.0}}]
    )
    assert count(pixels(with_score), orange) > 100


def test_a_loss_curve_passes_over_values_that_are_no_number():
    rows = [{"step": s, "loss": 1.0} for s in range(20)]
    spoilt = [*rows, {"step": 3, "loss": float("nan")}, {"step": 4, "loss": None}, {"epoch": 1}]
    assert plots.loss_curve(spoilt) == plots.loss_curve(rows)


@pytest.mark.parametrize("rows", [[], [{"step": 0, "loss": 0.7}], [{"step": 5, "evaluation": {"score": 10.0}}]])
def test_a_run_that_has_hardly_begun_has_a_picture(rows):
    assert pixels(plots.loss_curve(rows)).shape[2] == 3


def test_a_spike_in_the_first_steps_does_not_flatten_the_curve():
    losses = [{"step": s, "loss": 1.0 + 0.5 * np.cos(s / 30)} for s in range(300)]
    spiked = [{"step": 0, "loss": 1e6}, *losses[1:]]
    blue = (0x1F, 0x6F, 0xEB)
    rows_of = [np.flatnonzero((pixels(plots.loss_curve(r)) == blue).all(axis=2).any(axis=1)) for r in (losses, spiked)]
    assert np.ptp(rows_of[1]) > 0.6 * np.ptp(rows_of[0])


def test_the_same_numbers_give_the_same_bytes():
    matrix = np.arange(4).reshape(2, 2)
    assert plots.confusion_picture(matrix, RED_BLUE) == plots.confusion_picture(matrix, RED_BLUE)


def test_a_confusion_picture_is_normalised_by_row():
    matrix = np.array([[90, 10], [10, 90]])
    unbalanced = matrix * np.array([[1], [1000]])
    dark = [int((pixels(plots.confusion_picture(m, RED_BLUE)).sum(axis=2) < 300).sum()) for m in (matrix, unbalanced)]
    assert dark[0] > 10000
    assert dark[1] == pytest.approx(dark[0], rel=0.1)


def test_a_confusion_picture_of_another_label_set_is_refused():
    with pytest.raises(ValueError, match="2 classes"):
        plots.confusion_picture(np.zeros((3, 3), np.int64), RED_BLUE)


def test_class_names_with_dollars_are_not_read_as_mathematics():
    labels = LabelSet("odd", (r"$\frac{$", "<b>"), RED_BLUE.palette)
    assert pixels(plots.iou_bars(labels, np.array([0.5, 0.5]))).size
    assert pixels(plots.confusion_picture(np.eye(2, dtype=np.int64), labels)).size


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (947, "947"),
        (999, "999"),
        (1234, "1.23k"),
        (12345, "12.3k"),
        (999_960, "1.00M"),
        (40_262_400, "40.3M"),
    ],
)
def test_counts_are_short_enough_for_a_cell(number, text):
    assert plots._compact(number) == text


def test_a_strip_has_four_panels():
    image = np.full((20, 30, 3), 128, np.uint8)
    truth, prediction = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    picture = plots.strip(image, truth, prediction, RED_BLUE.palette, gap=5)
    assert picture.shape == (20, 4 * 30 + 3 * 5, 3)
    assert np.array_equal(picture[:, :30], image)
    assert (picture[:, 35:65] == (250, 10, 20)).all()
    assert (picture[:, 70:100] == (20, 10, 250)).all()
    assert (picture[:, 105:] == plots.WRONG).all()


def test_disagreement_marks_wrong_pixels_and_leaves_ignored_ones_unjudged():
    image = np.full((1, 3, 3), 255, np.uint8)
    picture = plots.disagreement(image, np.array([[0, 0, 255]], np.uint8), np.array([[0, 1, 1]], np.uint8))
    assert picture[0, 0].min() > 200
    assert tuple(picture[0, 1]) == plots.WRONG
    assert tuple(picture[0, 2]) == plots.UNJUDGED


def test_a_png_holds_the_pixels_it_was_given_and_is_reduced_only_when_too_wide():
    image = np.random.default_rng(0).integers(0, 256, (10, 40, 3)).astype(np.uint8)
    assert np.array_equal(pixels(plots.image_png(image)), image)
    assert np.array_equal(pixels(plots.image_png(image, max_width=40)), image)
    assert pixels(plots.image_png(image, max_width=20)).shape == (5, 20, 3)


def test_the_legend_shows_every_class():
    picture = pixels(plots.legend(CAMVID11, width=300))
    assert picture.shape[1] == 300
    assert all(count(picture, colour) for colour in CAMVID11.palette)


def test_a_reliability_diagram_is_drawn_for_no_pixel_too():
    empty = calibration_counts(np.zeros(0, np.float32), np.zeros(0, bool))
    full = calibration_counts(np.array([0.9, 0.4], np.float32), np.array([True, False]))
    assert pixels(plots.reliability_diagram(empty)).shape == pixels(plots.reliability_diagram(full)).shape


def test_drawing_leaves_pyplot_alone_and_importing_leaves_matplotlib_alone():
    code = (
        "import sys, numpy as np\n"
        "from featherseg.report import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plots.loss_curve([])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
