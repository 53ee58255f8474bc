"""Batches for training: which sample comes when, and the workers that prepare them.

Design choices:
- the samples form one endless stream cut into epochs; the order within an epoch and every augmentation is a pure
  function of (seed, epoch, position), so that training can start at any step and see the same batches;
- the decoded images and labels are kept in memory as uint8 (CamVid: 250 MB), since decoding is the bottleneck of a
  naive pipeline;
- several processes share a batch by taking every n-th of its samples;
- workers leave signals to the main process, which finishes its step, and hand a spoilt file's message over as it is.
"""

import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featherseg.data.dataset import Sample, SegmentationDataset
from featherseg.data.transforms import Augmentation
from featherseg.errors import FeathersegError
from featherseg.randomness import generator


@dataclass(frozen=True)
class Batch:
    """Images uint8 ``[B, H, W, 3]``, targets (uint8 label maps ``[B, H, W]`` or int64 classes ``[B]``), and keys."""

    images: Tensor
    targets: Tensor
    keys: list[str]

    def __len__(self) -> int:
        return len(self.keys)

    def pin_memory(self) -> "Batch":
        return Batch(self.images.pin_memory(), self.targets.pin_memory(), self.keys)

    def split(self, parts: int) -> "list[Batch]":
        """Cut into ``parts`` batches of nearly equal size, empty ones left out (gradient accumulation)."""
        cuts = np.array_split(np.arange(len(self)), parts)
        return [
            Batch(self.images[c[0] : c[-1] + 1], self.targets[c[0] : c[-1] + 1], self.keys[c[0] : c[-1] + 1])
            for c in cuts
            if len(c)
        ]


@dataclass(frozen=True)
class BatchPlan:
    """Which positions of which epoch make up a step's batch.

    Attributes:
        length: samples in the data set.
        batch_size: samples of one update, over all processes.
        drop_last: leave the incomplete last batch of an epoch out.
    """

    length: int
    batch_size: int
    drop_last: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the data; at least 1."""
        if self.drop_last:
            return max(1, self.length // self.batch_size)
        return -(-self.length // self.batch_size)

    def positions(self, step: int) -> list[tuple[int, int]]:
        """``(epoch, position)`` of every sample of the batch of ``step``."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        start = batch * self.batch_size
        return [(epoch, p) for p in range(start, min(start + self.batch_size, self.length))]


@dataclass
class TrainingSamples(Dataset):
    """Augmented training samples by (epoch, position).

    With ``class_uniform`` > 0 that share of the positions does not follow the epoch's permutation: a class is drawn
    evenly, then an image that shows it, and the crop is laid to hold it.
    """

    dataset: SegmentationDataset
    augmentation: Augmentation
    seed: int
    class_uniform: float = 0.0
    cache: bool = True
    _kept: dict[int, Sample] = field(default_factory=dict, repr=False)
    _images_of_class: dict[int, np.ndarray] | None = field(default=None, repr=False)

    def sample(self, index: int) -> Sample:
        """The decoded sample, from memory where it was read before."""
        kept = self._kept.get(index)
        if kept is None:
            kept = self.dataset.read(index)
            if self.cache:
                self._kept[index] = kept
        return kept

    def images_of_class(self) -> dict[int, np.ndarray]:
        """For every class that occurs, the indices of the images that show it; reads every label once."""
        if self._images_of_class is None:
            present = np.zeros((len(self.dataset), 256), bool)
            for index in range(len(self.dataset)):
                present[index] = np.bincount(self.sample(index).label.ravel(), minlength=256) > 0
            found = {k: np.flatnonzero(present[:, k]) for k in range(len(self.dataset.labels))}
            self._images_of_class = {k: images for k, images in found.items() if images.size}
        return self._images_of_class

    def __getitem__(self, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, str]:
        epoch, position = place
        rng = generator(self.seed, "augment", epoch, position)
        focus = None
        if self.class_uniform and rng.random() < self.class_uniform and self.images_of_class():
            choices = list(self.images_of_class().items())
            focus, images = choices[rng.integers(len(choices))]
            index = int(images[rng.integers(images.size)])
        else:
            index = int(epoch_order(self.seed, epoch, len(self.dataset))[position])
        sample = self.sample(index)
        image, label = self.augmentation(sample.image, sample.label, rng, focus)
        return image, label, sample.key


_orders: dict[tuple[int, int, int], np.ndarray] = {}


def epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """The permutation of ``length`` samples that epoch ``epoch`` follows."""
    key = (seed, epoch, length)
    if key not in _orders:
        if len(_orders) > 4:
            _orders.clear()
        _orders[key] = generator(seed, "order", epoch).permutation(length)
    return _orders[key]


def collate(items: list[tuple[np.ndarray, Any, str]]) -> Batch:
    """Join samples of one size into a batch."""
    images, targets, keys = zip(*items, strict=True)
    joined = np.stack([np.asarray(target) for target in targets])
    return Batch(torch.from_numpy(np.stack(images)), torch.from_numpy(joined), list(keys))


@dataclass(frozen=True)
class _Places:
    """The batch sampler: what :class:`BatchPlan` says of this process's share, step by step."""

    plan: BatchPlan
    start: int
    stop: int
    rank: int
    world: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.stop):
            yield self.plan.positions(step)[self.rank :: self.world]


@dataclass(frozen=True)
class _Guarded(Dataset):
    """Gives a sample's error back as a value: raised in a worker, it would arrive wrapped in a traceback."""

    samples: Dataset

    def __getitem__(self, place: tuple[int, int]) -> Any:
        try:
            return self.samples[place]
        except FeathersegError as error:
            return error.with_traceback(None)


def _collate_guarded(items: list[Any]) -> Batch | FeathersegError:
    return next((item for item in items if isinstance(item, FeathersegError)), None) or collate(items)


def _start_worker(_: int) -> None:
    # Ctrl-C, and a batch system's SIGTERM, reach the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def training_batches(
    samples: Dataset,
    plan: BatchPlan,
    *,
    start: int,
    stop: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
) -> Generator[Batch, None, None]:
    """Yield the batches of steps ``start`` to ``stop - 1``, this process's share of each.

    ``workers`` processes prepare them ahead; 0 prepares them here, as they are asked for.

    Raises:
        FeathersegError: a sample is spoilt; the message is the reader's.
    """
    loader = DataLoader(
        _Guarded(samples),
        batch_sampler=_Places(plan, start, stop, rank, world),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collate_guarded,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
    )
    for batch in loader:
        if isinstance(batch, FeathersegError):
            raise batch
        yield batch
