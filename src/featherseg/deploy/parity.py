"""Does an exported program label pixels as PyTorch does in float32?

Choices worth knowing:

- The judge is the plain network in float32 on the CPU, unfolded, with the arithmetic of ``Segmenter``.
- Rounding may turn a pixel whose two best logits lie closer together than 1e-4: such a pixel is a tie, is counted, and
  is no fault. Every other difference of a float32 program is one.
- A program that takes several images at once is given the same pictures one by one and four together.
- A bfloat16 program is held to the share of pixels that are equal or ties, on scenes.
- An int8 program is held to the share of pixels that are equal or ties, on scenes; noise, which it was not calibrated
  for, says nothing about it.
- Pictures are noise of two kinds and generated street scenes, or the images of the person who exports.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import nn

from featherseg.data.sources import open_dataset
from featherseg.models.output import InputSpec
from featherseg.randomness import generator

Precision = Literal["fp32", "bf16", "int8"]
TIE = 1e-4
AGREEMENT = {"bf16": 0.98, "int8": 0.95}
TOGETHER = 4
_LISTED = 5
_SMALLEST_SCENE = 64


@dataclass(frozen=True)
class Difference:
    """One pixel that is labelled otherwise, and how far apart PyTorch's two best logits are there."""

    picture: str
    row: int
    column: int
    expected: int
    given: int
    margin: float


@dataclass(frozen=True)
class Parity:
    """How many pixels of how many pictures were compared.

    Attributes:
        precision: of the exported program.
        bound: the rule in words.
        different: pixels labelled otherwise; ``ties`` of them have two best logits within 1e-4.
        passed: whether the bound holds.
        where: the first few differences that are no ties.
        sizes: (H, W) of the pictures.
        batches: how many of them were given at once.
    """

    precision: str
    bound: str
    pictures: int
    pixels: int
    different: int
    ties: int
    passed: bool
    where: tuple[Difference, ...]
    sizes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = (1,)

    @property
    def agreement(self) -> float:
        """The share of equal pixels, 0 to 1."""
        return 1 - self.different / self.pixels

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "where": [asdict(item) for item in self.where], "agreement": self.agreement}


def noise_pictures(size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 RGB ``[H, W, 3]``: independent pixels, and smooth blots."""
    height, width = size
    yield "noise", generator(0, "export noise", 0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    coarse = generator(0, "export noise", 1).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    yield "blots", cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def scene_pictures(size: tuple[int, int], count: int = 4) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 RGB ``[H, W, 3]`` of generated street scenes."""
    height, width = size
    painted = max(height, _SMALLEST_SCENE), max(width, _SMALLEST_SCENE)
    scenes = open_dataset("streets", "test", size=painted, count=count)
    for index in range(count):
        yield f"scene {index}", np.ascontiguousarray(scenes.read(index).image[:height, :width])


@torch.inference_mode()
def expected_labels(network: nn.Module, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's ids int ``[H, W]`` and the distance of the two best logits, float32 ``[H, W]``."""
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    height, width = image.shape[:2]
    logits = spec.enlarge(network(spec.normalise(torch.from_numpy(image)[None])).logits.float(), (height, width))[0]
    labels = logits.argmax(0).numpy()
    if logits.shape[0] == 1:
        return labels, np.full(labels.shape, np.inf, np.float32)
    best = logits.topk(2, dim=0).values
    return labels, (best[0] - best[1]).numpy()


class _Count:
    """What was compared so far."""

    def __init__(self) -> None:
        self.pixels = self.different = self.ties = 0
        self.where: list[Difference] = []

    def add(self, name: str, expected: np.ndarray, margin: np.ndarray, given: np.ndarray) -> None:
        wrong = given != expected
        tied = wrong & (margin < TIE)
        for row, column in np.argwhere(wrong & ~tied)[: _LISTED - len(self.where)]:
            at = int(row), int(column)
            self.where.append(Difference(name, *at, int(expected[at]), int(given[at]), float(margin[at])))
        self.pixels += wrong.size
        self.different += int(wrong.sum())
        self.ties += int(tied.sum())


def compare(
    network: nn.Module,
    labels_of: Callable[[np.ndarray], np.ndarray],
    pictures: Iterable[tuple[str, np.ndarray]],
    precision: Precision,
    *,
    batch_of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Parity:
    """Hold an exported program against ``network``.

    Args:
        network: in ``eval()``, on the CPU.
        labels_of: the program: uint8 RGB ``[H, W, 3]`` to ids ``[H, W]``.
        pictures: names and uint8 RGB ``[H, W, 3]``, at least one.
        precision: chooses the bound.
        batch_of: the program for four images of one size at once: ``[4, H, W, 3]`` to ids ``[4, H, W]``.
    """
    counted, count, batches = _Count(), 0, {1}
    sizes: dict[tuple[int, int], None] = {}
    group: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    for name, image in pictures:
        expected, margin = expected_labels(network, image)
        counted.add(name, expected, margin, labels_of(image))
        count += 1
        sizes[(image.shape[0], image.shape[1])] = None
        if batch_of is None:
            continue
        if group and group[0][1].shape != image.shape:
            group = []
        group.append((name, image, expected, margin))
        if len(group) == TOGETHER:
            together = batch_of(np.stack([one[1] for one in group]))
            for (one, _, ids, margins), given in zip(group, together, strict=True):
                counted.add(f"{one}, of {TOGETHER} at once,", ids, margins, given)
            batches.add(TOGETHER)
            group = []
    if not counted.pixels:
        raise ValueError("there are no pictures to compare on")
    faults = counted.different - counted.ties
    if precision == "fp32":
        bound, passed = f"equal but for pixels whose two best logits are within {TIE:g}", not faults
    else:
        share = AGREEMENT[precision]
        bound = f"at least {share:.0%} of all pixels equal, or two best logits within {TIE:g}"
        passed = 1 - faults / counted.pixels >= share
    return Parity(
        precision,
        bound,
        count,
        counted.pixels,
        counted.different,
        counted.ties,
        passed,
        tuple(counted.where),
        tuple(sizes),
        tuple(sorted(batches)),
    )
