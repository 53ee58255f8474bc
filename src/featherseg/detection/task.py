"""Detection as a task of the training loop.

Design choices:
- the loss of an image is normalised by its own anchors and an update's loss is the mean over its images, so that parts
  of a batch, and processes, add up to the whole;
- which anchors are sampled depends on (seed, step, image): the loop seeds PyTorch anew at every step, and that number
  stands for seed and step;
- networks bring the matching thresholds and the loss that they were published with; the recipe may choose others.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from featherseg.data.batches import Batch
from featherseg.data.boxes import DetectionDataset, JudgedDataset, nothing_to_find
from featherseg.data.detection_sources import detection_splits, open_detection
from featherseg.data.kitti import TRAINVAL, Kitti
from featherseg.data.kitti_labels import target_of
from featherseg.data.transforms import ColourJitter
from featherseg.detection.decode import encode
from featherseg.detection.evaluation import evaluate_detector
from featherseg.detection.inference import AnchorCache
from featherseg.detection.samples import BoxAugmentation, BoxSamples
from featherseg.detection.targets import NEITHER, Matching, anchor_priorities, match, sample, unpack_target
from featherseg.errors import FeathersegError
from featherseg.losses.detection import focal_loss, multibox_loss, sampled_loss
from featherseg.models.detection_output import DetectionOutput, DetectorSpec
from featherseg.models.output import InputSpec
from featherseg.models.weights import describe_network
from featherseg.recipes.schema import Augment, Data, Detection, Recipe
from featherseg.training.heads import told_recipe
from featherseg.training.start import build_initial_network
from featherseg.training.task import UpdateSize

NOT_JUDGED = "none"
"""The ``data.val_split`` of a training on all there is."""


def box_augmentation(augment: Augment, detection: Detection) -> BoxAugmentation:
    """The augmentation that a recipe's sections describe."""
    jitter = ColourJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)
    return BoxAugmentation(
        augment.crop,
        augment.flip,
        augment.scale,
        augment.log_scale,
        augment.padding_value,
        jitter,
        detection.min_visible,
        detection.min_side,
    )


def matching(settings: Detection, spec: DetectorSpec) -> Matching:
    """The recipe's matching, with the network's own thresholds where it gives none.

    Raises:
        FeathersegError: the negatives' threshold is above the positives'.
    """
    positive = spec.positive_iou if settings.positive_iou is None else settings.positive_iou
    negative = min(spec.negative_iou, positive) if settings.negative_iou is None else settings.negative_iou
    if negative > positive:
        raise FeathersegError(
            f"detection.negative_iou={negative:g} is above the positives' {positive:g}. Set it to that at most."
        )
    return Matching(positive, negative, settings.low_quality, settings.ignore_share)


def loss_kind(settings: Detection, spec: DetectorSpec) -> str:
    """The recipe's loss, or the network's own.

    Raises:
        FeathersegError: the loss is for scores of the other kind.
    """
    own = "multibox" if spec.scoring == "softmax" else "sampled"
    kind = own if settings.loss == "auto" else settings.loss
    if (kind == "multibox") != (own == "multibox"):
        fitting = "multibox" if own == "multibox" else "sampled or focal"
        raise FeathersegError(
            f"detection.loss={kind}: the network's scores are {spec.scoring}, which asks for {fitting}. "
            "Leave detection.loss out."
        )
    return kind


def open_splits(recipe: Recipe) -> tuple[DetectionDataset, JudgedDataset | None]:
    """The data that a detection recipe trains and judges on, the latter None where ``data.val_split`` is "none".

    Labels of files are read, images are not; scenes are painted up to the first with a box.

    Raises:
        FeathersegError: the data cannot be opened, its labels are not public, it shows no box of the target, or images
            that are trained on would be judged.
    """
    train = _open_split(recipe.data, "train_split", recipe.data.count)
    if recipe.data.val_split == NOT_JUDGED:
        return train, None
    val = _open_split(recipe.data, "val_split", recipe.data.val_count)
    shared = {train.key(index) for index in range(len(train))} & {val.key(index) for index in range(len(val))}
    if shared:
        raise FeathersegError(
            f"{recipe.data.source}: {len(shared):,} of the {len(val):,} images of data.val_split={val.split} are "
            f"trained on too, as {train.split}, and say nothing of others. Set data.val_split to a split without them, "
            f"or to {NOT_JUDGED} to train without judging."
        )
    return train, val


def _open_split(data: Data, setting: Literal["train_split", "val_split"], count: int | None) -> JudgedDataset:
    """The split that ``setting`` names, with labels and at least one box in it."""
    name = getattr(data, setting)
    found = open_detection(data.source, name, target=data.target, size=data.size, seed=data.seed, count=count)
    if isinstance(found, Kitti) and found.labels_withheld:
        known = ", ".join(split for split in (*detection_splits(data.source), TRAINVAL) if split != name)
        raise FeathersegError(
            f"{data.source}: the labels of {name!r} are not public, so that nothing can be learnt from it or judged on "
            f"it. Set data.{setting} to another split ({known})."
        )
    members = target_of(data.target).members
    if not any(set(members) & set(found.truth(index).names) for index in range(len(found))):
        raise nothing_to_find(f"{found.name}: split {name!r}", members, len(found))
    return found


class DetectionTask:
    """Data, network and criterion of a detection recipe.

    Args:
        recipe: of the training.
        splits: (train, val) instead of those that the recipe names.

    Raises:
        FeathersegError: the data, the network or the weights to start from do not fit.
    """

    def __init__(self, recipe: Recipe, splits: tuple[DetectionDataset, JudgedDataset | None] | None = None) -> None:
        self.recipe = recipe
        self.train, self.val = splits or open_splits(recipe)
        self.network, self.start = build_initial_network(recipe, len(self.train.classes))
        self.input_spec: InputSpec = self.network.input_spec  # type: ignore[assignment]
        self.spec: DetectorSpec = self.network.detector_spec  # type: ignore[assignment]
        self.rules, self.kind = matching(recipe.detection, self.spec), loss_kind(recipe.detection, self.spec)
        augmentation = box_augmentation(recipe.augment, recipe.detection)
        self.samples = BoxSamples(self.train, augmentation, self.spec.size, recipe.train.seed, recipe.data.cache)
        self.length = len(self.train)
        self.anchors = AnchorCache(self.network)

    def weight(self, batch: Batch) -> float:
        return float(len(batch))

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        images = self.spec.pad(self.input_spec.normalise(batch.images))
        output: DetectionOutput = network(images.contiguous(memory_format=torch.channels_last))
        anchors = self.anchors(images.shape[2], images.shape[3], images.device)
        losses = []
        for scores, deltas, target, key in zip(output.scores, output.deltas, batch.targets, batch.keys, strict=True):
            classes, wanted = self.targets(anchors, target, key)
            losses.append(self._image_loss(scores, deltas, wanted, classes))
        return torch.stack(losses).sum() / total.images

    @torch.no_grad()
    def targets(self, anchors: Tensor, target: Tensor, key: str) -> tuple[Tensor, Tensor]:
        """What each anchor is to be, int64 ``[N]`` (see losses/detection.py), and its deltas ``[N, 4]``."""
        boxes, labels, ignored = unpack_target(target)
        assigned = match(anchors, boxes, ignored, self.rules)
        if self.kind == "sampled":
            settings = self.recipe.detection
            priorities = anchor_priorities(self.recipe.train.seed, torch.initial_seed(), key, len(anchors))
            assigned = sample(assigned, priorities.to(anchors.device), settings.samples, settings.positive_share)
        classes = torch.where(assigned == NEITHER, -1, 0)
        wanted, positive = torch.zeros_like(anchors), assigned >= 0
        classes[positive] = labels[assigned[positive]] + 1
        wanted[positive] = encode(boxes[assigned[positive]], anchors[positive], self.spec.code)
        return classes, wanted

    def _image_loss(self, scores: Tensor, deltas: Tensor, wanted: Tensor, classes: Tensor) -> Tensor:
        settings = self.recipe.detection
        beta = {} if settings.beta is None else {"beta": settings.beta}
        given: dict[str, Any] = {"box_weight": settings.box_weight, **beta}
        if self.kind == "multibox":
            return multibox_loss(scores, deltas, wanted, classes, negatives=settings.negatives, **given)
        if self.kind == "focal":
            return focal_loss(scores, deltas, wanted, classes, alpha=settings.alpha, gamma=settings.gamma, **given)
        return sampled_loss(scores, deltas, wanted, classes, **given)

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        if self.val is None:
            return {"score": None, "protocol": f"{self.train.name}/{self.train.split}→{NOT_JUDGED}"}
        precision = self.recipe.train.precision
        judged = evaluate_detector(
            network, self.val, trained_on=self.train.split, precision=precision, progress=progress
        )
        return judged.figures() | {"precision": precision}

    def start_lines(self) -> list[str]:
        return [] if self.start is None else self.start.lines

    def describe(self) -> dict[str, Any]:
        classes = list(self.train.classes)
        return {
            **describe_network(self.network, self.recipe.model.name, len(classes), dict(self.recipe.model.arguments)),
            "task": "detection",
            "classes": classes,
            "trained_on": f"{self.train.name}/{self.train.split}",
            "recipe": told_recipe(self.recipe, self.network),
            "started_from": self.start and self.start.describe(),
        }

    def fingerprints(self) -> dict[str, str]:
        return {split.split: split.fingerprint() for split in (self.train, self.val) if split is not None}
