"""ONNX: a network as one ``.onnx`` file, and running such files by ONNX Runtime.

Choices worth knowing:

- The package onnx writes, onnxruntime runs; running needs the latter alone.
- Open sizes cost nothing: ONNX Runtime takes a graph of fixed sizes no faster.
- Operators run one after the other on so many threads, and those threads sleep between two images: the label map is
  made by other threads, and two pools that spin for each other's work take several times as long.
- The CPU computes in the precision of the file, float32: it has no bfloat16 there.
"""

import json
from typing import Any

import numpy as np
import torch

from featherseg.deploy.graph_session import GraphSession, Port, signature
from featherseg.deploy.image_graph import ImageGraph, onnx_program
from featherseg.deploy.packages import first_line, runtime_module
from featherseg.deploy.session import Precision
from featherseg.errors import FeathersegError
from featherseg.models.weights import METADATA_KEY

PACKAGES = ("onnx", "onnxruntime")
EXTRA = "onnx"
make_graph = ImageGraph


def convert(graph: ImageGraph) -> bytes:
    """The file of ``graph``."""
    runtime_module("onnx", EXTRA)
    return onnx_program(graph)


def operators(content: bytes) -> dict[str, int]:
    """How often each operator occurs."""
    found: dict[str, int] = {}
    for node in _parse(content).graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return dict(sorted(found.items()))


def with_metadata(content: bytes, values: dict[str, Any]) -> bytes:
    """The same model that carries ``values``, as JSON under our name, instead of what it carried before."""
    model = _parse(content)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept[METADATA_KEY] = json.dumps(values, sort_keys=True, ensure_ascii=False)
    runtime_module("onnx.helper", EXTRA).set_model_props(model, kept)
    return model.SerializeToString()


def files(content: bytes) -> dict[str, bytes]:
    """What is written, by suffix."""
    return {".onnx": content}


def _parse(content: bytes) -> Any:
    return runtime_module("onnx", EXTRA).load_from_string(content)


class OnnxSession(GraphSession):
    """An ONNX file in ONNX Runtime.

    Args:
        content: the bytes of the file.
        where: its name in messages.
        threads: of the runtime; as many as PyTorch has, if None.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU that this build of ONNX Runtime reaches.
        precision: "fp32" alone.

    Raises:
        FeathersegError: onnxruntime is missing or has no such device, the file is damaged, or of a later version, or
            labels no images.
    """

    runtime = "onnx"

    def __init__(
        self,
        content: bytes,
        where: str = "the program",
        *,
        threads: int | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        runtime = runtime_module("onnxruntime", EXTRA)
        if precision != "fp32":
            raise FeathersegError(
                f"{where}: ONNX Runtime computes in float32 here, not in {precision}. Choose fp32, or export the "
                "network --to openvino, which has bf16."
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers = _providers(device, runtime.get_available_providers())
        try:
            self._session = runtime.InferenceSession(content, options, providers=providers)
        except Exception as error:  # every kind of damage has an exception of its own
            raise FeathersegError(
                f"{where}: ONNX Runtime {runtime.__version__} does not take it ({first_line(error)}). It is damaged, "
                "cut short or of a later version: copy or export it again, or upgrade onnxruntime."
            ) from None
        self.providers: list[str] = self._session.get_providers()
        takes, gives = self._session.get_inputs(), self._session.get_outputs()
        super().__init__(where, signature(_ports(takes), _ports(gives), where), self._read_metadata())
        self._takes, self._gives = takes[0].name, [gives[0].name]

    def _read_metadata(self) -> Any:
        return self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)

    def _infer(self, images: np.ndarray) -> np.ndarray:
        try:
            return self._session.run(self._gives, {self._takes: images})[0]
        except Exception as error:
            raise FeathersegError(
                f"{self.where}: fails on images of shape {list(images.shape)}: {first_line(error)}"
            ) from None


def _ports(nodes: Any) -> list[Port]:
    names = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int32)": "int32", "tensor(int64)": "int64"}
    return [
        Port(
            node.name,
            str(names.get(node.type, node.type)),
            tuple(side if isinstance(side, int) else None for side in node.shape),
        )
        for node in nodes
    ]


def _providers(device: str, known: list[str]) -> list[Any]:
    cpu = "CPUExecutionProvider"
    kind, _, number = device.partition(":")
    if kind == "cpu" or (kind == "auto" and "CUDAExecutionProvider" not in known):
        return [cpu]
    if kind in ("cuda", "auto") and "CUDAExecutionProvider" in known and (not number or number.isdigit()):
        return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), cpu]
    raise FeathersegError(
        f"device {device!r} cannot be used by ONNX Runtime here (it has: {', '.join(known)}). Choose cpu or auto."
    )


open_session = OnnxSession
