"""Files for ONNX Runtime and OpenVINO: the graph's ends and sizes, metadata, the gate, and loading."""

import json

import numpy as np
import pytest
import torch
from exported_files import NAME, SUFFIXES, needs, torch_segmenter
from lively import CLASSES, blots, lively
from torch import nn

import featherseg
from featherseg.cli.main import main
from featherseg.deploy import doors
from featherseg.deploy.export import export, network_and_metadata
from featherseg.deploy.exported import ExportedSegmenter
from featherseg.deploy.exported_network import SessionNetwork
from featherseg.deploy.image_graph import ImageGraph, fold_normalisation, onnx_program
from featherseg.deploy.label_graph import fold_batch_norm
from featherseg.deploy.onnx import OnnxSession
from featherseg.deploy.parity import scene_pictures
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.weights import save_weights
from featherseg.training.evaluation import View, probabilities

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed (onnx)")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed (onnxruntime)")

pytestmark = pytest.mark.usefixtures("small_gate")
JUDGED = {"training": {"val": {"score": 65.5, "protocol": "small/48x32/train→val"}}}


@pytest.mark.parametrize("runtime", SUFFIXES)
@pytest.mark.parametrize("ends", ["logits", "full", "labels"])
def test_whatever_the_graph_ends_in_the_labels_are_pytorchs(exported, runtime, ends):
    loaded = featherseg.load(exported(runtime, ends=ends))
    assert isinstance(loaded, ExportedSegmenter)
    image = blots(2, 1, (45, 38))[0]
    np.testing.assert_array_equal(loaded.predict(image).labels, torch_segmenter().predict(image).labels)


@pytest.mark.parametrize("ends", ["logits", "full"])
def test_confidence_is_pytorchs(exported, ends):
    image = blots(2, 1, (45, 38))[0]
    found = featherseg.load(exported("onnx", ends=ends)).predict(image, confidence=True).confidence  # type: ignore[call-arg]
    expected = torch_segmenter().predict(image, confidence=True).confidence
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_confidence_of_labels_alone_is_refused(exported):
    loaded = featherseg.load(exported("onnx", ends="labels"))
    with pytest.raises(FeathersegError, match="--ends logits"):
        loaded.predict(blots(2, 1, (45, 38))[0], confidence=True)  # type: ignore[call-arg]


@pytest.mark.parametrize("output", ["logits", "full", "labels"])
def test_a_session_gives_what_it_says(exported, output):
    session = featherseg.load(exported("onnx", ends=output)).session
    found = session.run(torch.from_numpy(blots(3, 2, (40, 64))))
    shape = {"logits": (2, CLASSES, 2, 2), "full": (2, CLASSES, 40, 64), "labels": (2, 40, 64)}[output]
    assert session.output == output
    assert found.dtype == (torch.uint8 if output == "labels" else torch.float32)
    assert found.shape[: len(shape) - 2] == shape[:-2]
    assert output == "logits" or tuple(found.shape) == shape


def test_a_size_that_comes_again_gets_the_same_labels(file):
    loaded = featherseg.load(file)
    first, second = blots(4, 2, (40, 52))
    before = loaded.predict(first).labels
    loaded.predict(second)
    np.testing.assert_array_equal(loaded.predict(first).labels, before)


def test_what_a_session_gave_stays_when_it_runs_again(file):
    session = featherseg.load(file).session
    first, second = torch.from_numpy(blots(4, 2, (40, 52)))[:, None]
    found = session.run(first)
    kept = found.clone()
    session.run(second)
    assert torch.equal(found, kept)


@pytest.mark.parametrize("runtime", SUFFIXES)
def test_a_file_of_one_size_takes_no_other(exported, runtime):
    loaded = featherseg.load(exported(runtime, size=(33, 47), batch=1))
    image = blots(5, 1, (33, 47))[0]
    np.testing.assert_array_equal(loaded.predict(image).labels, torch_segmenter().predict(image).labels)
    with pytest.raises(FeathersegError, match=r"34x47.*takes 33x47 alone"):
        loaded.predict(np.zeros((34, 47, 3), np.uint8))


def test_a_file_of_one_image_at_once_takes_several_in_turn(exported):
    session = featherseg.load(exported("onnx", size=(33, 47), batch=1)).session
    images = torch.from_numpy(blots(5, 3, (33, 47)))
    together = session.run(images)
    alone = torch.cat([session.run(images[number : number + 1]) for number in range(3)])
    assert torch.equal(together, alone)


def test_a_file_of_four_images_at_once_refuses_three(exported):
    session = featherseg.load(exported("onnx", size=(33, 47), batch=4)).session
    assert len(session.run(torch.from_numpy(blots(5, 4, (33, 47))))) == 4
    with pytest.raises(FeathersegError, match="takes 4 images at once, and 3"):
        session.run(torch.from_numpy(blots(5, 3, (33, 47))))


def test_an_array_that_is_a_view_is_labelled_as_its_copy_is(file):
    loaded = featherseg.load(file)
    wide = blots(6, 1, (40, 104))[0]
    view = wide[:, ::2]
    np.testing.assert_array_equal(loaded.predict(view).labels, loaded.predict(view.copy()).labels)


def test_the_metadata_travel_inside(file):
    loaded = featherseg.load(file)
    network, about = lively(NAME)
    assert loaded.labels.classes == tuple(f"thing {n}" for n in range(CLASSES))
    assert loaded.labels.palette[3] == (3, 2, 3)
    assert loaded.input_spec == network.input_spec  # type: ignore[union-attr]
    assert loaded.metadata["architecture"] == about["architecture"]
    assert loaded.metadata["export"]["parity"]["passed"] is True


def test_batch_norm_is_folded_and_pixels_are_only_shifted(exported):
    graph = onnx.load(exported("onnx", size=(33, 47), batch=1)).graph
    readers = {name: node for node in graph.node for name in node.input}
    name, way = "image", []
    while not way or way[-1] != "Conv":
        way.append(readers[name].op_type)
        name = readers[name].output[0]
    assert way == ["Cast", "Add", "Transpose", "Conv"]
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


class Convolution(nn.Module):
    """One convolution under an InputSpec; ``also`` adds the image itself."""

    def __init__(self, padding: int, order: str, min_size: int = 1, also: bool = False) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv = nn.Conv2d(3, 3, 3, padding=padding)
        self.also = also
        self.input_spec = InputSpec(order, min_size=min_size, output_stride=1)  # type: ignore[arg-type]

    def forward(self, images):
        x = self.input_spec.pad(images)
        return SegmentationOutput(self.conv(x) + x if self.also else self.conv(x))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize(("padding", "min_size"), [(0, 1), (1, 1), (1, 12), (0, 12)])
def test_folding_the_normalisation_keeps_every_map_borders_and_padding_included(order, padding, min_size):
    network = Convolution(padding, order, min_size).eval()
    image = torch.from_numpy(blots(8, 1, (9, 11)))
    with torch.inference_mode():
        expected = network(network.input_spec.normalise(image)).logits
        folded = fold_batch_norm(network, (9, 11))
        pixels = fold_normalisation(folded, (9, 11))
        found = folded(pixels(image)).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert pixels.scale is None
    assert (pixels.shift is None) is (padding == 0 and min_size == 1)


def test_a_network_that_uses_the_image_besides_keeps_its_normalisation():
    network = Convolution(1, "BGR", also=True).eval()
    pixels = fold_normalisation(network, (9, 11))
    image = torch.from_numpy(blots(8, 1, (9, 11)))
    assert pixels.scale is not None
    torch.testing.assert_close(pixels(image), network.input_spec.normalise(image), rtol=1e-6, atol=1e-6)


class Branching(nn.Module):
    """Labels that depend on the height: what a traced graph gets wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 1)
        self.input_spec = InputSpec(output_stride=1)

    def forward(self, images):
        x = self.conv(images)
        return SegmentationOutput(x.flip(1) if int(images.shape[2]) > 35 else x)


@pytest.mark.parametrize("runtime", SUFFIXES)
def test_the_gate_finds_a_branch_that_depends_on_the_size(runtime, tmp_path):
    target = tmp_path / f"a{SUFFIXES[needs(runtime)]}"
    _, about = lively(NAME)
    report = export(Branching(), about, runtime, target)
    assert report.file is None
    assert not list(tmp_path.iterdir())
    assert report.parity.different > report.parity.ties
    assert set(report.parity.batches) == {1, 4}


def test_forced_it_is_saved_and_says_so_itself_and_tells_no_accuracy(tmp_path):
    _, about = lively(NAME)
    export(Branching(), about | JUDGED, "onnx", tmp_path / "a.onnx", force=True)
    found = json.loads(OnnxSession((tmp_path / "a.onnx").read_bytes()).metadata)
    assert found["export"]["parity"]["passed"] is False
    assert "training" not in found


def test_a_file_that_passed_tells_the_accuracy_of_its_weights(tmp_path):
    network, about = lively(NAME)
    export(network, about | JUDGED, "onnx", tmp_path / "a.onnx")
    assert json.loads(OnnxSession((tmp_path / "a.onnx").read_bytes()).metadata)["training"] == JUDGED["training"]


def test_the_gate_looks_at_the_users_images(tmp_path, exported):
    import cv2

    for number, image in enumerate(blots(9, 3, (50, 60))):
        cv2.imwrite(str(tmp_path / f"mine{number}.png"), image)
    network, about = lively(NAME)
    report = export(network, about, "onnx", tmp_path / "a.onnx", size=(33, 47), pictures=tmp_path)
    assert report.parity.pictures == 2 + 3


class FirstOfAll(ImageGraph):
    """A wrong graph: every image of several gets the logits of the first."""

    def forward(self, images):
        found = super().forward(images)
        return found[:1].expand(found.shape)


@pytest.mark.parametrize("batch", [None, 2, 5])
def test_the_gate_shows_different_pictures_at_once_though_one_alone_is_given(tmp_path, monkeypatch, batch):
    import cv2

    from featherseg.deploy import onnx as door

    (tmp_path / "mine").mkdir()
    cv2.imwrite(str(tmp_path / "mine" / "a.png"), blots(9, 1, (50, 60))[0])
    monkeypatch.setattr(door, "make_graph", FirstOfAll)
    network, about = lively(NAME)
    given = {"size": (33, 47), "batch": batch, "pictures": tmp_path / "mine"}
    report = export(network, about, "onnx", tmp_path / "a.onnx", **given)
    assert report.file is None
    assert report.parity.batches == (1, batch or 4)


def test_openvino_in_bf16_has_a_bound_of_its_own(tmp_path):
    needs("openvino")
    from featherseg.deploy import openvino

    if not openvino.has_bf16():
        pytest.skip("this CPU does not compute in bf16")
    network, about = network_and_metadata("fassd_net_l2.camvid")
    report = export(network, about, "openvino", tmp_path / "a.xml", size=(128, 160), batch=1)
    assert report.bf16 is not None
    assert report.bf16.passed
    assert report.bf16.different > 0, "it was computed in float32"
    image = next(image for _, image in scene_pictures((128, 160), 1))
    labels = featherseg.load(tmp_path / "a.xml", precision="bf16").predict(image).labels
    assert (labels == featherseg.load("fassd_net_l2.camvid").predict(image).labels).mean() > 0.98


def test_a_runtime_that_is_not_installed_is_named_with_its_command(file, monkeypatch):
    from featherseg.deploy import packages

    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(packages, "import_module", missing)
    with pytest.raises(FeathersegError, match=r"pip install 'featherseg\[(onnx|openvino)\]'"):
        featherseg.load(file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"device": "gpu7"}, "gpu7"), ({"threads": 0}, "0 threads")],
)
def test_a_device_that_is_not_there_and_no_threads_are_refused(file, arguments, said):
    with pytest.raises(FeathersegError, match=said):
        featherseg.load(file, **arguments)


def test_onnx_runtime_has_no_bf16(exported):
    with pytest.raises(FeathersegError, match="openvino"):
        featherseg.load(exported("onnx"), precision="bf16")


@pytest.mark.parametrize(
    ("runtime", "arguments", "said"),
    [
        ("onnx", {"ends": "label"}, "did you mean 'labels'"),
        ("onnx", {"batch": 0}, "at least 1"),
        ("onnx", {"int8": True, "size": (33, 33)}, "litert"),
        ("litert", {}, "of one size"),
        ("litert", {"size": (33, 33), "batch": 2}, "1 image at once"),
        ("litert", {"size": (33, 33), "ends": "logits"}, "labels"),
    ],
)
def test_what_a_runtimes_files_cannot_do_is_refused(monkeypatch, tmp_path, runtime, arguments, said):
    monkeypatch.setattr(doors, "find_spec", lambda name: True)
    network, about = lively(NAME)
    with pytest.raises(FeathersegError, match=said):
        export(network, about, runtime, tmp_path / f"a{doors.DOORS[runtime].suffix}", **arguments)


def test_more_than_255_classes_are_refused_as_labels():
    network = Convolution(1, "RGB")
    network.conv = nn.Conv2d(3, 300, 1)
    with pytest.raises(FeathersegError, match="255"):
        ImageGraph(network.eval(), output="labels")


def test_the_exporters_own_failure_is_one_line():
    class Unknown(nn.Module):
        input_spec = InputSpec(output_stride=1)

        def forward(self, images):
            return SegmentationOutput(torch.linalg.qr(images)[0])

    with pytest.raises(FeathersegError, match="does not carry this network"):
        onnx_program(ImageGraph(Unknown().eval(), size=(8, 8)))


def test_the_commands_take_an_exported_file(file, tmp_path, capsys):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), blots(11, 1, (40, 52))[0][..., ::-1])
    code = main(["predict", str(tmp_path / "a.png"), "-w", str(file), "-o", str(tmp_path / "out")])
    assert code == 0
    labels = cv2.imread(str(tmp_path / "out" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(labels, torch_segmenter().predict(tmp_path / "a.png").labels)


@pytest.mark.parametrize("ends", ["logits", "full"])
@pytest.mark.parametrize("view", [View(), View(flip=True)])
def test_probabilities_for_judging_are_pytorchs(exported, ends, view):
    images = torch.from_numpy(blots(12, 2, (40, 52)))
    found = probabilities(SessionNetwork(featherseg.load(exported("onnx", ends=ends))), images, view)
    torch.testing.assert_close(found, probabilities(lively(NAME)[0], images, view), rtol=0, atol=1e-4)


def test_labels_alone_are_judged_with_full_certainty(exported):
    images = torch.from_numpy(blots(12, 2, (40, 52)))
    network = SessionNetwork(featherseg.load(exported("onnx", ends="labels")))
    found = probabilities(network, images)
    assert network.sure_of_nothing
    assert torch.equal(found.max(1).values, torch.ones(2, 40, 52))
    assert torch.equal(found.argmax(1), probabilities(lively(NAME)[0], images).argmax(1))


def test_eval_gives_an_exported_file_the_figures_of_its_weights(cityscapes_tree, tmp_path, capsys):
    network, about = network_and_metadata(NAME)
    save_weights(tmp_path / "a.safetensors", network.state_dict(), about)
    export(network, about, "onnx", tmp_path / "a.onnx", force=True)
    figures = []
    for name in ("a.safetensors", "a.onnx"):
        code = main(["eval", "-w", str(tmp_path / name), "--data", str(cityscapes_tree), "--split", "val", "--json"])
        assert code == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[0]["miou"] == pytest.approx(figures[1]["miou"], abs=0.01)
    assert figures[0]["pixels"] == figures[1]["pixels"]


@pytest.mark.parametrize(("option", "value"), [("--precision", "fp16"), ("--scales", "0.5,1"), ("--precision", "bf16")])
def test_eval_refuses_what_an_exported_file_cannot_do(exported, capsys, option, value):
    code = main(["eval", "-w", str(exported("onnx")), "--data", "streets", option, value])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert option in said or value in said


def test_the_command_exports_and_prints_json(tmp_path, capsys):
    target = tmp_path / "a.onnx"
    code = main(["export", NAME, "--to", "onnx", "--size", "33x47", "--ends", "labels", "-o", str(target), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["file"], found["output"], found["batch"]) == (0, str(target), "labels", None)
    assert found["size_bytes"] == target.stat().st_size
