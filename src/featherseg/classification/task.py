"""Classification as a task of the training loop: what trains a classifier, and what pre-trains an encoder.

Training images are random resized crops (``augment.scale`` is the range of the area's share, cut off at 1), mirrored,
augmented and mixed as the recipe says (samples.py); val is judged in the recipe's view (views.py), which travels with
the weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.classification.class_folders import ClassFolders, ClassifiedImages
from featherseg.classification.evaluation import data_name, judge, protocol_string
from featherseg.classification.samples import ClassificationSamples, ImageAugmentation, Mixing
from featherseg.classification.sources import open_images, split_settings
from featherseg.classification.split import save_split
from featherseg.classification.views import ClassificationView
from featherseg.data.batches import Batch
from featherseg.data.transforms import ColourJitter
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from featherseg.models.weights import describe_network
from featherseg.recipes.schema import Augment, Recipe
from featherseg.training.heads import told_recipe
from featherseg.training.start import build_initial_network
from featherseg.training.task import UpdateSize


def open_folders(recipe: Recipe) -> tuple[ClassifiedImages, ClassifiedImages]:
    """The images that a classification recipe trains and judges on; files are listed, none is decoded.

    Raises:
        FeathersegError: a split is missing or empty, val shows classes that train does not, or images of train.
    """
    data = recipe.data
    settings = split_settings(data.model_dump())
    train, val = (
        open_images(data.source, split, settings, train_split=data.train_split)
        for split in (data.train_split, data.val_split)
    )
    unknown = sorted({name for name, _ in val.entries} - set(train.classes))
    if unknown:
        raise FeathersegError(
            f"{data.source}: {len(unknown)} classes of {val.split} do not occur in {train.split} "
            f"({', '.join(unknown[:3])}{', ...' if len(unknown) > 3 else ''}). Sort the images of "
            f"{val.split} into folders with the classes' names."
        )
    _refuse_shared(train, val, data.source)
    return train, val


def _refuse_shared(train: ClassifiedImages, val: ClassifiedImages, source: str) -> None:
    """Refuse to judge images that are trained on; folders with splits of their own share none but with themselves."""
    if isinstance(train, ClassFolders) and isinstance(val, ClassFolders):
        shared = len(set(train.division.part(train.split)) & set(val.division.part(val.split)))
    else:
        shared = len(val) if train.split == val.split else 0
    if shared:
        raise FeathersegError(
            f"{source}: {shared:,} of the {len(val):,} images of data.val_split={val.split} are trained on too, as "
            f"{train.split}, and say nothing of others. Set data.val_split to a split without them; to train on all "
            "but test, and look at that at the end: data.train_split=trainval data.val_split=test."
        )


def image_augmentation(settings: Augment) -> ImageAugmentation:
    """The augmentation of single images that a recipe's section describes."""
    return ImageAugmentation(
        settings.crop,
        (min(1.0, settings.scale[0]), min(1.0, settings.scale[1])),
        settings.flip,
        ColourJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue),
        settings.rand_augment,
        settings.erase,
    )


def recipe_view(settings: Augment) -> ClassificationView:
    """The view that a recipe's section judges by."""
    return ClassificationView(settings.view_size or settings.crop, settings.view, settings.view_share)


class ClassificationTask:
    """Data, network and criterion of a classification recipe.

    Raises:
        FeathersegError: a split is missing or empty, or val shows classes that train does not.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.train, self.val = open_folders(recipe)
        self.view = recipe_view(recipe.augment)
        self.samples = ClassificationSamples(
            self.train,
            image_augmentation(recipe.augment),
            recipe.train.seed,
            recipe.train.batch_size,
            Mixing(recipe.augment.mixup, recipe.augment.cutmix, recipe.augment.mix),
            recipe.data.cache,
        )
        self.length = len(self.train)
        self.network, self.start = build_initial_network(recipe, len(self.train.classes))
        self.spec: InputSpec = self.network.input_spec  # type: ignore[assignment]

    def weight(self, batch: Batch) -> float:
        return float(len(batch))

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        logits = network(self.spec.normalise(batch.images)).float()
        smoothing = self.recipe.loss.label_smoothing
        if batch.targets.dim() == 1:
            losses = F.cross_entropy(logits, batch.targets, reduction="none", label_smoothing=smoothing)
        else:
            weight = batch.targets[:, 2]
            one, other = (
                F.cross_entropy(logits, batch.targets[:, column].long(), reduction="none", label_smoothing=smoothing)
                for column in (0, 1)
            )
            losses = weight * one + (1 - weight) * other
        return losses.sum() / total.weight

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        protocol = protocol_string(self.val, self.train.split, self.view)
        figures = judge(network, self.val, self.view, protocol=protocol, progress=progress).figures()
        for long in ("class_accuracy", "class_accuracy_interval"):  # a thousand lines a judging in the log of ImageNet
            del figures[long]
        return {"score": figures["top1"], **figures}

    def start_lines(self) -> list[str]:
        return [] if self.start is None else self.start.lines

    def describe(self) -> dict[str, Any]:
        described = describe_network(
            self.network, self.recipe.model.name, len(self.train.classes), dict(self.recipe.model.arguments)
        )
        return described | {
            "task": "classification",
            "classes": list(self.train.classes),
            "view": self.view.to_dict(),
            "trained_on": f"{data_name(self.train)}/{self.train.split}",
            "split": self._division(),
            "recipe": told_recipe(self.recipe, self.network),
            "started_from": self.start and self.start.describe(),
        }

    def _division(self) -> dict[str, Any] | None:
        """What tells the split of a folder without splits from every other one; None for a folder with splits."""
        if not isinstance(self.train, ClassFolders):
            return None
        drawn = self.train.division
        return {"origin": drawn.origin, "sha256": drawn.digest()}

    def keep_split(self, path: Path) -> Path | None:
        """Write the split of a folder without splits, to be given back as ``data.split_file``; None for others."""
        if not isinstance(self.train, ClassFolders):
            return None
        about = {"data": self.train.name, "origin": self.train.division.origin}
        return save_split(path, self.train.division, self.train.classes, about)

    def fingerprints(self) -> dict[str, str]:
        return {self.train.split: self.train.fingerprint(), self.val.split: self.val.fingerprint()}
