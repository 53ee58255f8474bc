"""How images are shown to a network: in a letterbox, window by window, mirrored, at several scales.

Choices worth knowing:

- Any session serves: pictures are resized as uint8, before the normalising that exported graphs have inside. What
  ``featherseg eval`` resizes is normalised already, so that a few pixels may differ.
- The views of one image (scales, mirrored or not) are averaged as soft-max probabilities; windows within a view are
  blended as logits.
- The logits of one image at one scale are enlarged to the image at once, never to the scaled size between.
- A plain view costs nothing: it is what ``predict`` of the segmenter itself does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from featherseg.data.labels import LabelSet
from featherseg.deploy.labels import LabelMap
from featherseg.deploy.letterbox import Placement, letterbox, mean_colour, padded, resized_pixels
from featherseg.deploy.segmentation import Segmentation
from featherseg.deploy.segmenter import read_image_argument, shared_tensor
from featherseg.deploy.session import Session, labels_of
from featherseg.deploy.window import OVERLAP, blended_bands
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """How images are shown. Sizes are (H, W).

    Attributes:
        flip: average with the mirrored image.
        scales: average over the image at these scales.
        window: slide a window of this size over images that are larger.
        overlap: the least share of a window that the next one covers too, 0 to below 1.
        letterbox: make the image fit this size, its proportions kept, and pad the rest.
        pad: pad the image to this size as it is.

    Raises:
        FeathersegError: a value that nothing can be shown with, or two that contradict each other.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: Size | None = None
    overlap: float = OVERLAP
    letterbox: Size | None = None
    pad: Size | None = None

    def __post_init__(self) -> None:
        if not self.scales or not all(isfinite(scale) and scale > 0 for scale in self.scales):
            raise FeathersegError(f"scales {self.scales} show nothing. Give numbers above zero, as 0.75, 1, 1.25.")
        if not 0 <= self.overlap < 1:
            raise FeathersegError(f"windows cannot overlap by {self.overlap}. Give a share from 0 to below 1.")
        for name in ("window", "letterbox", "pad"):
            size = getattr(self, name)
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise FeathersegError(f"{name} {size} is no size. Give height and width, at least 1 each.")
        fitted = [name for name in ("window", "letterbox", "pad") if getattr(self, name) is not None]
        if len(fitted) > 1:
            raise FeathersegError(f"{fitted[0]} and {fitted[1]} are two ways of fitting an image. Choose one.")
        if self.scales != (1.0,) and fitted and fitted != ["window"]:
            raise FeathersegError(f"a {fitted[0]} has one size, which scales would be lost in. Leave one of them out.")

    @property
    def plain(self) -> bool:
        """Whether images are shown once and as they are."""
        return self.once and self.window is None and self.letterbox is None and self.pad is None

    @property
    def once(self) -> bool:
        """Whether nothing is averaged."""
        return not self.flip and self.scales == (1.0,)

    def place(self, size: Size) -> Placement | None:
        """Where an image of this size lies in the letterbox or the padding; None without either."""
        if self.letterbox is not None:
            return letterbox(size, self.letterbox)
        return None if self.pad is None else padded(size, self.pad)


@dataclass(frozen=True, eq=False)
class ViewedSegmenter:
    """A segmenter that shows images in a view of its own; see :func:`viewed`."""

    name: str
    labels: LabelSet
    input_spec: InputSpec
    session: Session
    view: View

    @torch.inference_mode()
    def predict(self, image: Any, *, confidence: bool = False) -> Segmentation:
        """Label every pixel of one image: a file, a uint8 array ``[H, W, 3]`` in RGB, or a PIL image.

        Args:
            image: of any size that the view makes fit.
            confidence: keep the probability of each pixel's class.

        Raises:
            FeathersegError: the image is missing or spoilt, or does not fit, or confidence is asked for of a file that
                gives labels alone.
        """
        pixels = read_image_argument(image)
        place = self.view.place((pixels.shape[0], pixels.shape[1]))
        enlarged = place is not None and place.resized and self.session.output != "labels"
        scaled = self._one_scale((pixels.shape[0], pixels.shape[1]))
        if scaled is not None:
            found = self._run(resized_pixels(pixels, scaled))
            made = labels_of(found, "logits", self.input_spec, pixels.shape[:2], confidence=confidence)
        elif self.view.once and self.view.window is None and not enlarged:
            made = self._one_run(pixels, place, confidence)
        else:
            made = self._averaged(pixels, confidence)
        return Segmentation(made.labels, self.labels, pixels, made.confidence)

    def _one_scale(self, size: Size) -> Size | None:
        """The scaled size of an image of which nothing else is asked; None elsewhere, and where images are padded."""
        alone = len(self.view.scales) == 1 and not self.view.once and not self.view.flip and self.view.window is None
        if not alone or self.session.output != "logits":
            return None
        to = _scaled(size, self.view.scales[0])
        unpadded = all(self.input_spec.padded_size(*one) == one for one in (to, size))
        return to if unpadded else None

    def _one_run(self, pixels: np.ndarray, place: Placement | None, confidence: bool) -> LabelMap:
        """The label map of one run, cut out of the box where it lies in one."""
        shown = pixels if place is None else place.into_box(pixels, mean_colour(self.input_spec))
        size = (shown.shape[0], shown.shape[1])
        made = labels_of(self._run(shown), self.session.output, self.input_spec, size, confidence=confidence)
        if place is None:
            return made
        sure = None if made.confidence is None else place.labels_out(made.confidence)
        return LabelMap(place.labels_out(made.labels), sure)

    def _averaged(self, pixels: np.ndarray, confidence: bool) -> LabelMap:
        size = (pixels.shape[0], pixels.shape[1])
        labels = np.empty(size, np.uint8)
        sure = np.empty(size, np.float32) if confidence else None
        for top, maps in self._bands(pixels):
            soft = not self.view.once or confidence
            value = torch.stack([one.softmax(0) for one in maps]).mean(0) if soft else maps[0]
            best, chosen = value.max(0)
            rows = slice(top, top + chosen.shape[0])
            labels[rows] = chosen.to(torch.uint8).cpu().numpy()
            if sure is not None:
                sure[rows] = best.cpu().numpy()
        return LabelMap(labels, sure)

    def _bands(self, pixels: np.ndarray) -> Iterator[tuple[int, list[Tensor]]]:
        """(first row, logits ``[K, rows, W]`` of every view), from the top to the bottom."""
        mirrored = (False, True) if self.view.flip else (False,)
        if self.view.scales == (1.0,):
            for together in zip(*(self._rows(pixels, flip) for flip in mirrored), strict=True):
                yield together[0][0], [maps for _, maps in together]
            return
        size = (pixels.shape[0], pixels.shape[1])
        found = []
        for scale in self.view.scales:
            to = _scaled(size, scale)
            shown = pixels if to == size else resized_pixels(pixels, to)
            for flip in mirrored:
                whole = torch.cat([maps for _, maps in self._rows(shown, flip)], dim=1)
                if to != size:
                    whole = F.interpolate(whole[None], size=size, mode="bilinear", align_corners=False)[0]
                found.append(whole)
        yield 0, found

    def _rows(self, pixels: np.ndarray, flip: bool) -> Iterator[tuple[int, Tensor]]:
        """(first row, logits ``[K, rows, W]``) of an image shown mirrored or not, in the image's own orientation."""
        shown = pixels[:, ::-1] if flip else pixels
        if self.view.window is None:
            bands: Iterator[tuple[int, Tensor]] = iter([(0, self._logits(shown))])
        else:
            bands = blended_bands(self._logits, shown, self.view.window, self.view.overlap)
        for top, maps in bands:
            yield top, maps.flip(-1) if flip else maps

    def _logits(self, pixels: np.ndarray) -> Tensor:
        """Logits float32 ``[K, H, W]`` of an image, in the place that the view or the file wants it to have."""
        size = (pixels.shape[0], pixels.shape[1])
        place = self.view.place(size)
        takes = _size_of(self.session)
        if place is None and self.view.window is not None and takes is not None and size != takes:
            place = padded(size, takes)
        shown = pixels if place is None else place.into_box(pixels, mean_colour(self.input_spec))
        found = self._run(shown)
        if self.session.output == "logits":
            found = self.input_spec.enlarge(found[None], (shown.shape[0], shown.shape[1]))[0]
        return found if place is None else place.logits_out(found)

    def _run(self, pixels: np.ndarray) -> Tensor:
        found = self.session.run(shared_tensor(pixels)[None])[0]
        if found.is_floating_point() and not bool(torch.isfinite(found).all()):
            raise FeathersegError(f"{self.name}: gives numbers that are not finite; its weights are spoilt.")
        return found


def viewed(segmenter: Any, view: View) -> Any:
    """A segmenter of any runtime that shows images in ``view``; the same one where that is plain.

    Args:
        segmenter: what ``featherseg.load`` gives for a segmentation.
        view: how its images are shown.

    Raises:
        FeathersegError: the segmenter's file gives labels alone, which cannot be averaged, or takes another size than
            the view's.
    """
    if view.plain:
        return segmenter
    session: Session = segmenter.session
    if session.output == "labels" and not (view.once and view.window is None):
        raise FeathersegError(
            f"{segmenter.name}: gives labels alone, which can be neither averaged nor blended. Export the network with "
            "--ends logits, or show images once and whole."
        )
    takes = _size_of(session)
    for name in ("window", "letterbox", "pad"):
        size = getattr(view, name)
        if takes is not None and size is not None and size != takes:
            raise FeathersegError(
                f"{segmenter.name}: takes {takes[0]}x{takes[1]} alone, and the {name} is {size[0]}x{size[1]}. Make "
                "them the same."
            )
    spec: InputSpec = segmenter.input_spec
    return ViewedSegmenter(segmenter.name, segmenter.labels, spec, session, view)


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _size_of(session: Any) -> Size | None:
    """The only size (H, W) that a session takes; None where it takes more."""
    signature = getattr(session, "signature", None)
    if signature is None or None in signature.size:
        return None
    return signature.size
