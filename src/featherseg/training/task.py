"""What the training loop needs to know of a task; segmentation and classification each give one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset

from featherseg.data.batches import Batch


@dataclass(frozen=True)
class UpdateSize:
    """What the parts of one update come to over all processes: the sum of their weights, and their images."""

    weight: float
    images: float


class Task(Protocol):
    """A task under training.

    ``samples`` yields ``(image, target, key)`` for ``(epoch, position)``; ``length`` is the number of positions in an
    epoch.
    """

    network: nn.Module
    length: int

    @property
    def samples(self) -> Dataset: ...

    def weight(self, batch: Batch) -> float:
        """What a batch counts in the loss's mean: labelled pixels, or images."""
        ...

    def loss(self, network: nn.Module, batch: Batch, total: UpdateSize) -> Tensor:
        """The loss of ``batch`` as its part of an update, whose parts, of all processes, have the size ``total``."""
        ...

    def evaluate(self, network: nn.Module, progress: Callable[[int, int], None] | None) -> dict[str, Any]:
        """Judge on val: JSON-ready figures with a ``"score"`` in percent, larger is better."""
        ...

    def start_lines(self) -> list[str]:
        """What was taken from the weights the training starts from, for a person; empty where from nothing."""
        ...

    def describe(self) -> dict[str, Any]:
        """The metadata of a weights file: architecture, classes, input spec."""
        ...

    def fingerprints(self) -> dict[str, str]:
        """Hashes of the data that is read, by split."""
        ...
