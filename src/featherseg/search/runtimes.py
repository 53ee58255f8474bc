"""What runs a network on the user's device, for measuring it there: one class a runtime, behind one table.

A runtime's packages are imported when it is asked for. Another one enters as a class with the members of
:class:`Runtime` and a line in :data:`RUNTIMES`.

OpenVINO tells by its own clock how long each layer takes, and an operator is what its layers take. Timed as a whole, a
small operator is mostly what a network pays once: the call, and moving its input to the layout and precision of the
kernels and back (a sum of such times is several times that of the network; `benchmarks/latency_table.py` compares).
"""

import io
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError, nearest
from featherseg.models.openvino_core import kept_core

Precision = Literal["fp32", "bf16", "fp16"]
_AT_THE_ENDS = ("Reorder", "Convert")


class Runtime(Protocol):
    """Something that runs modules."""

    name: str

    def describe(self) -> dict[str, Any]:
        """What its speed depends on, JSON-ready: name, version, device, precision, threads."""
        ...

    def prepare(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        """A function that runs ``module``, which is in ``eval()``, once on ``inputs`` and waits for the end of it."""
        ...

    def prepare_layers(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], float] | None:
        """The same, giving the milliseconds of the layers alone; None where the runtime does not tell them."""
        ...


class PyTorchRuntime:
    """PyTorch itself: channels_last, no gradients; CUDA is waited for."""

    name = "pytorch"

    def __init__(self, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None) -> None:
        try:
            self.device = torch.device(device)
            if self.device.type not in ("cpu", "cuda"):
                raise RuntimeError("networks run on CPUs and CUDA")
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise FeathersegError(f"device {device!r} cannot be measured here ({reason}). Use cpu or cuda.") from None
        self.precision: Precision = precision
        self.threads = threads or torch.get_num_threads()

    def describe(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": torch.__version__,
            "device": self.device.type,
            "precision": self.precision,
            "threads": self.threads,
        }

    def prepare(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        module = module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = [one.to(self.device).contiguous(memory_format=torch.channels_last) for one in inputs]
        kind = torch.float16 if self.precision == "fp16" else torch.bfloat16

        @torch.inference_mode()
        def run() -> None:
            before = torch.get_num_threads()
            if before != self.threads:
                torch.set_num_threads(self.threads)
            with torch.autocast(self.device.type, kind, enabled=self.precision != "fp32"):
                module(*given)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            if before != self.threads:
                torch.set_num_threads(before)

        return run

    def prepare_layers(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        return None


class OpenVinoRuntime:
    """OpenVINO on a CPU or GPU of Intel's, tuned for latency."""

    name = "openvino"

    def __init__(self, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as in deploy/packages.py
        try:
            openvino = import_module("openvino")
        except ImportError:
            raise FeathersegError(
                "the runtime openvino is not installed. Install it with `pip install openvino`, or use "
                "--runtime pytorch."
            ) from None
        self.openvino, self.core = openvino, kept_core(openvino)
        self.device, self.precision = device.upper(), precision
        self.threads = threads or len(os.sched_getaffinity(0))
        if self.device not in self.core.available_devices:
            known = ", ".join(one.lower() for one in self.core.available_devices)
            raise FeathersegError(f"device {device!r} is none of OpenVINO's here. There are: {known}.")

    def describe(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": str(self.openvino.__version__),
            "device": self.device.lower(),
            "precision": self.precision,
            "threads": self.threads,
            "clock": "of the layers, the call with the first",
        }

    def prepare(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        request = self._request(module, inputs)
        given = [one.numpy() for one in inputs]
        return lambda: request.infer(given)

    def prepare_layers(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], float]:
        request = self._request(module, inputs, PERF_COUNT=True)
        given = [one.numpy() for one in inputs]

        def run() -> float:
            request.infer(given)
            nodes = [node for node in request.get_profiling_info() if node.status == node.Status.EXECUTED]
            return 1000 * sum(node.real_time.total_seconds() for node in nodes if node.node_type not in _AT_THE_ENDS)

        return run

    def _request(self, module: nn.Module, inputs: tuple[Tensor, ...], **settings: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing says of branches that depend on sizes, which are fixed here
            model = self.openvino.convert_model(module, example_input=inputs)
        settings |= {"PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[self.precision]
        if self.device == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": self.threads, "ENABLE_CPU_PINNING": False}  # as in deploy/openvino.py
        model.reshape({i: list(one.shape) for i, one in enumerate(inputs)})
        return self.core.compile_model(model, self.device, settings).create_infer_request()


class OnnxRuntime:
    """ONNX Runtime, in float32, on a CPU or, by its build for that, a GPU of NVIDIA's."""

    name = "onnx"

    def __init__(self, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None) -> None:
        try:
            import_module("onnx")
            self.package = import_module("onnxruntime")
        except ImportError:
            raise FeathersegError(
                "the runtime onnx is not installed. Install it with `pip install onnx onnxruntime`, or use "
                "--runtime pytorch."
            ) from None
        if precision != "fp32":
            raise FeathersegError(
                f"ONNX Runtime is measured in fp32 here, not in {precision}. Set latency.precision=fp32."
            )
        self.provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device)
        if self.provider not in self.package.get_available_providers():
            raise FeathersegError(f"device {device!r} is none of ONNX Runtime's here. Use cpu.")
        self.device, self.threads = device, threads or len(os.sched_getaffinity(0))

    def describe(self) -> dict[str, Any]:
        return {
            "runtime": self.name,
            "version": str(self.package.__version__),
            "device": self.device,
            "precision": "fp32",
            "threads": self.threads,
        }

    def prepare(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        content, names = io.BytesIO(), [f"input{number}" for number in range(len(inputs))]
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, inputs, content, dynamo=False, opset_version=18, input_names=names)  # type: ignore[arg-type]
        options = self.package.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.force_spinning_stop", "1")  # as files are run, see deploy/onnx.py
        session = self.package.InferenceSession(content.getvalue(), options, providers=[self.provider])
        given = {name: one.contiguous().numpy() for name, one in zip(names, inputs, strict=True)}
        return lambda: session.run(None, given)

    def prepare_layers(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        return None


RUNTIMES: dict[str, Callable[..., Runtime]] = {
    "pytorch": PyTorchRuntime,
    "openvino": OpenVinoRuntime,
    "onnx": OnnxRuntime,
}


def open_runtime(
    name: str, *, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None
) -> Runtime:
    """The runtime of a name.

    Raises:
        FeathersegError: there is none, it is not installed, or it has no such device.
    """
    if name not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise FeathersegError(f"no runtime is called {name!r}{nearest(name, RUNTIMES)}. There are: {known}.")
    return RUNTIMES[name](device, precision, threads)
