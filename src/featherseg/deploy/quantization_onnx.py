"""int8 for ONNX Runtime: operators between pairs of QuantizeLinear and DequantizeLinear, which the runtime fuses.

Choices worth knowing:

- Weights are int8 with a scale a channel, activations uint8 with one a tensor, set by their extremes over all images.
  ONNX Runtime's kernels for x86 are made for that pair, and a ReLU that follows a convolution costs nothing then.
- Quantised are the layers with weights and the ReLUs behind them (``KINDS``), and everything else stays in float32.
  Integers in every operator that the quantiser knows are slower than that, and with int8 activations slower than
  float32: each pair around an addition or a concatenation is a pass over the map.
- On CPUs with AVX2 or AVX-512 and no VNNI, sums of products of that pair can saturate. Judge a file where it is to run.
- The extremes are taken here, a part of the tensors at a time: ONNX Runtime's own calibrator takes many times as long.
- Calibrated once, written as often as the search asks.
"""

import copy
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from featherseg.deploy.packages import first_line, runtime_module
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.quantization_judge import Progress
from featherseg.errors import FeathersegError

PACKAGES = ("onnx", "onnxruntime")
EXTRA = "onnx"
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
KINDS = (*WEIGHTED, "Clip", "Relu")
"""The operators that are quantised."""
_AT_ONCE = 24


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the quantiser's advice to run its own preparation, which fails on these graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class OnnxQuantiser:
    """An ONNX model calibrated once.

    Args:
        content: the bytes of the float32 file.
        images: to calibrate with.
        progress: told of every image.

    Attributes:
        layers: names of the nodes with weights, in the order of the graph.

    Raises:
        FeathersegError: a package is missing, or the quantiser fails.
    """

    def __init__(self, content: bytes, images: Samples, progress: Progress) -> None:
        onnx = runtime_module("onnx", EXTRA)
        model = runtime_module("onnx.shape_inference", EXTRA).infer_shapes(onnx.load_from_string(content))
        self._model = model
        self.layers: tuple[str, ...] = tuple(node.name for node in model.graph.node if node.op_type in WEIGHTED)
        self._ranges = self._extremes(images, progress)

    def _activations(self) -> list[str]:
        """Floating tensors that quantised operators read or give, constants apart."""
        graph = self._model.graph
        floating = runtime_module("onnx", EXTRA).TensorProto.FLOAT
        known = {
            value.name
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.elem_type == floating
        }
        known -= {value.name for value in graph.initializer}
        touched = {
            name: None
            for node in graph.node
            if node.op_type in KINDS
            for name in (*node.input, *node.output)
            if name in known
        }
        return list(touched)

    def _extremes(self, images: Samples, progress: Progress) -> dict[str, tuple[float, float]]:
        onnx, runtime = runtime_module("onnx", EXTRA), runtime_module("onnxruntime", EXTRA)
        model, names = copy.deepcopy(self._model), self._activations()
        given = {value.name for value in model.graph.output}
        for name in names:
            if name not in given:
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
        found: dict[str, tuple[float, float]] = {}
        for number, sample in enumerate(images):
            progress("calibrating", number, len(images))
            for part in parts:
                for name, values in zip(part, session.run(part, {"image": sample.image[None]}), strict=True):
                    if values.size:
                        least, greatest = found.get(name, (np.inf, -np.inf))
                        found[name] = min(least, float(values.min())), max(greatest, float(values.max()))
        return found

    def program(self, kept: Collection[str]) -> bytes:
        """The int8 file in which the nodes ``kept`` stay in float32."""
        calibrate = runtime_module("onnxruntime.quantization.calibrate", EXTRA)
        kinds = runtime_module("onnxruntime.quantization.quant_utils", EXTRA).QuantType
        ranges = {
            name: tuple(np.array(end, np.float32) for end in (least, greatest))
            for name, (least, greatest) in self._ranges.items()
        }
        try:
            with _hushed():
                quantizer: Any = runtime_module("onnxruntime.quantization.qdq_quantizer", EXTRA).QDQQuantizer(
                    copy.deepcopy(self._model),
                    True,
                    False,
                    kinds.QInt8,  # of weights
                    kinds.QUInt8,
                    calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ranges),
                    [],
                    list(kept),
                    list(KINDS),
                    {},
                )
                quantizer.quantize_model()
        except Exception as error:  # the quantiser fails anywhere inside
            raise FeathersegError(
                f"ONNX Runtime's quantiser fails on this network: {first_line(error)}. The versions in constraints.txt "
                "are tested."
            ) from error
        return quantizer.model.model.SerializeToString()


Quantiser = OnnxQuantiser
