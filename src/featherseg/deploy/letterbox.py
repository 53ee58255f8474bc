"""An image in a box of a fixed size and back again, exact to the pixel.

Choices worth knowing:

- Lengths are whole pixels, and each axis is mapped by the ratio of the lengths that came about, not by the scale that
  was aimed at: with that one, labels of odd sizes come back shifted by up to half a pixel.
- Centres of pixels are mapped, ``(x + 1/2) * inner / image``, in whole numbers where labels are picked.
- The image lies in the middle, an odd pixel of padding at the right and the bottom; the padding has the mean colour of
  the InputSpec, which is zero once it is normalised.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional as F

from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

Size = tuple[int, int]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a box: resized to ``inner``, its upper left corner at (top, left). Sizes are (H, W)."""

    image: Size
    box: Size
    inner: Size
    top: int
    left: int

    @property
    def resized(self) -> bool:
        """Whether the image has another size in the box than by itself."""
        return self.inner != self.image

    def into_box(self, pixels: np.ndarray, colour: Colour) -> np.ndarray:
        """uint8 ``[*image, 3]`` as uint8 ``[*box, 3]``, the rest in ``colour``."""
        if self.resized:
            pixels = resized_pixels(pixels, self.inner)
        if self.inner == self.box:
            return pixels
        boxed = np.empty((*self.box, 3), np.uint8)
        boxed[:] = colour
        boxed[self.top : self.top + self.inner[0], self.left : self.left + self.inner[1]] = pixels
        return boxed

    def labels_out(self, labels: np.ndarray) -> np.ndarray:
        """Ids ``[*box]`` as ids ``[*image]``: each pixel gets those at its own centre."""
        rows = self.top + _centres(self.image[0], self.inner[0])
        columns = self.left + _centres(self.image[1], self.inner[1])
        return np.ascontiguousarray(labels[rows[:, None], columns] if self.resized else labels[self._inside])

    def logits_out(self, logits: Tensor) -> Tensor:
        """Logits ``[K, *box]`` as logits ``[K, *image]``, resized bilinearly."""
        inside = logits[(slice(None), *self._inside)]
        if not self.resized:
            return inside
        return F.interpolate(inside[None], size=self.image, mode="bilinear", align_corners=False)[0]

    @property
    def _inside(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.inner[0]), slice(self.left, self.left + self.inner[1])


def letterbox(image: Size, box: Size) -> Placement:
    """The largest place in ``box`` for an image of the size ``image``, its proportions kept to the nearest pixel."""
    height, width = image
    if box[0] * width <= box[1] * height:
        inner = box[0], min(box[1], max(1, _rounded(width * box[0], height)))
    else:
        inner = min(box[0], max(1, _rounded(height * box[1], width))), box[1]
    return _centred(image, box, inner)


def padded(image: Size, box: Size) -> Placement:
    """The image as it is in the middle of ``box``.

    Raises:
        FeathersegError: the image is larger than the box.
    """
    if image[0] > box[0] or image[1] > box[1]:
        raise FeathersegError(
            f"the image is {image[0]}x{image[1]}, larger than the {box[0]}x{box[1]} it should be padded to. Use a "
            "letterbox, which makes it smaller, or a sliding window."
        )
    return _centred(image, box, image)


def mean_colour(spec: InputSpec) -> Colour:
    """The RGB colour that is zero, to a 255th, once it is normalised."""
    mean = spec.mean if spec.color_order == "RGB" else spec.mean[::-1]
    red, green, blue = (min(255, max(0, round(255 * part))) for part in mean)
    return red, green, blue


def resized_pixels(pixels: np.ndarray, size: Size) -> np.ndarray:
    """uint8 ``[H, W, 3]`` resized: averaged where it becomes smaller, bilinear where it becomes larger."""
    smaller = size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def _centred(image: Size, box: Size, inner: Size) -> Placement:
    return Placement(image, box, inner, (box[0] - inner[0]) // 2, (box[1] - inner[1]) // 2)


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _centres(length: int, inner: int) -> np.ndarray:
    """The inner pixel in which the centre of each of ``length`` pixels lies."""
    return (2 * np.arange(length) + 1) * inner // (2 * length)
