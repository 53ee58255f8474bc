"""What a training takes over from the weights it starts from: everything, all but the logits, or the backbone.

Design choices:
- the network says which of its tensors are which, by prefixes of their names: ``encoder_prefixes`` (see importer.py)
  and ``logits_prefixes``, the layers whose outputs are classes; nothing is guessed from names;
- strict: whatever is to be taken over must be there in the right shape, or nothing is loaded; what starts fresh does so
  because it was asked for;
- logits start fresh even where the number of classes happens to be the same: their classes are others;
- tensors that fit are not enough: what the two networks compute otherwise with them is told by carry_differences.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.carry_differences import Part
from featherseg.models.import_report import COUNTER
from featherseg.models.importer import encoder_prefixes, import_encoder


@dataclass(frozen=True)
class CarryReport:
    """What became of every tensor of the network and of the weights.

    Attributes:
        carried: the network's tensors that were taken over.
        fresh: those that keep their fresh values.
        left: tensors of the weights that were not used.
        numbers_carried, numbers: in the carried tensors and in all of the network's, batch counters left out.
    """

    carried: tuple[str, ...]
    fresh: tuple[str, ...]
    left: tuple[str, ...]
    numbers_carried: int
    numbers: int

    def lines(self) -> list[str]:
        """The report for a person, a line for each kind of finding."""
        share = 100 * self.numbers_carried / max(1, self.numbers)
        lines = [f"{len(self.carried)} tensors carried over, {share:.2f} % of {self.numbers:,} numbers"]
        for what, names in (("start fresh", self.fresh), ("of the weights not used", self.left)):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
        return lines


def logits_prefixes(network: nn.Module) -> tuple[str, ...]:
    """What the names of the tensors start with that make class scores: the network's own ``logits_prefixes``.

    Raises:
        FeathersegError: the network does not say.
    """
    prefixes = tuple(getattr(network, "logits_prefixes", ()))
    if not prefixes:
        raise FeathersegError(
            f"{type(network).__name__} does not say which of its layers give the logits (logits_prefixes), so that "
            "they can be neither left out (carry everything or the backbone) nor balanced."
        )
    return prefixes


@torch.no_grad()
def carry_over(network: nn.Module, tensors: Mapping[str, Tensor], part: Part, *, where: str) -> CarryReport:
    """Load a part of ``tensors`` into ``network``, in place; the rest of the network keeps its fresh values.

    Args:
        network: as it was created; it may lie on the meta device, where names and shapes are compared and no more.
        tensors: of the weights to start from, by name.
        part: of the network. For "everything" and "all_but_logits" the weights are of the same architecture; for
            "backbone" they may be of any network or classifier with the same backbone.
        where: names the weights in messages.

    Raises:
        FeathersegError: a tensor of that part is missing or of another shape, or, but for "backbone", one is left over.
    """
    own = network.state_dict()
    if part == "backbone":
        try:
            import_encoder(network, tensors)
        except FeathersegError as error:
            raise FeathersegError(f"{where}: cannot carry the backbone over: {error}") from None
        prefixes = encoder_prefixes(network)
        carried = [name for name in own if name.startswith(prefixes)]
    else:
        fresh = logits_prefixes(network) if part == "all_but_logits" else ()
        carried = [name for name in own if not (fresh and name.startswith(fresh))]
        given = {name: tensor for name, tensor in tensors.items() if not (fresh and name.startswith(fresh))}
        _check(type(network).__name__, {name: own[name] for name in carried}, given, part, where)
        for name in carried:
            own[name].copy_(tensors[name])
    taken = set(carried)
    counted = [name for name in own if not name.endswith(COUNTER)]
    return CarryReport(
        tuple(carried),
        tuple(name for name in own if name not in taken),
        tuple(name for name in tensors if name not in taken),
        sum(own[name].numel() for name in counted if name in taken),
        sum(own[name].numel() for name in counted),
    )


def _check(network: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor], part: Part, where: str) -> None:
    found = {
        "missing": [name for name in own if name not in given],
        "left over": [name for name in given if name not in own],
        "of another shape": [name for name in own if name in given and own[name].shape != given[name].shape],
    }
    details = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in found.items()
        if names
    ]
    if not details and own:
        return
    mend = "Where only the number of classes differs, carry all_but_logits; " if part == "everything" else ""
    mend += "where" if mend else "Where"
    raise FeathersegError(
        f"{where}: cannot carry {part} over to this {network}: tensors {'; '.join(details) or 'none'}. "
        f"{mend} the networks differ, carry the backbone."
    )
