"""Does an exported program label pixels as PyTorch does in float32?

Choices worth knowing:

- The judge is the plain network in float32 on the CPU, unfolded, with the arithmetic of ``Segmenter``.
- Rounding may turn a pixel whose two best logits lie closer together than 1e-4: such a pixel is a tie, is counted, and
  is no fault. Every other difference of a float32 program is one.
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

Precision = Literal["fp32", "int8"]
TIE = 1e-4
INT8_AGREEMENT = 0.95
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
    """

    precision: str
    bound: str
    pictures: int
    pixels: int
    different: int
    ties: int
    passed: bool
    where: tuple[Difference, ...]

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


def compare(
    network: nn.Module,
    labels_of: Callable[[np.ndarray], np.ndarray],
    pictures: Iterable[tuple[str, np.ndarray]],
    precision: Precision,
) -> Parity:
    """Hold an exported program against ``network``.

    Args:
        network: in ``eval()``, on the CPU.
        labels_of: the program: uint8 RGB ``[H, W, 3]`` to ids ``[H, W]``.
        pictures: names and uint8 RGB ``[H, W, 3]``, at least one.
        precision: chooses the bound.
    """
    count = pixels = different = ties = 0
    where: list[Difference] = []
    for name, image in pictures:
        expected, margin = expected_labels(network, image)
        given = labels_of(image)
        wrong = given != expected
        tied = wrong & (margin < TIE)
        for row, column in np.argwhere(wrong & ~tied)[: _LISTED - len(where)]:
            at = int(row), int(column)
            where.append(Difference(name, *at, int(expected[at]), int(given[at]), float(margin[at])))
        count, pixels = count + 1, pixels + wrong.size
        different, ties = different + int(wrong.sum()), ties + int(tied.sum())
    if not pixels:
        raise ValueError("there are no pictures to compare on")
    if precision == "fp32":
        bound, passed = f"equal but for pixels whose two best logits are within {TIE:g}", different == ties
    else:
        bound = f"at least {INT8_AGREEMENT:.0%} of all pixels equal, or two best logits within {TIE:g}"
        passed = 1 - (different - ties) / pixels >= INT8_AGREEMENT
    return Parity(precision, bound, count, pixels, different, ties, passed, tuple(where))
