"""How much an int8 program loses against the float32 program of the same runtime, on images that set no ranges.

Choices worth knowing:

- With labels of the network's classes the loss is that of mIoU, in points of 100: float32 less int8.
- Without, it is the share of pixels that are labelled otherwise, in percent. That is agreement and no accuracy: nothing
  tells whether those pixels became worse.
- The float32 program runs once; its label maps are kept compressed, a hundredth of their size.
"""

import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featherseg.data.labels import LabelSet
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.segmenter import shared_tensor
from featherseg.deploy.session import Session, labels_of
from featherseg.errors import FeathersegError
from featherseg.metrics.confusion import confusion_matrix, mean_iou
from featherseg.models.output import InputSpec

Labels = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB ``[H, W, 3]`` to uint8 ids ``[H, W]``."""
Progress = Callable[[str, int, int], None]
"""Gets what is done, and how many of how many steps of it are."""


@dataclass(frozen=True)
class Verdict:
    """What a judge says of a program.

    Attributes:
        miou: 0 to 1; None without labels.
        agreement: the share of pixels that the float32 program labels the same, 0 to 1.
        loss: in points of mIoU, or in percent of the pixels.
    """

    miou: float | None
    agreement: float
    loss: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def labels_by(session: Session, spec: InputSpec) -> Labels:
    """The label maps of a session, of one image after the other."""

    def labels(image: np.ndarray) -> np.ndarray:
        found = session.run(shared_tensor(image)[None])[0]
        return labels_of(found, session.output, spec, (image.shape[0], image.shape[1])).labels

    return labels


class Judge:
    """Holds programs against a float32 one.

    Args:
        samples: at least one.
        labels: the classes of their labels; None to judge by agreement.
        reference: the float32 program.
        progress: told of every image.

    Attributes:
        by: "mIoU" or "agreement".
        reference: the verdict on the float32 program, whose loss is 0.

    Raises:
        FeathersegError: there are no images.
    """

    def __init__(
        self,
        samples: Samples,
        labels: LabelSet | None,
        reference: Labels,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        if not len(samples):
            raise FeathersegError("there are no images to judge on. Give some with --judge.")
        self.samples, self._progress = samples, progress
        self._classes = 0 if labels is None else len(labels)
        self._expected: list[bytes] = []
        counts = np.zeros((self._classes, self._classes), np.int64)
        for number, sample in enumerate(samples):
            progress("judging float32", number, len(samples))
            found = np.ascontiguousarray(reference(sample.image))
            self._expected.append(zlib.compress(found.tobytes(), 1))
            if self._classes:
                counts += confusion_matrix(sample.label, found, self._classes)
        if not counts.any():
            self._classes = 0
        self.by = "mIoU" if self._classes else "agreement"
        self.reference = Verdict(mean_iou(counts) if self._classes else None, 1.0, 0.0)

    def differing(self, program: Labels) -> float:
        """The share of pixels that ``program`` labels otherwise than float32, 0 to 1; no progress is told."""
        return 1 - self._run(program, None).agreement

    def judge(self, program: Labels, called: str) -> Verdict:
        """The verdict on ``program``, under the name that progress is told by."""
        return self._run(program, called)

    def _run(self, program: Labels, called: str | None) -> Verdict:
        counts = np.zeros((self._classes, self._classes), np.int64)
        same = pixels = 0
        for number, (sample, packed) in enumerate(zip(self.samples, self._expected, strict=True)):
            if called is not None:
                self._progress(f"judging {called}", number, len(self.samples))
            found = program(sample.image)
            expected = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(found.shape)
            same += int((found == expected).sum())
            pixels += found.size
            if self._classes:
                counts += confusion_matrix(sample.label, found, self._classes)
        agreement = same / pixels
        if self.reference.miou is None:
            return Verdict(None, agreement, 100 * (1 - agreement))
        miou = float(mean_iou(counts))
        return Verdict(miou, agreement, 100 * (self.reference.miou - miou))
