"""Judging candidates on labelled images of the user's, within a time limit.

Choices worth knowing:

- All are judged on the same images, evenly spread over the split, or not at all: half a judgement compares with
  nothing.
- In float32 every runtime labels alike (the gate of ``featherseg export`` holds it), so that one judgement, by the
  fastest of them, is that of all. bfloat16 is judged by runtime, a file by itself.
- Those nearest to the wanted time come first. One that cannot be done in the time that is left is not begun.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isnan, log
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from featherseg.bench.choice_accuracy import JUDGED, Accuracy
from featherseg.bench.choice_candidates import Shown
from featherseg.bench.choice_search import LATE
from featherseg.bench.measuring import Clock
from featherseg.data.dataset import Sample, split_name
from featherseg.data.sources import available_splits, open_dataset
from featherseg.errors import FeathersegError, nearest
from featherseg.metrics.confusion import confusion_matrix, mean_iou

KEPT_BYTES = 2**28
"""Decoded images of so many bytes are kept; more are decoded again for every judgement."""


class Judge:
    """Finds accuracies on a split.

    Args:
        data: a data set as everywhere.
        split: of it.
        images: on at most so many.
        wanted: ms, see :func:`featherseg.bench.choice_search.explore`.
        clock: seconds from anywhere.
        told: gets a line before each judgement.

    Attributes:
        protocol: of the figures.
        found: of the candidates that were judged.
        reasons: why the others were not.

    Raises:
        FeathersegError: the data cannot be used, or there is no such split.
    """

    def __init__(
        self,
        data: str,
        split: str,
        images: int,
        wanted: float,
        *,
        clock: Clock = time.perf_counter,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        known = available_splits(data)
        if split not in known:
            choices = " or ".join(f"--split {name}" for name in known)
            raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")
        self.dataset = open_dataset(data, split)
        count = min(images, len(self.dataset))
        self._indices = [position * len(self.dataset) // count for position in range(count)]
        self._kept: dict[int, Sample] = {}
        self._wanted, self._clock, self._told = wanted, clock, told
        self.protocol = f"{self.dataset.name}/{split_name(self.dataset)}, {count} images"
        self.called = f"{Path(data).name}/{split}"
        self.found: dict[str, Accuracy] = {}
        self.reasons: dict[str, str] = {}

    def size(self) -> tuple[int, int]:
        """(H, W) of the first image."""
        return self._read(self._indices[0]).label.shape  # type: ignore[return-value]

    def judge(
        self, shown: Mapping[str, Shown], times: Mapping[str, Sequence[float]], size: tuple[int, int], until: float
    ) -> dict[str, float | None]:
        """mIoU in percent by candidate, None where it was not found; see ``reasons``.

        Args:
            shown: the candidates.
            times: ms of each, taken on images of ``size`` (H, W).
            until: the clock's time at which judging ends.
        """
        groups: dict[tuple[Any, ...], list[str]] = {}
        for name in times:
            groups.setdefault(_alike(shown[name]), []).append(name)
        pixels = self.size()[0] * self.size()[1] / (size[0] * size[1])
        fastest = {key: min(names, key=lambda name: median(times[name])) for key, names in groups.items()}
        for key in sorted(groups, key=lambda key: abs(log(median(times[fastest[key]]) / self._wanted))):
            one = fastest[key]
            seconds = median(times[one]) / 1000 * pixels * len(self._indices)
            try:
                miou = None if self._clock() + seconds > until else self._miou(shown[one], until)
                reason = f"not judged: {LATE}"
            except FeathersegError as error:
                miou, reason = None, str(error)
            for name in groups[key]:
                if miou is None:
                    self.reasons[name] = reason
                else:
                    self.found[name] = Accuracy(miou, self.protocol, JUDGED)
        return {name: self.found[name].miou if name in self.found else None for name in times}

    def _miou(self, shown: Shown, until: float) -> float | None:
        """In percent; None where the time did not suffice."""
        ours, theirs = shown.classes, self.dataset.labels.classes
        if len(ours) != len(theirs) or (ours != theirs and sorted(ours) == sorted(theirs)):
            raise FeathersegError(f"its {len(ours)} classes are not the {len(theirs)} of {self.called}")
        self._told(f"judging {shown.candidate.name} on {len(self._indices)} images of {self.called}")
        counts = np.zeros((len(theirs), len(theirs)), np.int64)
        for sample in self._samples():
            if self._clock() >= until:
                return None
            counts += confusion_matrix(sample.label, shown.contestant(sample.image).run(), len(theirs))
        miou = 100 * float(mean_iou(counts))
        if isnan(miou):
            raise FeathersegError(f"the labels of {self.called} are ignore throughout")
        return round(miou, 4)

    def _samples(self) -> Iterator[Sample]:
        for index in self._indices:
            yield self._read(index)

    def _read(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self.dataset.read(index)
        if sum(kept.image.nbytes for kept in self._kept.values()) < KEPT_BYTES:
            self._kept[index] = sample
        return sample


def _alike(shown: Shown) -> tuple[Any, ...]:
    """What candidates that label alike have in common."""
    candidate, opened = shown.candidate, shown.opened
    own = (candidate.source.name, candidate.scale, candidate.way.precision)
    if candidate.source.exported or candidate.way.precision != "fp32":
        return *own, candidate.way.runtime
    return *own, opened.session.output
