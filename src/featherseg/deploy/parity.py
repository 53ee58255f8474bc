"""Does an exported program label pixels as PyTorch does in float32?

Choices worth knowing:

- The judge is the plain network in float32 on the CPU, unfolded, with the arithmetic of ``Segmenter``.
- Rounding may turn a pixel whose two best logits lie closer together than 1e-4: such a pixel is a tie, is counted, and
  is no fault. Every other difference of a float32 program is one.
- Logits may be so small that everything is within 1e-4, and a wrong program would pass. Hence distances are shares of
  the spread of a picture's logits where that is less than 1 (the deepest networks' float32 is up to 1e-4 of the spread
  away from float64), and of differing ties one pixel in a thousand is excused.
- A program that takes several images at once is given the same pictures one by one and together. Where a size has too
  few pictures for that, shifted ones fill up; they all differ, since one picture several times would tell nothing.
- A bfloat16 program is held to the share of pixels that are equal or ties, on scenes.
- An int8 program is held to the share of pixels that are equal or ties, on scenes; noise, which it was not calibrated
  for, says nothing about it.
- Pictures are noise of two kinds and generated street scenes, or the images of the person who exports.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
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
EXCUSED = 1e-3
AGREEMENT = {"bf16": 0.98, "int8": 0.95}
TOGETHER = 4
_LISTED = 5
_SMALLEST_SCENE = 64
_Shown = tuple[str, np.ndarray, np.ndarray, np.ndarray]
"""Name, image, and PyTorch's ids and distances."""


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
        where: the first few differences that are no ties; of ties, where they alone are too many.
        sizes: (H, W) of the pictures.
        batches: how many different ones were given at once.
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
    """PyTorch's ids int ``[H, W]`` and the distance of the two best logits, float32 ``[H, W]``.

    Where the logits of the picture are spread over less than 1, the distance is the share of that.
    """
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    height, width = image.shape[:2]
    logits = spec.enlarge(network(spec.normalise(torch.from_numpy(image)[None])).logits.float(), (height, width))[0]
    labels = logits.argmax(0).numpy()
    if logits.shape[0] == 1:
        return labels, np.full(labels.shape, np.inf, np.float32)
    best = logits.topk(2, dim=0).values
    spread = (logits.max() - logits.min()).clamp(torch.finfo(torch.float32).tiny, 1)
    return labels, ((best[0] - best[1]) / spread).numpy()


def _shown(network: nn.Module, name: str, image: np.ndarray) -> _Shown:
    return name, image, *expected_labels(network, image)


def _filled(network: nn.Module, pictures: Sequence[_Shown], count: int) -> list[_Shown]:
    """``count`` pictures: those that there are, and then they in turn, shifted round their edges, each time further."""
    made = list(pictures)
    for number in range(len(pictures), count):
        name, image, *_ = pictures[number % len(pictures)]
        height, width = image.shape[:2]
        shift = (number * height) // (count + 1), (number * width) // (count + 1)
        made.append(_shown(network, f"{name} shifted", np.roll(image, shift, (0, 1))))
    return made


class _Count:
    """What was compared so far."""

    def __init__(self) -> None:
        self.pixels = self.different = self.ties = 0
        self.where: list[Difference] = []
        self.turned: list[Difference] = []

    def add(self, name: str, expected: np.ndarray, margin: np.ndarray, given: np.ndarray) -> None:
        wrong = given != expected
        tied = wrong & (margin < TIE)
        for listed, which in ((self.where, wrong & ~tied), (self.turned, tied)):
            for row, column in np.argwhere(which)[: _LISTED - len(listed)]:
                at = int(row), int(column)
                listed.append(Difference(name, *at, int(expected[at]), int(given[at]), float(margin[at])))
        self.pixels += wrong.size
        self.different += int(wrong.sum())
        self.ties += int(tied.sum())

    @property
    def faults(self) -> int:
        """Differences that are no ties, and ties beyond those that are excused: a thousandth, and one at least."""
        return self.different - min(self.ties, ceil(EXCUSED * self.pixels))


def compare(
    network: nn.Module,
    labels_of: Callable[[np.ndarray], np.ndarray],
    pictures: Iterable[tuple[str, np.ndarray]],
    precision: Precision,
    *,
    batch_of: Callable[[np.ndarray], np.ndarray] | None = None,
    at_once: int = TOGETHER,
) -> Parity:
    """Hold an exported program against ``network``.

    Args:
        network: in ``eval()``, on the CPU.
        labels_of: the program: uint8 RGB ``[H, W, 3]`` to ids ``[H, W]``.
        pictures: names and uint8 RGB ``[H, W, 3]``, at least one.
        precision: chooses the bound.
        batch_of: the program for several images of one size at once: ``[B, H, W, 3]`` to ids ``[B, H, W]``.
        at_once: how many, B.
    """
    counted, count = _Count(), 0
    alone: dict[tuple[int, int], list[_Shown]] = {}
    together: set[tuple[int, int]] = set()

    def give_together(group: Sequence[_Shown], batch_of: Callable[[np.ndarray], np.ndarray]) -> None:
        found = batch_of(np.stack([image for _, image, *_ in group]))
        for (name, _, expected, margin), given in zip(group, found, strict=True):
            counted.add(f"{name}, of {at_once} at once,", expected, margin, given)

    for name, image in pictures:
        shown = _shown(network, name, image)
        counted.add(name, *shown[2:], labels_of(image))
        count += 1
        size = image.shape[0], image.shape[1]
        group = alone.setdefault(size, [])
        if batch_of is None:
            continue
        group.append(shown)
        if len(group) == at_once:
            give_together(group, batch_of)
            together.add(size)
            group.clear()
    if batch_of is not None:
        for size, group in alone.items():
            if size not in together:
                give_together(_filled(network, group, at_once), batch_of)
    if not counted.pixels:
        raise ValueError("there are no pictures to compare on")
    tie = f"two best logits within {TIE:g} (at most {EXCUSED:.1%} of all)"
    if precision == "fp32":
        bound, passed = f"equal but for {tie}", not counted.faults
    else:
        share = AGREEMENT[precision]
        bound = f"at least {share:.0%} of all pixels equal, or {tie}"
        passed = 1 - counted.faults / counted.pixels >= share
    return Parity(
        precision,
        bound,
        count,
        counted.pixels,
        counted.different,
        counted.ties,
        passed,
        tuple(counted.where or (() if passed else counted.turned)),
        tuple(alone),
        (1,) if batch_of is None else (1, at_once),
    )
