"""Which network is exported to which runtime, from a card of kind ``support``, and why not where it is not.

Choices worth knowing:

- The card is read by its shape: figures by network and then by runtime, the other way round, either of them one level
  deeper, or a list of rows that name both. What stands there is a word, or an object with a status and a reason.
- Words are shown as they stand; their colour is only for those that plainly say yes or no. A pair without an entry is a
  dash: nobody tried it.
- Reasons are told once each, with all that they hold for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.report.card_files import CardFile
from featherseg.report.html import Block, Cell, Heading, Table, Text, Value

RUNTIMES = ("torch", "compiled", "onnx", "openvino", "litert", "executorch", "tensorrt", "coreml")
STATUS, REASON = (
    ("status", "supported", "ok", "result", "state"),
    ("reason", "why", "note", "notes", "message", "error"),
)
GOOD = ("yes", "ok", "exact", "exported", "supported", "passed", "works", "run", "tested", "true", "parity")
BAD = ("no", "refused", "refuses", "failed", "fails", "unsupported", "false", "cannot")


@dataclass(frozen=True)
class Entry:
    """What is known of one network in one runtime."""

    network: str
    runtime: str
    status: str
    reason: str | None


def read_support(file: CardFile) -> list[Entry]:
    """Every pair that a card tells of. Raises FeathersegError where none is found in it."""
    found = list(_entries(file.card["figures"]))
    if not found:
        raise FeathersegError("no network and runtime are told of in its figures. Write it again with its command.")
    return found


def support_blocks(cards: Sequence[tuple[CardFile, Sequence[Entry]]]) -> list[Block]:
    """A table of networks by runtimes a card, and the reasons below; a sentence where there is no card."""
    if not cards:
        return [Text("No card of kind `support` was found, so which network goes into which runtime is not told here.")]
    blocks: list[Block] = []
    for file, entries in cards:
        networks = list(dict.fromkeys(entry.network for entry in entries))
        runtimes = list(dict.fromkeys(entry.runtime for entry in entries))
        by_pair = {(entry.network, entry.runtime): entry for entry in entries}
        rows: list[list[Value]] = [
            [network, *(_cell(by_pair.get((network, runtime))) for runtime in runtimes)] for network in networks
        ]
        blocks += [Heading(f"{file.name}: {file.protocol}"), Table(["network", *runtimes], rows)]
        reasons: dict[str, dict[str, list[str]]] = {}
        for entry in entries:
            if entry.reason:
                reasons.setdefault(entry.reason, {}).setdefault(entry.runtime, []).append(entry.network)
        if reasons:
            told: list[list[Value]] = [
                [runtime, ", ".join(names), reason]
                for reason, by_runtime in reasons.items()
                for runtime, names in by_runtime.items()
            ]
            blocks.append(Table(["runtime", "networks", "reason or remark"], told))
    return blocks


def _entries(figures: Mapping[str, Any]) -> Iterator[Entry]:
    for key, value in figures.items():
        if isinstance(value, list):
            yield from (_row(row) for row in value if _is_row(row))
        elif not isinstance(value, Mapping):
            continue
        elif _holds_pairs(value):
            yield from _entries(value)
        else:
            for other, said in value.items():
                network, runtime = (other, key) if key.lower() in RUNTIMES else (key, other)
                entry = _entry(network, runtime, said)
                if entry is not None:
                    yield entry


def _holds_pairs(value: Mapping[str, Any]) -> bool:
    """Whether this holds networks or runtimes that in turn hold the other: one level more than a network's runtimes."""
    below = [item for item in value.values() if isinstance(item, Mapping)]
    return bool(below) and all(
        not any(key in item for key in STATUS) and all(isinstance(one, Mapping | str | bool) for one in item.values())
        for item in below
    )


def _is_row(row: Any) -> bool:
    return isinstance(row, Mapping) and all(isinstance(row.get(key), str) for key in ("network", "runtime"))


def _row(row: Mapping[str, Any]) -> Entry:
    return Entry(row["network"], row["runtime"], _first(row, STATUS) or "–", _first(row, REASON))


def _entry(network: str, runtime: str, said: Any) -> Entry | None:
    if isinstance(said, Mapping):
        rest = "; ".join(f"{key}: {value}" for key, value in said.items() if isinstance(value, str | int | float))
        return Entry(network, runtime, _first(said, STATUS) or rest or "–", _first(said, REASON))
    if isinstance(said, str | bool):
        return Entry(network, runtime, _word(said), None)
    return None


def _first(holder: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next(
        (_word(holder[key]) for key in keys if isinstance(holder.get(key), str | bool) and holder[key] != ""), None
    )


def _word(said: str | bool) -> str:
    return said if isinstance(said, str) else "yes" if said else "no"


def _cell(entry: Entry | None) -> Value:
    if entry is None:
        return None
    first = entry.status.lower().replace(",", " ").replace(":", " ").split()[:1]
    mood = "good" if first and first[0] in GOOD else "bad" if first and first[0] in BAD else None
    return Cell(entry.status, mood=mood)
