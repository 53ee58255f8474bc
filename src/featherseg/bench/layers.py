"""What each layer of a network takes, does and moves, as its runtime executes it.

Choices worth knowing:

- PyTorch's operators are seen and timed by a dispatch mode, functional ones too, under the name of the module that
  called them; views are passed over. Multiply-accumulates are half of what ``torch.utils.flop_counter`` says.
- OpenVINO is asked itself: it names what it really ran, fused and converted between layouts, with shapes and
  precisions. The program is compiled once more for that, for the one size, with counters switched on.
- Other runtimes tell nothing that could be matched with the network's layers here, and have no table of layers.
- Times are medians of several runs. Both ways of looking cost something for each layer: the sum over layers lies above
  the network's own time.
"""

import statistics
import time
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from featherseg.bench.roofline import Layer
from featherseg.deploy.openvino import HINTS, openvino_core
from featherseg.deploy.session import Precision, TorchSession

RUNS = 5
_TORCH_PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.int8: "int8", torch.uint8: "int8"}
_OPENVINO_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "i8": "int8", "u8": "int8"}
_PRECISION_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


class _Watch(TorchDispatchMode):
    """Remembers every operator that is no view: (module, kind, precision, MACs, bytes, seconds)."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str, int, int, float]] = []
        self.tracker = ModuleTracker()
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        began = time.perf_counter()
        result = func(*args, **kwargs)
        self._wait()
        taken = time.perf_counter() - began
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if func.is_view or not outputs:
            return result
        count = flop_registry.get(func.overloadpacket)
        macs = count(*args, **kwargs, out_val=result) // 2 if count else 0
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if not moved:
            return result
        precision = _TORCH_PRECISIONS.get(outputs[0].dtype, str(outputs[0].dtype).removeprefix("torch."))
        where = max(self.tracker.parents, key=len)
        self.seen.append((where, func.overloadpacket.__name__, precision, macs, moved, taken))
        return result


@torch.no_grad()
def torch_layers(session: TorchSession, images: Tensor, runs: int = RUNS) -> list[Layer]:
    """The operators of one pass of normalised float32 ``[1, 3, H, W]``, in their order."""
    device = session.device
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    passes = []
    for _ in range(runs + 1):
        watch = _Watch(device)
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=session.precision == "bf16")
        with autocast, watch.tracker, watch:
            session.network(images)
        passes.append(watch.seen)
    found = []
    for same in zip(*passes[1:], strict=True):
        where, kind, precision, macs, moved, _ = same[0]
        taken = 1000 * statistics.median(seen[5] for seen in same)
        found.append(Layer(_without_root(where), kind, precision, macs, moved, taken))
    return found


def _without_root(where: str) -> str:
    """The module's name as the network has it: the tracker puts the network's class before it."""
    return where.partition(".")[2] or where


def openvino_layers(
    file: str | Path, size: tuple[int, int], precision: Precision, threads: int, runs: int = RUNS
) -> list[Layer]:
    """The nodes that OpenVINO executes for one uint8 or float image of ``size``, in their order.

    Raises:
        FeathersegError: openvino is not installed.
    """
    core = openvino_core()
    model = core.read_model(file)
    taken = model.inputs[0]
    pixels = taken.partial_shape[3].is_static and taken.partial_shape[3].get_length() == 3
    shape = [1, *size, 3] if pixels else [1, 3, *size]
    if model.is_dynamic():
        model.reshape(shape)
    settings = {
        "PERF_COUNT": True,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    image = torch.zeros(shape, dtype=torch.uint8 if taken.element_type.get_type_name() == "u8" else torch.float32)
    taken_ms: dict[str, list[float]] = {}
    for number in range(runs + 1):
        request.infer({0: image.numpy()})
        for node in request.get_profiling_info():
            if number and node.status == node.Status.EXECUTED:
                taken_ms.setdefault(node.node_name, []).append(1000 * node.real_time.total_seconds())
    described = {node.get_friendly_name(): node for node in compiled.get_runtime_model().get_ops()}
    return [
        _openvino_layer(name, described[name], statistics.median(milliseconds))
        for name, milliseconds in taken_ms.items()
        if name in described
    ]


def _openvino_layer(name: str, node: Any, milliseconds: float) -> Layer:
    about = node.get_rt_info()
    kind = str(about["layerType"].astype(str))
    named = str(about["runtimePrecision"].astype(str))
    precision = _OPENVINO_PRECISIONS.get(named, named)
    size = _PRECISION_BYTES.get(precision, 4)
    inputs = [list(port.get_shape()) for port in node.inputs()]
    outputs = [list(port.get_shape()) for port in node.outputs()]
    moved = sum(prod(list(port.get_shape())) * port.get_element_type().size for port in node.outputs())
    for port in node.inputs():
        source = port.get_source_output().get_node()
        constant = source.get_rt_info()["layerType"].astype(str) == "Const"
        # A constant is shown as it is stored, and packed for the precision that the node computes in.
        moved += prod(list(port.get_shape())) * (size if constant else port.get_element_type().size)
    return Layer(name, kind, precision, node_macs(kind, inputs, outputs), int(moved), milliseconds)


def node_macs(kind: str, inputs: list[list[int]], outputs: list[list[int]]) -> int:
    """Multiply-accumulates of an OpenVINO node by the shapes of what goes in, weights second, and comes out."""
    if len(inputs) < 2:
        return 0
    if kind in ("Convolution", "GroupConvolution"):
        return prod(outputs[0]) * prod(inputs[1][-3:])
    if kind in ("Deconvolution", "GroupDeconvolution"):
        return prod(inputs[0]) * prod(inputs[1][-3:])
    if kind in ("FullyConnected", "MatMul"):
        return prod(outputs[0]) * inputs[0][-1]
    return 0
