"""Core ML's packages, as far as they can be looked at where Core ML does not run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import ABOUT, CLASSES, small_network
from torch import nn

import featherseg
from featherseg.deploy.export import ExportReport, export
from featherseg.errors import FeathersegError

coremltools = pytest.importorskip("coremltools", reason="the extra `coreml` is not installed (coremltools)")

SIZE = (40, 57)


def described() -> dict[str, Any]:
    return ABOUT | {"input_spec": small_network().input_spec.to_dict()}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    target = tmp_path_factory.mktemp("coreml") / "small.mlpackage"
    return export(small_network(), described(), "coreml", target, size=SIZE, ends="labels")


@pytest.fixture(scope="module")
def description(report: ExportReport) -> Any:
    """What the written package says of itself, read by coremltools."""
    return coremltools.utils.load_spec(str(report.file)).description


def test_the_report_says_what_was_compared_in_place_of_the_package(report):
    assert report.parity.passed
    assert report.compared == "the exported program that was converted"


def test_the_package_takes_a_picture_of_one_size_and_gives_labels(description):
    (takes,), (gives,) = description.input, description.output
    image = takes.type.imageType
    assert (takes.name, image.height, image.width) == ("image", *SIZE)
    assert image.colorSpace == image.RGB
    assert (gives.name, list(gives.type.multiArrayType.shape)) == ("labels", [1, *SIZE])
    assert gives.type.multiArrayType.dataType == gives.type.multiArrayType.INT32


def test_the_metadata_travel_inside(description):
    found = json.loads(description.metadata.userDefined["featherseg"])
    assert found["classes"] == ABOUT["classes"]
    assert found["export"]["compared"] == "the exported program that was converted"


def test_the_network_is_in_the_package(report):
    convolutions = [layer for layer in small_network().modules() if isinstance(layer, nn.Conv2d)]
    assert report.operators["conv"] == len(convolutions)
    (weights,) = Path(report.file).rglob("weight.bin")
    assert weights.stat().st_size >= 4 * sum(layer.weight.numel() for layer in convolutions)


def test_an_export_that_labels_otherwise_is_not_saved(monkeypatch, tmp_path):
    from featherseg.deploy import coreml

    network = small_network()
    content = coreml.CoreMLProgram(lambda pixels: torch.zeros(1, *SIZE, dtype=torch.int32), Nothing(), SIZE, "labels")
    monkeypatch.setattr(coreml, "convert", lambda graph: content)
    monkeypatch.setattr(coreml, "operators", lambda content: {})
    monkeypatch.setattr(coreml, "files", lambda content: {".mlpackage/Manifest.json": b"{}"})
    report = export(network, described(), "coreml", tmp_path / "a.mlpackage", size=SIZE, ends="labels")
    assert (report.file, list(tmp_path.iterdir())) == (None, [])
    assert report.parity.different > CLASSES


class Nothing:
    """A model with nothing but metadata."""

    def __init__(self) -> None:
        self.user_defined_metadata: dict[str, str] = {}


def test_a_package_is_not_run(report):
    with pytest.raises(FeathersegError, match=r"makes coreml files and does not run them.*onnx"):
        featherseg.load(report.file)  # type: ignore[arg-type]
