"""Which layers of an int8 program stay in float32: ranked by what restoring each one gains, and restored one by one.

Choices worth knowing:

- The gain of a layer is measured: the program is int8 but for it, and the share of pixels that it labels otherwise than
  the float32 program is compared with the share of the program that is int8 throughout. Pixels tell finer than mIoU,
  and a few images suffice.
- Layers are restored in the order of their gains, ties in the order of the graph, and the loss is judged after each:
  the first program under the bound is taken. A loss need not fall with every layer that is restored, so that halving
  intervals instead could keep more layers than this.
- The program that keeps every layer is judged before any ranking. Where even that one loses too much, what loses stands
  between the layers, and the search ends there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Generic, TypeVar

Judged = TypeVar("Judged")
Kept = tuple[str, ...]


@dataclass(frozen=True)
class Found(Generic[Judged]):
    """What a search ended with.

    Attributes:
        kept: layers that stay in float32, in the order in which they were restored.
        verdict: of the judge on that program.
        losses: how many layers were kept and the loss, of every program judged, in the order of judging.
        met: whether the loss is under the bound; if not, the program is the one that loses least.
    """

    kept: Kept
    verdict: Judged
    losses: tuple[tuple[int, float], ...]
    met: bool


def ranked(
    layers: Sequence[str],
    differing: Callable[[Kept], float],
    told: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """The gain of each layer, largest first: how much less the labels differ with that layer alone in float32.

    Args:
        layers: in the order of the graph.
        differing: the share of pixels, 0 to 1, that the program that keeps these layers labels otherwise.
        told: gets how many of how many layers are measured.
    """
    throughout = differing(())
    gains = {}
    for number, layer in enumerate(layers):
        told(number, len(layers))
        gains[layer] = throughout - differing((layer,))
    return dict(sorted(gains.items(), key=lambda item: -item[1]))


def restore(
    bound: float,
    layers: Sequence[str],
    judge: Callable[[Kept], Judged],
    loss_of: Callable[[Judged], float],
    rank: Callable[[], Sequence[str]],
) -> Found[Judged]:
    """Restore layers until the loss is at most ``bound``.

    Args:
        bound: in the units of the loss.
        layers: all of them.
        judge: gives the verdict on the program that keeps these layers.
        loss_of: the loss in a verdict; one that is not finite counts as the greatest.
        rank: gives the layers in the order in which they are to be restored; asked for only if it is needed.
    """
    losses: list[tuple[int, float]] = []
    tried: list[tuple[float, Kept, Judged]] = []

    def meets(kept: Kept) -> bool:
        verdict = judge(kept)
        loss = loss_of(verdict)
        losses.append((len(kept), loss))
        tried.append((loss if isfinite(loss) else inf, kept, verdict))
        return tried[-1][0] <= bound

    def ended(number: int, met: bool) -> Found[Judged]:
        return Found(tried[number][1], tried[number][2], tuple(losses), met)

    def least() -> Found[Judged]:
        return ended(min(range(len(tried)), key=lambda number: tried[number][0]), False)

    if meets(()):
        return ended(0, True)
    if not layers or not meets(tuple(layers)):
        return least()
    order = tuple(rank())
    for count in range(1, len(order)):
        if meets(order[:count]):
            return ended(-1, True)
    return ended(1, True)
