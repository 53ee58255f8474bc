"""What sessions of exported graphs share: what a graph takes and gives, and images that do not fit it.

Choices worth knowing:

- A graph that takes uint8 ``[B, H, W, 3]`` normalises by itself; one that takes float32 ``[B, 3, H, W]``, as other
  programs export them, gets what the InputSpec makes of the pixels.
- More images than a graph takes at once are given to it in turn.
- A session runs one call at a time: threads of the caller wait for each other.
- Ids of no class are refused before they are made uint8, where 256 would be class 0. 255 is no class and may stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from featherseg.data.labels import IGNORE
from featherseg.deploy.session import Output
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

LABEL_KINDS = ("uint8", "int32", "int64")
_LISTED = 5


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: its name, type ("uint8") and shape, None for a side that is open."""

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} [{', '.join('?' if side is None else str(side) for side in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives.

    Attributes:
        takes: uint8 "pixels" ``[B, H, W, 3]``, or "normalised" float32 ``[B, 3, H, W]``.
        output: "logits" for all floating maps, whatever their size.
        batch: how many images at once; None for any number.
        size: (H, W), None for a side that is open.
        classes: how many; None where the graph does not say.
    """

    takes: Literal["pixels", "normalised"]
    output: Output
    batch: int | None
    size: tuple[int | None, int | None]
    classes: int | None


def signature(inputs: Sequence[Port], outputs: Sequence[Port], where: str) -> Signature:
    """Read a graph's ports.

    Raises:
        FeathersegError: the graph labels no images in a way that is known here.
    """
    wrong = FeathersegError(
        f"{where}: does not label images in a way that is known here. It takes {'; '.join(map(str, inputs))} and gives "
        f"{'; '.join(map(str, outputs))}; one input is wanted, uint8 [B, H, W, 3] or float32 [B, 3, H, W], and first "
        "logits float32 [B, K, h, w] or labels [B, H, W]. `featherseg export` writes such files."
    )
    if len(inputs) != 1 or not outputs:
        raise wrong
    taken, given = inputs[0], outputs[0]
    if taken.kind == "uint8" and len(taken.shape) == 4 and taken.shape[3] == 3:
        takes, sides = "pixels", (taken.shape[1], taken.shape[2])
    elif taken.kind == "float32" and len(taken.shape) == 4 and taken.shape[1] == 3:
        takes, sides = "normalised", (taken.shape[2], taken.shape[3])
    else:
        raise wrong
    if given.kind == "float32" and len(given.shape) == 4:
        return Signature(takes, "logits", taken.shape[0], sides, given.shape[1])
    if given.kind in LABEL_KINDS and len(given.shape) == 3:
        return Signature(takes, "labels", taken.shape[0], sides, None)
    raise wrong


class GraphSession:
    """A graph in a runtime; subclasses run it.

    Attributes:
        runtime, output: as of every session.
        where: the file's name in messages.
        signature: what the graph takes and gives.
        metadata: what stands in the file under our name; None in files of other programs.
        spec: how pixels are normalised for graphs that take them so; None until one is given.
        classes: how many ids a label map may have; None for all below 255.
    """

    runtime = "none"

    def __init__(self, where: str, signature: Signature, metadata: Any) -> None:
        self.where, self.signature, self.metadata = where, signature, metadata
        self.output: Output = signature.output
        self.spec: InputSpec | None = None
        self.classes: int | None = None
        self._lock = Lock()

    def _infer(self, images: np.ndarray) -> np.ndarray:
        """Run the graph once on what it takes; an array that belongs to the caller."""
        raise NotImplementedError

    def run(self, images: Tensor) -> Tensor:
        """Logits or labels, see :class:`featherseg.deploy.session.Session`, of uint8 RGB ``[B, H, W, 3]``.

        Raises:
            FeathersegError: the graph does not take images of this size or number, or gives ids of no class.
        """
        self._check(images)
        given = images.contiguous() if self.signature.takes == "pixels" else self._normalised(images)
        at_once = self.signature.batch or len(given)
        with self._lock:
            found = [self._infer(part.numpy()) for part in given.split(at_once)]
        array = found[0] if len(found) == 1 else np.concatenate(found)
        if self.output == "labels":
            array = self._ids(array)
        return torch.from_numpy(array)

    def _ids(self, found: np.ndarray) -> np.ndarray:
        classes = IGNORE if self.classes is None else self.classes
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < classes:
            strange = found[((found < 0) | (found >= classes)) & (found != IGNORE)]
            if strange.size:
                first = ", ".join(map(str, np.unique(strange)[:_LISTED].tolist()))
                raise FeathersegError(
                    f"{self.where}: gives ids of no class ({first}): {classes} are known, 0 to {classes - 1}, and "
                    f"{IGNORE} for none. Name one class for each id."
                )
        return found.astype(np.uint8, copy=False)

    def _normalised(self, images: Tensor) -> Tensor:
        if self.spec is None:
            raise FeathersegError(
                f"{self.where}: takes normalised images, and nothing says how. Give an input_spec with the classes."
            )
        return self.spec.normalise(images).contiguous()

    def _check(self, images: Tensor) -> None:
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4 or images.shape[3] != 3:
            kind = "" if isinstance(images, Tensor) else f"{type(images).__name__}, "
            raise FeathersegError(
                f"images are {kind}{images.dtype} {list(images.shape)}; give a torch.Tensor uint8 [B, H, W, 3] in RGB, "
                "not normalised."
            )
        wanted = self.signature.size
        sides = tuple(images.shape[1:3])
        if any(want is not None and want != side for want, side in zip(wanted, sides, strict=True)):
            takes = "x".join("any" if side is None else str(side) for side in wanted)
            fitted = (
                "Resize it" if None in wanted else f"Predict with --letterbox {takes} (--pad {takes} if it is smaller)"
            )
            raise FeathersegError(
                f"the image is {sides[0]}x{sides[1]}, and {self.where} takes {takes} alone. {fitted}, or export the "
                "network for the image's size."
            )
        batch = self.signature.batch
        if batch is not None and len(images) % batch:
            raise FeathersegError(
                f"{self.where} takes {batch} images at once, and {len(images)} are given. Export the network without "
                "--batch for any number."
            )
