"""Bounds, shares and limits of layers and networks, from peaks that are set by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherseg.bench.layers import node_macs
from featherseg.bench.peaks import best_seconds, measure_peaks
from featherseg.bench.roofline import Layer, Peaks, by_kind, placed, placed_network, to_dict

PEAKS = Peaks({"fp32": 100.0, "bf16": 1000.0, "int8": None}, 10.0, 1, "by hand")
LAYERS = st.builds(
    Layer,
    name=st.just("layer"),
    kind=st.sampled_from(["Convolution", "Reorder"]),
    precision=st.sampled_from(["fp32", "bf16"]),
    macs=st.integers(0, 10**9),
    bytes=st.integers(1, 10**9),
    milliseconds=st.floats(1e-3, 1e3),
)


def layer(
    macs: int, moved: int, milliseconds: float = 1.0, precision: str = "fp32", kind: str = "Convolution"
) -> Layer:
    return Layer("layer", kind, precision, macs, moved, milliseconds)


def test_arithmetic_bounds_a_layer_that_moves_little():
    # 5e8 multiply-accumulates are 1e9 operations, of which 100e9 a second can be done: 10 ms.
    found = placed(layer(500_000_000, 1000, 20.0), PEAKS)
    assert (found.bound_ms, found.share, found.limit) == (pytest.approx(10.0), pytest.approx(0.5), "compute")


def test_memory_bounds_a_layer_that_computes_nothing():
    found = placed(layer(0, 10_000_000, 4.0), PEAKS)
    assert (found.bound_ms, found.share, found.limit) == (pytest.approx(1.0), pytest.approx(0.25), "memory")


def test_each_layer_is_held_against_the_peak_of_its_precision():
    assert placed(layer(500_000_000, 1, precision="bf16"), PEAKS).bound_ms == pytest.approx(1.0)


def test_a_precision_without_a_peak_is_held_against_float32():
    assert placed(layer(500_000_000, 1, precision="int8"), PEAKS).bound_ms == pytest.approx(10.0)


def test_a_layer_that_took_no_measurable_time_has_no_share():
    assert placed(layer(1, 1, 0.0), PEAKS).share is None


@given(LAYERS)
def test_a_layer_reaches_the_same_share_of_the_roof_in_operations_a_second(one):
    found = placed(one, PEAKS)
    peak = {"fp32": 100.0, "bf16": 1000.0}[one.precision]
    roof = min(peak, found.intensity * PEAKS.gigabytes)
    assert found.share is not None
    assert found.gflops == pytest.approx(found.share * roof, rel=1e-6, abs=1e-9)


@given(st.lists(LAYERS, min_size=1, max_size=8), st.floats(1e-3, 1e4))
def test_a_networks_bound_is_the_sum_of_its_layers(layers, milliseconds):
    found = placed_network(layers, milliseconds, PEAKS)
    assert found.bound_ms == pytest.approx(sum(placed(one, PEAKS).bound_ms for one in layers))
    assert found.share == pytest.approx(found.bound_ms / milliseconds)


@given(st.lists(LAYERS, min_size=1, max_size=8))
def test_kinds_hold_all_layers_the_slowest_first(layers):
    rows = by_kind(layers, PEAKS)
    assert sum(row["count"] for row in rows) == len(layers)
    assert sum(row["ms"] for row in rows) == pytest.approx(sum(one.milliseconds for one in layers))
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)


def test_a_networks_limit_is_what_most_of_its_bound_comes_from():
    short_compute, long_copy = layer(500_000_000, 1), layer(0, 500_000_000)
    assert placed_network([short_compute, long_copy], 100.0, PEAKS).limit == "memory"
    assert placed_network([short_compute, short_compute, layer(0, 1)], 100.0, PEAKS).limit == "compute"


def test_a_report_tells_the_time_among_rivals_and_the_layers_own():
    found = to_dict([layer(10, 10, 2.0), layer(10, 10, 3.0)], 4.0, PEAKS)
    assert (found["network"]["ms"], found["network"]["profiled_ms"]) == (4.0, 5.0)


@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "macs"),
    [
        ("Convolution", [[1, 8, 10, 10], [16, 8, 3, 3], [16]], [[1, 16, 5, 5]], 16 * 25 * 8 * 9),
        ("Convolution", [[1, 8, 10, 10], [8, 1, 1, 3, 3]], [[1, 8, 10, 10]], 8 * 100 * 9),
        ("Deconvolution", [[1, 8, 5, 5], [8, 4, 2, 2]], [[1, 4, 10, 10]], 8 * 25 * 4 * 4),
        ("MatMul", [[1, 6, 7], [1, 7, 5]], [[1, 6, 5]], 6 * 7 * 5),
        ("Reorder", [[1, 8, 10, 10]], [[1, 8, 10, 10]], 0),
        ("Concatenation", [[1, 8, 10, 10], [1, 8, 10, 10]], [[1, 16, 10, 10]], 0),
    ],
)
def test_multiply_accumulates_of_a_node_follow_from_its_shapes(kind, inputs, outputs, macs):
    assert node_macs(kind, inputs, outputs) == macs


def test_a_peak_is_the_best_of_several_and_the_first_does_not_count():
    now = [0.0]
    lengths = iter([0.01, 3.0, 2.0, 5.0])

    def work() -> None:
        now[0] += next(lengths)

    assert best_seconds(work, 1.0, clock=lambda: now[0]) == pytest.approx(2.0)


def test_peaks_of_this_machine_are_positive():
    found = measure_peaks(sides=(32, 64), copied=4096, seconds=0.0)
    assert (found.gflops["fp32"] or 0) > 0
    assert found.gigabytes > 0
    assert set(found.gflops) == {"fp32", "bf16", "int8"}
