"""Segmentation as a task of the training loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.data.batches import Batch, TrainingSamples
from featherseg.data.dataset import SegmentationDataset, split_name
from featherseg.data.labels import IGNORE
from featherseg.data.sources import open_dataset
from featherseg.data.transforms import Augmentation, ColourJitter
from featherseg.errors import FeathersegError
from featherseg.losses.boundary import boundary_loss
from featherseg.losses.cross_entropy import bootstrapped, ohem, pixel_cross_entropy
from featherseg.losses.jaccard import soft_jaccard
from featherseg.models.output import InputSpec, SegmentationOutput
from featherseg.models.weights import describe_network
from featherseg.recipes.schema import Augment, Loss, Recipe
from featherseg.training.evaluation import evaluate
from featherseg.training.heads import told_recipe
from featherseg.training.start import build_initial_network
from featherseg.training.task import UpdateSize


def augmentation(settings: Augment) -> Augmentation:
    """The augmentation that a recipe's section describes."""
    jitter = ColourJitter(settings.brightness, settings.contrast, settings.saturation, settings.hue)
    return Augmentation(
        settings.crop,
        settings.flip,
        settings.scale,
        settings.log_scale,
        jitter,
        scale_step=settings.scale_step,
        flip_last=settings.flip_last,
        padding=settings.padding,
        padding_value=settings.padding_value,
    )


def open_splits(recipe: Recipe) -> tuple[SegmentationDataset, SegmentationDataset]:
    """The data that a segmentation recipe trains and judges on; files are listed, none is decoded.

    Raises:
        FeathersegError: the data cannot be opened, or the class weights are not one a class.
    """
    data = recipe.data
    train = open_dataset(data.source, data.train_split, size=data.size, count=data.count, seed=data.seed)
    val = open_dataset(data.source, data.val_split, size=data.size, count=data.val_count, seed=data.seed)
    weights = recipe.loss.class_weights
    if weights is not None and len(weights) != len(train.labels):
        raise FeathersegError(
            f"loss.class_weights has {len(weights)} values, {train.name} has {len(train.labels)} classes. "
            "Give one for each class, in the order of their ids."
        )
    return train, val


class SegmentationTask:
    """Data, network and criterion of a segmentation recipe.

    Raises:
        FeathersegError: the data, the network or the weights to start from do not fit.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.train, self.val = open_splits(recipe)
        self.samples = TrainingSamples(
            self.train,
            augmentation(recipe.augment),
            recipe.train.seed,
            recipe.data.class_uniform,
            recipe.data.cache,
        )
        self.length = len(self.train)
        self.network, self.start = build_initial_network(recipe, len(self.train.labels))
        self.spec: InputSpec = self.network.input_spec  # type: ignore[assignment]

    def weight(self, batch: Batch) -> float:
        if self.recipe.loss.kind == "cross_entropy":
            return float((batch.targets != IGNORE).sum())
        return float(len(batch))

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        output: SegmentationOutput = network(self.spec.normalise(batch.images))
        weight = self.weight(batch)
        return criterion(output, batch.targets, self.recipe.loss, self.spec, weight=weight, total=total)

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        precision = self.recipe.train.precision
        judged = evaluate(
            network, self.val, trained_on=split_name(self.train), precision=precision, thorough=False, progress=progress
        )
        figures = judged.figures()
        return {
            "score": figures["miou"],
            "protocol": figures["protocol"],
            "precision": precision,
            "iou": figures["iou"],
            "pixel_accuracy": figures["pixel_accuracy"],
        }

    def start_lines(self) -> list[str]:
        return [] if self.start is None else self.start.lines

    def describe(self) -> dict[str, Any]:
        labels = self.train.labels
        return {
            **describe_network(self.network, self.recipe.model.name, len(labels), dict(self.recipe.model.arguments)),
            "task": "segmentation",
            "label_set": labels.name,
            "classes": list(labels.classes),
            "palette": [list(colour) for colour in labels.palette],
            "trained_on": f"{self.train.name}/{split_name(self.train)}",
            "recipe": told_recipe(self.recipe, self.network),
            "started_from": self.start and self.start.describe(),
        }

    def fingerprints(self) -> dict[str, str]:
        return {self.train.split: self.train.fingerprint(), self.val.split: self.val.fingerprint()}


def criterion(
    output: SegmentationOutput, labels: Tensor, settings: Loss, spec: InputSpec, *, weight: float, total: UpdateSize
) -> Tensor:
    """The recipe's loss of one (part of a) batch, with those of the training-only heads that the network has.

    The mean of plain cross-entropy runs over the labelled pixels of the whole update, so that parts and processes add
    up to the one large batch; the bootstrapped form and the boundary loss are means over images and add up by their
    number. OHEM chooses its pixels within each part, and the soft Jaccard loss takes each part for a batch.

    Args:
        output: of the network in training.
        labels: uint8 ``[B, H, W]``.
        settings: the recipe's section.
        spec: of the network.
        weight: of this part.
        total: of the whole update.
    """
    loss = _pixel_loss(output.logits, labels, settings, spec, weight, total)
    for logits in output.auxiliary or ():
        loss = loss + settings.auxiliary_weight * _pixel_loss(logits, labels, settings, spec, weight, total)
    if settings.jaccard_weight:
        jaccard = soft_jaccard(output.logits, labels, align_corners=spec.align_corners)
        loss = loss + settings.jaccard_weight * jaccard * (weight / max(total.weight, 1.0))
    if output.boundary is not None and settings.boundary != "none":
        boundary = boundary_loss(output.boundary, labels, settings.boundary)
        loss = loss + settings.boundary_weight * boundary.sum() / total.images
    return loss


def _pixel_loss(
    logits: Tensor, labels: Tensor, settings: Loss, spec: InputSpec, weight: float, total: UpdateSize
) -> Tensor:
    weights = None if settings.class_weights is None else torch.tensor(settings.class_weights)
    losses = pixel_cross_entropy(
        logits,
        labels,
        align_corners=spec.align_corners,
        class_weights=weights,
        label_smoothing=settings.label_smoothing,
    )
    if settings.kind == "cross_entropy":
        return losses.sum() / max(total.weight, 1.0)
    if settings.kind == "ohem":
        chosen = ohem(losses, labels, **_given(threshold=settings.threshold, min_kept=settings.min_kept))
    else:
        chosen = bootstrapped(losses, **_given(threshold=settings.threshold, min_kept=settings.min_kept))
    return chosen * (weight / total.weight)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
