"""A detector on whole images: pixels in, detections in those pixels out. Training's judging and use share it."""

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.detection.decode import Found, read_output
from featherseg.detection.samples import resize_image
from featherseg.models.detection_output import DetectorSpec
from featherseg.models.output import InputSpec


class AnchorCache:
    """The anchors of a network by the size of its input; the last few sizes are kept."""

    def __init__(self, network: nn.Module, kept: int = 8) -> None:
        self.network, self.kept = network, kept
        self._anchors: dict[tuple[int, int, torch.device], Tensor] = {}

    def __call__(self, height: int, width: int, device: torch.device) -> Tensor:
        key = (height, width, device)
        if key not in self._anchors:
            if len(self._anchors) >= self.kept:
                self._anchors.pop(next(iter(self._anchors)))
            self._anchors[key] = self.network.anchors(height, width).to(device)  # type: ignore[operator]
        return self._anchors[key]


def prepare(image: np.ndarray, input_spec: InputSpec, spec: DetectorSpec) -> Tensor:
    """One uint8 image ``[H, W, 3]`` as the network takes it: float32 ``[1, 3, h, w]``."""
    if spec.size is not None:
        image = resize_image(image, spec.size)
    pixels = image if image.flags.writeable and image.flags.c_contiguous else image.copy(order="C")
    return spec.pad(input_spec.normalise(torch.from_numpy(pixels)[None]))


@torch.inference_mode()
def detect(network: nn.Module, image: np.ndarray, anchors: AnchorCache, *, precision: str = "fp32") -> Found:
    """The detections in one image.

    Args:
        network: a detector in ``eval()``, on any device.
        image: uint8 RGB ``[H, W, 3]``.
        anchors: of the network.
        precision: "bf16" or "fp16" runs under autocast.

    Raises:
        FeathersegError: the network gives numbers that are not finite.
    """
    spec: DetectorSpec = network.detector_spec  # type: ignore[assignment]
    device = next(network.parameters()).device
    inputs = prepare(image, network.input_spec, spec).to(device)  # type: ignore[arg-type]
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    with torch.autocast(device.type, half, enabled=precision != "fp32"):
        output = network(inputs)
    boxes = anchors(inputs.shape[2], inputs.shape[3], device)
    return read_output(output.scores[0], output.deltas[0], boxes, spec, image.shape[:2])  # type: ignore[arg-type]
