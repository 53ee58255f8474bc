"""Training images of a classifier: cropped, augmented, and mixed in pairs.

Choices worth knowing:

- Mixing (mixup, Zhang et al. 2018; CutMix, Yun et al. 2019) happens here and not on the batch in the training step: the
  partner of an image is another of the same *update*, by a permutation that is a pure function of (seed, epoch, batch).
  So an update is the same whether it is computed at once, in parts that accumulate, or in several processes, and from
  whatever step a training goes on.
- A worker prepares all images of its share of an update; those that it has augmented are kept until the update is
  complete, so that in one process mixing costs no second augmentation.
- Mixed images are uint8 as all others (mixup rounds), and their targets are (class, partner's class, weight of the
  first), float32 ``[3]``.
- An image's own random numbers are drawn in a fixed order (crop, flip, colours, RandAugment, erasing), so that a recipe
  that switches on a later one keeps its crops.
"""

from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import Dataset

from featherseg.classification.class_folders import ClassifiedImages
from featherseg.classification.randaugment import rand_augment, random_erase
from featherseg.classification.views import random_resized_crop
from featherseg.data.batches import epoch_order
from featherseg.data.transforms import ColourJitter, jitter_colours
from featherseg.randomness import generator


@dataclass(frozen=True)
class ImageAugmentation:
    """What is done to one training image.

    Attributes:
        size: (H, W) of the result.
        area: range of the crop's share of the image's area.
        flip: probability of a horizontal flip.
        jitter: of colours; None for none.
        rand_augment: (operations, magnitude) of RandAugment; None for none.
        erase: probability of random erasing.
    """

    size: tuple[int, int]
    area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: ColourJitter | None = None
    rand_augment: tuple[int, float] | None = None
    erase: float = 0.0

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 RGB ``[H, W, 3]`` to uint8 ``[*size, 3]``."""
        image = random_resized_crop(image, self.size, self.area, rng)
        if rng.random() < self.flip:
            image = image[:, ::-1]
        if self.jitter:
            image = jitter_colours(np.ascontiguousarray(image), self.jitter, rng)
        if self.rand_augment:
            image = rand_augment(image, *self.rand_augment, rng)
        if self.erase and rng.random() < self.erase:
            image = random_erase(image, rng)
        return np.ascontiguousarray(image)


@dataclass(frozen=True)
class Mixing:
    """How the images of an update are mixed.

    Attributes:
        mixup, cutmix: alpha of the Beta(alpha, alpha) that the weight comes from; 0 switches it off. Where both are on,
            each update has one of them, by even chance.
        share: of the updates that are mixed at all.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    share: float = 1.0

    def __bool__(self) -> bool:
        return bool((self.mixup or self.cutmix) and self.share)


@dataclass(frozen=True)
class _Mixture:
    """What is done to one update: each image's partner, by position in it, the weight, and CutMix's box."""

    partners: np.ndarray
    weight: float
    box: tuple[int, int, int, int] | None

    def __call__(self, image: np.ndarray, partner: np.ndarray) -> np.ndarray:
        if self.box is None:
            mixed = image * np.float32(self.weight) + partner * np.float32(1 - self.weight)
            return np.rint(mixed).astype(np.uint8)
        top, bottom, left, right = self.box
        mixed = image.copy()
        mixed[top:bottom, left:right] = partner[top:bottom, left:right]
        return mixed


def mixture(mixing: Mixing, count: int, size: tuple[int, int], rng: np.random.Generator) -> _Mixture | None:
    """The mixture of an update of ``count`` images of ``size`` (H, W); None where it stays unmixed.

    CutMix's box has its middle anywhere and is cut off at the border; its weight is the share that remains.
    """
    if rng.random() >= mixing.share or count < 2:
        return None
    cut = mixing.cutmix > 0 and (mixing.mixup == 0 or rng.random() < 0.5)
    alpha = mixing.cutmix if cut else mixing.mixup
    weight = float(rng.beta(alpha, alpha))
    partners = rng.permutation(count)
    if not cut:
        return _Mixture(partners, weight, None)
    (top, bottom), (left, right) = (_stretch(side, side * np.sqrt(1 - weight), rng) for side in size)
    return _Mixture(partners, 1 - (bottom - top) * (right - left) / (size[0] * size[1]), (top, bottom, left, right))


def _stretch(side: int, length: float, rng: np.random.Generator) -> tuple[int, int]:
    middle = int(rng.integers(side))
    return max(0, middle - int(length) // 2), min(side, middle - int(length) // 2 + int(length))


@dataclass
class ClassificationSamples(Dataset):
    """Augmented training images by (epoch, position): ``(image, target, key)``.

    ``batch_size`` is of an update over all processes; positions are cut into updates by it.
    """

    images: ClassifiedImages
    augmentation: ImageAugmentation
    seed: int
    batch_size: int
    mixing: Mixing = Mixing()
    cache: bool = True
    _kept: dict[int, tuple[np.ndarray, int]] = field(default_factory=dict, repr=False)
    _update: tuple[int, int] = field(default=(-1, -1), repr=False)
    _mixture: _Mixture | None = field(default=None, repr=False)
    _augmented: dict[int, tuple[np.ndarray, int, str]] = field(default_factory=dict, repr=False)

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.int64 | np.ndarray, str]:
        epoch, position = place
        if not self.mixing:
            image, label, key = self._single(epoch, position)
            return image, np.int64(label), key
        update = position // self.batch_size
        start = update * self.batch_size
        if (epoch, update) != self._update:
            self._augmented.clear()
            self._update = (epoch, update)
            count = min(self.batch_size, len(self.images) - start)
            rng = generator(self.seed, "mix", epoch, update)
            self._mixture = mixture(self.mixing, count, self.augmentation.size, rng)
        mixed = self._mixture
        image, label, key = self._remembered(epoch, position)
        if mixed is None:
            return image, np.array([label, label, 1.0], np.float32), key
        other, other_label, _ = self._remembered(epoch, start + int(mixed.partners[position - start]))
        return mixed(image, other), np.array([label, other_label, mixed.weight], np.float32), key

    def _remembered(self, epoch: int, position: int) -> tuple[np.ndarray, int, str]:
        if position not in self._augmented:
            self._augmented[position] = self._single(epoch, position)
        return self._augmented[position]

    def _single(self, epoch: int, position: int) -> tuple[np.ndarray, int, str]:
        index = int(epoch_order(self.seed, epoch, len(self.images))[position])
        image, label = self._kept.get(index) or self.images.read(index)
        if self.cache:
            self._kept[index] = (image, label)
        augmented = self.augmentation(image, generator(self.seed, "augment", epoch, position))
        return augmented, label, self.images.key(index)
