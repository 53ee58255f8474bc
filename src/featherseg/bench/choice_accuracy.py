"""What is known of a candidate's accuracy: from weights, from cards, or judged on data of the user's.

Choices worth knowing:

- Figures are compared under one protocol alone: the one under which most candidates have one. The others' are unknown.
- Trained weights carry the mIoU of their last judging on val, which is there without any repository. It is that of
  images shown as they are. Weights that were balanced afterwards label otherwise, and theirs does not count.
- Exported float32 files that passed the gate carry that of the weights they were made of.
- Both count for float32 and bfloat16 alike, unless a card tells them apart, and a report says in which of the two the
  network was judged.
- Cards are those of ``featherseg eval --card``, of whichever file: the digest tells which. Those of several views do
  not count, since a candidate is timed with one.
- An int8 file carries the mIoU that ``featherseg quantize`` or ``featherseg export --int8`` found, under the name of
  what it was judged on, and never that of its weights.
- Nothing else is guessed: an input scale that no figure is of has an unknown accuracy.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg.cards import load_cards, read_card

FROM_WEIGHTS, FROM_CARD, FROM_QUANTIZE, JUDGED = "weights", "card", "quantize", "judged"


@dataclass(frozen=True)
class Accuracy:
    """A figure and where it comes from.

    Attributes:
        miou: in percent.
        protocol: under which it was taken, as ``"camvid11/480x360/train→val"``.
        source: ``"weights"``, ``"card"``, ``"quantize"`` or ``"judged"``.
        precision: in which the weights were judged; None where it is the candidate's own, or nothing tells.
    """

    miou: float
    protocol: str
    source: str
    precision: str | None = None


def read_cards(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The evaluation cards among files and folders of cards.

    Raises:
        FeathersegError: one is not there, or is no card.
    """
    found: list[dict[str, Any]] = []
    for path in paths:
        found += load_cards(path).values() if Path(path).is_dir() else [read_card(path)]
    return [card for card in found if card["kind"] == "evaluation"]


def of_weights(metadata: Mapping[str, Any]) -> list[Accuracy]:
    """What weights say of themselves."""
    judged = (metadata.get("training") or {}).get("val") or {}
    score, protocol = judged.get("score"), judged.get("protocol")
    if metadata.get("balance") or not isinstance(score, int | float) or not isinstance(protocol, str):
        return []
    return [Accuracy(float(score), protocol, FROM_WEIGHTS, judged.get("precision"))]


def of_file(metadata: Mapping[str, Any], precision: str) -> list[Accuracy]:
    """What an exported file says of itself; an int8 one of its float layers run in ``precision``."""
    export = metadata.get("export") or {}
    if export.get("precision", "fp32") == "fp32" and "quantization" not in export:
        return of_weights(metadata)
    about = export.get("quantization") or export
    called = "int8" if precision == "fp32" else f"int8_{precision}"
    if about is export:
        miou = (export.get("miou") or {}).get(called)
    else:
        verdict = (about.get("verdicts") or {}).get(called)
        miou = verdict.get("miou") if isinstance(verdict, dict) else None
    images = about.get("judged_on") or {}
    if not isinstance(miou, int | float):
        return []
    protocol = f"{images.get('images')}, {images.get('count')} images"
    return [Accuracy(100 * float(miou), protocol, FROM_QUANTIZE)]


def of_cards(cards: Iterable[Mapping[str, Any]], sha256: str, precision: str) -> list[Accuracy]:
    """What cards say of the file with this digest, a protocol once: of this precision, or else of any."""
    found: dict[str, tuple[bool, Accuracy]] = {}
    for card in cards:
        miou, protocol = card["figures"].get("miou"), card["protocol"]
        several_views = "+" in protocol.rpartition("→")[2]
        if card.get("weights_sha256") != sha256 or not isinstance(miou, int | float) or several_views:
            continue
        exact = card.get("precision") == precision
        if protocol not in found or (exact and not found[protocol][0]):
            found[protocol] = exact, Accuracy(float(miou), protocol, FROM_CARD, card.get("precision"))
    return [accuracy for _, accuracy in found.values()]


def common(known: Mapping[str, Iterable[Accuracy]]) -> tuple[str | None, dict[str, Accuracy]]:
    """The protocol under which most candidates have a figure, and the figures of those that do.

    Args:
        known: what is known of each candidate, the weightiest first; of as many candidates the first protocol is taken.

    Returns:
        None, and no figures, where nothing is known.
    """
    by_protocol: dict[str, dict[str, Accuracy]] = {}
    for name, accuracies in known.items():
        for accuracy in accuracies:
            by_protocol.setdefault(accuracy.protocol, {}).setdefault(name, accuracy)
    if not by_protocol:
        return None, {}
    protocol = max(by_protocol, key=lambda name: len(by_protocol[name]))
    return protocol, by_protocol[protocol]


def image_size(protocol: str | None) -> tuple[int, int] | None:
    """(H, W) of the images of a protocol such as ``"camvid11/480x360/train→val"``; None where it names none.

    >>> image_size("camvid11/480x360/train→val")
    (360, 480)
    """
    found = re.search(r"(?:^|/)(\d+)x(\d+)(?:/|,|$)", protocol or "")
    return (int(found[2]), int(found[1])) if found else None
