"""int8 files end to end, on a network of three small convolutions, in each runtime that is installed."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import featherseg
from featherseg.cli.main import main
from featherseg.deploy import quantize as quantize_module
from featherseg.deploy.calibration import calibration_images
from featherseg.deploy.quantization_report import QuantizationReport
from featherseg.deploy.quantize import quantiser_door, quantize
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.weights import describe_network

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
SIZE = (24, 32)
OUTLIER = 200.0


class Brightest(nn.Module):
    """Which channel of a pixel is the largest. Beside the three runs a constant that ruins an 8-bit range."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), min_size=1, output_stride=1)
        self.spread, self.join, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            for layer in (self.spread, self.join, self.last):
                layer.weight.copy_(torch.eye(*layer.weight.shape[:2])[:, :, None, None])
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            self.spread.bias[3] = OUTLIER  # type: ignore[index]

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.last(self.join(self.spread(images).relu()).relu()))


def miniature() -> tuple[nn.Module, dict]:
    network = Brightest().eval()
    about = describe_network(network, "brightest", 3)
    return network, about | {"classes": ["red", "green", "blue"], "palette": [[255, 0, 0], [0, 255, 0], [0, 0, 255]]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for number in range(14):
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    return folder


def needs(runtime: str) -> str:
    for package in {"onnx": ["onnxruntime"], "openvino": ["openvino", "nncf"], "litert": ["ai_edge_quantizer"]}[
        runtime
    ]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return runtime


_made: dict[str, tuple[Path, QuantizationReport]] = {}


@pytest.fixture(params=SUFFIXES)
def made(request, pictures, tmp_path_factory) -> tuple[Path, QuantizationReport]:
    """A file and the report of it, for each runtime once."""
    runtime = needs(request.param)
    if runtime not in _made:
        file = tmp_path_factory.mktemp(runtime) / f"made{SUFFIXES[runtime]}"
        size = SIZE if runtime == "litert" else None
        network, about = miniature()
        about = about | {"training": {"val": {"score": 65.5, "protocol": "small/48x32/train→val"}}}
        _made[runtime] = file, quantize(network, about, runtime, file, calibrate=pictures, size=size, bound=2.0)
    return _made[runtime]


def test_the_loss_is_under_the_bound(made):
    _, report = made
    assert report.met
    assert report.verdicts["int8"].loss <= report.bound


def test_layers_that_the_outlier_ruins_stay_in_float32(made):
    _, report = made
    assert dict(report.losses)[0] > report.bound
    assert 0 < len(report.kept) <= report.layers == 3


def test_the_file_labels_as_the_report_says(made, pictures):
    file, report = made
    loaded = featherseg.load(file)
    same = []
    for name in ("04.png", "09.png"):
        pixels = np.asarray(Image.open(pictures / name))
        same.append((loaded.predict(pixels).labels == pixels.argmax(-1)).mean())
    assert np.mean(same) == pytest.approx(report.verdicts["int8"].agreement, abs=2e-3)


def test_the_file_knows_its_classes_and_what_was_kept(made):
    file, report = made
    loaded = featherseg.load(file)
    assert loaded.labels.classes == ("red", "green", "blue")
    found = loaded.metadata["export"]
    assert (found["precision"], found["runtime"]) == ("int8", report.runtime)
    assert found["quantization"] == json.loads(json.dumps(report.quantization()))
    assert found["quantization"]["loss"]["met"] is True


def test_an_onnx_file_has_uint8_activations_and_int8_weights(pictures):
    onnx = pytest.importorskip("onnx", reason=needs("onnx"))
    module, quantisers = quantiser_door("onnx")
    content = module.convert(module.make_graph(miniature()[0], size=None, batch=None, output="logits"))
    quantiser = quantisers.Quantiser(content, calibration_images(pictures, SIZE).calibration, lambda *told: None)
    graph = onnx.load_from_string(quantiser.program(())).graph
    kinds = {value.name: value.data_type for value in graph.initializer}
    activations = {kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    weights = {
        kinds[node.input[0]] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in kinds
    }
    assert activations == {onnx.TensorProto.UINT8}
    assert weights == {onnx.TensorProto.INT8, onnx.TensorProto.INT32}  # kernels and biases


def test_an_openvino_program_that_keeps_every_convolution_of_a_chain_rounds_nothing(pictures):
    runtime = needs("openvino")
    module, quantisers = quantiser_door(runtime)
    content = module.convert(module.make_graph(miniature()[0], size=None, batch=None, output="logits"))
    quantiser = quantisers.Quantiser(content, calibration_images(pictures, SIZE).calibration, lambda *told: None)
    assert module.operators(quantiser.program(()))["FakeQuantize"] > 0
    assert "FakeQuantize" not in module.operators(quantiser.program(quantiser.layers))


def test_the_file_does_not_claim_the_accuracy_of_its_weights(made):
    assert "training" not in featherseg.load(made[0]).metadata


def test_both_precisions_are_timed_in_the_same_rounds(made):
    _, report = made
    assert {"float32", "int8"} <= set(report.speeds.milliseconds)
    assert len({len(times) for times in report.speeds.milliseconds.values()}) == 1
    assert report.times_as_fast > 0


def test_the_report_is_json(made):
    _, report = made
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["speed"]["faster"] is report.faster
    assert found["judged_on"]["count"] == 2


class Hopeless:
    """A quantiser whose programs are all of a network that labels otherwise."""

    layers = ("one",)

    def __init__(self, content, images, progress) -> None:
        module, _ = quantiser_door("onnx")
        network, _ = miniature()
        with torch.no_grad():
            network.last.weight.neg_()  # type: ignore[union-attr]
        self.content = module.convert(module.make_graph(network, size=None, batch=None, output="logits"))

    def program(self, kept):
        return self.content


@pytest.fixture
def hopeless(monkeypatch):
    _, quantisers = quantiser_door(needs("onnx"))
    monkeypatch.setattr(quantisers, "Quantiser", Hopeless)
    monkeypatch.setattr(quantize_module, "RANKING_IMAGES", 1)


@pytest.mark.usefixtures("hopeless")
def test_nothing_is_written_where_the_bound_cannot_be_met(pictures, tmp_path):
    report = quantize(*miniature(), "onnx", tmp_path / "made.onnx", calibrate=pictures)
    assert (report.met, report.file) == (False, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hopeless")
def test_a_forced_file_says_that_it_loses_too_much(pictures, tmp_path):
    report = quantize(*miniature(), "onnx", tmp_path / "made.onnx", calibrate=pictures, force=True)
    assert report.file is not None
    found = featherseg.load(report.file).metadata["export"]["quantization"]["loss"]
    assert found["met"] is False
    assert found["value"] > found["bound"] == 0.5


@pytest.mark.parametrize(("untrained", "expected"), [(False, 7.0), (True, None)])
@pytest.mark.usefixtures("hopeless")
def test_images_of_another_kind_are_told_of_but_for_fresh_weights(pictures, tmp_path, monkeypatch, untrained, expected):
    monkeypatch.setattr(quantize_module, "unlike_training", lambda network, images: 7.0)
    network, about = miniature()
    about = about | ({"untrained": True} if untrained else {})
    assert quantize(network, about, "onnx", tmp_path / "a.onnx", calibrate=pictures).unlike == expected


def complaint(capsys, *arguments) -> str:
    assert main(["quantize", "fassd_net_l2.camvid", *map(str, arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    return said


def test_a_missing_quantiser_is_named_with_its_command(monkeypatch):
    needs("onnx")
    _, quantisers = quantiser_door("onnx")
    monkeypatch.setattr(quantisers, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(FeathersegError, match=r"needs no-such-package.*pip install 'featherseg\[onnx\]'"):
        quantiser_door("onnx")


def test_a_runtime_that_is_not_there_is_refused(capsys, tmp_path):
    said = complaint(capsys, "--to", "onix", "--calibrate", tmp_path, "-o", tmp_path / "a.onnx")
    assert "no runtime is called 'onix'; did you mean 'onnx'" in said


def test_faults_of_the_command_are_one_line(capsys, tmp_path, pictures):
    needs("onnx")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, expected in (
        (("--calibrate", pictures, "-o", tmp_path / "a.xml"), "onnx files end in .onnx"),
        (("--calibrate", pictures, "-o", tmp_path / "a.onnx", "--bound", "-1"), "--bound -1"),
        (("--calibrate", empty, "-o", tmp_path / "a.onnx"), "holds no pictures"),
    ):
        said = complaint(capsys, "--to", "onnx", *arguments)
        assert expected in said
        assert len(said.splitlines()) == 1
    assert [path for path in tmp_path.iterdir() if path != empty] == []
