"""Balancing the classes of a trained network on val: biases of its logits for the greatest mIoU, free at run time.

Choices worth knowing:

- Biases are fitted on labelled pixels drawn at random, as many of each image, and are judged by halves: fitted on the
  first half of the images and judged on the second, and the other way round. Halves are contiguous, since neighbours
  in a video are nearly the same picture.
- The biases are added to those of the layer that gives the logits, so that every runtime has them; a test pass proves
  that the logits moved by just that.
- The split they are fitted on has been used: its figures are no longer those of an untouched split. They are never
  fitted on test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from featherseg.data.dataset import SegmentationDataset
from featherseg.data.labels import IGNORE
from featherseg.errors import FeathersegError
from featherseg.metrics.balance import balancing_biases, mean_iou_of_scores
from featherseg.models.carry import logits_prefixes
from featherseg.models.output import InputSpec
from featherseg.randomness import generator

PIXELS = 2_000_000


@dataclass(frozen=True)
class SampledPixels:
    """Logits float32 ``[N, K]`` and ids ``[N]`` of labelled pixels, and of which image each is, ``[N]``."""

    logits: np.ndarray
    labels: np.ndarray
    images: np.ndarray


@dataclass(frozen=True)
class Balance:
    """What was fitted, and what it gains where it was not fitted; mIoU in percent.

    ``biases`` are float32 ``[K]``. ``held_out_before`` and ``held_out_after``: each half judged with the biases of the
    other. ``before`` and ``after``: all pixels, with the biases that were fitted on them.
    """

    biases: np.ndarray
    before: float
    after: float
    held_out_before: float
    held_out_after: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        scores = {
            name: round(getattr(self, name), 4) for name in ("before", "after", "held_out_before", "held_out_after")
        }
        return {"biases": [round(float(bias), 4) for bias in self.biases], **scores}


@torch.inference_mode()
def sample_pixels(
    network: nn.Module,
    dataset: SegmentationDataset,
    *,
    pixels: int = PIXELS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SampledPixels:
    """Run the network, in ``eval()``, over a split and keep some labelled pixels of each image.

    Args:
        network: takes ``[B, 3, H, W]`` and has an ``input_spec``.
        dataset: the split.
        pixels: at most so many in all.
        seed: of the choice of pixels.
        progress: called with (done, all).

    Raises:
        FeathersegError: the network has another number of classes than the data, or nothing is labelled.
    """
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    device = next(network.parameters()).device
    share = max(1, pixels // max(1, len(dataset)))
    logits, labels, images = [], [], []
    network.eval()
    for index in range(len(dataset)):
        sample = dataset.read(index)
        found = network(spec.normalise(torch.from_numpy(sample.image).to(device)[None])).logits.float()
        if found.shape[1] != len(dataset.labels):
            raise FeathersegError(
                f"{dataset.name}: the data has {len(dataset.labels)} classes, the network gives {found.shape[1]}. "
                "Balance it on data with the classes it was trained on."
            )
        labelled = np.flatnonzero(sample.label.ravel() != IGNORE)
        chosen = labelled
        if len(labelled) > share:
            chosen = generator(seed, "balance", index).choice(labelled, share, replace=False, shuffle=False)
        full = spec.enlarge(found, sample.label.shape)[0].flatten(1)
        logits.append(full[:, torch.from_numpy(chosen).to(device)].T.cpu().numpy())
        labels.append(sample.label.ravel()[chosen])
        images.append(np.full(len(chosen), index))
        if progress:
            progress(index + 1, len(dataset))
    if not any(len(part) for part in labels):
        raise FeathersegError(
            f"{dataset.name}: no pixel of {dataset.split} is labelled, so that nothing can be fitted."
        )
    return SampledPixels(np.concatenate(logits), np.concatenate(labels), np.concatenate(images))


def fit_balance(sampled: SampledPixels) -> Balance:
    """Biases for all the pixels, and what those of one half of the images gain on the other.

    Raises:
        FeathersegError: all pixels are of one image, so that there are no halves.
    """
    names = np.unique(sampled.images)
    if len(names) < 2:
        raise FeathersegError(
            "the biases are judged on images they were not fitted on: give two labelled images or more."
        )
    first = sampled.images < names[len(names) // 2]
    shifted = np.empty_like(sampled.logits)
    for part, other in ((first, ~first), (~first, first)):
        shifted[other] = sampled.logits[other] + balancing_biases(sampled.logits[part], sampled.labels[part])
    biases = balancing_biases(sampled.logits, sampled.labels)

    def percent(logits: np.ndarray) -> float:
        return 100 * mean_iou_of_scores(logits, sampled.labels)

    before = percent(sampled.logits)
    return Balance(biases, before, percent(sampled.logits + biases), before, percent(shifted))


@torch.inference_mode()
def add_to_logits(network: nn.Module, biases: np.ndarray) -> None:
    """Add a number a class to the logits of ``network``, in the bias of the layers that give them.

    Raises:
        FeathersegError: these layers have no bias, or the logits would not move by the numbers.
    """
    prefixes = logits_prefixes(network)
    found = [
        parameter
        for name, parameter in network.named_parameters()
        if name.startswith(prefixes) and name.endswith("bias") and parameter.numel() % len(biases) == 0
    ]
    network.eval()
    probe = torch.zeros(1, 3, 64, 64, device=next(network.parameters()).device)
    before = network(probe).logits.float()
    shift = torch.from_numpy(np.asarray(biases, np.float32))
    for parameter in found:
        # Several numbers of a class lie together where one logit becomes a block of pixels.
        parameter += shift.repeat_interleave(parameter.numel() // len(biases)).to(parameter)
    moved = network(probe).logits.float() - before
    if not torch.allclose(moved, shift.to(moved)[None, :, None, None].expand_as(moved), atol=1e-3):
        raise FeathersegError(
            f"{type(network).__name__}: its logits do not come from a layer with a bias of its own, so that none can "
            "be added. Balance another network, or give the last layer a bias."
        )
