"""The picture of a choice: names stay inside, by what matplotlib says of their boxes."""

import pytest

from featherseg.report.choice_plot import choice_figure, choice_plot

pytest.importorskip("matplotlib")

NAMES = ["fast.camvid, openvino bf16", "between.camvid, onnx fp32, scale 0.75", "accurate.camvid, plain torch fp32"]


def report(*times: float) -> dict:
    rows = {name: {"p90_ms": time, "miou": 60.0 + time} for name, time in zip(NAMES, times, strict=True)}
    about = {"recommended": NAMES[-1], "wanted_ms": 33.3, "fps": 30.0, "rule": "p90", "size": [360, 480]}
    return {"candidates": rows, "front": NAMES, "protocol": "camvid11/480x360/train→val"} | about


@pytest.mark.parametrize("times", [(1.0, 8.0, 30.0), (29.0, 30.0, 31.0), (2.0, 90.0, 100.0)])
def test_names_of_the_front_stay_inside_the_axes(times):
    figure = choice_figure(report(*times))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    edges = axes.get_window_extent()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert set(boxes) == set(NAMES)
    assert all(edges.x0 <= box.x0 and box.x1 <= edges.x1 + 0.01 for box in boxes.values())
    assert all(edges.y0 <= box.y0 and box.y1 <= edges.y1 for box in boxes.values())


def test_the_picture_is_a_png():
    assert choice_plot(report(1.0, 2.0, 3.0)).startswith(b"\x89PNG")
