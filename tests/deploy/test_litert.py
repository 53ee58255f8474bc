"""The LiteRT export: parity, integers only, sizes and metadata; run where the extra `litert` is installed."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from featherseg.cli.main import main
from featherseg.data.labels import CAMVID11, IGNORE
from featherseg.data.sources import open_dataset
from featherseg.deploy.calibration import calibration_images
from featherseg.deploy.export import ExportReport, export, network_and_metadata
from featherseg.deploy.parity import scene_pictures
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network

pytest.importorskip("ai_edge_litert", reason="the extra `litert` is not installed (ai-edge-litert)")
pytest.importorskip("litert_torch", reason="the extra `litert` is not installed (litert-torch)")

from featherseg.deploy import litert, litert_file
from featherseg.deploy.litert import LiteRTSegmenter

# Sizes of the float32 files of the published code: specification of the paper's networks, Sec. 2.
PUBLISHED_BYTES = {
    "shufflenet_v2_basic": 4_614_312,
    "shufflenet_v2_dpc": 6_041_960,
    "mobilenet_v2_basic": 8_421_260,
    "mobilenet_v2_dpc": 9_990_600,
}
# The operators that the published files have; what else we use stands beside.
PUBLISHED_OPERATORS = {"CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "RESHAPE", "TRANSPOSE", "SPLIT", "CONCATENATION"}
PUBLISHED_OPERATORS |= {"RESIZE_BILINEAR", "AVERAGE_POOL_2D", "MUL", "SUB", "ARG_MAX", "CAST"}
STEPS = 40
OURS = {"ADD", "SLICE", "MEAN", "PAD", "QUANTIZE"}


@cache
def lively(name: str) -> tuple[nn.Module, dict]:
    """A network that looks at its image: trained for some steps on street scenes.

    An untrained one will not do for int8: its features are noise of the last bits.
    """
    torch.manual_seed(3)
    network = create_model(name, len(CAMVID11), norm_momentum=0.1, dropout=0.0).train()
    about = describe_network(network, name, len(CAMVID11), {"norm_momentum": 0.1, "dropout": 0.0}) | {
        "classes": list(CAMVID11.classes),
        "palette": [list(colour) for colour in CAMVID11.palette],
        "label_set": CAMVID11.name,
    }
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    scenes = open_dataset("streets", "train", size=(65, 65), count=32)
    samples = [scenes.read(index) for index in range(len(scenes))]
    images = spec.normalise(torch.from_numpy(np.stack([sample.image for sample in samples])))
    labels = torch.from_numpy(np.stack([sample.label for sample in samples])).long()
    images = images.contiguous(memory_format=torch.channels_last)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(STEPS):
        batch = torch.arange(4) + 4 * (step % 8)
        optimiser.zero_grad()
        logits = spec.enlarge(network(images[batch]).logits, (65, 65))
        F.cross_entropy(logits, labels[batch], ignore_index=IGNORE).backward()
        optimiser.step()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # what it averages now is of these weights alone
    with torch.no_grad():
        network(images)
    return network.eval(), about


class Exported:
    """A network, its metadata and what was written."""

    def __init__(self, name: str, size: tuple[int, int], folder: Path) -> None:
        self.network, self.about = lively(name)
        self.file = folder / f"{name}.tflite"
        self.report = export(self.network, self.about, "litert", self.file, size=size)


@pytest.fixture(scope="module")
def shufflenet(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported("shufflenet_v2_dpc", (65, 65), tmp_path_factory.mktemp("shufflenet"))


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported("mobilenet_v2_basic", (64, 96), tmp_path_factory.mktemp("mobilenet"))


@pytest.fixture(params=["shufflenet", "mobilenet"])
def exported(request: pytest.FixtureRequest) -> Exported:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The shufflenet in int8."""
    network, about = lively("shufflenet_v2_dpc")
    file = tmp_path_factory.mktemp("int8") / "shufflenet.tflite"
    return export(network, about, "litert", file, size=(65, 65), int8=True, count=24)


@pytest.fixture(scope="module")
def integers(quantised: ExportReport) -> bytes:
    """The int8 program of the shufflenet."""
    assert quantised.file is not None, "the gate refused it"
    return quantised.file.read_bytes()


def pictures(size: tuple[int, int], count: int = 3) -> list[np.ndarray]:
    drawn = np.random.default_rng(11).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    return [*(image for _, image in scene_pictures(size, count)), *drawn]


def torch_logits(network: nn.Module, image: np.ndarray) -> torch.Tensor:
    spec = network.input_spec
    with torch.inference_mode():
        logits = network(spec.normalise(torch.from_numpy(image)[None])).logits  # type: ignore[operator,union-attr]
        return spec.enlarge(logits, image.shape[:2])[0]  # type: ignore[operator,union-attr]


def test_the_written_file_labels_as_pytorch_does_but_for_ties(exported):
    program = litert.LiteRTProgram(exported.file.read_bytes())
    seen = set()
    for image in pictures(program.size):
        logits = torch_logits(exported.network, image)
        best = logits.topk(2, dim=0).values
        sure = (best[0] - best[1] >= 1e-4).numpy()
        expected = logits.argmax(0).numpy()
        np.testing.assert_array_equal(program.labels(image)[sure], expected[sure])
        seen |= set(np.unique(expected).tolist())
    assert len(seen) > 3, "a network with so few labels would prove nothing"


def test_every_operator_is_built_in(exported):
    assert set(exported.report.operators) <= PUBLISHED_OPERATORS | OURS
    assert exported.report.operators == litert_file.operators(exported.file.read_bytes())


def test_the_shuffle_stays_at_four_axes(shufflenet):
    model = litert_file.parse(shufflenet.file.read_bytes(), "it")
    assert max(len(tensor.shape) for tensor in model.subgraphs[0].tensors) == 4


def test_pixels_go_in_as_bytes_and_ids_come_out_as_int32(exported):
    program = litert.LiteRTProgram(exported.file.read_bytes())
    labels = program.labels(pictures(program.size, 1)[0])
    assert (labels.dtype, labels.shape, program.size) == (np.int32, program.size, exported.report.size)


@pytest.mark.parametrize("which", ["shufflenet", "mobilenet"])
def test_the_file_is_as_large_as_the_published_one_within_two_percent(which, request):
    made = request.getfixturevalue(which)
    published = PUBLISHED_BYTES[made.about["architecture"]]
    assert made.file.stat().st_size == pytest.approx(published, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_basic", "mobilenet_v2_dpc"])
def test_the_other_two_networks_pass_the_gate_at_the_published_size(name, tmp_path):
    made = Exported(name, (33, 49), tmp_path)
    assert made.report.parity.passed
    assert made.file.stat().st_size == pytest.approx(PUBLISHED_BYTES[name], rel=0.02)


@pytest.mark.slow
def test_shipped_weights_pass_the_gate(tmp_path):
    network, about = network_and_metadata("fassd_net_l2.camvid")
    report = export(network, about, "litert", tmp_path / "fassd.tflite", size=(120, 160))
    assert report.parity.passed


def test_the_metadata_travel_inside(shufflenet):
    found = litert_file.metadata(shufflenet.file.read_bytes(), "it")
    about = json.loads(json.dumps(shufflenet.about))
    assert {name: found[name] for name in ("classes", "palette", "input_spec", "num_classes")} == {
        name: about[name] for name in ("classes", "palette", "input_spec", "num_classes")
    }
    assert found["export"]["size"] == [65, 65]
    assert found["export"]["parity"]["passed"] is True


def test_a_written_file_is_used_like_a_segmenter(shufflenet):
    image = pictures((65, 65), 1)[0]
    found = LiteRTSegmenter(shufflenet.file).predict(image)
    assert found.classes == tuple(shufflenet.about["classes"])
    np.testing.assert_array_equal(found.labels, LiteRTSegmenter(shufflenet.file).program.labels(image))


def test_an_image_of_another_size_is_refused(shufflenet):
    with pytest.raises(FeathersegError, match=r"64x65.*takes 65x65 alone"):
        LiteRTSegmenter(shufflenet.file).predict(np.zeros((64, 65, 3), np.uint8))


def test_ids_of_no_class_are_refused(shufflenet, tmp_path):
    content = shufflenet.file.read_bytes()
    about = litert_file.metadata(content, "it")
    fewer = about | {"num_classes": 2, "classes": about["classes"][:2], "palette": about["palette"][:2]}
    (tmp_path / "a.tflite").write_bytes(litert_file.with_metadata(content, fewer))
    with pytest.raises(FeathersegError, match=r"a\.tflite: gives ids of no class \(\d.*2 are known"):
        LiteRTSegmenter(tmp_path / "a.tflite").predict(pictures((65, 65), 1)[0])


def test_int8_computes_with_integers_from_end_to_end(integers):
    assert litert_file.floating_tensors(integers) == 0
    assert not {"CAST", "DEQUANTIZE"} & set(litert_file.operators(integers))


def test_int8_is_under_a_third_of_the_size(integers, shufflenet):
    assert len(integers) < shufflenet.file.stat().st_size / 3


def test_int8_labels_street_scenes_as_float32_does(integers, shufflenet):
    program = litert.LiteRTProgram(integers)
    samples = list(calibration_images(None, (65, 65), judged=6).judging)
    equal = [
        (program.labels(sample.image) == torch_logits(shufflenet.network, sample.image).argmax(0).numpy()).mean()
        for sample in samples
    ]
    assert np.mean(equal) > 0.9


def test_the_report_of_int8_has_the_miou_of_both_on_images_that_set_no_ranges(quantised, integers, shufflenet):
    program, judging = litert.LiteRTProgram(integers), list(calibration_images(None, (65, 65), count=24).judging)
    found = {
        "int8": [program.labels(sample.image) for sample in judging],
        "float32": [torch_logits(shufflenet.network, sample.image).argmax(0).numpy() for sample in judging],
    }
    truth = np.stack([sample.label for sample in judging])
    for precision, labels in found.items():
        ious = []
        for name in range(len(CAMVID11)):
            ours, theirs = (np.stack(labels) == name) & (truth != IGNORE), truth == name
            if (ours | theirs).any():
                ious.append((ours & theirs).sum() / (ours | theirs).sum())
        assert quantised.miou[precision] == pytest.approx(np.mean(ious), abs=1e-9)


def test_pixels_are_read_without_loss_by_an_int8_program(integers):
    model = litert_file.parse(integers, "it")
    graph = model.subgraphs[0]
    first = graph.operators[0]
    ends = [graph.tensors[int(first.inputs[0])].quantization, graph.tensors[int(first.outputs[0])].quantization]
    assert [(list(end.scale), list(end.zeroPoint)) for end in ends] == [([1.0], [0]), ([1.0], [-128])]


def test_channels_have_their_own_weight_scales(integers):
    model, names = litert_file.parse(integers, "it"), litert_file.operator_names()
    graph = model.subgraphs[0]
    convolutions = [one for one in graph.operators if litert_file.name_of(model, one, names) == "CONV_2D"]
    kernels = [graph.tensors[int(one.inputs[1])] for one in convolutions]
    assert all(len(kernel.quantization.scale) == kernel.shape[0] for kernel in kernels)


def another_network(network: nn.Module) -> nn.Module:
    """What a faulty converter would have made: the same network with one class shifted."""
    network = deepcopy(network)
    with torch.no_grad():
        network.logits.bias[0] += 1.0  # type: ignore[union-attr,index]
    return network


def without_converting(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(litert, "convert", lambda graph: content)


def test_an_export_that_labels_otherwise_is_not_saved(shufflenet, monkeypatch, tmp_path):
    without_converting(monkeypatch, shufflenet.file.read_bytes())
    network = another_network(shufflenet.network)
    report = export(network, shufflenet.about, "litert", tmp_path / "a.tflite", size=(65, 65))
    assert report.file is None
    assert not list(tmp_path.iterdir())
    assert report.parity.different > report.parity.ties
    assert report.parity.where[0].margin >= 1e-4


def test_forced_it_is_saved_and_says_so_itself(shufflenet, monkeypatch, tmp_path):
    without_converting(monkeypatch, shufflenet.file.read_bytes())
    network = another_network(shufflenet.network)
    export(network, shufflenet.about, "litert", tmp_path / "a.tflite", size=(65, 65), force=True)
    found = litert_file.metadata((tmp_path / "a.tflite").read_bytes(), "it")
    assert found["export"]["parity"]["passed"] is False


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_short_is_refused(shufflenet, tmp_path, share):
    content = shufflenet.file.read_bytes()
    spoilt = tmp_path / "cut.tflite"
    spoilt.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FeathersegError, match=r"damaged or cut short|not a TensorFlow Lite file"):
        LiteRTSegmenter(spoilt)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"PK\x03\x04 not a model")
    with pytest.raises(FeathersegError, match="not a TensorFlow Lite file"):
        LiteRTSegmenter(tmp_path / "a.tflite")


def test_the_command_prints_json(shufflenet, monkeypatch, tmp_path, capsys):
    content = shufflenet.file.read_bytes()
    monkeypatch.setattr("featherseg.deploy.export.network_and_metadata", lambda name: lively(name))
    without_converting(monkeypatch, content)
    target = tmp_path / "out.tflite"
    code = main(["export", "shufflenet_v2_dpc", "--to", "litert", "--size", "65x65", "-o", str(target), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["file"], found["precision"]) == (0, str(target), "fp32")
    assert found["size_bytes"] == target.stat().st_size
