"""Exported files that are spoilt, of another version, or of another program."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import NAME, copied, needs, torch_segmenter
from lively import blots, lively
from torch import nn

import featherseg
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
