"""Cheap chance and cached noise for the street scenes.

- A scene asks for thousands of random numbers; :class:`Dice` reads them from a list of Python floats, which costs a
  tenth of a call into a NumPy generator.
- What decides the *layout* comes from numbers drawn for that scene alone; what decides the *look* of one thing (which
  window is lit, how a branch bends) is read from one fixed table at a place the layout chose, so a thing can skip
  details that are too small to see without disturbing any other thing: the layout does not depend on the image size.
- Noise fields are periodic, made once per process by shaping white noise in the Fourier domain.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np

from featherseg.randomness import generator

T = TypeVar("T")
TABLE_SIZE = 1 << 15
NOISE_SIZE = 512


@cache
def _table() -> list[float]:
    return generator(0, "streets-table").random(TABLE_SIZE).tolist()


class Dice:
    """Uniform numbers read one after another from ``values``, starting at ``start`` and going round."""

    __slots__ = ("_position", "_size", "_values")

    def __init__(self, values: list[float], start: int = 0) -> None:
        self._values = values
        self._size = len(values)
        self._position = start % len(values)

    @classmethod
    def at(cls, start: int) -> "Dice":
        """The dice of one thing: the fixed table, read from ``start``."""
        return cls(_table(), start)

    def random(self) -> float:
        """A number in [0, 1)."""
        position = self._position
        self._position = position + 1 if position + 1 < self._size else 0
        return self._values[position]

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self.random()

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.random() < probability

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, each as likely."""
        return options[int(self.random() * len(options))]

    def seed(self) -> int:
        """A place in the fixed table for :meth:`at`."""
        return int(self.random() * TABLE_SIZE)

    def many(self, count: int) -> np.ndarray:
        """``count`` numbers in [0, 1) as float64 ``[count]``."""
        return np.array([self.random() for _ in range(count)])


@cache
def noise(kind: str) -> np.ndarray:
    """A periodic uint8 field ``[512, 512]``, mean about 128: ``clouds`` (soft), ``leaves`` (clumps) or ``grain``."""
    slope, low_cut = {"clouds": (1.7, 1.0), "leaves": (1.0, 10.0), "grain": (0.35, 4.0), "stains": (1.25, 2.0)}[kind]
    white = generator(1, f"streets-{kind}").standard_normal((NOISE_SIZE, NOISE_SIZE))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(NOISE_SIZE), np.fft.rfftfreq(NOISE_SIZE), indexing="ij"))
    frequency *= NOISE_SIZE
    shape = np.where(frequency > 0, 1.0 / np.maximum(frequency, low_cut) ** slope, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(white) * shape, s=white.shape)
    return np.clip(128 + field * (52 / field.std()), 0, 255).astype(np.uint8)


@cache
def paving(kind: str) -> np.ndarray:
    """A periodic uint8 tile ``[256, 256]``, mean about 128, of ``slabs``, ``cobbles`` or ``bricks`` with joints."""
    rows, columns, joint, spread = {"slabs": (4, 3, 3, 14), "cobbles": (16, 10, 4, 26), "bricks": (16, 5, 3, 20)}[kind]
    dice = generator(2, f"streets-{kind}")
    height = 256 // rows
    tile = np.full((256, 256), 70.0)
    edges = np.linspace(0, 256, columns + 1).astype(int)
    for row in range(rows):
        course = np.full((height, 256), 70.0)
        for left, right in pairwise(edges):
            course[joint:, left + joint : right] = 132 + dice.normal(0, spread)
        tile[row * height : (row + 1) * height] = np.roll(course, (row % 2) * (128 // columns), axis=1)
    tile += dice.normal(0, 6, tile.shape)
    return np.clip(tile, 0, 255).astype(np.uint8)


@cache
def sensor_noise() -> np.ndarray:
    """Normal noise of standard deviation 32 about 128, uint8 ``[512, 512, 3]``, slightly correlated."""
    field = generator(3, "streets-sensor").standard_normal((NOISE_SIZE, NOISE_SIZE, 3))
    field = 0.8 * field + 0.25 * (np.roll(field, 1, 0) + np.roll(field, 1, 1))
    return np.clip(np.rint(128 + field * 32), 0, 255).astype(np.uint8)


def sample(tile: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """A periodic uint8 tile ``[N, N]``, N a power of two, at float32 coordinates, as float32 about zero."""
    size = tile.shape[0]
    places = (down.astype(np.int32) & (size - 1)) * size + (across.astype(np.int32) & (size - 1))
    return tile.ravel().take(places).astype(np.float32) - np.float32(128)
