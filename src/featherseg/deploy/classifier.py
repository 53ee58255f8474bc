"""A classifier ready for use: ``load("runs/mine/weights.safetensors").predict("photo.jpg").top()``.

Choices worth knowing:

- The view (how a picture of any size becomes the network's input) travels with the weights and is the one that they
  were judged in; it may cut the border off.
- What only a segmentation has (label maps, overlays) is refused by a message that says so, under the same names, since
  :func:`featherseg.load` gives either.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from featherseg.classification.views import ClassificationView
from featherseg.deploy.segmenter import class_names_of, read_image_argument
from featherseg.deploy.session import Precision, choose_device
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.models.output import InputSpec
from featherseg.models.weights import save_weights

OF_SEGMENTATIONS = ("labels", "label_set", "palette", "shares", "overlay", "picture", "confidence", "session")


class NoLabelMap(FeathersegError, AttributeError):
    """Something was asked of a classifier, or of what it says, that only a segmentation has."""


def _refuse(name: str, owner: str) -> NoReturn:
    if name in OF_SEGMENTATIONS:
        raise NoLabelMap(
            f"{name}: a classifier says what an image shows, not where, and has no {name}. Use top(), or load the "
            "weights of a segmentation network (`featherseg models --weights`)."
        )
    raise AttributeError(f"{owner!r} object has no attribute {name!r}")


@dataclass(frozen=True, eq=False)
class Classification:
    """What one image shows.

    Attributes:
        classes: names of all classes, in id order.
        probabilities: float32 ``[K]``, the soft-max of the classes; they sum to 1.
        size: (height, width) of the image.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    size: tuple[int, int]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` most probable classes with their probabilities, 0 to 1, best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.classes[i], float(self.probabilities[i])) for i in order]

    def __str__(self) -> str:
        return ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.top())

    def save(self, folder: str | Path, stem: str, *, overlay: bool = True) -> Path:
        """Write ``STEM.json`` into ``folder``: the image's size and the five most probable classes.

        Args:
            folder: made if need be.
            stem: may hold folders of its own (``"monday/0001"``).
            overlay: there is none; taken so that all predictions are saved alike.

        Raises:
            FeathersegError: the folder cannot be written, or no space is left.
        """
        target = Path(folder) / stem
        height, width = self.size
        top = [{"class": name, "probability": round(share, 6)} for name, share in self.top()]
        about = {"size": {"height": height, "width": width}, "top": top}
        return atomic_write(target.with_name(f"{target.name}.json"), json.dumps(about, indent=1) + "\n")

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(name, type(self).__name__)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier with all that is needed to use it.

    Attributes:
        name: what it was loaded by.
        network: the module, in ``eval()``.
        classes: their names, in id order.
        input_spec: how pixels become its input.
        view: which pixels of an image it sees.
        metadata: what the weights file says of itself.
        precision: "bf16" runs under autocast.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    input_spec: InputSpec
    view: ClassificationView
    metadata: dict[str, Any]
    precision: Precision = "fp32"

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K]`` of tensors ``[B, 3, H, W]`` normalised by ``input_spec``, H and W the view's size.

        Raises:
            FeathersegError: ``images`` is something else.
        """
        if (
            not isinstance(images, Tensor)
            or images.dim() != 4
            or images.shape[1] != 3
            or not images.is_floating_point()
        ):
            raise FeathersegError(
                "images are no normalised float tensors [B, 3, H, W], as input_spec.normalise makes them. Give those, "
                "or use predict() for pictures."
            )
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.network(images.to(device).contiguous(memory_format=torch.channels_last)).float()

    def predict(self, image: str | Path | np.ndarray | Image.Image) -> Classification:
        """Say what one image shows, of any size from 1x1.

        Args:
            image: a file, a uint8 array ``[H, W, 3]`` in RGB, or a PIL image.

        Raises:
            FeathersegError: the file is missing or spoilt, or the array is of another type or shape.
        """
        pixels = read_image_argument(image)
        inputs = self.input_spec.normalise(torch.from_numpy(self.view(pixels))[None])
        logits = self.logits(inputs)[0]
        if not bool(torch.isfinite(logits).all()):
            raise FeathersegError(
                f"{self.name}: the network gives numbers that are not finite. Its weights are spoilt: the training "
                "diverged or was too short for batch norm; train again with a lower optimizer.lr or for longer."
            )
        height, width = pixels.shape[:2]
        return Classification(self.classes, logits.softmax(0).cpu().numpy(), (height, width))

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the weights with their metadata; ``half`` stores kernels as float16."""
        return save_weights(path, self.network.state_dict(), self.metadata, half=half)

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(name, type(self).__name__)


def classifier(
    network: nn.Module,
    metadata: dict[str, Any],
    *,
    name: str = "unnamed",
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Classifier:
    """Make a :class:`Classifier` of a network and the metadata of its weights, run by PyTorch.

    Raises:
        FeathersegError: there is no such device, or the metadata does not fit the network.
    """
    view = ClassificationView.of_weights(metadata, name)
    network = network.eval().to(choose_device(device))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    return Classifier(name, network, class_names_of(metadata, name), spec, view, metadata, precision)
