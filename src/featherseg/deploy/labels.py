"""From low-resolution logits to the label map of their bilinear enlargement, without enlarging them.

Bilinear interpolation is a convex combination of four corners. Where the same class is largest at all four, it is
largest everywhere between them; only cells that a boundary crosses are evaluated, and those for the classes alone that
rise above the mean of the corners' winners somewhere. ``benchmarks/label_maps.py`` measures what that saves.

Choices worth knowing:

- The labels are those of ``InputSpec.enlarge(logits).argmax(1)`` to the bit, of logits in the usual order of memory:
  PyTorch enlarges channels_last ones with other roundings, and here they are put in order first. Cells whose corners
  lie so close together that rounding could decide are evaluated with PyTorch's own arithmetic. That arithmetic is that
  of CPUs with fused multiply-add; on others, and with exactly three classes, which PyTorch enlarges as it does
  pictures, two classes can change places where they are equal to the last digits.
- The first map of a process is PyTorch's, one class after the other: a single picture is not worth loading a compiler.
  So are maps for which PyTorch has another arithmetic (sides of 128 or less together, or a single logit a class) and
  maps with values that are not finite.
- Logits on a GPU are labelled there by ``label_triton.py``. Where Triton cannot be imported, cannot run, or gives other
  labels than PyTorch does on this GPU (it is tried once on near-ties), :func:`labels_on_gpu` gives None and the map is
  PyTorch's, made on the GPU one class after the other.
"""

from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from featherseg.models.output import InputSpec

SMALL = 128
"""Height and width together up to which PyTorch interpolates with another arithmetic."""


@dataclass(frozen=True)
class LabelMap:
    """Ids uint8 ``[H, W]`` and, where asked for, the soft-max probability of each float32 ``[H, W]``."""

    labels: np.ndarray
    confidence: np.ndarray | None = None


@dataclass
class _Compiler:
    """Whether this process has made a map before, and will thus make more."""

    wanted: bool = field(default=False)


_compiler = _Compiler()


@torch.inference_mode()
def label_map(logits: Tensor, spec: InputSpec, size: tuple[int, int], *, confidence: bool = False) -> LabelMap:
    """The class of every pixel of one image.

    Args:
        logits: floating ``[K, h, w]`` at the network's stride, 1 <= K <= 255; the first of equal classes wins. Those of
            less than 32 bits are widened first.
        spec: how they are enlarged.
        size: (H, W) of the image.
        confidence: give the probability of the chosen class as well; every class is enlarged for it.
    """
    classes = logits.shape[0]
    if not 1 <= classes <= 255:
        raise ValueError(f"{classes} classes do not fit into an 8-bit label map, which has ids 0 to 254")
    again, _compiler.wanted = _compiler.wanted, True
    if again and logits.is_cuda:
        found = labels_on_gpu(logits, spec, size, confidence=confidence)
        if found is not None:
            return found
    logits = logits.float().contiguous()
    if again and not confidence and can_skip_enlarging(logits, spec, size):
        return LabelMap(labels_of_cells(logits.numpy(), spec, size))
    return _on_the_host(*enlarged_labels(logits, spec, size, confidence=confidence))


def can_skip_enlarging(logits: Tensor, spec: InputSpec, size: tuple[int, int]) -> bool:
    """Whether :func:`labels_of_cells` gives the labels of PyTorch's enlarging for these."""
    usual = sum(spec.padded_size(*size)) > SMALL and logits[0].numel() > 1
    return usual and logits.device.type == "cpu" and bool(torch.isfinite(logits.sum()))


def labels_of_cells(logits: np.ndarray, spec: InputSpec, size: tuple[int, int]) -> np.ndarray:
    """The label map uint8 ``[H, W]`` of finite float32 logits ``[K, h, w]``, in as many threads as torch has."""
    from featherseg.deploy import label_kernels as kernels

    threads = torch.get_num_threads()
    logits = np.ascontiguousarray(logits, np.float32)
    _, height, width = logits.shape
    padded = spec.padded_size(*size)
    rows = _cells(padded[0], height, size[0], spec.align_corners)
    columns = _cells(padded[1], width, size[1], spec.align_corners)
    winner, clear = np.empty((height, width), np.uint8), np.empty((height, width), np.bool_)
    kernels.over_rows(kernels.find_winners, height, threads, logits, winner, clear)
    labels = np.empty(size, np.uint8)
    kernels.over_rows(kernels.label_cells, len(rows[1]), threads, logits, winner, clear, *rows, *columns, labels)
    return labels


def labels_on_gpu(
    logits: Tensor, spec: InputSpec, size: tuple[int, int], *, confidence: bool = False
) -> LabelMap | None:
    """What :func:`label_map` gives for logits on a GPU, by Triton; None where that could not give PyTorch's labels."""
    kernels = _gpu_kernels()
    if kernels is None or not kernels.takes(logits, spec, size):
        return None
    order = kernels.order_on(logits.device)
    if order is None:
        return None
    return _on_the_host(*kernels.labels_of_tiles(logits, spec, size, order, confidence=confidence))


@cache
def _gpu_kernels() -> ModuleType | None:
    try:
        from featherseg.deploy import label_triton
    except ImportError:
        return None
    return label_triton


@lru_cache(maxsize=32)
def _cells(length: int, low: int, kept: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first ``kept`` of ``length`` output positions, cut where the lower one of their two logits changes.

    Returns:
        starts of the cells with the end behind the last, their lower logits, and each position's weight of the upper.
    """
    lower, weight = positions(length, low, kept, align_corners)
    starts = np.flatnonzero(np.diff(lower, prepend=-1))
    return np.append(starts, kept), lower[starts], weight


def positions(length: int, low: int, kept: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Between which logits the first ``kept`` of ``length`` output positions lie, in PyTorch's float32.

    Returns:
        the lower one of the two logits of each, int64, and its weight of the upper, float32.
    """
    place = np.arange(kept, dtype=np.float32)
    if align_corners:
        step = np.float32(low - 1) / np.float32(length - 1) if length > 1 else np.float32(0)
        source = step * place
    else:
        # In PyTorch one fused operation: the product is exact in float64.
        step = np.float32(low) / np.float32(length)
        exact = step.astype(np.float64) * (place + np.float32(0.5)).astype(np.float64) - 0.5
        source = np.maximum(exact.astype(np.float32), np.float32(0))
    lower = np.minimum(source.astype(np.int64), low - 1)
    weight = np.clip(source - lower.astype(np.float32), np.float32(0), np.float32(1))
    return lower, weight


def enlarged_labels(
    logits: Tensor, spec: InputSpec, size: tuple[int, int], *, confidence: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Labels uint8 ``[H, W]`` of float32 logits by PyTorch and, where asked for, their probability float32 ``[H, W]``.

    Classes are enlarged one after the other and held against the best so far: 9 bytes a pixel instead of 4 K.
    """

    def enlarged(number: int) -> Tensor:
        return spec.enlarge(logits[number : number + 1, None].contiguous(), size)[0, 0]

    finite = bool(torch.isfinite(logits).all())
    best = enlarged(0).clone()
    labels = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for number in range(1, logits.shape[0]):
        candidate = enlarged(number)
        larger = candidate > best if finite else ~(candidate <= best) & ~best.isnan()  # the first NaN is the largest
        labels.masked_fill_(larger, number)
        torch.maximum(best, candidate, out=best)
    if not confidence:
        return labels, None
    total = torch.zeros(size, device=logits.device)
    for number in range(logits.shape[0]):
        total += (enlarged(number) - best).exp_()
    return labels, total.reciprocal_()


def _on_the_host(labels: Tensor, confidence: Tensor | None) -> LabelMap:
    return LabelMap(labels.cpu().numpy(), None if confidence is None else confidence.cpu().numpy())
