"""TensorRT: a network as one ``.engine`` file for one kind of NVIDIA GPU, built from the ONNX program.

Choices worth knowing:

- featherseg builds engines and does not run them. What passes the gate is the ONNX program, in ONNX Runtime; the engine
  is built from that very program, after the gate.
- An engine has no room for metadata: they are written beside it, as JSON with the same name. The engine itself stays as
  TensorRT's own tools take it.
- Pixels become floats before anything else is done to them: TensorRT has uint8 at the ends of a graph alone.
- An engine is of float32 throughout: the shortened multiplications (TF32) that TensorRT would take are switched off.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from featherseg.deploy import onnx
from featherseg.deploy.image_graph import ImageGraph
from featherseg.deploy.onnx import OnnxSession
from featherseg.deploy.packages import runtime_module
from featherseg.errors import FeathersegError

PACKAGES = ("tensorrt", *onnx.PACKAGES)
EXTRA = "tensorrt"


class FloatFirst(ImageGraph):
    """An :class:`ImageGraph` that makes floats of its pixels at once."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.float())


make_graph = FloatFirst


@dataclass(frozen=True)
class EngineSource:
    """The ONNX program that an engine is built from, and what is written beside it."""

    program: bytes
    metadata: dict[str, Any]


def convert(graph: ImageGraph) -> EngineSource:
    """The ONNX program of ``graph``."""
    return EngineSource(onnx.convert(graph), {})


def operators(content: EngineSource) -> dict[str, int]:
    """How often each operator of the ONNX program occurs."""
    return onnx.operators(content.program)


def with_metadata(content: EngineSource, values: dict[str, Any]) -> EngineSource:
    """The same program with ``values`` to be written beside the engine."""
    return replace(content, metadata=values)


def files(content: EngineSource) -> dict[str, bytes]:
    """What is written, by suffix; the engine is built now, which takes minutes.

    Raises:
        FeathersegError: TensorRT is missing, has no GPU here, or does not carry the program.
    """
    about = json.dumps(content.metadata, indent=2, sort_keys=True, ensure_ascii=False)
    return {".engine": build_engine(content.program), ".json": about.encode()}


def build_engine(program: bytes) -> bytes:
    """The engine of an ONNX program, for the GPU of this machine.

    Raises:
        FeathersegError: TensorRT is missing, has no GPU here, or does not carry the program.
    """
    package = runtime_module("tensorrt", EXTRA)
    log = package.Logger(package.Logger.ERROR)
    try:
        builder = package.Builder(log)
    except Exception as error:  # what it raises without a GPU differs from version to version
        raise FeathersegError(
            f"TensorRT {package.__version__} cannot build engines here ({error}). It needs the NVIDIA GPU that the "
            "engine is for: export on that machine, or export to onnx and build there with trtexec."
        ) from None
    network = builder.create_network(0)
    parser = package.OnnxParser(network, log)
    if not parser.parse(program):
        said = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise FeathersegError(f"TensorRT {package.__version__} does not carry the program: {said}")
    settings = builder.create_builder_config()
    settings.clear_flag(package.BuilderFlag.TF32)
    engine = builder.build_serialized_network(network, settings)
    if engine is None:
        raise FeathersegError(
            f"TensorRT {package.__version__} parses the program and builds no engine of it; its own messages stand "
            "above."
        )
    return bytes(engine)


def open_session(content: EngineSource, where: str, *, threads: int | None, precision: str) -> OnnxSession:
    """What the gate judges: the ONNX program in ONNX Runtime."""
    return OnnxSession(content.program, where, threads=threads)
