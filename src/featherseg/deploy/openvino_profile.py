"""How long each node of an OpenVINO model takes on the CPU, by OpenVINO's own clock."""

from statistics import median
from typing import Any

import numpy as np

from featherseg.deploy.openvino import HINTS, openvino_core
from featherseg.deploy.session import Precision


def node_milliseconds(
    model: Any, images: np.ndarray, precision: Precision, threads: int, runs: int
) -> tuple[Any, dict[str, float]]:
    """The compiled model, and the median time in ms of each node that it executes, by name and in their order.

    Args:
        model: of one input, for the shape of ``images`` or open.
        images: what it gets, in each of ``runs`` passes after one that is not counted.
        threads: of the CPU.
    """
    if model.is_dynamic():
        model = model.clone()
        model.reshape(list(images.shape))
    settings = {
        "PERF_COUNT": True,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino_core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    taken: dict[str, list[float]] = {}
    for number in range(runs + 1):
        request.infer({0: images})
        for node in request.get_profiling_info():
            if number and node.status == node.Status.EXECUTED:
                taken.setdefault(node.node_name, []).append(1000 * node.real_time.total_seconds())
    return compiled, {name: median(milliseconds) for name, milliseconds in taken.items()}
