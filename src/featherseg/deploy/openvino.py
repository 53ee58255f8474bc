"""OpenVINO: a network as a ``.xml`` file and the ``.bin`` beside it, and running such files.

Choices worth knowing:

- The graph is the ONNX one, read by OpenVINO and rewritten where its CPU is slow: two runtimes, one way of exporting.
  Writing needs the package onnx.
- The ``.xml`` carries the SHA-256 of its ``.bin``: weights of another export beside it would label otherwise in
  silence. The ``.bin`` is written first.
- Kernels of fixed sizes are up to a quarter faster than those for any size. The first image of a size is run by the
  program for any; one that comes again gets a program of its own, and the last few of those are kept.
- The precision hint is always set: OpenVINO's own default is bfloat16 on CPUs that have it. Threads are not pinned to
  cores, so that two programs at once do not share one and leave another idle.
"""

import hashlib
import json
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featherseg.deploy.graph_session import GraphSession, Port, signature
from featherseg.deploy.image_graph import ImageGraph, onnx_program
from featherseg.deploy.openvino_rewrites import rewritten
from featherseg.deploy.packages import first_line, runtime_module
from featherseg.deploy.session import Precision
from featherseg.errors import FeathersegError
from featherseg.models.openvino_core import kept_core
from featherseg.models.weights import METADATA_KEY

PACKAGES = ("openvino", "onnx")
EXTRA = "openvino"
make_graph = ImageGraph
HINTS = {"fp32": "f32", "bf16": "bf16"}
SIZES_KEPT = 4
_WEIGHTS_KEY = "featherseg_weights_sha256"
Content = tuple[bytes, bytes]
"""The bytes of the ``.xml`` and of the ``.bin``."""


def convert(graph: ImageGraph) -> Content:
    """The files of ``graph``."""
    runtime_module("onnx", EXTRA)
    core = openvino_core()
    return serialised(rewritten(core.read_model(onnx_program(graph)), core))


def operators(content: Content) -> dict[str, int]:
    """How often each operator occurs."""
    found: dict[str, int] = {}
    for operation in _read(content, "the program").get_ops():
        found[operation.get_type_name()] = found.get(operation.get_type_name(), 0) + 1
    return dict(sorted(found.items()))


def with_metadata(content: Content, values: dict[str, Any]) -> Content:
    """The same model that carries ``values``, as JSON in ``rt_info``, and the digest of its weights."""
    model = _read(content, "the program")
    model.set_rt_info(json.dumps(values, sort_keys=True), METADATA_KEY)
    model.set_rt_info(hashlib.sha256(content[1]).hexdigest(), _WEIGHTS_KEY)
    made = serialised(model)
    if made[1] != content[1]:
        raise FeathersegError(
            f"OpenVINO wrote other weights with the metadata than without. If {tempfile.gettempdir()} is full, free "
            "some space there, or set TMPDIR to another folder."
        )
    return made


def files(content: Content) -> dict[str, bytes]:
    """What is written, by suffix; the weights first."""
    return {".bin": content[1], ".xml": content[0]}


def read_files(file: str | Path) -> Content:
    """The bytes of a ``.xml`` file and of the ``.bin`` beside it.

    Raises:
        FeathersegError: one of them is missing or cannot be read.
    """
    path = Path(file)
    beside = path.with_suffix(".bin")
    try:
        xml = path.read_bytes()
    except OSError as error:
        raise FeathersegError(f"{path}: cannot be read ({error.strerror}). Give a .xml file.") from None
    try:
        return xml, beside.read_bytes()
    except OSError as error:
        raise FeathersegError(
            f"{path}: its weights, {beside.name}, cannot be read ({error.strerror}). An OpenVINO model is two files: "
            "copy both into one folder."
        ) from None


def openvino_core() -> Any:
    """The process's one ``openvino.Core``.

    Raises:
        FeathersegError: openvino is missing or cannot be loaded.
    """
    return kept_core(runtime_module("openvino", EXTRA))


def serialised(model: Any) -> Content:
    """The files of a model of OpenVINO's.

    Raises:
        FeathersegError: they cannot be written to the folder for temporary files.
    """
    package = runtime_module("openvino", EXTRA)
    try:
        with tempfile.TemporaryDirectory() as folder:
            xml, weights = Path(folder) / "model.xml", Path(folder) / "model.bin"
            package.serialize(model, xml, weights)
            return xml.read_bytes(), weights.read_bytes()
    except (OSError, RuntimeError) as error:  # OpenVINO does not say of a stream what befell it
        raise FeathersegError(
            f"OpenVINO cannot write its files to the folder for temporary files, {tempfile.gettempdir()} "
            f"({first_line(error)}). Free some space there, or set TMPDIR to another folder."
        ) from error


def _read(content: Content, where: str) -> Any:
    core = openvino_core()
    try:
        model = core.read_model(*content)
        digest = model.get_rt_info(_WEIGHTS_KEY).astype(str) if model.has_rt_info(_WEIGHTS_KEY) else None
    except Exception as error:  # every kind of damage has an exception of its own
        version = runtime_module("openvino", EXTRA).__version__.split("-")[0]
        raise FeathersegError(
            f"{where}: OpenVINO {version} does not take it ({first_line(error)}). It is damaged, cut short or of a "
            "later version: copy or export both files again, or upgrade openvino."
        ) from None
    if digest is not None and hashlib.sha256(content[1]).hexdigest() != digest:
        raise FeathersegError(
            f"{where}: the .bin beside it is cut short or of another export. Copy or export both files again."
        )
    return model


class OpenVinoSession(GraphSession):
    """An OpenVINO model on a device of OpenVINO's.

    Args:
        content: the bytes of the ``.xml`` and of the ``.bin``; see :func:`read_files`.
        where: the file's name in messages.
        threads: of a CPU; as many as PyTorch has, if None.
        device: "cpu", "gpu", "npu", or "auto" for what OpenVINO chooses.
        precision: "fp32", or "bf16" on CPUs that compute in it.

    Raises:
        FeathersegError: openvino is missing or has no such device or precision, a file is damaged, or of a later
            version, or labels no images.
    """

    runtime = "openvino"

    def __init__(
        self,
        content: Content,
        where: str = "the program",
        *,
        threads: int | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        self._core = openvino_core()
        self._device = _device(device, self._core.available_devices)
        if precision not in HINTS:
            raise FeathersegError(f"precision {precision!r} is not known. There are: {', '.join(HINTS)}.")
        if precision == "bf16" and self._device == "CPU" and not has_bf16():
            raise FeathersegError(f"{where}: this CPU does not compute in bf16. Choose fp32.")
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        self._settings["INFERENCE_PRECISION_HINT"] = HINTS[precision]
        if self._device == "CPU":
            self._settings["INFERENCE_NUM_THREADS"] = threads or torch.get_num_threads()
            self._settings["ENABLE_CPU_PINNING"] = False
        self._model = _read(content, where)
        known = self._model.has_rt_info(METADATA_KEY)
        metadata = self._model.get_rt_info(METADATA_KEY).astype(str) if known else None
        super().__init__(where, signature(_ports(self._model.inputs), _ports(self._model.outputs), where), metadata)
        self._any_size: Any = None
        self._own: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._seen: tuple[int, ...] | None = None

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape in self._own:
            self._own.move_to_end(shape)
            return self._own[shape]
        if self._model.is_dynamic() and shape != self._seen:
            self._seen = shape
            if self._any_size is None:
                self._any_size = self._compiled(self._model)
            return self._any_size
        model = self._model.clone()
        model.reshape(list(shape))
        self._own[shape] = self._compiled(model)
        if len(self._own) > SIZES_KEPT:
            self._own.popitem(last=False)
        return self._own[shape]

    def _compiled(self, model: Any) -> Any:
        return self._core.compile_model(model, self._device, self._settings).create_infer_request()

    def _infer(self, images: np.ndarray) -> np.ndarray:
        try:
            request = self._request(images.shape)
            found = request.infer({0: images}, share_inputs=True, share_outputs=True)[0]
        except Exception as error:
            raise FeathersegError(
                f"{self.where}: fails on images of shape {list(images.shape)}: {first_line(error)}"
            ) from None
        return found.copy()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _ports(nodes: Any) -> list[Port]:
    names = {"f32": "float32", "u8": "uint8", "i32": "int32", "i64": "int64"}
    return [
        Port(
            node.any_name if node.names else "unnamed",
            names.get(node.element_type.get_type_name()) or str(node.element_type.get_type_name()),
            tuple(side.get_length() if side.is_static else None for side in node.partial_shape),
        )
        for node in nodes
    ]


def _device(device: str, known: list[str]) -> str:
    chosen = device.upper()
    if chosen == "AUTO" or chosen in known or chosen in {name.split(".")[0] for name in known}:
        return chosen
    raise FeathersegError(
        f"device {device!r} cannot be used by OpenVINO here (it has: {', '.join(name.lower() for name in known)}). "
        "Choose cpu or auto."
    )


open_session = OpenVinoSession
