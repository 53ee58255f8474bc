"""Reports of tiny images: what they hold, what they refuse, what they warn of. No time is asserted."""

import hashlib
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from featherseg.bench import contestants, memory, speed
from featherseg.bench.contestants import PLAIN_LAST_WAY, PLAIN_WAY, Way, open_network, sources, ways
from featherseg.bench.entrants import Request
from featherseg.bench.environment import cpu_abilities, environment
from featherseg.bench.layers import torch_layers
from featherseg.bench.measuring import Contestant, Measured, Times, measure
from featherseg.bench.memory import peak_memory
from featherseg.bench.paper_speed import PAPERS, paper_networks, paper_speed
from featherseg.bench.peaks import measure_peaks
from featherseg.bench.reference import REFERENCE, ReferenceNetwork, reference
from featherseg.bench.speed import bench, figures_of, foretold, street, warnings_of
from featherseg.cards import card
from featherseg.deploy.doors import DOORS
from featherseg.deploy.session import TorchSession
from featherseg.errors import FeathersegError

SIZE = (36, 52)
NAME = "shufflenet_v2_basic"
SMALL = Request(
    (NAME,), size=SIZE, runtimes=("torch",), precisions=("fp32",), threads=1, rounds=2, memory=False, energy=False
)


@pytest.fixture(scope="module")
def report():
    return bench(replace(SMALL, against_torch=True, roofline=True))


@pytest.fixture(scope="module", autouse=True)
def small_peaks():
    """Peaks of small matrices: large ones take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        small = partial(measure_peaks, sides=(32,), copied=4096, seconds=0.0)
        patch.setattr(speed, "measure_peaks", small)
        yield


def test_a_report_is_plain_json_and_fits_into_a_card(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    card("speed", protocol="p", figures=report["contestants"], command="c", seeds=[], data_fingerprint=None)


def test_contestants_stand_beside_the_reference(report):
    ways = ("plain torch", "plain torch channels_last", "torch fp32")
    assert list(report["contestants"]) == [f"{NAME}, {way}" for way in ways]
    assert report["reference"]["name"] == REFERENCE
    assert report["reference"]["count"] == report["rounds"] == 2


def test_stages_are_those_from_pixels_to_labels(report):
    for one in report["contestants"].values():
        assert list(one["stages"]) == ["preprocess", "network", "label map"]


def test_against_torch_tells_the_share_of_equal_labels(report):
    assert {one["equal_percent"] for one in report["contestants"].values()} == {100.0}
    assert report["contestants"][f"{NAME}, plain torch"]["times_as_fast"] == 1.0


def test_against_torch_compares_with_channels_last_too(report):
    assert report["contestants"][f"{NAME}, plain torch channels_last"]["times_as_fast_as_channels_last"] == 1.0
    assert all(one["times_as_fast_as_channels_last"] > 0 for one in report["contestants"].values())


@pytest.mark.parametrize(
    ("runtime", "layout"),
    [("plain torch", torch.contiguous_format), ("plain torch channels_last", torch.channels_last)],
)
def test_the_plain_ways_differ_in_the_layout_that_the_network_sees(runtime, layout):
    (source,) = sources([NAME])
    opened = open_network(source, Way(runtime))
    network: torch.nn.Module = opened.session.network  # type: ignore[attr-defined]
    seen = []
    network.register_forward_pre_hook(lambda network, given: seen.append(given[0]))
    opened.contestant(street(SIZE)).run()
    assert seen[0].is_contiguous(memory_format=layout)
    kernel = next(one for one in network.parameters() if one.ndim == 4 and one.shape[1] > 1 and one.shape[2] > 1)
    assert kernel.is_contiguous(memory_format=layout)


def test_fresh_weights_have_no_digest_and_files_have_theirs(report, tmp_path):
    assert {str(one["sha256"]) for one in report["contestants"].values()} == {"{}"}
    for name in ("a.xml", "a.bin", "b.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.xml", "a.bin", "b.onnx")}
    pair, single = sources([str(tmp_path / "a.xml"), str(tmp_path / "b.onnx")])
    assert pair.digests == {name: digests[name] for name in ("a.xml", "a.bin")}
    assert single.digests == {"b.onnx": digests["b.onnx"]}


def test_the_environment_is_stamped(report):
    stamped = report["environment"]
    assert torch.__version__.startswith(stamped["versions"]["torch"].split("+")[0])
    assert {"cpu", "abilities", "cores", "torch_threads", "settings"} <= set(stamped)
    assert report["threads"] == stamped["torch_threads"] == 1
    assert all(one["batch_norm_folded"] is False for one in report["contestants"].values())


def test_the_threads_of_the_process_are_as_before(report):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bench(replace(SMALL, threads=2, rounds=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_the_roofline_holds_as_many_multiply_accumulates_as_the_network(report):
    from featherseg.bench.complexity import count

    found = report["roofline"]["networks"][f"{NAME}, torch fp32"]
    counted = count(NAME, SIZE)
    assert found["network"]["macs"] == counted.conv_macs + counted.matrix_macs


def test_the_plain_way_has_no_roofline_of_its_own(report):
    assert list(report["roofline"]["networks"]) == [f"{NAME}, torch fp32"]


def test_a_contestant_labels_as_its_segmenter_does():
    from featherseg.deploy.segmenter import segmenter

    (source,) = sources([NAME])
    image = street(SIZE)
    expected = segmenter(*source.network_and_metadata).predict(image).labels
    for way in (Way("torch"), PLAIN_WAY, PLAIN_LAST_WAY):
        assert np.array_equal(open_network(source, way).contestant(image).run(), expected)


def test_the_reference_is_the_same_network_everywhere():
    # Golden: computed once by this definition. Another value is another reference and needs another name.
    network = ReferenceNetwork().double()
    with torch.no_grad():
        weights = torch.stack([parameter.abs().sum() for parameter in network.parameters()])
    assert REFERENCE == "reference-1"
    assert sum(parameter.numel() for parameter in network.parameters()) == 136_083
    assert float(weights.sum()) == pytest.approx(11_094.198, rel=1e-6)
    assert reference().run().shape == (1, 45, 60)


def test_two_sources_of_one_name_are_told_apart():
    assert [source.name for source in sources(["a/x.onnx", "b/x.onnx", "y"])] == ["x.onnx", "x.onnx (2)", "y"]


def test_runtimes_that_are_not_installed_are_left_out_of_all(monkeypatch):
    def open_nothing(runtime):
        raise FeathersegError(f"{runtime} is not installed")

    monkeypatch.setattr(contestants, "open_door", open_nothing)
    assert {way.runtime for way in ways()} == {"torch"}


def test_a_runtime_that_is_not_installed_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setattr("featherseg.deploy.doors.find_spec", lambda name: None)
    with pytest.raises(FeathersegError, match=r"pip install 'featherseg\[onnx\]'"):
        bench(replace(SMALL, runtimes=("onnx",)))


def test_an_unknown_runtime_is_told_with_the_nearest():
    with pytest.raises(FeathersegError, match=r"openvimo.*openvino"):
        ways(["openvimo"])


def test_a_precision_that_no_runtime_has_is_refused(monkeypatch):
    monkeypatch.setattr(contestants, "computes_in_bf16", lambda: False)
    with pytest.raises(FeathersegError, match="bf16 on this machine"):
        ways(["torch"], ["bf16"])


def test_files_alone_cannot_be_held_against_torch():
    with pytest.raises(FeathersegError, match="weights"):
        bench(Request(("mine.onnx",), size=SIZE, against_torch=True))


@pytest.mark.parametrize(
    ("asked", "count", "said"),
    [
        ({"rounds": 50, "seconds": 7.0}, 3, ["3 contestants are", "50 rounds, until 7 s are over and 9 are done"]),
        ({"memory": True}, 3, ["3 processes, one after the other, for peak memory"]),
        ({"memory": True}, 1, ["1 contestant is", "a process for peak memory"]),
        ({"limit": 30.0}, 1, ["(30 s with warming up, at the most)"]),
    ],
)
def test_how_long_it_takes_is_told_before(asked, count, said):
    line = foretold(replace(SMALL, **asked), count)
    assert all(part in line for part in said)
    assert ("memory" in line) == asked.get("memory", False)


def test_opening_and_peak_memory_are_told_with_numbers(monkeypatch):
    monkeypatch.setattr(speed, "peak_memory", lambda order: {})
    lines = []
    bench(replace(SMALL, rounds=1, memory=True, against_torch=True), told=lines.append)
    names = [f"{NAME} in plain torch", f"{NAME} in plain torch channels_last", f"{NAME} in torch fp32"]
    assert lines[0].startswith("3 contestants are")
    assert lines[1:4] == [f"opening {number} of 3: {name}" for number, name in enumerate(names, 1)]
    memory = [name.replace(" in ", ", ") for name in names]
    assert lines[5:] == [f"peak memory {number} of 3: {name}" for number, name in enumerate(memory, 1)]


def test_a_missing_file_is_named():
    with pytest.raises(FeathersegError, match=r"nowhere\.onnx: there is no such file"):
        bench(Request(("nowhere.onnx",), size=SIZE))


def test_unknown_networks_are_refused_before_anything_is_timed():
    with pytest.raises(FeathersegError, match="fassd_net_l3"):
        bench(replace(SMALL, given=("fassd_net_l3",)))


def test_no_threads_run_nothing():
    with pytest.raises(FeathersegError, match="at least 1"):
        bench(replace(SMALL, threads=0))


def measured(times: list[float], rounds: int | None = None) -> Measured:
    return Measured(
        {REFERENCE: Times((2.0,) * len(times), {}), "a": Times(tuple(times), {})}, rounds or len(times), 1, "rounds"
    )


def test_a_quiet_run_has_no_warnings():
    assert warnings_of(measured([1.0] * 9), 1, 0.0, 1.0, SMALL) == []


def test_drift_is_warned_of_by_name():
    (said,) = warnings_of(measured([1.0] * 5 + [2.0] * 5), 1, 0.0, 1.0, SMALL)
    assert "a drifted" in said
    assert "2.00 times" in said


def test_other_work_is_warned_of():
    assert "other work ran when this began" in warnings_of(measured([1.0] * 9), 1, 500.0, 500.0, SMALL)[0]
    assert "other work ran meanwhile" in warnings_of(measured([1.0] * 9), 1, 0.0, 3.0, SMALL)[0]


def test_too_few_rounds_are_warned_of():
    assert "only 2 rounds" in warnings_of(measured([1.0] * 2), 1, 0.0, 1.0, replace(SMALL, rounds=50))[0]


def test_more_threads_than_cores_are_warned_of():
    assert "wait for each other" in warnings_of(measured([1.0] * 9), 10_000, None, None, SMALL)[0]


def test_figures_are_read_off_the_times():
    times = {
        "a": Times((4.0, 5.0, 6.0), {"preprocess": (1.0,) * 3, "network": (3.0, 4.0, 5.0)}),
        REFERENCE: Times((10.0,) * 3, {"network": (10.0,) * 3}),
    }
    found = figures_of(Measured(times, 3, 1.0, "rounds"), "a")
    assert (found["fps"], found["reference_ratio"], found["outside_percent"]) == (200.0, 0.5, 20.0)
    assert figures_of(Measured(times, 3, 1.0, "rounds"), REFERENCE)["outside_percent"] is None


def test_operators_are_named_by_the_module_that_called_them():
    (source,) = sources([NAME])
    opened = open_network(source, Way("torch"))
    assert isinstance(opened.session, TorchSession)
    layers = torch_layers(opened.session, torch.zeros(1, 3, *SIZE), runs=1)
    convolutions = {layer.name for layer in layers if layer.kind == "convolution"}
    modules = {name for name, module in opened.session.network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert convolutions <= modules
    assert len(convolutions) > 10


def test_peak_memory_is_of_a_process_of_its_own():
    order = {"source": NAME, "runtime": "torch", "precision": "fp32", "size": SIZE, "threads": 1, "device": "cpu"}
    found = peak_memory(order)
    assert found["peak_mib"] > found["own_mib"] > 0


@pytest.mark.parametrize(
    ("program", "said"),
    [("raise SystemExit('cannot open it')", "cannot open it"), ("raise SystemExit(3)", "exit code 3")],
)
def test_a_process_that_fails_says_why_and_gives_no_memory(program, said, monkeypatch, tmp_path):
    (tmp_path / "failing.py").write_text(program)
    monkeypatch.setattr(memory, "MODULE", "failing")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert peak_memory({}) == {"peak_mib": None, "own_mib": None, "device_mib": None, "error": said}


def test_a_limit_ends_a_heavy_run_with_what_it_has():
    found = bench(replace(SMALL, rounds=1000, limit=1e-6))
    assert (found["rounds"], found["stopped"]) == (1, "limit")


def test_the_papers_speed_column_is_that_of_its_table():
    # Rosas-Arias et al. 2020, Table IV.
    printed = {row["model"]: row["fps"] for row in paper_networks("fassd_net")}
    assert printed == {
        "fc_hardnet_70": 53.0,
        "fassd_net": 41.1,
        "fassd_net_l1": 78.0,
        "fassd_net_l2": 133.1,
        "fc_hardnet_70_l1": 93.4,
        "fc_hardnet_70_l2": 152.8,
    }


def test_a_papers_networks_are_measured_beside_its_figures(monkeypatch):
    rows = paper_networks("fassd_net")[-1:]
    monkeypatch.setattr("featherseg.bench.paper_speed.paper_networks", lambda paper: rows)
    (row,) = paper_speed("fassd_net", replace(SMALL, given=(), rounds=1))["rows"]
    assert row["paper"]["fps"] == rows[0]["fps"]
    assert row["ours"]["fps"] >= row["ours"]["fps_end_to_end"] > 0


def test_papers_without_a_speed_column_are_refused():
    with pytest.raises(FeathersegError, match=", ".join(PAPERS)):
        paper_networks("drbanet")


def test_abilities_are_read_from_the_systems_list():
    x86 = "processor\t: 0\nflags\t\t: fpu sse4_2 avx512f amx_tile amx_bf16 fancy\nflags\t: avx\n"
    assert cpu_abilities(x86) == ["sse4_2", "avx512f", "amx_tile", "amx_bf16"]
    assert cpu_abilities("Features\t: fp asimd i8mm\n") == ["asimd", "i8mm"]
    assert cpu_abilities("nothing: here\n") is None


def test_a_package_that_is_not_installed_has_no_version():
    assert environment(["no-such-package"])["versions"]["no-such-package"] is None


def test_anything_can_be_a_contestant():
    found = measure({"sum": Contestant({"add": sum}, given=[1, 2])}, rounds=1)
    assert found.times["sum"].summary.count == 1


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_exported_networks_label_as_plain_torch_does(runtime, tmp_path):
    for package in {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}[runtime]:
        pytest.importorskip(package)
    found = bench(replace(SMALL, runtimes=(runtime,), against_torch=True, roofline=True))
    one = found["contestants"][f"{NAME}, {runtime} fp32"]
    assert one["equal_percent"] > 99.9
    assert one["batch_norm_folded"] is True
    if runtime == "openvino":
        from featherseg.bench.complexity import count

        layers = found["roofline"]["networks"][f"{NAME}, openvino fp32"]
        assert layers["network"]["macs"] == count(NAME, SIZE).conv_macs


def test_a_file_of_one_size_refuses_another_and_gives_its_own(tmp_path):
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    (source,) = sources([NAME])
    network, about = source.network_and_metadata
    from featherseg.deploy.doors import open_door

    _, module = open_door("onnx")
    content = module.convert(module.make_graph(network, size=SIZE, batch=1, output="labels"))
    file = tmp_path / f"fixed{DOORS['onnx'].suffix}"
    carried = {key: about[key] for key in ("format", "num_classes", "input_spec", "classes")}
    file.write_bytes(module.files(module.with_metadata(content, carried))[".onnx"])
    request = Request((str(file),), threads=1, rounds=1, memory=False)
    with pytest.raises(FeathersegError, match="36x52 alone, not of --size 40x52"):
        bench(replace(request, size=(40, 52)))
    assert bench(request)["size"] == list(SIZE)
