"""Augmentation of one image and its label, as a pure function of a random generator.

Design choices:
- the order is FASSD-Net's published one: flip, resize by a random factor, pad, crop, and last (off in the papers'
  recipes) colour; ``flip_last`` moves the flip behind the crop, which shows where padding is at one side;
- everything stays uint8 until the network's InputSpec normalises the batch;
- the label is resized by INTER_NEAREST_EXACT, which takes the pixel under the centre, as the published code (Pillow)
  does; plain INTER_NEAREST takes the one under the corner and moves labels half a pixel against the image;
- images are resized with the corners of pixels aligned, and averaged where they shrink. DeepLab's published code aligns
  the centres of the corner pixels, which moves content by half a pixel at most, and does not average; image and label
  agree in both, so that this is no option;
- padding adds the full deficit on both sides before the crop, as FASSD-Net's published code does, so that a small image
  does not always sit in the middle; ``bottom_right`` adds it once, at the bottom and the right, as DeepLab's does.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from featherseg.data.labels import IGNORE

Padding = Literal["both_sides", "bottom_right"]


@dataclass(frozen=True)
class ColourJitter:
    """Ranges of brightness, contrast and saturation (factor 1 ± value) and of hue (± degrees)."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __bool__(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue))


@dataclass(frozen=True)
class Augmentation:
    """Random flip, scale, crop and colour.

    Attributes:
        crop: (H, W) of the result.
        flip: probability of a horizontal flip.
        scale: range of the resize factor; the size is cut off to whole pixels.
        log_scale: draw the factor evenly on a logarithmic scale instead of a linear one.
        jitter: of colours, after the crop.
        scale_step: draw the factor from ``scale[0]``, ``scale[0] + scale_step``, ..., ``scale[1]``.
        flip_last: flip the crop and its padding, not the image before them.
        padding: where a small image is padded.
        padding_value: grey level of the padding in the image. The middle, 127.5, lies between two; 128 is nearest.
    """

    crop: tuple[int, int]
    flip: float = 0.5
    scale: tuple[float, float] = (0.5, 2.0)
    log_scale: bool = False
    jitter: ColourJitter = ColourJitter()
    scale_step: float | None = None
    flip_last: bool = False
    padding: Padding = "both_sides"
    padding_value: int = 0

    def __call__(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator, focus: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 ``[h, w, 3]`` and ``[h, w]`` of the crop's size.

        Args:
            image: uint8 ``[H, W, 3]``.
            label: uint8 ``[H, W]``.
            rng: where all choices come from.
            focus: a class id that the crop shall contain, where the image does (class-uniform sampling).
        """
        if not self.flip_last and rng.random() < self.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        factor = self._factor(rng)
        height, width = max(1, int(label.shape[0] * factor)), max(1, int(label.shape[1] * factor))
        if (height, width) != label.shape:
            smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            image = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=smooth)
            label = cv2.resize(np.ascontiguousarray(label), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        image, label = pad_to(image, label, self.crop, self.padding, self.padding_value)
        top, left = crop_position(label, self.crop, rng, focus)
        rows, columns = slice(top, top + self.crop[0]), slice(left, left + self.crop[1])
        image, label = image[rows, columns], label[rows, columns]
        if self.flip_last and rng.random() < self.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        image, label = np.ascontiguousarray(image), np.ascontiguousarray(label)
        if self.jitter:
            image = jitter_colours(image, self.jitter, rng)
        return image, label

    def _factor(self, rng: np.random.Generator) -> float:
        low, high = self.scale
        if self.scale_step is not None:
            return low + self.scale_step * int(rng.integers(round((high - low) / self.scale_step) + 1))
        return float(np.exp(rng.uniform(np.log(low), np.log(high)))) if self.log_scale else rng.uniform(low, high)


def pad_to(
    image: np.ndarray, label: np.ndarray, size: tuple[int, int], padding: Padding = "both_sides", value: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Where the image is smaller than ``size``, add the full deficit, grey in the image and ignored in the label."""
    down, right = max(0, size[0] - label.shape[0]), max(0, size[1] - label.shape[1])
    if down or right:
        sides = (down, down, right, right) if padding == "both_sides" else (0, down, 0, right)
        image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=(value, value, value))
        label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=(IGNORE,))
    return image, label


def crop_position(
    label: np.ndarray, size: tuple[int, int], rng: np.random.Generator, focus: int | None = None
) -> tuple[int, int]:
    """Top and left of a random crop; with ``focus``, one that holds a random pixel of that class if there is any."""
    spare = (label.shape[0] - size[0], label.shape[1] - size[1])
    top, left = int(rng.integers(spare[0] + 1)), int(rng.integers(spare[1] + 1))
    if focus is not None:
        found = np.flatnonzero(label == focus)
        if found.size:
            y, x = divmod(int(found[rng.integers(found.size)]), label.shape[1])
            top = int(rng.integers(max(0, y - size[0] + 1), min(spare[0], y) + 1))
            left = int(rng.integers(max(0, x - size[1] + 1), min(spare[1], x) + 1))
    return top, left


def jitter_colours(image: np.ndarray, jitter: ColourJitter, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue of uint8 ``[H, W, 3]`` RGB, each by its own random amount."""
    brightness, contrast, saturation = (
        rng.uniform(max(0.0, 1 - reach), 1 + reach) for reach in (jitter.brightness, jitter.contrast, jitter.saturation)
    )
    degrees = rng.uniform(-jitter.hue, jitter.hue)
    grey = np.array([0.299, 0.587, 0.114])
    # One 3x4 matrix: hue turns around the grey axis, saturation moves towards grey, contrast around the mean.
    angle = np.deg2rad(degrees)
    axis = np.full((3, 3), 1 / 3)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / np.sqrt(3.0)
    turn = axis + np.cos(angle) * (np.eye(3) - axis) + np.sin(angle) * cross
    matrix = (saturation * np.eye(3) + (1 - saturation) * np.ones((3, 1)) * grey) @ turn * (contrast * brightness)
    mean = float(np.dot(np.asarray(cv2.mean(image)[:3]), grey))
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    return cv2.transform(image, np.hstack([matrix, offset]))
