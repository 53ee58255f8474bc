"""A detector ready for use: ``load("runs/mine/weights.safetensors").predict("photo.jpg").draw()``.

Choices worth knowing:

- Boxes are in pixels of the picture that was given, whatever the network's input is.
- All that the network finds is kept, best first; ``above`` takes what is sure enough, and pictures show that alone.
- Besides JSON a text file in KITTI's result format is written, where the classes are KITTI's, so that its benchmark and
  its tools can read it.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn

from featherseg.data.kitti_results import RESULT_TYPES, result_text
from featherseg.data.palette import distinct_colours
from featherseg.deploy.segmenter import class_names_of, read_image_argument
from featherseg.deploy.session import Precision, choose_device
from featherseg.detection.decode import Found
from featherseg.detection.evaluation import named
from featherseg.detection.inference import AnchorCache, detect
from featherseg.files import atomic_write
from featherseg.models.detection_output import DetectorSpec
from featherseg.models.output import InputSpec
from featherseg.models.weights import save_weights

SHOWN_FROM = 0.5
"""The least score of a box in a picture."""

OUTPUTS = (".json", ".txt", "_boxes.jpg")
"""What is added to an image's name for the files of its detections."""


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best first.

    Attributes:
        boxes: float32 ``[N, 4]`` as x1, y1, x2, y2 in pixels of ``image``.
        scores: float32 ``[N]``, 0 to 1.
        labels: int64 ``[N]``, places in ``classes``.
        classes: names of all classes.
        image: uint8 RGB ``[H, W, 3]``, what was looked at.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def __str__(self) -> str:
        sure = self.above(SHOWN_FROM)
        counts = [(name, int((sure.labels == number).sum())) for number, name in enumerate(self.classes)]
        return ", ".join(f"{count} {name}" for name, count in counts if count) or "nothing"

    def above(self, score: float) -> "Detections":
        """Those with at least this score."""
        kept = self.scores >= score
        return replace(self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept])

    def draw(self, score: float = SHOWN_FROM) -> np.ndarray:
        """The image with the boxes from ``score`` on, with names and scores: uint8 RGB ``[H, W, 3]``."""
        picture = np.ascontiguousarray(self.image).copy()
        colours = distinct_colours(len(self.classes))
        thick = max(1, round(min(picture.shape[:2]) / 250))
        shown = self.above(score)
        # The best last, so that it lies on top.
        for box, value, label in reversed(list(zip(shown.boxes, shown.scores, shown.labels, strict=True))):
            left, top, right, bottom = (round(float(side)) for side in box)
            colour = colours[int(label)]
            cv2.rectangle(picture, (left, top), (right, bottom), colour, thick)
            text = f"{self.classes[int(label)]} {float(value):.2f}"
            (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, thick)
            foot = top - below if top - below - tall >= 0 else top + tall + below
            cv2.rectangle(picture, (left, foot - tall - 1), (left + wide, foot + below), colour, cv2.FILLED)
            ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
            cv2.putText(picture, text, (left, foot), cv2.FONT_HERSHEY_SIMPLEX, 0.4 * thick, ink, thick, cv2.LINE_AA)
        return picture

    def kitti_text(self) -> str:
        """The detections in KITTI's result format, a line each.

        Raises:
            FeathersegError: a class is none of KITTI's.
        """
        return result_text(named(Found(self.boxes, self.scores, self.labels), self.classes))

    def save(self, folder: str | Path, stem: str, *, overlay: bool = True) -> Path:
        """Write ``STEM.json``, ``STEM.txt`` (KITTI's format, where the classes are KITTI's) and ``STEM_boxes.jpg``.

        Args:
            folder: made if need be.
            stem: may hold folders of its own (``"monday/0001"``).
            overlay: write the picture too.

        Raises:
            FeathersegError: the folder cannot be written, or no space is left.
        """
        target = Path(folder) / stem
        height, width = self.image.shape[:2]
        boxes = [
            {
                "class": self.classes[int(label)],
                "score": round(float(score), 6),
                "box": [round(float(x), 2) for x in box],
            }
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
        about = {"size": {"height": height, "width": width}, "boxes": boxes}
        # First: it marks the files beside it as ours, so that a run that was stopped can be run again.
        written = atomic_write(target.with_name(f"{target.name}.json"), json.dumps(about, indent=1) + "\n")
        if set(self.classes) <= set(RESULT_TYPES):
            atomic_write(target.with_name(f"{target.name}.txt"), self.kitti_text())
        if overlay:
            atomic_write(target.with_name(f"{target.name}_boxes.jpg"), _jpeg(self.draw()))
        return written


def _jpeg(picture: np.ndarray) -> bytes:
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as JPEG")
    return encoded.tobytes()


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector with all that is needed to use it.

    Attributes:
        name: what it was loaded by.
        network: the module, in ``eval()``.
        classes: their names, in id order.
        input_spec, detector_spec: how pixels become its input, and its output boxes.
        metadata: what the weights file says of itself.
        anchors: of the network, by the size of its input.
        precision: "bf16" runs under autocast.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    input_spec: InputSpec
    detector_spec: DetectorSpec
    metadata: dict[str, Any]
    anchors: AnchorCache
    precision: Precision = "fp32"

    def predict(self, image: str | Path | np.ndarray | Image.Image) -> Detections:
        """Find things in one image, of any size from 1x1.

        Args:
            image: a file, a uint8 array ``[H, W, 3]`` in RGB, or a PIL image.

        Raises:
            FeathersegError: the file is missing or spoilt, the array is of another type or shape, or the network gives
                numbers that are not finite.
        """
        pixels = read_image_argument(image)
        found = detect(self.network, pixels, self.anchors, precision=self.precision)
        return Detections(found.boxes, found.scores, found.labels, self.classes, pixels)

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the weights with their metadata; ``half`` stores kernels as float16."""
        return save_weights(path, self.network.state_dict(), self.metadata, half=half)


def detector(
    network: nn.Module,
    metadata: dict[str, Any],
    *,
    name: str = "unnamed",
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Detector:
    """Make a :class:`Detector` of a network and the metadata of its weights, run by PyTorch.

    Raises:
        FeathersegError: there is no such device, or the metadata does not fit the network.
    """
    network = network.eval().to(choose_device(device))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Detector(
        name,
        network,
        class_names_of(metadata, name),
        network.input_spec,  # type: ignore[arg-type]
        network.detector_spec,  # type: ignore[arg-type]
        metadata,
        AnchorCache(network),
        precision,
    )
