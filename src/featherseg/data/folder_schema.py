"""The YAML that describes a folder of images and masks: its typed schema, and errors that say where and how to mend it.

* Strict: an unknown key, a key given twice, or a value of the wrong type is refused; nothing is guessed or converted.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from featherseg.data.headers import read_bytes
from featherseg.errors import FeathersegError, nearest

EXAMPLE = """\
name: my-streets
classes: [road, car, person]      # ids 0, 1, 2 in the masks; or {road: [128, 64, 128], ...} with display colours
splits:
  train: {images: images/train, masks: masks/train}   # folders or globs, beside this file
  val: {images: images/val, masks: masks/val}
# mask_suffix: _mask              # a.jpg belongs to a_mask.png
# ignore: [255]                   # stored values that are not judged
# id_map: {7: 0, 26: 1, 0: ignore}   # stored value to id
# colours: {road: [128, 64, 128], ignore: [0, 0, 0]}   # masks that store colours; or: colours: classes
"""
"""A description to begin with, shown where one is missing."""

Channel = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Channel, Channel, Channel]

_TYPES = {
    "string_type": "must be text (put it in quotes if it reads like a number, yes or no)",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of 'key: value'",
    "model_type": "must be a mapping of 'key: value'",
    "tuple_type": "must be a list of three numbers",
    "missing": "is missing",
}


class SplitSpec(BaseModel):
    """Where the files of one split lie: folders or globs relative to the YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    masks: str


class FolderSpec(BaseModel):
    """A data set of image and mask files.

    ``classes``: names in id order, or name to display colour. ``ignore``: stored values that mean "not judged".
    ``id_map``: stored value to id, class name or "ignore"; every value that occurs must then be listed here or in
    ``ignore``. ``colours``: for masks that store colours, the colours of each class (and of "ignore"), or "classes"
    where they are the display colours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    classes: list[str] | dict[str, Colour]
    splits: Annotated[dict[str, SplitSpec], Field(min_length=1)]
    mask_suffix: str = ""
    ignore: int | list[int] = [255]
    id_map: dict[int, int | str] | None = None
    colours: Literal["classes"] | dict[str, Colour | list[Colour]] | None = None


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_spec(path: str | Path) -> FolderSpec:
    """Read and check a description.

    Raises:
        FeathersegError: missing, not YAML, an unknown key (with the nearest valid one), a wrong type or a bad value.
    """
    try:
        content = yaml.load(read_bytes(path).decode("utf-8"), Loader=_OnceLoader)  # a SafeLoader
    except UnicodeDecodeError:
        raise FeathersegError(f"{path}: not a text file in UTF-8. Give the YAML that describes the data.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise FeathersegError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}. Mend it.") from None
    if not isinstance(content, dict):
        raise FeathersegError(f"{path}: must hold 'key: value' lines. For example:\n{EXAMPLE}")
    try:
        spec = FolderSpec.model_validate(content, strict=False)
    except ValidationError as error:
        raise FeathersegError(f"{path}: {_first_problem(error, content)}") from None
    check_values(path, spec)
    return spec


def _first_problem(error: ValidationError, content: dict) -> str:
    # Of a field that may be one of several types pydantic reports every attempt; the deepest came nearest.
    details = sorted(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    detail = details[0]
    where = _location(detail, content)
    if detail["type"] == "extra_forbidden":
        known = list((SplitSpec if "." in where else FolderSpec).model_fields)
        return f"unknown key {where!r}. Valid here: {', '.join(known)}{nearest(where.split('.')[-1], known)}."
    what = _TYPES.get(detail["type"], detail["msg"][0].lower() + detail["msg"][1:])
    given = "" if detail["type"] == "missing" else f", not {detail['input']!r}"
    return f"{where!r} {what}{given}. Mend the line; a whole example:\n{EXAMPLE}"


def _location(detail: ErrorDetails, content: object) -> str:
    """The path of keys that exist in the file; pydantic's own path also names the type it tried."""
    parts: list[str] = []
    for part in detail["loc"]:
        listed = isinstance(content, list) and isinstance(part, int) and part < len(content)
        if isinstance(content, list | dict) and (listed or part in content):
            content = content[part]  # pyright: ignore[reportArgumentType, reportCallIssue]
        elif detail["type"] != "missing" or part != detail["loc"][-1]:
            continue
        parts.append(str(part))
    return ".".join(parts)


def check_values(path: str | Path, spec: FolderSpec) -> None:
    """Refuse what types cannot: class names that clash, targets that are no class, an ignore that is a class."""
    names = list(spec.classes)
    if not 1 <= len(names) <= 254:
        raise FeathersegError(f"{path}: 'classes' names {len(names)} classes. Give 1 to 254.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FeathersegError(
            f"{path}: 'classes' names {sorted(twice)[0]!r} twice. Each class has one name and one id."
        )
    if "ignore" in names:
        raise FeathersegError(f"{path}: a class cannot be called 'ignore'. List its stored values under 'ignore:'.")
    for raw, target in (spec.id_map or {}).items():
        _check_target(path, f"id_map.{raw}", target, names)
    if isinstance(spec.colours, dict):
        for name in spec.colours:
            _check_target(path, "colours", name, names)
        if spec.id_map is not None:
            raise FeathersegError(f"{path}: has both 'id_map' and 'colours'. Masks store ids or colours: keep one.")
    if spec.colours == "classes" and not isinstance(spec.classes, dict):
        raise FeathersegError(f"{path}: 'colours: classes' needs colours in 'classes', as {{road: [128, 64, 128]}}.")
    ignored = [spec.ignore] if isinstance(spec.ignore, int) else spec.ignore
    clash = [value for value in ignored if 0 <= value < len(names)]
    if clash and spec.id_map is None and spec.colours is None:
        raise FeathersegError(
            f"{path}: 'ignore' holds {clash[0]}, which is the id of class {names[clash[0]]!r}. Take the class off "
            "'classes', or say with id_map which stored value is which class."
        )


def _check_target(path: str | Path, where: str, target: int | str, names: list[str]) -> None:
    if isinstance(target, int):
        if not (0 <= target < len(names) or target == 255):
            raise FeathersegError(f"{path}: '{where}' maps to {target}. Give 0..{len(names) - 1}, a name or ignore.")
    elif target != "ignore" and target not in names:
        hint = nearest(target, [*names, "ignore"])
        raise FeathersegError(
            f"{path}: '{where}' names {target!r}, which is no class. Give one of {', '.join(names)} or ignore{hint}."
        )
