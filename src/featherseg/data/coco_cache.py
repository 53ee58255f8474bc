"""The index of a large COCO JSON, kept from one opening to the next.

* It lies in the user's cache folder, never beside the data, under the hash of the JSON, the classes and the number of
  pixels: a changed JSON, or another choice, has an index of its own.
* A file that is damaged or cannot be written costs the time of making the index again, nothing else.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from featherseg.data.coco_index import Advance, CocoIndex, Oddity, build_index
from featherseg.data.headers import SpoiltFile
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write, file_sha256

CACHE_VARIABLE = "FEATHERSEG_CACHE"
KEPT_FROM = 8 << 20
"""Bytes of JSON from which an index is kept; that of a smaller one is made in well under a second."""

_VERSION = 2
_ARRAYS = (("sizes", "<i4"), ("first", "<i8"), ("starts", "<i8"), ("lengths", "<i4"), ("numbers", "|u1"))


def cache_folder() -> Path:
    """The user's cache folder: ``$FEATHERSEG_CACHE``, or featherseg's part of the system's."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featherseg"


def open_index(
    path: Path,
    classes: tuple[str, ...] | None,
    min_pixels: int,
    *,
    sha256: str,
    cache: Path | None = None,
    advance: Advance | None = None,
) -> CocoIndex:
    """Return the index of an instances JSON: the kept one, or a new one, which is then kept.

    Args:
        classes, min_pixels, advance: as of :func:`~featherseg.data.coco_index.build_index`.
        sha256: of the JSON.
        cache: the folder to keep the index in; by default the user's, and for a large JSON alone.

    Raises:
        FeathersegError: as :func:`~featherseg.data.coco_index.build_index`.
    """
    folder = cache or (cache_folder() if path.stat().st_size >= KEPT_FROM else None)
    if folder is None:
        return build_index(path, classes, min_pixels, advance=advance)
    key = {"version": _VERSION, "json": sha256, "classes": classes and list(classes), "min_pixels": min_pixels}
    place = folder / f"coco-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]}.index"
    found = _unpacked(place, key, path)
    if found is None:
        found = build_index(path, classes, min_pixels, advance=advance)
        try:
            atomic_write(place, _packed(found, key))
        except FeathersegError:
            return found
    return found


def json_sha256(path: Path) -> str:
    """The hash of a JSON. Raises SpoiltFile when it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        mend = "Check its permissions and the disk it lies on."
        raise SpoiltFile("unreadable file", path, f"cannot be read: {error.strerror}", mend) from error


def _packed(index: CocoIndex, key: dict) -> bytes:
    arrays = [np.ascontiguousarray(getattr(index, name), kind) for name, kind in _ARRAYS]
    body = b"".join(array.tobytes() for array in arrays)
    header = {
        "key": key,
        "body": hashlib.sha256(body).hexdigest(),
        "listed": index.listed,
        "classes": index.classes,
        "names": index.names,
        "oddities": index.oddities,
        "counts": [array.size for array in arrays],
    }
    return json.dumps(header).encode() + b"\n" + body


def _unpacked(place: Path, key: dict, path: Path) -> CocoIndex | None:
    """The index that a file keeps; None where there is none, or it is damaged."""
    try:
        head, _, body = place.read_bytes().partition(b"\n")
        header = json.loads(head)
        if header["key"] != key or header["body"] != hashlib.sha256(body).hexdigest():
            return None
        arrays, offset = {}, 0
        for (name, kind), count in zip(_ARRAYS, header["counts"], strict=True):
            arrays[name] = np.frombuffer(body, kind, count, offset)
            offset += arrays[name].nbytes
        arrays["sizes"] = arrays["sizes"].reshape(-1, 2)
        # The same JSON may lie elsewhere by now.
        oddities = tuple(Oddity(*oddity)._replace(where=str(path)) for oddity in header["oddities"])
        return CocoIndex(
            header["listed"], tuple(header["classes"]), tuple(header["names"]), **arrays, oddities=oddities
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
