"""What became of a foreign checkpoint: which tensors fit a network, and what is said about the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from featherseg.errors import FeathersegError

COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor of a file and of the network.

    Attributes:
        source: the file, or what the tensors were called.
        matched: the network's tensors that were found in the right shape.
        missing: the network's tensors that were not found.
        unexpected: tensors of the file that the network has no place for.
        ignored: tensors of the file that were left out on purpose (beyond the trunk, in an encoder-only import; what
            only a training needs).
        shape_mismatch: tensors found in another shape, each as ``"name: [network] / [file]"``.
        aliases: older names that were rewritten, (in the file, in the network).
        counters_absent: batch counters that files before PyTorch 0.4.1 lack; they start at zero, and ``eval()`` does
            not use them.
        parameters: numbers in the network's tensors (its trunk's, in an encoder-only import), counters left out.
        parameters_matched: how many of them were found.
        arguments: what the network was built with, where it was built for the file.
        notes: sentences on the file's source, and in what the network differs from the source's.
    """

    source: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    shape_mismatch: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    counters_absent: tuple[str, ...] = ()
    parameters: int = 0
    parameters_matched: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """Share of the network's numbers that were found, 0 to 100."""
        return 100 * self.parameters_matched / self.parameters if self.parameters else 0.0

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was found and none was left over."""
        return not (self.missing or self.unexpected or self.shape_mismatch)

    def lines(self) -> list[str]:
        """The report for a person, a line for each kind of finding."""
        lines = [f"{len(self.matched)} tensors matched, {self.percent:.2f} % of {self.parameters:,} numbers"]
        renamed = tuple(f"{old} -> {new}" for old, new in self.aliases)
        for what, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.shape_mismatch),
            ("ignored", self.ignored),
            ("renamed", renamed),
            ("batch counters absent, left at zero", self.counters_absent),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
        return [*lines, *self.notes]


class CheckpointMismatch(FeathersegError):
    """A readable checkpoint that is not the network's; ``report`` says in what it differs."""

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


def compare(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> ImportReport:
    """Compare the ``tensors`` of a file with a network's ``own`` by name and shape; ``source`` names the file."""
    found = [key for key in own if key in tensors]
    matched = tuple(key for key in found if own[key].shape == tensors[key].shape)
    absent = [key for key in own if key not in tensors]
    counters = tuple(
        key for key in absent if key.endswith(COUNTER) and key.removesuffix(COUNTER) + ".running_mean" in tensors
    )
    return ImportReport(
        source=source,
        matched=matched,
        missing=tuple(key for key in absent if key not in counters),
        unexpected=tuple(key for key in tensors if key not in own),
        shape_mismatch=tuple(
            f"{key}: {list(own[key].shape)} / {list(tensors[key].shape)}"
            for key in found
            if own[key].shape != tensors[key].shape
        ),
        counters_absent=counters,
        parameters=sum(own[key].numel() for key in own if not key.endswith(COUNTER)),
        parameters_matched=sum(own[key].numel() for key in matched if not key.endswith(COUNTER)),
    )
