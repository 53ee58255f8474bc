"""Judging a network on a split: int64 counts at the labels' native resolution, images one by one.

Design choices:
- the whole image is judged at its own size, never resized to fit; flip and multi-scale are options and are named in
  the protocol string;
- with test-time augmentation the soft-max probabilities of all views are averaged;
- per-image confusion matrices are kept (121 counts an image for 11 classes), since the bootstrap needs them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.data.dataset import Sample, SegmentationDataset, shortfall_of
from featherseg.data.labels import IGNORE
from featherseg.errors import FeathersegError
from featherseg.metrics.bootstrap import bootstrap_miou
from featherseg.metrics.boundary import BoundaryCounts, boundary_counts
from featherseg.metrics.calibration import CalibrationCounts, calibration_counts
from featherseg.metrics.confusion import (
    class_accuracy,
    confusion_matrix,
    frequency_weighted_iou,
    iou_per_class,
    mean_iou,
    pixel_accuracy,
)
from featherseg.models.output import InputSpec

PIXELS_AT_ONCE = 2**20
"""Full-size probabilities of so many pixels lie in memory together."""


@dataclass(frozen=True)
class View:
    """How images are shown to the network: mirrored as well, and at which scales."""

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __str__(self) -> str:
        parts = ["flip"] if self.flip else []
        if self.scales != (1.0,):
            parts.append("ms" + ",".join(f"{scale:g}" for scale in self.scales))
        return "+".join(parts)


@dataclass(frozen=True)
class Evaluation:
    """What was counted, and under which protocol."""

    protocol: str
    classes: tuple[str, ...]
    confusions: np.ndarray
    boundary: BoundaryCounts
    calibration: CalibrationCounts

    @property
    def confusion(self) -> np.ndarray:
        """int64 ``[K, K]`` over all images; rows are the truth."""
        return self.confusions.sum(0)

    def figures(self) -> dict[str, Any]:
        """All scores, in percent where they are shares, JSON-ready (None where a class is absent)."""
        confusion = self.confusion
        low, high = bootstrap_miou(self.confusions)
        return {
            "protocol": self.protocol,
            "miou": _percent(mean_iou(confusion)),
            "miou_interval_95": [_percent(low), _percent(high)],
            "iou": _named(self.classes, iou_per_class(confusion)),
            "pixel_accuracy": _percent(pixel_accuracy(confusion)),
            "class_accuracy": _named(self.classes, class_accuracy(confusion)),
            "frequency_weighted_iou": _percent(frequency_weighted_iou(confusion)),
            "boundary_iou": _percent(self.boundary.mean_iou()),
            "boundary_iou_per_class": _named(self.classes, self.boundary.iou_per_class()),
            "expected_calibration_error": _percent(self.calibration.expected_error()),
            "images": len(self.confusions),
            "pixels": int(confusion.sum()),
        }


def _percent(share: float) -> float | None:
    return None if np.isnan(share) else round(100 * float(share), 4)


def _named(classes: Sequence[str], shares: np.ndarray) -> dict[str, float | None]:
    return {name: _percent(share) for name, share in zip(classes, shares, strict=True)}


def protocol_string(dataset: SegmentationDataset, trained_on: str, view: View) -> str:
    """``camvid11/480x360/train→test``, with ``+flip`` or ``+ms0.5,1,2`` where views are averaged.

    A split that is not the official one is marked: ``cityscapes19/2048x1024/train→val, 1 of 3 cities``.
    """
    suffix = f"+{view}" if str(view) else ""
    shortfall = shortfall_of(dataset)
    suffix += f", {shortfall.mark}" if shortfall else ""
    return f"{dataset.name}/{trained_on}→{dataset.split}{suffix}"


@torch.inference_mode()
def probabilities(network: nn.Module, images: Tensor, view: View = View()) -> Tensor:
    """Soft-max probabilities float32 ``[B, K, H, W]`` of uint8 images ``[B, H, W, 3]``, averaged over ``view``."""
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    size = (images.shape[1], images.shape[2])
    inputs = spec.normalise(images)
    total: Tensor | None = None
    for scale in view.scales:
        scaled = inputs
        if scale != 1.0:
            to = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            scaled = F.interpolate(inputs, size=to, mode="bilinear", align_corners=False)
        for flipped in (False, True) if view.flip else (False,):
            shown = scaled.flip(-1) if flipped else scaled
            logits = network(shown.contiguous(memory_format=torch.channels_last)).logits.float()
            full = spec.enlarge(logits, (shown.shape[-2], shown.shape[-1]))
            if scale != 1.0:
                full = F.interpolate(full, size=size, mode="bilinear", align_corners=False)
            soft = full.softmax(1)
            soft = soft.flip(-1) if flipped else soft
            total = soft if total is None else total + soft
    assert total is not None
    return total / (len(view.scales) * (2 if view.flip else 1))


def evaluate(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    trained_on: str = "train",
    view: View = View(),
    batch_size: int = 4,
    precision: str = "fp32",
    thorough: bool = True,
    progress: Callable[[int, int], None] | None = None,
    observe: Callable[[int, np.ndarray], None] | None = None,
) -> Evaluation:
    """Count every image of ``dataset``. The network is put in ``eval()`` and channels_last, and left as it was.

    Args:
        network: takes ``[B, 3, H, W]`` and has an ``input_spec``.
        dataset: the split to judge on.
        trained_on: of the protocol string.
        view: flip and scales.
        batch_size: at most so many images of one size are run together, and fewer of large ones.
        precision: "fp32", or "bf16" / "fp16" autocast.
        thorough: count boundaries and calibration too.
        progress: called with (done, all).
        observe: called with every sample's index and its predicted ids uint8 ``[H, W]``, for judgements of a data set's
            own.

    Raises:
        FeathersegError: the network has another number of classes than the data, its output is not finite, or a file
            is spoilt.
    """
    device = next(network.parameters()).device
    classes = len(dataset.labels)
    confusions = np.zeros((len(dataset), classes, classes), np.int64)
    boundary, calibration = BoundaryCounts.zeros(classes), CalibrationCounts.zeros()
    was_training = network.training
    # A training in another memory format must find its very tensors again, to go on to the same bits.
    own = [parameter.data for parameter in network.parameters()]
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    done = 0
    half = torch.autocast(
        device.type, torch.bfloat16 if precision == "bf16" else torch.float16, enabled=precision != "fp32"
    )
    try:
        for samples in _alike(dataset, batch_size):
            images = torch.from_numpy(np.stack([sample.image for sample in samples])).to(device)
            with half:
                soft = probabilities(network, images, view)
            if soft.shape[1] != classes:
                raise FeathersegError(
                    f"{dataset.name}: the data has {classes} classes, the network gives {soft.shape[1]}. "
                    "Judge it on data with the classes it was trained on."
                )
            confidence, predicted = (part.cpu() for part in soft.max(1))
            if not bool(confidence.isfinite().all()):
                raise FeathersegError(
                    f"{samples[0].key}: the network's output is not finite ({precision}). Its weights are spoilt, or "
                    "too large for this precision: judge it in fp32, or train it again."
                )
            labels = predicted.to(torch.uint8).numpy()
            for sample, sure, label in zip(samples, confidence.numpy(), labels, strict=True):
                confusions[done] = confusion_matrix(sample.label, label, classes)
                if thorough:
                    boundary = boundary + boundary_counts(sample.label, label, classes)
                    calibration = calibration + calibration_counts(sure, label == sample.label, sample.label != IGNORE)
                if observe:
                    observe(done, label)
                done += 1
            if progress:
                progress(done, len(dataset))
    finally:
        for parameter, data in zip(network.parameters(), own, strict=True):
            parameter.data = data
        network.train(was_training)
    return Evaluation(
        protocol_string(dataset, trained_on, view), dataset.labels.classes, confusions, boundary, calibration
    )


def _alike(dataset: SegmentationDataset, most: int) -> Iterator[list[Sample]]:
    """Samples in order, in groups of at most ``most`` whose images have one size."""
    group: list[Sample] = []
    for index in range(len(dataset)):
        sample = dataset.read(index)
        full = len(group) == most or (len(group) + 1) * sample.label.size > PIXELS_AT_ONCE
        if group and (full or group[0].label.shape != sample.label.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group
