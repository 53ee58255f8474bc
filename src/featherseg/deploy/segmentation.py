"""What a prediction is: a label map with the names and colours of its classes, and how it is saved.

Choices worth knowing:

- The label PNG holds the class ids as they are (8-bit grey): it looks nearly black and is meant for programs; the
  overlay is for people and has a legend of the classes that occur.
- The classes of the JSON are all classes, so that files can be joined into a table; shares are of all pixels.
- A file is either whole or not there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.colour import legend_strip, overlay
from featherseg.data.labels import LabelSet
from featherseg.files import atomic_write

_LEGEND_WIDTH = 240
"""A legend narrower than this cannot be read; the picture above it is widened with white."""


def png_bytes(picture: np.ndarray) -> bytes:
    """uint8 ids ``[H, W]`` or RGB ``[H, W, 3]`` as an 8-bit PNG."""
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", stored)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as PNG")
    return encoded.tobytes()


@dataclass(frozen=True)
class SavedFiles:
    """Where one prediction was written. ``overlay`` is None where none was asked for."""

    labels: Path
    shares: Path
    overlay: Path | None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The classes of one image's pixels.

    Attributes:
        labels: uint8 ids ``[H, W]``.
        label_set: names and colours of the ids.
        image: uint8 RGB ``[H, W, 3]``, what was looked at.
        confidence: probability float32 ``[H, W]`` of each pixel's class, where it was asked for.
    """

    labels: np.ndarray
    label_set: LabelSet
    image: np.ndarray
    confidence: np.ndarray | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in id order."""
        return self.label_set.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB colours of the classes, in id order."""
        return self.label_set.palette

    def shares(self) -> dict[str, float]:
        """The share of all pixels that each class takes, 0 to 1, absent classes included."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.label_set))
        return {name: int(counts[i]) / self.labels.size for i, name in enumerate(self.classes)}

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """The image under the class colours, uint8 RGB ``[H, W, 3]``; ``alpha`` is the colours' share, 0 to 1."""
        return overlay(self.image, self.labels, self.palette, alpha)

    def picture(self, alpha: float = 0.5) -> np.ndarray:
        """The overlay with a legend of the classes that occur below it: uint8 RGB, at least 240 pixels wide."""
        painted = self.overlay(alpha)
        height, width = self.labels.shape
        if width < _LEGEND_WIDTH:
            wide = np.full((height, _LEGEND_WIDTH, 3), 255, np.uint8)
            wide[:, :width] = painted
            painted = wide
        present = np.flatnonzero(np.bincount(self.labels.ravel(), minlength=len(self.label_set)))
        return np.vstack([painted, legend_strip(self.label_set, present.tolist(), painted.shape[1])])

    def save(self, folder: str | Path, stem: str, *, overlay: bool = True, alpha: float = 0.5) -> SavedFiles:
        """Write ``STEM.png`` (ids), ``STEM_overlay.png`` (with legend) and ``STEM.json`` (shares) into ``folder``.

        ``stem`` may hold folders of its own (``"monday/0001"``); all are made.

        Raises:
            FeathersegError: the folder cannot be written, or no space is left.
        """
        target = Path(folder) / stem
        height, width = self.labels.shape
        shares = {name: round(share, 6) for name, share in self.shares().items()}
        about = {"size": {"height": height, "width": width}, "shares": shares}
        # First: it marks the pictures beside it as ours, so that a run that was stopped can be run again.
        written = atomic_write(target.with_name(f"{target.name}.json"), json.dumps(about, indent=1) + "\n")
        labels = atomic_write(target.with_name(f"{target.name}.png"), png_bytes(self.labels))
        painted = None
        if overlay:
            painted = atomic_write(target.with_name(f"{target.name}_overlay.png"), png_bytes(self.picture(alpha)))
        return SavedFiles(labels, written, painted)
