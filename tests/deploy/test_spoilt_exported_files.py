"""Exported files that are spoilt, of another version, or of another program."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported_files import NAME, copied, needs, torch_segmenter
from lively import CLASSES, blots, lively
from torch import nn

import featherseg
from featherseg.deploy.exported_network import SessionNetwork
from featherseg.deploy.file_metadata import read_metadata
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed (onnx)")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed (onnxruntime)")
pytestmark = pytest.mark.usefixtures("small_gate")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_an_onnx_file_cut_short_is_refused(exported, tmp_path, share):
    content = exported("onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FeathersegError, match=r"cut short|no metadata"):
        featherseg.load(tmp_path / "cut.onnx")


@pytest.mark.parametrize(("suffix", "share"), [(".xml", 0.5), (".xml", 0.99), (".bin", 0.5), (".bin", 0.999)])
def test_an_openvino_model_cut_short_is_refused(exported, tmp_path, suffix, share):
    file = copied(exported("openvino"), tmp_path)
    part = file.with_suffix(suffix)
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    with pytest.raises(FeathersegError, match="cut short"):
        featherseg.load(file)


def test_weights_of_another_export_beside_an_openvino_file_are_found_out(exported, tmp_path):
    file = copied(exported("openvino"), tmp_path)
    weights = bytearray(file.with_suffix(".bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    file.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(FeathersegError, match="of another export"):
        featherseg.load(file)


def test_an_openvino_file_without_its_weights_is_refused(exported, tmp_path):
    file = copied(exported("openvino"), tmp_path)
    file.with_suffix(".bin").unlink()
    with pytest.raises(FeathersegError, match="two files"):
        featherseg.load(file)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_file_of_another_kind_is_refused(tmp_path, suffix):
    needs("openvino")
    (tmp_path / f"a{suffix}").write_bytes(b"PK\x03\x04 not a model")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(FeathersegError, match="does not take it"):
        featherseg.load(tmp_path / f"a{suffix}")


def test_a_file_of_a_later_format_asks_for_an_upgrade(exported, tmp_path):
    from featherseg.deploy import onnx as door

    file = exported("onnx")
    values = featherseg.load(file).metadata
    (tmp_path / "a.onnx").write_bytes(door.with_metadata(file.read_bytes(), values | {"format": 99}))
    with pytest.raises(FeathersegError, match=r"format 99.*Upgrade featherseg"):
        featherseg.load(tmp_path / "a.onnx")


SPOILT = [
    {"export": [1]}, {"export": "x"}, {"training": "x"}, {"format": -3}, {"format": True}, {"num_classes": 0},
    {"classes": [1] * CLASSES}, {"classes": "abcdefg"}, {"classes": 7},
]  # fmt: skip


@pytest.mark.parametrize("spoilt", SPOILT, ids=str)
def test_metadata_of_another_kind_are_refused_by_their_key(exported, tmp_path, spoilt):
    from featherseg.deploy import onnx as door

    file = exported("onnx")
    values = featherseg.load(file).metadata
    (tmp_path / "a.onnx").write_bytes(door.with_metadata(file.read_bytes(), values | spoilt))
    with pytest.raises(FeathersegError, match=rf"a\.onnx: its metadata are garbled: '{next(iter(spoilt))}' is "):
        featherseg.load(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("spoilt", "key"),
    [
        ({"training": {"val": "x"}}, "training.val"),
        ({"export": {"miou": 5}}, "export.miou"),
        ({"export": {"quantization": "x"}}, "export.quantization"),
        ({"export": {"quantization": {"verdicts": [1]}}}, "export.quantization.verdicts"),
        ({"classes": 0}, "classes"),
    ],
)
def test_values_within_objects_are_looked_at_too(spoilt, key):
    with pytest.raises(FeathersegError, match=rf"a\.onnx: its metadata are garbled: '{key}' is "):
        read_metadata(json.dumps({"format": 1, "num_classes": 3} | spoilt), "a.onnx")


@pytest.fixture(scope="module")
def smallest_tflite() -> bytes:
    """A LiteRT program of one operator, uint8 pixels to int32 labels, as the schema packs it."""
    pytest.importorskip("ai_edge_litert", reason="the extra `litert` is not installed (ai-edge-litert)")
    from featherseg.deploy import litert_file

    schema = litert_file.litert_module("ai_edge_litert.schema_py_generated")

    def tensor(name: bytes, kind: int, shape: list[int]) -> Any:
        made = schema.TensorT()
        made.name, made.type, made.shape, made.buffer = name, kind, shape, 0
        return made

    code, operator, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MAX
    operator.inputs, operator.outputs, operator.opcodeIndex = [0, 1], [2], 0
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.ArgMaxOptions, schema.ArgMaxOptionsT()
    operator.builtinOptions.outputType = schema.TensorType.INT32
    axis = schema.BufferT()
    axis.data = list(np.array(3, np.int32).tobytes())
    graph.tensors = [
        tensor(b"image", schema.TensorType.UINT8, [1, 2, 3, 3]),
        tensor(b"axis", schema.TensorType.INT32, []),
        tensor(b"labels", schema.TensorType.INT32, [1, 2, 3]),
    ]
    graph.tensors[1].buffer = 1
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT(), axis]
    return litert_file.pack(model)


LITERT_VALUES = {"format": 1, "num_classes": 3, "classes": ["a", "b", "c"], "input_spec": InputSpec().to_dict()}


def tflite_of(content: bytes, folder: Path, changed: dict) -> Path:
    from featherseg.deploy import litert_file

    (folder / "a.tflite").write_bytes(litert_file.with_metadata(content, LITERT_VALUES | changed))
    return folder / "a.tflite"


def test_a_litert_file_with_sound_metadata_labels(smallest_tflite, tmp_path):
    image = np.array([[[9, 0, 1], [0, 9, 1], [0, 1, 9]]] * 2, np.uint8)
    found = featherseg.load(tflite_of(smallest_tflite, tmp_path, {})).predict(image)
    np.testing.assert_array_equal(found.labels, [[0, 1, 2]] * 2)


@pytest.mark.parametrize("spoilt", SPOILT, ids=str)
def test_litert_metadata_of_another_kind_are_refused_by_their_key(smallest_tflite, tmp_path, spoilt):
    with pytest.raises(FeathersegError, match=rf"a\.tflite: its metadata are garbled: '{next(iter(spoilt))}' is "):
        featherseg.load(tflite_of(smallest_tflite, tmp_path, spoilt))


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [({"input_spec": [1]}, "input_spec"), ({"input_spec": {"mean": 3}}, "input_spec"), ({"palette": 5}, "palette"),
     ({"format": 99}, r"format 99.*Upgrade featherseg"), ({"num_classes": 300, "classes": None}, "at most 255")],
    ids=str,
)  # fmt: skip
def test_other_litert_metadata_that_cannot_be_used_are_refused(smallest_tflite, tmp_path, spoilt, said):
    with pytest.raises(FeathersegError, match=rf"a\.tflite: .*{said}"):
        featherseg.load(tflite_of(smallest_tflite, tmp_path, spoilt))


def test_a_file_of_a_later_opset_asks_for_an_upgrade(exported, tmp_path):
    model = onnx.load(exported("onnx"))
    model.opset_import[0].version = 999
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(FeathersegError, match="later version"):
        featherseg.load(tmp_path / "a.onnx")


@pytest.fixture(scope="module")
def foreign(export_folder: Path) -> Path:
    """A file of another program: float images in, logits out, no metadata."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = lively(NAME)[0]

        def forward(self, images):
            return self.network(images).logits

    torch.onnx.export(
        Plain(),
        (torch.zeros(1, 3, 40, 52),),
        export_folder / "foreign.onnx",
        dynamo=False,
        opset_version=17,
        input_names=["x"],
    )
    return export_folder / "foreign.onnx"


def test_a_foreign_file_is_refused_with_what_it_lacks(foreign):
    with pytest.raises(FeathersegError, match=r"no metadata.*--classes"):
        featherseg.load(foreign)


def test_a_foreign_file_of_floats_needs_to_know_how_pixels_become_such(foreign, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"))
    with pytest.raises(FeathersegError, match="input_spec"):
        featherseg.load(foreign, classes=tmp_path / "names.txt")


def test_a_foreign_file_labels_with_classes_and_input_spec_from_a_file(foreign, tmp_path):
    spec: InputSpec = lively(NAME)[0].input_spec  # type: ignore[assignment]
    (tmp_path / "names.json").write_text(json.dumps({"classes": list("abcdefg"), "input_spec": spec.to_dict()}))
    loaded = featherseg.load(foreign, classes=tmp_path / "names.json")
    image = blots(10, 1, (40, 52))[0]
    assert loaded.labels.classes == tuple("abcdefg")
    np.testing.assert_array_equal(loaded.predict(image).labels, torch_segmenter().predict(image).labels)


def test_a_wrong_number_of_class_names_is_refused(foreign, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(FeathersegError, match="gives 7 classes, and 2 are named"):
        featherseg.load(foreign, classes=tmp_path / "names.txt")


@pytest.mark.parametrize("text", ["", "{}", '{"classes": [1]}', '{"klasses": ["a"]}', "[", '["a", 2]'])
def test_a_file_that_names_no_classes_is_refused(foreign, tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(FeathersegError, match=r"names\.txt"):
        featherseg.load(foreign, classes=tmp_path / "names.txt")


@pytest.fixture
def label_graph(tmp_path):
    """Make a file of another program whose int64 labels are the red of a pixel and something added; 11 classes."""

    def make(added: int) -> Path:
        make_node, tensors = onnx.helper.make_node, onnx.TensorProto
        graph = onnx.helper.make_graph(
            [
                make_node("Cast", ["image"], ["whole"], to=tensors.INT64),
                make_node("Gather", ["whole", "first"], ["red"], axis=3),
                make_node("Add", ["red", "added"], ["labels"]),
            ],
            "foreign",
            [onnx.helper.make_tensor_value_info("image", tensors.UINT8, ["b", "h", "w", 3])],
            [onnx.helper.make_tensor_value_info("labels", tensors.INT64, ["b", "h", "w"])],
            [
                onnx.numpy_helper.from_array(np.array(0, np.int64), "first"),
                onnx.numpy_helper.from_array(np.array(added, np.int64), "added"),
            ],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / "labels.onnx")
        (tmp_path / "names.txt").write_text("\n".join("abcdefghijk"))
        return tmp_path / "labels.onnx"

    return make


IDS = np.repeat(np.arange(6, dtype=np.uint8), 30).reshape(12, 15, 1).repeat(3, 2)


@pytest.mark.parametrize(("added", "said"), [(256, "256, 257, 258, 259, 260"), (6, r"11"), (-1, "-1")])
def test_ids_of_no_class_are_refused_in_use_and_in_judging(label_graph, tmp_path, added, said):
    loaded = featherseg.load(label_graph(added), classes=tmp_path / "names.txt")
    network = SessionNetwork(loaded)
    pixels = torch.from_numpy(IDS).permute(2, 0, 1)[None].float()
    for use in (lambda: loaded.predict(IDS), lambda: network(pixels)):
        with pytest.raises(FeathersegError, match=rf"labels\.onnx: gives ids of no class \({said}\): 11 are known"):
            use()


def test_ids_of_classes_and_the_ignored_one_are_taken_as_they_are(label_graph, tmp_path):
    loaded = featherseg.load(label_graph(5), classes=tmp_path / "names.txt")
    np.testing.assert_array_equal(loaded.predict(IDS).labels, IDS[..., 0] + 5)
    ignored = featherseg.load(label_graph(255), classes=tmp_path / "names.txt")
    none = np.zeros_like(IDS)
    assert (ignored.predict(none).labels == 255).all()
    with pytest.raises(FeathersegError, match="without a class"):
        SessionNetwork(ignored)(torch.from_numpy(none).permute(2, 0, 1)[None].float())


@pytest.mark.parametrize("fault", [RuntimeError("basic_ios::clear: iostream error"), OSError(28, "No space left")])
def test_a_full_folder_for_temporary_files_is_said_in_one_line(monkeypatch, fault):
    needs("openvino")
    import openvino as package

    from featherseg.deploy import openvino

    def full(*arguments: object) -> None:
        raise fault

    monkeypatch.setattr(package, "serialize", full)
    with pytest.raises(FeathersegError, match=r"cannot write its files .*TMPDIR") as caught:
        openvino.serialised(None)
    assert "\n" not in str(caught.value)
