"""The cards a page is made from: found among files and folders, read, and those that are none told apart.

Choices worth knowing:

- A path that a person names must be there. What is found in a folder may be anything: a file that is no card, or whose
  figures are not those of its kind, is named with the reason and left out, and the page is made from the others.
- Cards are known by their place below what was named, never by a folder of one machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from featherseg.cards import read_card
from featherseg.errors import FeathersegError

LEAST, MOST = 1e-9, 1e12
"""No figure of a card that means something is nearer to zero, if it is above, or further from it."""


@dataclass(frozen=True, eq=False)
class CardFile:
    """A card with the name it is shown by."""

    name: str
    card: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return self.card["kind"]

    @property
    def protocol(self) -> str:
        return self.card["protocol"]

    @property
    def date(self) -> str:
        return self.card["date"]


@dataclass(frozen=True)
class Skipped:
    """A file that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Gathered:
    """What was found, in the order of the names."""

    cards: tuple[CardFile, ...]
    skipped: tuple[Skipped, ...] = ()

    def of_kind(self, *kinds: str) -> list[CardFile]:
        return [one for one in self.cards if one.kind in kinds]


def gather_cards(given: Iterable[str | Path]) -> Gathered:
    """Read every card among files and folders, each file once.

    Raises:
        FeathersegError: a path is not there, or there is no card in any of them; the message says why not.
    """
    given = [Path(path) for path in given]
    cards, skipped, seen = [], [], set()
    for path, name in _files(given):
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            cards.append(CardFile(name, read_card(path)))
        except FeathersegError as error:
            skipped.append(Skipped(name, str(error).removeprefix(f"{path}: ")))
        except RecursionError:
            skipped.append(Skipped(name, "this is nested too deeply for a card."))
    if not cards:
        looked = ", ".join(map(str, given))
        why = "".join(f" {one.name}: {one.reason}" for one in skipped[:3])
        more = f" So with {len(skipped) - 3} more." if len(skipped) > 3 else ""
        raise FeathersegError(
            f"{looked}: no result cards (*.json) here, and no run of which a page could be made (no recipe.yaml). "
            f"`featherseg eval`, `bench` and `choose` write cards with --card.{why}{more}"
        )
    return Gathered(tuple(cards), tuple(skipped))


def _files(given: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    for path in given:
        if path.is_dir():
            above = path.resolve().name if path.is_absolute() or path.name in ("", "..") else path.as_posix()
            for file in sorted(path.rglob("*.json")):
                yield file, f"{above}/{file.relative_to(path).as_posix()}"
        elif path.exists():
            yield path, path.name if path.is_absolute() else path.as_posix()
        else:
            raise FeathersegError(f"{path}: there is no such file or folder. Name cards (*.json) or folders of them.")


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a card is a number that can be reckoned with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MOST < value < MOST


def number(holder: Mapping[str, Any], key: str) -> float | None:
    """A figure, or None where it is null or not there.

    Raises:
        FeathersegError: it is something else than a number.
    """
    value = holder.get(key)
    if value is None:
        return None
    if not is_number(value):
        raise FeathersegError(f"{key} must be a number, not {_shown(value)}. Write the card again with its command.")
    return float(value)


def positive(holder: Mapping[str, Any], key: str) -> float:
    """A figure that must be there and above 0. Raises FeathersegError otherwise."""
    value = number(holder, key)
    if value is None or value < LEAST:
        raise FeathersegError(f"{key} must be a number above 0, not {_shown(value)}. Write the card again.")
    return value


def text(holder: Mapping[str, Any], key: str) -> str:
    """A text that must be there. Raises FeathersegError otherwise."""
    value = holder.get(key)
    if not isinstance(value, str):
        raise FeathersegError(f"{key} must be a text, not {_shown(value)}. Write the card again with its command.")
    return value


def mapping(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object that must be there. Raises FeathersegError otherwise."""
    value = holder.get(key)
    if not isinstance(value, Mapping):
        raise FeathersegError(f"{key} must be an object, not {_shown(value)}. Write the card again with its command.")
    return value


def mappings(holder: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """An object of objects that must be there. Raises FeathersegError otherwise."""
    found = mapping(holder, key)
    return {name: mapping(found, name) for name in found}


def _shown(value: Any) -> str:
    return f"{value!r:.40}"
