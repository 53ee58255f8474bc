"""Classification as a task of the training loop: what pre-trains an encoder on an ImageNet-style folder.

Training images are random resized crops (Szegedy et al. 2015: ``augment.scale`` is the range of the area's share, cut
off at 1; sides 3:4 to 4:3), mirrored at random; validation images are resized to the crop's size as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from featherseg.classification.folder import ImageFolder
from featherseg.data.batches import Batch, epoch_order
from featherseg.data.transforms import ColourJitter, jitter_colours
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from featherseg.models.weights import describe_network
from featherseg.randomness import generator
from featherseg.recipes.reading import without_folders
from featherseg.recipes.schema import Recipe
from featherseg.training.start import build_initial_network
from featherseg.training.task import UpdateSize


def random_resized_crop(
    image: np.ndarray, size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A crop of a random share of the area and a random aspect, resized to ``size`` (H, W)."""
    height, width = image.shape[:2]
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            image = image[top : top + h, left : left + w]
            break
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=cv2.INTER_LINEAR)


@dataclass
class ClassificationSamples(Dataset):
    """Augmented training images by (epoch, position)."""

    folder: ImageFolder
    size: tuple[int, int]
    area: tuple[float, float]
    flip: float
    jitter: ColourJitter
    seed: int
    cache: bool = True
    _kept: dict[int, tuple[np.ndarray, int]] = field(default_factory=dict, repr=False)

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.int64, str]:
        epoch, position = place
        rng = generator(self.seed, "augment", epoch, position)
        index = int(epoch_order(self.seed, epoch, len(self.folder))[position])
        image, label = self._kept.get(index) or self.folder.read(index)
        if self.cache:
            self._kept[index] = (image, label)
        image = random_resized_crop(image, self.size, self.area, rng)
        if rng.random() < self.flip:
            image = image[:, ::-1]
        if self.jitter:
            image = jitter_colours(np.ascontiguousarray(image), self.jitter, rng)
        return image, np.int64(label), self.folder.key(index)


def open_folders(recipe: Recipe) -> tuple[ImageFolder, ImageFolder]:
    """The images that a classification recipe trains and judges on; files are listed, none is decoded.

    Raises:
        FeathersegError: a split is missing or empty, or val shows classes that train does not.
    """
    data = recipe.data
    train = ImageFolder(Path(data.source), data.train_split, data.train_split)
    val = ImageFolder(Path(data.source), data.val_split, data.train_split)
    unknown = sorted({name for name, _ in val.entries} - set(train.classes))
    if unknown:
        raise FeathersegError(
            f"{val.root}: {len(unknown)} classes of {val.split} do not occur in {train.split} "
            f"({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}). Sort the images of "
            f"{val.split} into folders with the classes' names."
        )
    return train, val


class ClassificationTask:
    """Data, network and criterion of a classification recipe; ``augment.scale`` is the range of the crop's area.

    Raises:
        FeathersegError: a split is missing or empty, or val shows classes that train does not.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.train, self.val = open_folders(recipe)
        augment = recipe.augment
        jitter = ColourJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)
        area = (min(1.0, augment.scale[0]), min(1.0, augment.scale[1]))
        self.samples = ClassificationSamples(
            self.train, augment.crop, area, augment.flip, jitter, recipe.train.seed, recipe.data.cache
        )
        self.length = len(self.train)
        self.network, self.start = build_initial_network(recipe, len(self.train.classes))
        self.spec: InputSpec = self.network.input_spec  # type: ignore[assignment]

    def weight(self, batch: Batch) -> float:
        return float(len(batch))

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        logits = network(self.spec.normalise(batch.images)).float()
        losses = F.cross_entropy(
            logits, batch.targets, reduction="sum", label_smoothing=self.recipe.loss.label_smoothing
        )
        return losses / total.weight

    @torch.inference_mode()
    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        was_training = network.training
        network.eval()
        device = next(network.parameters()).device
        right = np.zeros(2, np.int64)
        size = self.recipe.augment.crop[::-1]
        for start in range(0, len(self.val), 128):
            pairs = [self.val.read(index) for index in range(start, min(start + 128, len(self.val)))]
            images = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image, _ in pairs])
            labels = torch.tensor([label for _, label in pairs])
            inputs = self.spec.normalise(torch.from_numpy(images).to(device))
            top = network(inputs).float().topk(min(5, len(self.val.classes)), 1).indices.cpu()
            hits = top == labels[:, None]
            right += np.array([int(hits[:, 0].sum()), int(hits.any(1).sum())])
            if progress:
                progress(start + len(pairs), len(self.val))
        network.train(was_training)
        top1, top5 = (round(100 * int(n) / len(self.val), 3) for n in right)
        return {"score": top1, "top1": top1, "top5": top5, "images": len(self.val)}

    def start_lines(self) -> list[str]:
        return [] if self.start is None else self.start.lines

    def describe(self) -> dict[str, Any]:
        described = describe_network(
            self.network, self.recipe.model.name, len(self.train.classes), dict(self.recipe.model.arguments)
        )
        return described | {
            "task": "classification",
            "classes": list(self.train.classes),
            "trained_on": f"{self.train.name}/{self.train.split}",
            "recipe": without_folders(self.recipe),
            "started_from": self.start and self.start.describe(),
        }

    def fingerprints(self) -> dict[str, str]:
        return {self.train.split: self.train.fingerprint(), self.val.split: self.val.fingerprint()}
