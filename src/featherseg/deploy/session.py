"""One way to run a network, whatever runs it: a ``Session`` turns pixels into logits or labels.

Choices worth knowing:

- Tensors are the common currency, since every runtime can share their memory with numpy: uint8 pixels go in as they
  were decoded, and normalising is the session's, since exported graphs have it inside.
- What comes out is what the runtime gives soonest, and ``output`` says what that is; :func:`labels_of` makes label maps
  of any of it.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from featherseg.deploy.labels import LabelMap, label_map
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

Precision = Literal["fp32", "bf16"]
Output = Literal["logits", "full", "labels"]
OUTPUTS = get_args(Output)


class Session(Protocol):
    """A network ready to run.

    Attributes:
        runtime: its name: ``"torch"``, ``"onnx"``, ``"openvino"``, ``"litert"``, ``"executorch"``.
        output: what :meth:`run` gives: ``"logits"`` float32 ``[B, K, h, w]`` at the network's stride, ``"full"``
            float32 ``[B, K, H, W]``, or ``"labels"`` uint8 ``[B, H, W]``.
    """

    runtime: str
    output: Output

    def run(self, images: Tensor) -> Tensor:
        """What the network says of uint8 RGB ``[B, H, W, 3]``."""
        ...


def labels_of(
    found: Tensor, output: Output, spec: InputSpec, size: tuple[int, int], *, confidence: bool = False
) -> LabelMap:
    """The label map of one image.

    Args:
        found: what a session gave for it, without the batch axis.
        output: of the session.
        spec: of the network.
        size: (H, W) of the image.
        confidence: give the probability of each pixel's class as well.

    Raises:
        FeathersegError: confidence is asked for where there are labels alone.
    """
    if output == "logits":
        return label_map(found, spec, size, confidence=confidence)
    if output == "labels":
        if confidence:
            raise FeathersegError(
                "the file gives labels alone, without how sure they are. Export the network with --ends logits."
            )
        return LabelMap(found.numpy())
    best, labels = found.max(0)
    sure = (found - best).exp_().sum(0).reciprocal_().numpy() if confidence else None
    return LabelMap(labels.to(torch.uint8).numpy(), sure)


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
        compile: let PyTorch compile the network, at the first image and at the first of another size; that takes a
            minute or more, and on CPUs a C++ compiler. Labels are those of the network but for rounding.

    Raises:
        FeathersegError: there is no such device or precision.
    """

    runtime = "torch"
    output: Output = "logits"

    def __init__(
        self, network: nn.Module, *, device: str = "cpu", precision: Precision = "fp32", compile: bool = False
    ) -> None:
        if precision not in get_args(Precision):
            raise FeathersegError(f"precision {precision!r} is not known. There are: {', '.join(get_args(Precision))}.")
        self.device = choose_device(device)
        self.precision = precision
        self.network = network.eval().to(self.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.compiled = compile
        self._forward: Callable[[Tensor], Any] = torch.compile(self.network) if compile else self.network

    def run(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K, h, w]`` at the network's stride, for uint8 RGB ``[B, H, W, 3]``."""
        spec: InputSpec = self.network.input_spec  # type: ignore[assignment]
        return self.logits(spec.normalise(images))

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K, h, w]`` at the network's stride, for normalised float32 ``[B, 3, H, W]``.

        Raises:
            FeathersegError: the network is to be compiled, and cannot be here.
        """
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self._compiled_forward(images) if self.compiled else self._forward(images)
        return output.logits.float()

    def _compiled_forward(self, images: Tensor) -> Any:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self._forward(images)
        except TorchDynamoException as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise FeathersegError(
                f"the network cannot be compiled here ({reason.strip()}). On a CPU that takes a C++ compiler: install "
                "g++, or leave --compile out."
            ) from None
