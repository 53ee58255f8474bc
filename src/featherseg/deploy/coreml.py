"""Core ML: a network as an ``.mlpackage``, which is made anywhere and runs on Apple's devices alone.

Choices worth knowing:

- featherseg does not run the package. What passes the gate is the exported program that coremltools converts: by
  ``torch.export``, which settles every size. A traced graph computes sizes anew, on which coremltools 9.0 fails beside
  NumPy 2.4.
- The input ``image`` is a picture of the system's own kind (a pixel buffer), RGB, of one size: apps hand over camera
  frames and photos as they are. Labels are int32, since Core ML has no smaller integers at a graph's end.
- An ML program in float32, for iOS 15 and macOS 12 or later.
- Metadata are JSON under ``featherseg`` among the package's user-defined metadata.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.deploy.graph_session import GraphSession, Signature
from featherseg.deploy.image_graph import ImageGraph
from featherseg.deploy.packages import hushed, runtime_module
from featherseg.deploy.session import Output
from featherseg.models.weights import METADATA_KEY

PACKAGES = ("coremltools",)
EXTRA = "coreml"


class PictureGraph(nn.Module):
    """Pixels float ``[1, 3, H, W]``, 0 to 255, to what ``output`` says; labels as int32 ``[1, H, W]``.

    Args:
        network, size, output: as of :class:`ImageGraph`.
        batch: of images is always 1.
    """

    def __init__(self, network: nn.Module, *, size: tuple[int, int], batch: int | None = 1, output: Output) -> None:
        super().__init__()
        self.size = size
        self.output: Output = output
        ends: Output = "full" if output == "labels" else output
        self.images = ImageGraph(network, size=size, batch=1, output=ends)

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.images(pixels.permute(0, 2, 3, 1))
        return found.argmax(1).to(torch.int32) if self.output == "labels" else found


make_graph = PictureGraph


@dataclass(frozen=True, eq=False)
class CoreMLProgram:
    """What coremltools was given, as a module, and what it made of it."""

    module: Any
    model: Any
    size: tuple[int, int]
    output: Output


def convert(graph: PictureGraph) -> CoreMLProgram:
    """The package of ``graph``.

    Raises:
        FeathersegError: coremltools is missing, or does not carry the network.
    """
    shape = (1, 3, *graph.size)
    with hushed("the conversion", "Core ML"), torch.no_grad():
        package = runtime_module("coremltools", EXTRA)
        exported = torch.export.export(graph.eval(), (torch.zeros(shape),))
        exported = exported.run_decompositions({torch.ops.aten.hardtanh.default: _clamped})
        model = package.convert(
            exported,
            inputs=[package.ImageType(name="image", shape=shape, color_layout=package.colorlayout.RGB)],
            outputs=[package.TensorType(name=graph.output)],
            minimum_deployment_target=package.target.iOS15,
            compute_precision=package.precision.FLOAT32,
            skip_model_load=True,
        )
    return CoreMLProgram(exported.module(), model, graph.size, graph.output)


def _clamped(x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """ReLU6 with bounds of x's kind: coremltools takes none that are whole numbers."""
    return x.clamp(float(low), float(high))


def operators(content: CoreMLProgram) -> dict[str, int]:
    """How often each operator of the ML program occurs; constants are left out."""
    found: dict[str, int] = {}
    for function in content.model.get_spec().mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                if operation.type != "const":
                    found[operation.type] = found.get(operation.type, 0) + 1
    return dict(sorted(found.items()))


def with_metadata(content: CoreMLProgram, values: dict[str, Any]) -> CoreMLProgram:
    """The same package that carries ``values``, as JSON under our name."""
    content.model.user_defined_metadata[METADATA_KEY] = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return content


def files(content: CoreMLProgram) -> dict[str, bytes]:
    """What is written, by suffix: a package is a folder, whose manifest comes last."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.mlpackage"
        content.model.save(str(made))
        parts = sorted((path for path in made.rglob("*") if path.is_file()), key=lambda path: path.parent == made)
        return {f".mlpackage/{path.relative_to(made).as_posix()}": path.read_bytes() for path in parts}


class ExportedSession(GraphSession):
    """The exported program in PyTorch."""

    runtime = "coreml"

    def __init__(self, content: CoreMLProgram, where: str) -> None:
        output: Output = "labels" if content.output == "labels" else "logits"
        super().__init__(where, Signature("pixels", output, 1, content.size, None), None)
        self._module = content.module

    @torch.inference_mode()
    def _infer(self, images: np.ndarray) -> np.ndarray:
        return self._module(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()


def open_session(content: CoreMLProgram, where: str, *, threads: int | None, precision: str) -> ExportedSession:
    """What the gate judges: the exported program in PyTorch."""
    return ExportedSession(content, where)
