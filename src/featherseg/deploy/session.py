"""One way to run a network, whatever runs it: a ``Session`` turns normalised images into low-resolution logits.

A session knows nothing of pixels, classes or label maps; :class:`featherseg.deploy.segmenter.Segmenter` does. Tensors
are the common currency, since every runtime can share their memory with numpy.
"""

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError

Precision = Literal["fp32", "bf16"]


class Session(Protocol):
    """A network ready to run. ``runtime`` is its name: ``"torch"``."""

    runtime: str

    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K, h, w]`` at the network's stride, for normalised float32 ``[B, 3, H, W]``."""
        ...


def choose_device(device: str) -> torch.device:
    """The device that ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:N"`` means here.

    Raises:
        FeathersegError: there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda"):
            raise RuntimeError("networks run on CPUs and CUDA")
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise FeathersegError(f"device {device!r} cannot be used here ({reason}). Choose cpu or auto.") from None
    return chosen


class TorchSession:
    """The network in PyTorch itself: ``eval()``, channels last, no gradients.

    Args:
        network: gives a ``SegmentationOutput``; moved to ``device`` and put in ``eval()``.
        device: as :func:`choose_device` has it.
        precision: ``"bf16"`` runs under autocast; the logits are float32 all the same.

    Raises:
        FeathersegError: there is no such device or precision.
    """

    runtime = "torch"

    def __init__(self, network: nn.Module, *, device: str = "cpu", precision: Precision = "fp32") -> None:
        if precision not in get_args(Precision):
            raise FeathersegError(f"precision {precision!r} is not known. There are: {', '.join(get_args(Precision))}.")
        self.device = choose_device(device)
        self.precision = precision
        self.network = network.eval().to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.network(images)
        return output.logits.float()
