"""TensorRT's door, on a machine without TensorRT: what it is given to build from, what is written, and what goes wrong.

A stand-in takes TensorRT's place, which keeps the program it is given; whether TensorRT carries that program is not
tried anywhere.
"""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lively import blots
from small_network import ABOUT, small_network, small_segmenter

import featherseg
from featherseg.deploy import doors, tensorrt
from featherseg.deploy.export import export
from featherseg.deploy.session import labels_of
from featherseg.errors import FeathersegError

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed (onnx)")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed (onnxruntime)")

SIZE = (40, 57)


class StandIn:
    """TensorRT with one engine to give, ``b"engine"``.

    Args:
        refuses: "gpu", "parse" or "build": where it fails.
    """

    __version__ = "0.0"
    BuilderFlag = SimpleNamespace(TF32="TF32")

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.program, self.cleared = refuses, b"", []
        self.Logger: Any = lambda level: None
        self.Logger.ERROR = 0  # type: ignore[attr-defined]

    def Builder(self, log: Any) -> Any:
        if self.refuses == "gpu":
            raise RuntimeError("no CUDA device")
        return SimpleNamespace(
            create_network=lambda flags: "network",
            create_builder_config=lambda: SimpleNamespace(clear_flag=self.cleared.append),
            build_serialized_network=lambda network, settings: None if self.refuses == "build" else b"engine",
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:
        def parse(program: bytes) -> bool:
            self.program = program
            return self.refuses != "parse"

        return SimpleNamespace(parse=parse, num_errors=1, get_error=lambda number: "no such operator")


def installed(monkeypatch: pytest.MonkeyPatch, refuses: str = "") -> StandIn:
    package = StandIn(refuses)
    monkeypatch.setattr(doors, "find_spec", lambda name: True)
    monkeypatch.setattr(tensorrt, "runtime_module", lambda name, extra: package)
    monkeypatch.setattr("featherseg.deploy.export._distributions", lambda module: ["onnx"])
    return package


def described() -> dict[str, Any]:
    return ABOUT | {"input_spec": small_network().input_spec.to_dict()}


def test_the_engine_is_built_from_a_program_that_labels_as_pytorch_does(monkeypatch, tmp_path):
    package = installed(monkeypatch)
    report = export(small_network(), described(), "tensorrt", tmp_path / "a.engine", size=SIZE)
    assert (report.parity.passed, report.compared) == (True, "the ONNX program of the engine")
    assert package.cleared == ["TF32"]
    content = tensorrt.EngineSource(package.program, {})
    session = tensorrt.open_session(content, "it", threads=1, precision="fp32")
    image = blots(3, 1, SIZE)
    found = session.run(torch.from_numpy(image))[0]
    made = labels_of(found, "logits", small_network().input_spec, SIZE).labels
    np.testing.assert_array_equal(made, small_segmenter().predict(image[0]).labels)


def test_pixels_are_made_floats_before_anything_else(monkeypatch):
    graph = tensorrt.make_graph(small_network(), size=SIZE, batch=1, output="logits")
    nodes = onnx.load_from_string(tensorrt.convert(graph).program).graph.node
    assert [node.op_type for node in nodes if "image" in node.input] == ["Cast"]


def test_the_metadata_stand_beside_the_engine(monkeypatch, tmp_path):
    installed(monkeypatch)
    export(small_network(), described(), "tensorrt", tmp_path / "a.engine", size=SIZE)
    assert (tmp_path / "a.engine").read_bytes() == b"engine"
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert found["classes"] == ABOUT["classes"]
    assert found["export"]["compared"] == "the ONNX program of the engine"


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("gpu", r"no CUDA device.*NVIDIA GPU"),
        ("parse", "does not carry the program: no such operator"),
        ("build", "builds no engine"),
    ],
)
def test_what_tensorrt_refuses_is_told_in_one_message(monkeypatch, tmp_path, refuses, said):
    installed(monkeypatch, refuses)
    with pytest.raises(FeathersegError, match=said):
        export(small_network(), described(), "tensorrt", tmp_path / "a.engine", size=SIZE)
    assert not list(tmp_path.iterdir())


def test_an_engine_is_not_run(tmp_path):
    (tmp_path / "a.engine").write_bytes(b"engine")
    with pytest.raises(FeathersegError, match=r"makes tensorrt files and does not run them"):
        featherseg.load(tmp_path / "a.engine")
