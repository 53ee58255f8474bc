"""LiteRT, the successor of TensorFlow Lite: a network as one ``.tflite`` file for phones, and running such a file.

Choices worth knowing:

- litert-torch converts, ai-edge-quantizer makes int8, ai-edge-litert runs; running needs the last alone.
- Every size is fixed: one file an image size, batch 1.
- int8: weights a channel at a time, activations by their extremes over all calibration images, and integers from the
  uint8 pixels to the arg-max. The ranges of the pixels and of the normalised pixels are not calibrated, since they are
  known: 0 to 255, and what the InputSpec makes of it.
- The packages print progress and warnings on both streams, partly from C++: all of it is caught and shown on a
  failure only.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featherseg.data.labels import LabelSet
from featherseg.deploy import litert_file
from featherseg.deploy.calibration import Chosen
from featherseg.deploy.file_metadata import input_spec_of
from featherseg.deploy.graph_session import GraphSession, Signature
from featherseg.deploy.label_graph import LabelGraph
from featherseg.deploy.litert_file import litert_module
from featherseg.deploy.packages import hushed
from featherseg.deploy.segmentation import Segmentation
from featherseg.deploy.segmenter import label_set_of, read_image_argument, shared_tensor
from featherseg.deploy.session import Output, Precision
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

PACKAGES = ("litert_torch", "ai_edge_litert", "ai_edge_quantizer")


def make_graph(network: nn.Module, *, size: tuple[int, int], batch: int | None, output: Output) -> LabelGraph:
    """The graph of one image of ``size`` to its labels, the only kind that is exported to LiteRT."""
    return LabelGraph(network, size)


hushed_litert = partial(hushed, whose="LiteRT")
"""What the packages print, caught; see :func:`featherseg.deploy.packages.hushed`."""


def convert(graph: LabelGraph) -> bytes:
    """The float32 program of ``graph``; takes seconds to minutes.

    Raises:
        FeathersegError: a package is missing, or an operator is not known to LiteRT.
    """
    example = torch.zeros(1, *graph.size, 3, dtype=torch.uint8)
    with hushed_litert("the conversion"):
        converter = litert_module("litert_torch")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.tflite"
            converter.convert(graph, (example,)).export(str(file))
            content = file.read_bytes()
    content = litert_file.tidied(content)
    foreign = [name for name in litert_file.operators(content) if name == "CUSTOM" or name.startswith("STABLEHLO")]
    if foreign:
        raise FeathersegError(
            f"the program needs operators that are not built into LiteRT ({', '.join(foreign)}), so that no phone "
            "would run it as it is. Other networks of `featherseg models` do without."
        )
    return content


def quantise(content: bytes, images: Chosen) -> bytes:
    """The int8 program of a float32 one, calibrated on ``images``.

    Raises:
        FeathersegError: a package is missing, or the quantiser fails.
    """
    with hushed_litert("quantising"):
        recipe = litert_module("ai_edge_quantizer.recipe").static_wi8_ai8()
        signature, takes = signature_of(content)
        ranges = extremes(content, recipe, {signature: [{takes: sample.image[None]} for sample in images]})
        quantizer = litert_module("ai_edge_quantizer.quantizer").Quantizer(bytearray(content), recipe)
        quantised = bytes(quantizer.quantize(ranges).quantized_model)
    return litert_file.tidied(quantised)


def extremes(content: bytes, recipe: Any, samples: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, Any]:
    """The extremes of every tensor over all samples, and of the pixels as they are known.

    The quantiser's own ``calibrate`` averages them with a weight of 0.05 an image, which clips what half the images
    hold, and with few images gives the first one's.
    """
    manager = litert_module("ai_edge_quantizer.recipe_manager").RecipeManager()
    manager.load_quantization_recipe(recipe)
    calibrator = litert_module("ai_edge_quantizer.calibrator").Calibrator(
        bytearray(content),
        num_threads=torch.get_num_threads(),
        qsv_update_func=litert_module("ai_edge_quantizer.utils.qsv_utils").min_max_update,
    )
    calibrator.calibrate(samples, manager)
    ranges = calibrator.get_model_qsvs()
    for name, (least, greatest) in _known_ranges(content).items():
        ranges[name]["min"] = np.full_like(ranges[name]["min"], least)
        ranges[name]["max"] = np.full_like(ranges[name]["max"], greatest)
    return ranges


def signature_of(content: bytes) -> tuple[str, str]:
    """The names of a program's signature and of the image that it takes."""
    signature = litert_file.parse(content, "the model").signatureDefs[0]
    return bytes(signature.signatureKey).decode(), bytes(signature.inputs[0].name).decode()


def _known_ranges(content: bytes) -> dict[str, tuple[float, float]]:
    """The ranges of the pixels as floats and of what is made of them by constants, up to the first layer."""
    model = litert_file.parse(content, "the model")
    graph, names = model.subgraphs[0], litert_file.operator_names()
    least, greatest = np.zeros(3), np.full(3, 255.0)
    known: dict[str, tuple[float, float]] = {}
    current = None
    for operator in graph.operators:
        kind = litert_file.name_of(model, operator, names)
        if kind == "CAST" and current is None:
            current = int(operator.outputs[0])
        elif kind in ("MUL", "ADD") and current is not None and current in list(operator.inputs):
            other = next(int(number) for number in operator.inputs if int(number) != current)
            data = model.buffers[graph.tensors[other].buffer].data
            if data is None:
                break
            constant = np.frombuffer(bytes(data), np.float32)
            ends = [end * constant if kind == "MUL" else end + constant for end in (least, greatest)]
            least, greatest = np.minimum(*ends), np.maximum(*ends)
            current = int(operator.outputs[0])
        elif current is not None:
            break
        if current is not None:
            known[bytes(graph.tensors[current].name).decode()] = float(least.min()), float(greatest.max())
    return known


class LiteRTProgram:
    """A program ready to run on this CPU.

    Args:
        content: the bytes of a ``.tflite`` file.
        where: its name in messages.
        threads: of the interpreter.

    Attributes:
        size: (H, W), the only size it takes.

    Raises:
        FeathersegError: ai-edge-litert is missing, or the file is damaged or none that labels an image.
    """

    def __init__(self, content: bytes, where: str = "the program", threads: int = 1) -> None:
        litert_file.parse(content, where)
        with hushed_litert(f"{where}: opening it"):
            interpreter = litert_module("ai_edge_litert.interpreter")
            self._interpreter: Any = interpreter.Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        takes, gives = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(length) for length in takes[0]["shape"]]
        kinds = takes[0]["dtype"], gives[0]["dtype"]
        if len(takes) != 1 or len(gives) != 1 or len(shape) != 4 or kinds != (np.uint8, np.int32):
            raise FeathersegError(f"{where}: does not turn a uint8 image into labels. `featherseg export` writes some.")
        self._takes, self._gives = takes[0]["index"], gives[0]["index"]
        self.size = shape[1], shape[2]

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Class ids int32 ``[H, W]`` of uint8 RGB ``[H, W, 3]``, which must be of :attr:`size`."""
        if image.shape[:2] != self.size:
            height, width = self.size
            raise FeathersegError(
                f"the image is {image.shape[0]}x{image.shape[1]}, and this program takes {height}x{width} alone. "
                f"Predict with --letterbox {height}x{width}, or export the network for the image's size."
            )
        self._interpreter.set_tensor(self._takes, image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._gives)[0]


class LiteRTSession(GraphSession):
    """A :class:`LiteRTProgram` as a session."""

    runtime = "litert"

    def __init__(self, program: LiteRTProgram, where: str = "the program", metadata: Any = None) -> None:
        super().__init__(where, Signature("pixels", "labels", 1, program.size, None), metadata)
        self.program = program

    def _infer(self, images: np.ndarray) -> np.ndarray:
        return self.program.labels(images[0])[None]


def open_session(
    content: bytes,
    where: str = "the program",
    *,
    threads: int | None = None,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> LiteRTSession:
    """A program on this CPU, in the precision of its file.

    Raises:
        FeathersegError: as :class:`LiteRTProgram`, or another device or precision is asked for.
    """
    if device not in ("cpu", "auto") or precision != "fp32":
        raise FeathersegError(
            f"{where}: LiteRT runs on the CPU here, in the precision of the file, not on {device} in {precision}. "
            "Leave both out."
        )
    return LiteRTSession(LiteRTProgram(content, where, threads or torch.get_num_threads()), where)


class LiteRTSegmenter:
    """A ``.tflite`` file that ``featherseg export`` wrote, used as a :class:`featherseg.deploy.segmenter.Segmenter` is.

    Args:
        file: its path.
        threads: of the interpreter.

    Raises:
        FeathersegError: no such file, a damaged or foreign one, or ai-edge-litert is missing.
    """

    def __init__(self, file: str | Path, *, threads: int = 1) -> None:
        content = litert_file.read_file(file)
        self.name = str(file)
        self.metadata: dict[str, Any] = litert_file.metadata(content, self.name)
        self.labels: LabelSet = label_set_of(self.metadata, self.name)
        self.input_spec: InputSpec = input_spec_of(self.metadata, self.name) or InputSpec()
        self.program = LiteRTProgram(content, self.name, threads)
        self.session = LiteRTSession(self.program, self.name, self.metadata)
        self.session.classes = len(self.labels)

    def predict(self, image: Any) -> Segmentation:
        """Label every pixel of a file, a uint8 array ``[H, W, 3]`` in RGB or a PIL image, of the file's size.

        Raises:
            FeathersegError: the image is missing, spoilt or of another size, or the program gives ids of no class.
        """
        pixels = read_image_argument(image)
        return Segmentation(self.session.run(shared_tensor(pixels)[None])[0].numpy(), self.labels, pixels)


def files(content: bytes) -> dict[str, bytes]:
    """What is written, by suffix."""
    return {".tflite": content}


operators = litert_file.operators
with_metadata = litert_file.with_metadata
