"""Augmented training samples of boxes, and images as a detector takes them.

Design choices:
- an image is mirrored, resized by a random factor, padded and cropped, recoloured, in this order, as in segmentation
  (data/transforms.py); its boxes go with it;
- what of a box the crop leaves becomes the box, if that is ``min_visible`` of its area at least; else it becomes an
  ignored region: neither a thing to be found nor background. So does a box with a side below ``min_side`` pixels;
- a detector of a fixed input size gets the crop resized to it, whatever its aspect; others are padded by the network's
  own rule later;
- boxes and ignored regions are packed into arrays of one size (see targets.py), so that they make a batch.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from torch.utils.data import Dataset

from featherseg.data.batches import epoch_order
from featherseg.data.boxes import BoxSample, DetectionDataset
from featherseg.data.transforms import ColourJitter, jitter_colours
from featherseg.detection.targets import pack_target
from featherseg.errors import FeathersegError
from featherseg.randomness import generator

CAPACITY = 512
"""Boxes and ignored regions of a training image at most."""


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``[H, W, 3]`` resized to ``size`` (H, W); averaged where it shrinks."""
    if image.shape[:2] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] * size[1] < image.shape[0] * image.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=smooth)


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes ``[N, 4]`` in the mirrored image of that width."""
    turned = boxes.copy()
    turned[:, 0], turned[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    return turned


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes ``[N, 4]`` cut off at an image of ``size`` (H, W)."""
    return np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]], boxes.dtype))


@dataclass(frozen=True)
class BoxAugmentation:
    """Random flip, scale, crop and colour of an image with its boxes.

    Attributes:
        crop: (H, W) of the result; smaller images are padded.
        flip: probability of a horizontal flip.
        scale: range of the resize factor.
        log_scale: draw the factor evenly on a logarithmic scale.
        padding_value: grey level of the padding.
        jitter: of colours.
        min_visible: share of a box's area that must be left in the crop for it to stay a box.
        min_side: of a box in pixels of the crop.
    """

    crop: tuple[int, int]
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    log_scale: bool = False
    padding_value: int = 0
    jitter: ColourJitter = field(default_factory=ColourJitter)
    min_visible: float = 0.4
    min_side: float = 2.0

    def __call__(self, sample: BoxSample, rng: np.random.Generator) -> BoxSample:
        """The augmented sample, its image uint8 ``[h, w, 3]`` of the crop's size."""
        image, boxes, ignored = sample.image, sample.boxes.astype(np.float32), sample.ignored.astype(np.float32)
        if rng.random() < self.flip:
            image = image[:, ::-1]
            boxes, ignored = mirrored(boxes, image.shape[1]), mirrored(ignored, image.shape[1])
        low, high = self.scale
        factor = float(np.exp(rng.uniform(np.log(low), np.log(high)))) if self.log_scale else rng.uniform(low, high)
        height, width = (max(1, int(side * factor)) for side in image.shape[:2])
        stretch = np.array([width / image.shape[1], height / image.shape[0]] * 2, np.float32)
        image = resize_image(image, (height, width))
        # A smaller image lies anywhere in the crop, a larger one is cut anywhere.
        top, left = (
            int(rng.integers(min(0, own - to), max(0, own - to) + 1))
            for own, to in zip((height, width), self.crop, strict=True)
        )
        image = self._cut(image, top, left)
        shift = np.array([left, top, left, top], np.float32)
        boxes, ignored = boxes * stretch - shift, ignored * stretch - shift
        if self.jitter:
            image = jitter_colours(np.ascontiguousarray(image), self.jitter, rng)
        inside = clip_boxes(boxes, self.crop)
        large = ((inside[:, 2:] - inside[:, :2]) >= self.min_side).all(1)
        kept = large & (_areas(inside) >= self.min_visible * _areas(boxes))
        ignored = np.concatenate([clip_boxes(ignored, self.crop), inside[~kept]])
        ignored = ignored[_areas(ignored) > 0]
        return BoxSample(np.ascontiguousarray(image), inside[kept], sample.labels[kept], ignored, sample.key)

    def _cut(self, image: np.ndarray, top: int, left: int) -> np.ndarray:
        """The crop whose corner is at (top, left), which are negative where the image is padded."""
        height, width = self.crop
        part = image[max(0, top) : top + height, max(0, left) : left + width]
        if part.shape[:2] == self.crop:
            return part
        above, before = max(0, -top), max(0, -left)
        below, after = height - above - part.shape[0], width - before - part.shape[1]
        grey = (self.padding_value,) * 3
        return cv2.copyMakeBorder(
            np.ascontiguousarray(part), above, below, before, after, cv2.BORDER_CONSTANT, value=grey
        )


@dataclass
class BoxSamples(Dataset):
    """Augmented training images by (epoch, position) with packed targets ``[CAPACITY, 5]``.

    Args:
        dataset: read from.
        augmentation: of each sample.
        size: (H, W) that crops are resized to, or None.
        seed: of order and augmentation.
        cache: keep decoded images in memory.
    """

    dataset: DetectionDataset
    augmentation: BoxAugmentation
    size: tuple[int, int] | None
    seed: int
    cache: bool = True
    _kept: dict[int, BoxSample] = field(default_factory=dict, repr=False)

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, str]:
        epoch, position = place
        index = int(epoch_order(self.seed, epoch, len(self.dataset))[position])
        sample = self._kept.get(index) or self.dataset.read(index)
        if self.cache:
            self._kept[index] = sample
        found = self.augmentation(sample, generator(self.seed, "augment", epoch, position))
        if len(found.boxes) + len(found.ignored) > CAPACITY:
            raise FeathersegError(
                f"{found.key}: {len(found.boxes)} boxes and {len(found.ignored)} ignored regions; a training image "
                f"takes {CAPACITY} together. Cut the image into parts, or leave boxes out."
            )
        image, boxes, ignored = found.image, found.boxes, found.ignored
        if self.size is not None:
            height, width = image.shape[:2]
            stretch = np.array([self.size[1] / width, self.size[0] / height] * 2, np.float32)
            image, boxes, ignored = resize_image(image, self.size), boxes * stretch, ignored * stretch
        return image, pack_target(boxes, found.labels, ignored, CAPACITY), found.key
