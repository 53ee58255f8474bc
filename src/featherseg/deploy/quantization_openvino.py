"""int8 for OpenVINO, by NNCF: calibrated once, and layers brought back to float32 in the graph that it made.

Choices worth knowing:

- Weights have a scale a channel. Activations have one a tensor, symmetric behind a ReLU, with a zero point elsewhere,
  since a PReLU gives few negative numbers.
- A layer that stays in float32 gets its weights and its bias back as they were before NNCF corrected them, and reads
  what stood before its quantiser, also through a concatenation or a transposition; behind a pooling or an enlarging it
  still reads rounded maps. That takes no second calibration.
- Dilated convolutions of 3x1 and 1x3 stay in float32: in int8 on a CPU with AMX, OpenVINO 2026.4 crashes in them at
  some sizes (FASSD-Net's MDA: fassd_net_l2 at 360x480, fassd_net at 180x240).
- NNCF reports every use to its makers over the network, unless it believes to be tested: here it does.
"""

import os
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from featherseg.deploy import openvino as door
from featherseg.deploy.packages import first_line, runtime_module
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.quantization_judge import Progress
from featherseg.errors import FeathersegError

PACKAGES = ("nncf", "openvino", "onnx")
EXTRA = "openvino"
WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_QUANTISER = "FakeQuantize"
_MOVES = ("Transpose", "Pad", "Reshape")
_NODES_OF_A_CONSTANT = 16


@contextmanager
def _hushed() -> Iterator[None]:
    """Without NNCF's own bars and logs, which go to stdout; ours go to stderr meanwhile."""
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Counted:
    """Pixels ``[1, H, W, 3]`` of every sample; the first run through them tells how far it is."""

    def __init__(self, samples: Samples, progress: Progress) -> None:
        self._samples, self._progress, self._runs = samples, progress, 0

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[np.ndarray]:
        self._runs += 1
        for number, sample in enumerate(self._samples):
            if self._runs == 1:
                self._progress("calibrating", number, len(self._samples))
            yield sample.image[None]


class OpenVinoQuantiser:
    """An OpenVINO model calibrated once.

    Args:
        content: of the float32 files.
        images: to calibrate with.
        progress: told of every image.

    Attributes:
        layers: names of the operations with weights that int8 is for, in the order of the graph.

    Raises:
        FeathersegError: a package is missing, or NNCF fails.
    """

    def __init__(self, content: door.Content, images: Samples, progress: Progress) -> None:
        os.environ.setdefault("NNCF_CI", "1")
        self._float = _by_name(door._read(content, "the program"))
        left_out = [name for name, node in self._float.items() if _crashes_in_int8(node)]
        with _hushed():
            nncf = runtime_module("nncf", EXTRA)
            nncf.set_log_level(50)
            try:
                made = nncf.quantize(
                    door._read(content, "the program"),
                    nncf.Dataset(_Counted(images, progress)),
                    subset_size=len(images),
                    preset=nncf.QuantizationPreset.MIXED,
                    ignored_scope=nncf.IgnoredScope(names=left_out),
                )
            except Exception as error:  # NNCF fails anywhere inside
                raise FeathersegError(
                    f"NNCF {nncf.__version__} fails on this network: {first_line(error)}. The versions in "
                    "constraints.txt are tested."
                ) from error
        self._content = door.serialised(made)
        self.layers: tuple[str, ...] = tuple(
            name
            for name, node in _by_name(made).items()
            if node.get_type_name() in WEIGHTED
            and name in self._float
            and name not in left_out
            and _is_constant(self._float[name].input_value(1))
        )

    def program(self, kept: Collection[str]) -> door.Content:
        """The int8 files in which the operations ``kept`` stay in float32."""
        if not kept:
            return self._content
        model = door._read(self._content, "the program")
        nodes = _by_name(model)
        for name in kept:
            self._restore(nodes[name], self._float[name])
        return door.serialised(model)

    def _restore(self, node: Any, before: Any) -> None:
        port = _behind_moves(node.input(0))
        port.replace_source_output(_unquantised(port.get_source_output()))
        node.input(1).replace_source_output(_constant(before.input_value(1)))
        reader, original = _bias_adder(node), _bias_adder(before)
        for number in (0, 1) if reader and original else ():
            if _is_constant(original.input_value(number)) and _is_constant(reader.input_value(number)):
                reader.input(number).replace_source_output(_constant(original.input_value(number)))


def _by_name(model: Any) -> dict[str, Any]:
    return {node.get_friendly_name(): node for node in model.get_ordered_ops()}


def _crashes_in_int8(node: Any) -> bool:
    """Whether it is a dilated convolution whose kernel is longer one way than the other."""
    if node.get_type_name() != "Convolution":
        return False
    height, width = list(node.input_value(1).get_partial_shape().to_shape())[-2:]
    return height != width and max(node.get_attributes()["dilations"]) > 1


def _bias_adder(node: Any) -> Any:
    """What adds a bias to what ``node`` gives, if there is exactly one addition behind it."""
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    additions = [reader for reader in readers if reader.get_type_name() == "Add"]
    return additions[0] if len(additions) == 1 else None


def _is_constant(output: Any) -> bool:
    """Whether a value hangs on constants alone, and on few of them, as a bias does."""
    waiting, seen = [output.get_node()], 0
    while waiting and seen < _NODES_OF_A_CONSTANT:
        node = waiting.pop()
        seen += 1
        if node.get_type_name() == "Parameter":
            return False
        waiting += [value.get_node() for value in node.input_values()]
    return not waiting


def _constant(output: Any) -> Any:
    """A value that hangs on constants alone, as a constant of its own."""
    openvino = runtime_module("openvino", EXTRA)
    node = output.get_node()
    if node.get_type_name() == "Constant":
        values = np.array(node.get_data())
    else:
        compiled = openvino.compile_model(
            openvino.Model([output], []), "CPU", {"INFERENCE_PRECISION_HINT": door.HINTS["fp32"]}
        )
        values = np.array(compiled({})[0])
    return runtime_module("openvino.opset13", EXTRA).constant(values).output(0)


def _behind_moves(port: Any) -> Any:
    """The port through which ``port`` gets its values, behind what only moves them, and for it alone."""
    source = port.get_source_output()
    readers = [reader for reader in source.get_target_inputs() if reader.get_node().get_type_name() != "ShapeOf"]
    if source.get_node().get_type_name() not in _MOVES or len(readers) > 1:
        return port
    return _behind_moves(source.get_node().input(0))


def _unquantised(output: Any) -> Any:
    """What stands before the quantiser that gives ``output``, or before those of the parts of a concatenation."""
    node = output.get_node()
    if node.get_type_name() == _QUANTISER:
        return node.input_value(0)
    if node.get_type_name() != "Concat":
        return output
    parts = [_unquantised(value) for value in node.input_values()]
    if all(part == value for part, value in zip(parts, node.input_values(), strict=True)):
        return output
    return runtime_module("openvino.opset13", EXTRA).concat(parts, node.get_axis()).output(0)


Quantiser = OpenVinoQuantiser
