"""Measured tables: what is measured is what networks run, a table of something else is not used, faults are told."""

import json

import pytest
import torch
from test_budget import TINY
from test_decoding import random_choices

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_published import PUBLISHED
from featherseg.models.fasterseg_shapes import OperatorShape, operator_shapes
from featherseg.search.budget import Pricing, fastest_architecture
from featherseg.search.decoding import decode_pairs
from featherseg.search.latency import architecture_latency, supernet_prices
from featherseg.search.measured import (
    LatencyTable,
    given_table,
    median_milliseconds,
    needed_shapes,
    network_milliseconds,
    open_table,
    operator_module,
    read_table,
)
from featherseg.search.runtimes import open_runtime
from featherseg.search.space import STUDENT, TEACHER

SIZE = (64, 128)


class CountingRuntime:
    """Runs nothing; says how often it was asked."""

    name = "counting"

    def __init__(self, **about) -> None:
        self.about = {"runtime": "counting", "version": "1", "threads": 1} | about
        self.prepared = []

    def describe(self):
        return self.about

    def prepare(self, module, inputs):
        self.prepared.append((module, inputs))
        return lambda: None

    def prepare_layers(self, module, inputs):
        return None


def table_of(runtime) -> LatencyTable:
    return LatencyTable({}, {}, runtime, seconds=0.0)


@pytest.mark.parametrize("role", [STUDENT, TEACHER])
def test_all_that_pricing_and_decoding_ask_for_is_measured_before(role):
    table = table_of(CountingRuntime())
    table.measure(needed_shapes(TINY, role, SIZE, 3))
    table.runtime = None
    supernet_prices(TINY, role, table.price, size=SIZE, num_classes=3)
    fastest_architecture(Pricing(TINY, role, table.price, SIZE, 3))
    for seed in range(5):
        for architecture in decode_pairs(TINY, role, random_choices(TINY, seed, role)).values():
            architecture_latency(architecture, table.price, SIZE, 3)


def test_every_entry_is_measured_once():
    runtime = CountingRuntime()
    table = table_of(runtime)
    shapes = needed_shapes(TINY, STUDENT, SIZE, 3)
    told = []
    table.measure(shapes + shapes, lambda done, total: told.append((done, total)))
    table.measure(shapes)
    assert len(runtime.prepared) == len(set(shapes)) == table.measured
    assert told[-1] == (len(set(shapes)), len(set(shapes)))


def test_the_measured_modules_hold_every_parameter_of_the_deployed_network():
    architecture = PUBLISHED["fasterseg_student"]
    with torch.device("meta"):
        network = FasterSeg(architecture, 19)
        modules = [operator_module(shape)[0] for shape in operator_shapes(architecture, (64, 128), 19)]
    measured = sum(parameter.numel() for module in modules for parameter in module.parameters())
    deployed = sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith(("heads16", "heads32"))
    )
    assert measured == deployed == 3_421_875


@pytest.mark.parametrize("shape", needed_shapes(TINY, STUDENT, SIZE, 3)[::17])
def test_a_measured_module_gives_what_its_shape_says(shape):
    module, inputs = operator_module(shape)
    y = module(*inputs)
    assert y.shape[1] == shape.out_channels
    assert sum(one.shape[1] for one in inputs) == shape.in_channels
    assert {tuple(one.shape[2:]) for one in inputs} == {(shape.height, shape.width)}


def test_an_arm_is_measured_with_the_enlarging_behind_it():
    module, inputs = operator_module(OperatorShape("conv_norm", 4, 8, 32, 16, kernel=1))
    assert module(*inputs).shape == (1, 16, 8, 16)


def test_a_kept_table_of_this_machine_is_used_again(tmp_path):
    first, _ = open_table(tmp_path / "t.json", CountingRuntime(), seconds=0.0)
    shape = OperatorShape("conv", 4, 8, 8, 8)
    first.milliseconds["conv 4x8 8>8 /1"] = 7.5
    first.save(tmp_path / "t.json")
    again, why = open_table(tmp_path / "t.json", CountingRuntime())
    assert (again.price(shape), again.measured, why) == (7.5, 0, [])


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"version": "2"}, "version '1' and not '2'"),
        ({"threads": 4}, "threads 1 and not 4"),
        ({"runtime": "x"}, "runtime"),
    ],
)
def test_a_kept_table_of_another_runtime_version_or_thread_count_is_not_used(tmp_path, about, said):
    first, _ = open_table(tmp_path / "t.json", CountingRuntime(), seconds=0.0)
    first.milliseconds["conv 4x8 8>8 /1"] = 7.5
    first.save(tmp_path / "t.json")
    again, why = open_table(tmp_path / "t.json", CountingRuntime(**about), seconds=0.0)
    assert again.milliseconds == {}
    assert said in why[0]


def test_a_table_of_another_machine_is_refused_where_it_is_named(tmp_path):
    table, _ = open_table(tmp_path / "t.json", CountingRuntime(), seconds=0.0)
    table.measured_on = table.measured_on | {"cpu": "another"}
    table.save(tmp_path / "t.json")
    with pytest.raises(FeathersegError, match=r"not measured here: cpu 'another'.*latency.foreign=true"):
        given_table(tmp_path / "t.json", CountingRuntime())
    assert given_table(tmp_path / "t.json", CountingRuntime(), foreign=True).runtime is None


def test_a_damaged_kept_table_is_measured_anew(tmp_path):
    (tmp_path / "t.json").write_text('{"format": 1, "milliseconds"')
    table, why = open_table(tmp_path / "t.json", CountingRuntime())
    assert table.milliseconds == {}
    assert "no JSON" in why[0]


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"format": 9, "milliseconds": {}, "measured_on": {}}', '{"ms": {"a": -1}}']
)
def test_what_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(FeathersegError, match="no table of latencies"):
        read_table(tmp_path / "t.json")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FeathersegError, match=r"nowhere\.json: the table of latencies cannot be read"):
        read_table(tmp_path / "nowhere.json")


def test_a_given_table_that_lacks_an_operator_says_which(tmp_path):
    with pytest.raises(FeathersegError, match="no entry 'conv 4x8 8>8 /1'"):
        LatencyTable({}, {}).price(OperatorShape("conv", 4, 8, 8, 8))


@pytest.mark.shared
def test_the_published_table_can_be_given(shared_data):
    path = shared_data.parent / "specs" / "fasterseg_latency_1080ti.json"
    with pytest.raises(FeathersegError, match="not measured here"):
        given_table(path, CountingRuntime())
    table = given_table(path, CountingRuntime(), foreign=True)
    assert architecture_latency(PUBLISHED["fasterseg_student"], table.price) == pytest.approx(5.702, abs=5e-4)


@pytest.mark.parametrize("name", ["pytorch", "openvino", "onnx"])
def test_a_runtime_runs_and_times_an_operator_and_a_network(name):
    for package in {"openvino": ["openvino"], "onnx": ["onnx", "onnxruntime"]}.get(name, []):
        pytest.importorskip(package)
    runtime = open_runtime(name, threads=1)
    assert runtime.describe()["threads"] == 1
    table = LatencyTable({}, {}, runtime, seconds=0.0)
    assert table.price(OperatorShape("conv", 8, 16, 8, 8)) > 0
    architecture = decode_pairs(TINY, STUDENT, random_choices(TINY, 0))[2, 1]
    assert network_milliseconds(FasterSeg(architecture, 3), SIZE, runtime, seconds=0.0) > 0


def test_the_median_passes_over_what_was_disturbed(monkeypatch):
    warming, runs = [0, 9, 9, 18], [0, 1, 1, 101, 101, 103, 103, 104, 104, 107]  # runs of 1, 100, 2, 1 and 3 seconds
    ticks = iter(warming + runs)
    monkeypatch.setattr("featherseg.search.measured.time.perf_counter", lambda: next(ticks))
    assert median_milliseconds(lambda: None, seconds=0.0) == 2000


def test_what_a_runtime_tells_of_its_layers_is_the_price():
    class Telling(CountingRuntime):
        def prepare_layers(self, module, inputs):
            told = iter([90.0, 80.0, 3.0, 1.0, 2.0, 50.0, 2.0])  # the first two warm up
            return lambda: next(told)

    runtime = Telling()
    assert table_of(runtime).price(OperatorShape("conv", 8, 16, 8, 8)) == 2.0
    assert not runtime.prepared
    table_of(runtime).price(OperatorShape("conv_norm", 64, 128, 3, 8, 2))
    assert len(runtime.prepared) == 1, "the operator on the image is timed from the call on"


def test_openvino_counts_of_a_convolution_the_layers_and_not_the_way_into_its_layout():
    pytest.importorskip("openvino")
    runtime = open_runtime("openvino", threads=1)
    module, inputs = operator_module(OperatorShape("conv", 64, 128, 32, 32))
    request = runtime._request(module, inputs, PERF_COUNT=True)
    request.infer([one.numpy() for one in inputs])
    kinds = {node.node_type for node in request.get_profiling_info() if node.status == node.Status.EXECUTED}
    assert "Convolution" in kinds
    assert kinds - {"Convolution", "Subgraph"} <= {"Reorder", "Convert"}
    assert 0 < runtime.prepare_layers(module, inputs)() < 1000


def test_an_unknown_runtime_is_refused_with_the_nearest():
    with pytest.raises(FeathersegError, match="did you mean 'pytorch'"):
        open_runtime("pytorhc")


def test_a_runtime_that_is_not_installed_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(FeathersegError, match="pip install openvino"):
        open_runtime("openvino")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(FeathersegError, match="cannot be measured here"):
        open_runtime("pytorch", device="xpu7")


def test_onnx_runtime_refuses_what_it_does_not_compute_in_or_on():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(FeathersegError, match="in fp32 here, not in bf16"):
        open_runtime("onnx", precision="bf16")
    with pytest.raises(FeathersegError, match="device 'npu' is none of ONNX Runtime's"):
        open_runtime("onnx", device="npu")


def test_tables_are_json_that_says_where_it_was_measured(tmp_path):
    table, _ = open_table(tmp_path / "t.json", CountingRuntime(), seconds=0.0)
    content = json.loads(table.save(tmp_path / "t.json").read_text())
    assert {"cpu", "cores", "os", "runtime", "version", "threads"} <= set(content["measured_on"])
