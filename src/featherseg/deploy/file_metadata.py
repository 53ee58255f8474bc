"""Whether the metadata in a file of another runtime are what is read of them.

A file may come from anybody: what is of another kind is refused when the file is opened, by its key, and fails nowhere
later.
"""

import json
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec
from featherseg.models.weights import FORMAT

_OBJECTS = (
    *(("training",), ("training", "val"), ("export",), ("export", "miou"), ("export", "judged_on")),
    *(("export", "quantization"), ("export", "quantization", "verdicts"), ("export", "quantization", "judged_on")),
)
"""Keys of objects, those around them first."""
_COUNTS = ("format", "num_classes")
_MEND = "Copy or export the file again."


def read_metadata(text: str | bytes, where: str) -> dict[str, Any]:
    """The metadata that stand in a file as JSON, the kinds of the values that are read checked.

    Args:
        text: the JSON. A key other than ``format`` and ``num_classes`` may be lacking.
        where: the file's name in messages.

    Raises:
        FeathersegError: it is no JSON object, a value is of another kind, there are more than 255 classes, or the
            format is a later one.
    """
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise FeathersegError(f"{where}: its metadata are garbled. {_MEND}")
    for key in _COUNTS:
        value = metadata.get(key)
        if type(value) is not int or value < 1:
            _garbled(where, key, value, "a whole number of at least 1")
    for path in _OBJECTS:
        value: Any = metadata
        for key in path:
            value = None if value is None else value.get(key)
        if value is not None and not isinstance(value, dict):
            _garbled(where, ".".join(path), value, "an object")
    classes = metadata.get("classes")
    classes = [] if classes is None else classes
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        _garbled(where, "classes", classes, "a list of names")
    if metadata["num_classes"] > 255:
        count = metadata["num_classes"]
        raise FeathersegError(f"{where}: {count} classes do not fit into an 8-bit label map (at most 255).")
    if metadata["format"] > FORMAT:
        raise FeathersegError(
            f"{where}: written in format {metadata['format']}, this version reads up to {FORMAT}. Upgrade featherseg."
        )
    return metadata


def input_spec_of(metadata: dict[str, Any], where: str) -> InputSpec | None:
    """The InputSpec that stands in the metadata; None where there is none.

    Raises:
        FeathersegError: it is none, or a field of it is lacking or of another kind.
    """
    if "input_spec" not in metadata:
        return None
    try:
        return InputSpec.from_dict(metadata["input_spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise FeathersegError(f"{where}: the input_spec lacks or garbles {error}. Mend it, or export again.") from None


def _garbled(where: str, key: str, value: Any, wanted: str) -> None:
    said = repr(value)
    said = said if len(said) <= 40 else f"{said[:40]}..."
    raise FeathersegError(f"{where}: its metadata are garbled: {key!r} is {said}, not {wanted}. {_MEND}")
