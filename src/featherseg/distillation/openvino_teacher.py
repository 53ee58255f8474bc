"""A teacher that OpenVINO runs: on CPUs its convolutions, the depthwise ones above all, are several times as fast.

Design choices:
- one compiled network for each shape of batch and choice of maps, with as many threads as PyTorch has then;
- maps come from the same hooks as in PyTorch, which are traced with the network;
- the image is normalised by PyTorch, as for every teacher.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.distillation.paths import watched
from featherseg.distillation.teacher import Taught, Teacher
from featherseg.errors import FeathersegError
from featherseg.models.openvino_core import kept_core

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class _Shown(nn.Module):
    """Logits, then the maps by their names' order."""

    def __init__(self, network: nn.Module, paths: Sequence[str], who: str) -> None:
        super().__init__()
        self.network, self.paths, self.who = network, tuple(paths), who

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with watched(self.network, self.paths, self.who) as maps:
            output = self.network(images)
        return getattr(output, "logits", output), *(maps[path] for path in self.paths)


@dataclass(frozen=True)
class OpenVinoTeacher(Teacher):
    """A teacher on a CPU, in the ``precision`` "fp32" or "bf16".

    Raises:
        FeathersegError: OpenVINO is not installed, does not take the network, or the images are on a GPU.
    """

    precision: str = "fp32"
    _compiled: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def look(self, inputs: Tensor, paths: Sequence[str]) -> Taught:
        if inputs.device.type != "cpu":
            raise FeathersegError(
                f"distillation.runtime=openvino runs a teacher on the CPU, and this training is on {inputs.device}. "
                "Leave it out."
            )
        key = (*inputs.shape, *paths)
        if key not in self._compiled:
            self._compiled[key] = self._compile(inputs, paths)
        told = self._compiled[key].infer([inputs.contiguous().numpy()])
        logits, *maps = (torch.from_numpy(one) for one in told.values())
        return Taught(logits, dict(zip(paths, maps, strict=True)))

    def _compile(self, inputs: Tensor, paths: Sequence[str]) -> Any:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as in deploy/packages.py
        try:
            openvino = import_module("openvino")
        except ImportError:
            raise FeathersegError(
                "distillation.runtime=openvino needs OpenVINO. Install it with `pip install openvino`, or leave it out."
            ) from None
        shown = _Shown(self.network, paths, "the teacher").eval()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # as in deploy/openvino.py
        }
        try:
            with warnings.catch_warnings(), torch.autocast("cpu", enabled=False):
                warnings.simplefilter("ignore")  # what tracing says of sizes, which are fixed here
                model = openvino.convert_model(shown, example_input=inputs.contiguous())
            model.reshape(list(inputs.shape))
            return kept_core(openvino).compile_model(model, "CPU", settings).create_infer_request()
        except Exception as error:  # whatever the converter meets in a network of the user's own
            reason = str(error).strip().split("\n")[0]
            raise FeathersegError(
                f"distillation.runtime=openvino: OpenVINO does not take {self.name} ({reason}). Leave it out."
            ) from error


def in_openvino(teacher: Teacher, precision: str) -> OpenVinoTeacher:
    """The same teacher, run by OpenVINO in a training's ``precision``.

    Raises:
        FeathersegError: a CPU knows no such precision.
    """
    if precision not in _PRECISIONS:
        raise FeathersegError(
            f"distillation.runtime=openvino: runs in {' or '.join(_PRECISIONS)}, and train.precision is {precision}."
        )
    return OpenVinoTeacher(
        teacher.network, teacher.spec, teacher.name, teacher.digest, teacher.classes, precision=precision
    )
