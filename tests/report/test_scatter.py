"""The scatter: where points stand, which of them are the front, and what is told to readers who cannot see it."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.report.scatter import HEIGHT, LEFT, WIDTH, Scatter, Series, front, scatter_svg

coordinates = st.tuples(st.floats(0.01, 1e4), st.floats(0, 100))


def plot(points: list[tuple[float, float, str]], **more: bool) -> Scatter:
    return Scatter([Series("a runtime", 0, 0, points)], "fps", "mIoU, %", "What it shows.", **more)


def circles(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.-]+)" cy="([\d.-]+)"', svg)]


@given(st.lists(coordinates, min_size=1, max_size=20))
def test_the_front_is_what_no_point_beats(places):
    points = [(x, y, str(number)) for number, (x, y) in enumerate(places)]
    found = front(points)

    def beaten(x: float, y: float) -> bool:
        return any(other[0] >= x and other[1] >= y and (other[0], other[1]) != (x, y) for other in points)

    assert {(x, y) for x, y, _ in found} == {(x, y) for x, y, _ in points if not beaten(x, y)}
    assert [x for x, _, _ in found] == sorted({x for x, _, _ in found})


@given(st.lists(coordinates, min_size=1, max_size=8))
def test_any_points_are_well_formed_markup_inside_the_picture(places):
    svg = scatter_svg(plot([(x, y, f"n{number}") for number, (x, y) in enumerate(places)], front=True))
    assert ElementTree.fromstring(svg).get("role") == "img"
    assert len(circles(svg)) == len(places)
    assert all(LEFT <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in circles(svg))


def test_equal_ratios_of_speed_are_equally_far_apart_and_accuracy_rises():
    (slow, low), (middle, mean), (fast, high) = circles(scatter_svg(plot([(10, 50, ""), (20, 60, ""), (40, 70, "")])))
    assert middle - slow == pytest.approx(fast - middle, abs=0.11)
    assert low > mean > high
    assert low - mean == pytest.approx(mean - high, abs=0.11)


def test_the_description_tells_every_point():
    svg = scatter_svg(plot([(12.5, 61.94, "one"), (480, 48.13, "two")]))
    described = ElementTree.fromstring(svg).findtext("desc") or ""
    assert "What it shows." in described
    assert "one, a runtime: 12.5, 61.9" in described
    assert "two, a runtime: 480, 48.1" in described


def test_the_front_alone_is_named_and_joined():
    points = [(10.0, 70.0, "best"), (100.0, 50.0, "fastest"), (5.0, 40.0, "beaten")]
    drawn = scatter_svg(plot(points, front=True))
    assert re.findall(r'class="name"[^>]*>([^<]+)<', drawn) == ["best", "fastest"]
    assert 'class="front"' in drawn
    assert 'class="front"' not in scatter_svg(plot(points))


def test_names_never_lie_on_each_other():
    drawn = scatter_svg(
        plot([(10.0 + number / 100, 70.0 - number / 100, "a long name") for number in range(30)], front=True)
    )
    places = [(float(x), float(y)) for x, y in re.findall(r'class="name" x="([\d.-]+)" y="([\d.-]+)"', drawn)]
    assert places
    wide, high = 11 * 6, 12
    for number, (x, y) in enumerate(places):
        assert not [1 for u, v in places[:number] if abs(x - u) < wide and abs(y - v) < high]


def test_a_plot_without_points_is_refused():
    with pytest.raises(ValueError, match="needs a point"):
        scatter_svg(plot([]))
