"""Many images at once: files, folders and globs, one after the other, in constant memory.

Choices worth knowing:

- Nothing is listed ahead but the folder that is being read: 10,000 images need the memory of one, and eight bytes each
  to keep their outputs apart.
- The structure below a given folder is kept, and two images whose outputs would have one name get different ones:
  ``a.jpg`` and ``a.png`` become ``a`` and ``a-png``.
- What lies in the output folder is never read as input, so that a second run does not predict the first one's results;
  images that lie directly in the output folder are refused, since their own label maps could overwrite them.
- A file that lies where an output belongs and is not of an earlier prediction (its JSON tells) is never overwritten:
  the image is reported.
- What predicts is anything with ``predict``, and what it gives anything with ``save``: a segmentation, or what a
  classifier says.
- A spoilt image is reported and the others are done.
"""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from featherseg.data.headers import IMAGE_SUFFIXES
from featherseg.errors import FeathersegError

_GLOB = "*?["
OUTPUTS = (".png", "_overlay.png", ".json")
"""What is added to an image's name for the files of a segmentation."""

_OURS = ("shares", "top", "boxes")  # one of them stands beside the size in the JSON of every kind of prediction


class Predictor(Protocol):
    """What predicts one image: a Segmenter, say. Its result has ``save(folder, stem, *, overlay)``."""

    def predict(self, image: Path) -> Any: ...


@dataclass(frozen=True)
class ImageFile:
    """An image to read and the name of its outputs, relative to the output folder and without suffix."""

    path: Path
    stem: str


@dataclass(frozen=True)
class Outcome:
    """How many images were done and how many were not."""

    written: int
    failed: int


@dataclass
class Names:
    """Hands out output names, none twice, and none whose overlay would be another's label map."""

    taken: set[bytes] = field(default_factory=set)

    def free(self, relative: Path) -> str:
        """The stem for the results of an image with this path below what was given."""
        stem = relative.with_suffix("").as_posix()
        choices = (stem, f"{stem}-{relative.suffix[1:]}" if relative.suffix else f"{stem}-1")
        number = 1
        chosen = choices[0]
        while not self._take(chosen):
            chosen = choices[1] if number == 1 else f"{choices[1]}-{number}"
            number += 1
        return chosen

    def _take(self, stem: str) -> bool:
        names = {
            hashlib.blake2b(name.casefold().encode("utf-8", "surrogateescape"), digest_size=8).digest()
            for name in (stem, f"{stem}_overlay")
        }
        if names & self.taken:
            return False
        self.taken |= names
        return True


def find_images(
    arguments: Iterable[str | Path],
    output: str | Path,
    problem: Callable[[str], None],
    names: Names | None = None,
) -> Iterator[ImageFile]:
    """Yield the images that files, folders (with all below them) and globs stand for, lazily.

    Args:
        arguments: what a person typed. A named file is yielded whatever its suffix, and even if it is missing, so that
            reading it tells why; folders and globs give images alone, hidden ones left out.
        output: the folder that will be written; nothing below it is yielded from folders and globs.
        problem: called with one line for every argument that gives nothing.
        names: those that are taken, to which these are added.

    Raises:
        FeathersegError: an argument is the output folder, or lies directly in it.
    """
    arguments = [str(argument) for argument in arguments]
    target = Path(output).resolve()
    for argument in arguments:
        place = Path(argument)
        inside = place.resolve() == target or (place.is_file() and place.resolve().parent == target)
        if inside:
            raise FeathersegError(
                f"{argument}: the label maps would be written among the images in {output} and could overwrite them. "
                "Choose another folder with -o."
            )
    names = names or Names()
    for argument in arguments:
        found = 0
        for path, relative in _expand(argument, target):
            found += 1
            yield ImageFile(path, names.free(relative))
        if not found and _leads_into(argument, target):
            problem(f"{argument}: the images there lie in the output folder {output}. Choose another folder with -o.")
        elif not found:
            kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            problem(f"{argument}: no images there. Give image files, a folder that holds some ({kinds}), or a glob.")


def _expand(argument: str, target: Path) -> Iterator[tuple[Path, Path]]:
    """(image, its path below the argument); the latter alone decides the output's name."""
    place = Path(argument)
    if place.is_dir():
        for path in _walk(place, target):
            yield path, path.relative_to(place)
    elif not place.exists() and any(character in argument for character in _GLOB):
        fixed = _fixed_part(argument)
        for name in glob.iglob(argument, recursive=True):
            path = Path(name)
            if path.is_file() and _is_image(path) and target not in path.resolve().parents:
                yield path, path.relative_to(fixed) if path.is_relative_to(fixed) else Path(path.name)
    else:
        yield place, Path(place.name)


def _leads_into(argument: str, target: Path) -> bool:
    """Whether a glob that gave nothing matches images in the output folder."""
    if Path(argument).exists() or not any(character in argument for character in _GLOB):
        return False
    names = (Path(name) for name in glob.iglob(argument, recursive=True))
    return any(path.is_file() and _is_image(path) and target in path.resolve().parents for path in names)


def _fixed_part(pattern: str) -> Path:
    """The folders of a glob in front of its first wildcard."""
    parts = []
    for part in Path(pattern).parts[:-1]:
        if any(character in part for character in _GLOB):
            break
        parts.append(part)
    return Path(*parts)


def _walk(folder: Path, target: Path) -> Iterator[Path]:
    """Images in ``folder``, then in its folders, each in the order of the names; links to folders are not followed."""
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:
        raise FeathersegError(f"{folder}: cannot be read: {error.strerror}. Check its permissions.") from error
    for name, is_folder in listed:
        path = folder / name
        if not is_folder and _is_image(path) and path.is_file():
            yield path
    for name, is_folder in listed:
        path = folder / name
        if is_folder and not name.startswith(".") and path.resolve() != target:
            yield from _walk(path, target)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def refuse_to_overwrite(image: ImageFile, output: Path, outputs: Iterable[str]) -> None:
    """Raise FeathersegError where a file that no prediction wrote has the name of one of the outputs of ``image``."""
    shares = output / f"{image.stem}.json"
    places = (output / f"{image.stem}{end}" for end in outputs)
    existing = next((place for place in places if place.exists()), None)
    if existing is None:
        return
    try:
        about = json.loads(shares.read_bytes())
    except (OSError, ValueError):
        about = None
    if not (isinstance(about, dict) and "size" in about and set(about) & set(_OURS)):
        raise FeathersegError(
            f"{image.path}: not labelled, since {existing} is in the way and no prediction wrote it. Choose another "
            "folder with -o, or move that file."
        )


def predict_files(
    predictor: Predictor,
    arguments: Iterable[str | Path],
    output: str | Path,
    *,
    overlay: bool = True,
    outputs: Iterable[str] = OUTPUTS,
    problem: Callable[[str], None],
    progress: Callable[[int], None] | None = None,
    done: Callable[[ImageFile, Any], None] | None = None,
    names: Names | None = None,
) -> Outcome:
    """Predict every image and write its files below ``output``.

    Args:
        predictor: what predicts.
        arguments: as :func:`find_images` takes them.
        output: a folder, made if need be.
        overlay: write the coloured pictures too.
        outputs: what is added to an image's name for the files that are written, the JSON's ".json" among them.
        problem: called with one line for everything that could not be done.
        progress: called with the number of images looked at so far.
        done: called with every image and its result, once that is written.
        names: of results that are taken.

    Raises:
        FeathersegError: the output folder is an argument, or it cannot be written.
    """
    failed = 0

    def count_problem(line: str) -> None:
        nonlocal failed
        failed += 1
        problem(line)

    written = 0
    for image in find_images(arguments, output, count_problem, names):
        try:
            refuse_to_overwrite(image, Path(output), outputs)
            result = predictor.predict(image.path)
        except FeathersegError as error:
            count_problem(str(error))
        else:
            result.save(output, image.stem, overlay=overlay)
            written += 1
            if done:
                done(image, result)
        if progress:
            progress(written + failed)
    return Outcome(written, failed)
