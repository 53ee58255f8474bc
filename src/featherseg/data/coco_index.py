"""What a split of COCO holds for a choice of classes: which images, and where in the JSON their annotations stand.

* The JSON is read once, item by item (:mod:`featherseg.data.json_stream`). Kept are the images' names and sizes and
  the bytes of each chosen annotation: a few MB. A sample's annotations are read from the JSON when the sample is.
* Whether an image shows enough labelled pixels is decided by drawing, exactly, but cheaply: annotations that could not
  reach the number by their bounding boxes are not drawn, and drawing stops when the number is reached. Labelled
  pixels are those of the union, whatever the order.
* Annotations that draw nothing are warnings and are passed over. One that cannot be drawn is an error of the whole
  split, so that nothing begins that would fail on it later; its image stays in the index, so that a check finds it.
"""

import json
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np

from featherseg.data.coco_masks import BadSegmentation, Shapes, patches, read_segmentation
from featherseg.data.headers import MAX_PIXELS, SpoiltFile
from featherseg.data.json_stream import JsonItem, list_items
from featherseg.errors import FeathersegError, nearest

UNDRAWABLE = "undrawable annotation"
"""The kind of the oddity that names annotations that cannot be drawn."""

_LISTS = frozenset({"images", "annotations", "categories"})
_EXAMPLES = 5
_MOST_CLASSES = 253  # beside the background and the ignore id

Advance = Callable[[int], None]


class Oddity(NamedTuple):
    """One kind of thing that is odd or wrong in a JSON, in the words of :class:`featherseg.data.check.Problem`."""

    level: Literal["error", "warning"]
    kind: str
    where: str
    what: str
    mend: str


@dataclass(frozen=True)
class CocoIndex:
    """The images of a split that are kept, in the JSON's order, N of them with A annotations.

    ``sizes`` are int32 ``[N, 2]`` (height, width); the annotations of image i are ``first[i]`` to ``first[i + 1] - 1``,
    in file order: ``starts`` and ``lengths`` are their bytes in the JSON, ``numbers`` their label ids.
    ``listed`` counts all images of the JSON, ``oddities`` are what is odd or wrong in it; ``classes`` are the names of
    the label ids 1, 2, ....
    """

    listed: int
    classes: tuple[str, ...]
    names: tuple[str, ...]
    sizes: np.ndarray
    first: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    oddities: tuple[Oddity, ...]

    def __len__(self) -> int:
        return len(self.names)


class _Odd:
    """Counts what is odd or wrong in a JSON, by kind, and keeps the first examples."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[Oddity, list[str]] = {}
        self._counts: Counter[Oddity] = Counter()

    def add(self, level: Literal["error", "warning"], kind: str, what: str, mend: str, example: str) -> None:
        oddity = Oddity(level, kind, str(self._path), what, mend)
        self._counts[oddity] += 1
        if self._counts[oddity] <= _EXAMPLES:
            self._seen.setdefault(oddity, []).append(example)

    def all(self) -> tuple[Oddity, ...]:
        """One oddity a kind, with its count and examples."""
        found = []
        for oddity, examples in self._seen.items():
            count = self._counts[oddity]
            more = f" and {count - len(examples)} more" if count > len(examples) else ""
            found.append(oddity._replace(what=f"{oddity.what} ({count:,}): {', '.join(examples)}{more}"))
        return tuple(found)


@dataclass
class _Scan:
    """What one pass over the JSON collects; ``columns`` are image id, category id, first byte, length."""

    images: dict[int, tuple[str, int, int]]
    categories: dict[int, str]
    columns: tuple[array, array, array, array]


def _whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and abs(value) < 1 << 62


def _sound_text(value: Any) -> TypeGuard[str]:
    """Whether a value is a text that can be printed and can name a file: no control characters, no half characters."""
    return isinstance(value, str) and value != "" and all(unicodedata.category(c) not in ("Cc", "Cs") for c in value)


def _category(item: JsonItem, path: Path, known: dict[int, str]) -> tuple[int, str]:
    value = item.value()
    what = f"the category at byte {item.start:,} has no id or no name"
    if isinstance(value, dict) and _whole(number := value.get("id")) and _sound_text(name := value.get("name")):
        if known.get(number, name) == name:
            return number, name
        what = f"the categories {known[number]!r} and {name!r} have the same id, {number}"
    raise SpoiltFile("garbled JSON", path, what, "Give COCO's own instances JSON.")


def _scan(path: Path, odd: _Odd, advance: Callable[[int, int], None] | None) -> _Scan:
    scan = _Scan({}, {}, (array("q"), array("q"), array("q"), array("q")))
    for item in list_items(path, _LISTS, advance=advance):
        if item.key == "annotations":
            raw = item.raw if isinstance(item.raw, dict) else {}
            values = raw.get("image_id"), raw.get("category_id"), item.start, item.end - item.start
            if all(_whole(value) for value in values):
                for column, value in zip(scan.columns, values, strict=True):
                    column.append(value)
            else:
                what, mend = "annotations without a sound image_id or category_id", "Mend or remove them."
                odd.add("error", "bad annotation", what, mend, f"at byte {item.start:,}")
        elif item.key == "categories":
            number, name = _category(item, path, scan.categories)
            scan.categories[number] = name
        else:
            _add_image(scan, item, odd)
    return scan


def _add_image(scan: _Scan, item: JsonItem, odd: _Odd) -> None:
    value = item.value() if isinstance(item.raw, dict) else {}
    number, name, height, width = (value.get(key) for key in ("id", "file_name", "height", "width"))
    if not (
        (_whole(number) and _sound_text(name))
        and (_whole(height) and _whole(width) and height > 0 and 0 < height * width <= MAX_PIXELS)
    ):
        what, mend = "images without a sound id, file_name, height or width", "Mend or remove them."
        odd.add("error", "bad image entry", what, mend, f"at byte {item.start:,}")
        return
    if number in scan.images:
        what, mend = "images whose id another image has", "Give each image an id of its own."
        odd.add("error", "bad image entry", what, mend, f"{number} ({name})")
        return
    scan.images[number] = (name, height, width)


def _chosen(path: Path, categories: dict[int, str], classes: tuple[str, ...] | None) -> tuple[str, ...]:
    known = tuple(dict.fromkeys(categories.values()))
    chosen = known if classes is None else classes
    for name in chosen:
        if name not in known:
            shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
            raise FeathersegError(
                f"{path}: no category {name!r}. There are: {shown or 'none'}{nearest(name, known)}. Choose other "
                "classes, or give COCO's own instances JSON."
            )
    if not 1 <= len(chosen) <= _MOST_CLASSES or len(set(chosen)) != len(chosen):
        raise FeathersegError(
            f"{path}: {len(chosen)} classes were chosen, {len(set(chosen))} of them different. Choose 1 to "
            f"{_MOST_CLASSES} categories, each once."
        )
    return chosen


def build_index(
    path: Path, classes: tuple[str, ...] | None, min_pixels: int, *, advance: Advance | None = None
) -> CocoIndex:
    """Make the index of an instances JSON.

    Args:
        classes: category names for the label ids 1, 2, ...; None for all, in the JSON's order.
        min_pixels: an image is kept that shows at least as many labelled pixels.
        advance: called with the percentage done.

    Raises:
        SpoiltFile: the JSON is missing or garbled.
        FeathersegError: it has no category of one of the names.
    """
    odd = _Odd(path)
    scan = _scan(path, odd, None if advance is None else lambda done, size: advance(50 * done // size))
    chosen = _chosen(path, scan.categories, classes)
    ids = {number: chosen.index(name) + 1 for number, name in scan.categories.items() if name in chosen}
    places = {number: place for place, number in enumerate(scan.images)}
    images, categories, starts, lengths = (np.frombuffer(column, np.int64) for column in scan.columns)
    place = np.array([places.get(number, -1) for number in images.tolist()], np.int64)
    label = np.array([ids.get(number, 0) for number in categories.tolist()], np.int64)
    for what, column, known in (
        ("image", images, place >= 0),
        ("category", categories, np.isin(categories, list(scan.categories))),
    ):
        for number in column[~known].tolist():
            mend = f"Remove them, or add their {what} to the JSON."
            odd.add("error", f"unknown {what}", f"annotations of {what} ids that it does not list", mend, str(number))
    order = np.lexsort((starts, place))
    order = order[(place[order] >= 0) & (label[order] > 0)]
    bounds = np.searchsorted(place[order], np.arange(len(places) + 1))
    names, sizes, kept = [], [], []
    for at, (name, height, width) in enumerate(scan.images.values()):
        own = order[bounds[at] : bounds[at + 1]]
        annotations = read_annotations(path, starts[own], lengths[own])
        if _is_kept(annotations, name, height, width, min_pixels, odd):
            names.append(name)
            sizes.append((height, width))
            kept.append(own)
        if advance is not None and at % 256 == 0:
            advance(50 + 50 * at // len(places))
    rows = np.concatenate([*kept, np.zeros(0, np.int64)])
    return CocoIndex(
        len(places),
        chosen,
        tuple(names),
        np.array(sizes, np.int32).reshape(-1, 2),
        np.cumsum([0, *map(len, kept)]),
        starts[rows],
        lengths[rows].astype(np.int32),
        label[rows].astype(np.uint8),
        odd.all(),
    )


def _is_kept(annotations: list[dict], name: str, height: int, width: int, min_pixels: int, odd: _Odd) -> bool:
    """Whether an image shows enough labelled pixels, or has an annotation that cannot be drawn."""
    drawable: list[Shapes] = []
    sound = True
    for annotation in annotations:
        try:
            shapes = read_segmentation(annotation.get("segmentation"), height, width)
        except BadSegmentation as fault:
            sound = False
            mend = "Mend or remove them in the JSON; `featherseg check` lists all."
            example = f"{annotation.get('id')} ({name}) {fault}"
            odd.add("error", UNDRAWABLE, "annotations that cannot be drawn", mend, example)
            continue
        for kind, what in shapes.idle:
            mend = "Nothing is drawn for them; mend or remove them."
            odd.add("warning", kind, f"annotations with {what}", mend, f"{annotation.get('id')} ({name})")
        drawable.append(shapes)
    if not sound or min_pixels <= 0:
        return True
    most = [shapes.most_pixels() for shapes in drawable]
    if sum(most) < min_pixels:
        return False
    canvas = np.zeros((height, width), bool)
    for at in np.argsort(most)[::-1]:
        for patch in patches(drawable[at]):
            part = patch.of(canvas)
            part |= patch.covered
        if np.count_nonzero(canvas) >= min_pixels:
            return True
    return False


def read_annotations(path: Path, starts: np.ndarray, lengths: np.ndarray) -> list[dict]:
    """Read annotations alone, by the bytes they occupy in the JSON.

    Raises:
        SpoiltFile: the JSON is missing, or other than it was when its index was made.
    """
    if not len(starts):
        return []
    mend = "Keep the JSON as it is while it is used; open the data set again."
    found: list[Any] = []
    try:
        with path.open("rb") as file:
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                file.seek(start)
                found.append(json.loads(file.read(length)))
    except OSError as error:
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error
    except ValueError:
        found = [None]
    if not all(isinstance(annotation, dict) for annotation in found):
        raise SpoiltFile("garbled JSON", path, "has changed since its index was made", mend)
    return found
