"""A large JSON object read member by member, its long lists item by item, in constant memory.

COCO's training annotations are 450 MB of JSON, which Python's own reader turns into several GB of objects. Here only
one item is held at a time, and each comes with the bytes it occupies, so that it can be read again alone.

* Bytes are read as Latin-1, one character each: JSON's own marks are ASCII, so items are found at their byte offsets.
  Text inside them is not yet decoded; :meth:`JsonItem.value` decodes it where it matters.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg.data.headers import SpoiltFile

_CHUNK = 1 << 22
_BLANK = " \t\n\r"
_NUMBER_GOES_ON = 3  # characters after which a number that is whole so far is known to be whole


@dataclass(frozen=True)
class JsonItem:
    """An item of a list: its key in the object, the bytes it occupies, and what it holds (text not yet decoded)."""

    key: str
    start: int
    end: int
    raw: Any
    text: str

    def value(self) -> Any:
        """What the item holds, with its text decoded from UTF-8."""
        return json.loads(self.text.encode("latin-1").decode("utf-8", "replace"))


class _Reader:
    """A window of a file's text that slides forward."""

    def __init__(self, path: Path, advance: Callable[[int, int], None] | None) -> None:
        self._path, self._advance = path, advance
        try:
            self._size = path.stat().st_size
            self._file = path.open("rb")
        except FileNotFoundError:
            raise SpoiltFile("missing file", path, "no such file", "Copy it again.") from None
        except OSError as error:
            mend = "Check its permissions and the disk it lies on."
            raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
        self._decoder = json.JSONDecoder()
        self._text, self._place, self._base, self._at_end = "", 0, 0, False

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def garbled(self, what: str, place: int | None = None) -> SpoiltFile:
        where = self._base + (self._place if place is None else place)
        mend = "Unpack or download the file again."
        return SpoiltFile("garbled JSON", self._path, f"garbled JSON at byte {where:,}: {what}", mend)

    def _more(self) -> bool:
        if self._at_end:
            return False
        left = self._text[self._place :]
        try:
            # What is left may be the beginning of a long item: the window doubles until the item fits.
            read = self._file.read(max(_CHUNK, len(left)))
        except OSError as error:
            mend = "Check its permissions and the disk it lies on."
            raise SpoiltFile("unreadable file", self._path, f"cannot be read: {error.strerror}", mend) from error
        if not read:
            self._at_end = True
            return False
        self._base, self._place = self._base + self._place, 0
        self._text = left + read.decode("latin-1")
        if self._advance is not None:
            self._advance(self._base + len(self._text), self._size)
        return True

    def skip(self, text: str) -> bool:
        """Step over ``text`` if it comes next."""
        while len(self._text) - self._place < len(text) and self._more():
            pass
        found = self._text.startswith(text, self._place)
        self._place += len(text) * found
        return found

    def mark(self, marks: str) -> str:
        """Step over blanks and one of ``marks``, and return it."""
        found = self.peek()
        if not found or found not in marks:
            names = " or ".join(repr(mark) for mark in marks)
            raise self.garbled(f"expected {names}, found {repr(found) if found else 'the end of the file'}")
        self._place += 1
        return found

    def peek(self) -> str:
        """The next character that is no blank, or an empty string at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place] in _BLANK:
                self._place += 1
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                return ""

    def item(self, key: str) -> JsonItem:
        """Step over a whole value."""
        self.peek()
        while True:
            try:
                raw, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self.garbled(error.msg, error.pos) from None
            except (ValueError, RecursionError):  # a number of thousands of digits, brackets thousands deep
                raise self.garbled("a value that no annotation holds") from None
            else:
                # A number near the window's end may go on beyond it: "1" is whole, and so would be "1.5" or "1e+5".
                if end + _NUMBER_GOES_ON <= len(self._text) or not self._more():
                    break
        start, self._place = self._place, end
        return JsonItem(key, self._base + start, self._base + end, raw, self._text[start:end])


def list_items(
    path: Path, keys: frozenset[str], *, advance: Callable[[int, int], None] | None = None
) -> Iterator[JsonItem]:
    """Yield the items of the lists ``keys`` of the object that a JSON file holds, in file order.

    Args:
        advance: called with (bytes read, bytes in all) now and then.

    Raises:
        SpoiltFile: the file is missing, unreadable or no JSON object, breaks off, lacks one of the lists, or holds
            something else there; the message gives the byte.
    """
    missing = set(keys)
    with _Reader(path, advance) as reader:
        reader.skip("\xef\xbb\xbf")
        reader.mark("{")
        more = reader.peek() != "}" or reader.mark("}") != "}"
        while more:
            name = reader.item("").raw
            if not isinstance(name, str):
                raise reader.garbled(f"expected a name in quotes, found {name!r}")
            reader.mark(":")
            if name in keys:
                if name not in missing:
                    raise reader.garbled(f"a second list {name!r}")
                missing.remove(name)
                yield from _items(reader, name)
            else:
                reader.item(name)
            more = reader.mark(",}") == ","
        if reader.peek():
            raise reader.garbled("more text after the object's end")
    if missing:
        what = f"holds no {' and no '.join(repr(name) for name in sorted(missing))}"
        raise SpoiltFile("garbled JSON", path, what, "Give COCO's own instances JSON.")


def _items(reader: _Reader, key: str) -> Iterator[JsonItem]:
    if reader.peek() != "[":
        raise reader.garbled(f"{key!r} is not a list")
    reader.mark("[")
    if reader.peek() == "]":
        reader.mark("]")
        return
    while True:
        yield reader.item(key)
        if reader.mark(",]") == "]":
            return
