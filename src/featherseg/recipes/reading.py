"""Reading recipes: from a file or by the name of a shipped one, with ``key=value`` overrides."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from featherseg.errors import FeathersegError, nearest
from featherseg.recipes.schema import Recipe
from featherseg.recipes.shipped import SHIPPED, shipped_recipes

_SIZE = "two whole numbers, height and width, for example [360,480]"
_LISTS = {
    "augment.crop": _SIZE,
    "data.size": _SIZE,
    "augment.scale": "two numbers, for example [0.5,2.0]",
    "optimizer.betas": "two numbers, for example [0.9,0.999]",
    "loss.class_weights": "a number for each class, for example [1.0,2.5]",
    "schedule.milestones": "whole numbers, for example [1000,2000]",
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put quotes around it",
    "dict": "a section of fields",
}


def recipe_path(name_or_file: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name."""
    path = Path(name_or_file)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name_or_file}.yaml"
    if shipped.is_file():
        return shipped
    names = shipped_recipes()
    raise FeathersegError(
        f"{name_or_file}: no such recipe file, and no shipped recipe of that name{nearest(str(name_or_file), names)}. "
        f"Shipped: {', '.join(names)}."
    )


def read_recipe(name_or_file: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Raises:
        FeathersegError: the file is missing or no YAML, a key is unknown, or a value has the wrong type.
    """
    path = recipe_path(name_or_file)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FeathersegError(f"{path}: not a readable YAML file ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise FeathersegError(f"{path}: a recipe is a mapping of sections, this file holds {type(values).__name__}.")
    overrides = list(overrides)
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, str(path), overrides)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one dotted ``key=value`` in ``values``; the value is read as YAML.

    >>> values = {"train": {"epochs": 10}}
    >>> apply_override(values, "train.epochs=3")
    >>> values
    {'train': {'epochs': 3}}
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise FeathersegError(f"{override!r} is not key=value. Write for example train.epochs=3.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise FeathersegError(f"{override!r}: the value is not YAML; quote it.") from None
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        inner = place.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise FeathersegError(f"{override!r}: {parent!r} is a value, not a section.")
        place = inner
    if key == "train.epochs" and value is not None:
        place.pop("steps", None)
    if key == "train.steps" and value is not None:
        place.pop("epochs", None)
    place[last] = value


def parse_recipe(values: dict[str, Any], where: str, overrides: Iterable[str] = ()) -> Recipe:
    """Check ``values`` against the schema.

    Args:
        values: sections and fields, ``overrides`` applied.
        where: named in messages on what no override set.
        overrides: ``key=value``, named in messages on what they set.

    Raises:
        FeathersegError: a key is unknown, or a value has the wrong type.
    """
    given = {override.partition("=")[0]: override for override in overrides}
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        told = (f"{_origin(problem, given) or where}: {_explain(problem)}" for problem in error.errors())
        raise FeathersegError("; ".join(told) + ".") from None


def _origin(problem: Any, given: dict[str, str]) -> str | None:
    """The override that made the problem: it set that place, something in it or around it, or is named by the rule."""
    place = ".".join(str(part) for part in problem["loc"])
    for key, override in given.items():
        if problem["type"] == "value_error":
            if key in problem["msg"]:
                return override
        elif f"{place}.".startswith(f"{key}.") or f"{key}.".startswith(f"{place}."):
            return override
    return None


def without_folders(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-ready values, what may travel with weights: of a path to data the last part alone, of one to
    weights the folder of the run besides, which tells what they are."""
    values = recipe.model_dump(mode="json")
    for section, key, parts in (("data", "source", 1), ("start", "encoder", 2), ("start", "weights", 2)):
        if values[section][key]:
            named = [part for part in Path(values[section][key]).parts if part not in ("/", "..", ".")]
            values[section][key] = "/".join(named[-parts:])
    return values


def _explain(problem: Any) -> str:
    location, kind, value = problem["loc"], problem["type"], problem["input"]
    place = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        elsewhere = [f"{name}.{location[-1]}" for name in _fields_at(()) if location[-1] in _fields_at((name,))]
        hint = nearest(str(location[-1]), known) or (f"; did you mean {elsewhere[0]!r}" if elsewhere else "")
        return f"unknown key {place!r}{hint} (known here: {', '.join(known)})"
    if place == "data.source" and value is None:
        return "it has no data yet; set data.source=PATH to your folder"
    field = ".".join(str(part) for part in location[:2])
    if field in _LISTS and kind in ("tuple_type", "too_long", "missing"):
        return f"{field}: give {_LISTS[field]}" + ("" if kind == "missing" else f", not {value!r}")
    if kind == "missing":
        return f"{place!r} is missing; give it a value"
    if kind.startswith("model_"):
        fields = _fields_at(location)
        setting = f"{place}.{fields[0]}={value}" if isinstance(value, str) else f"{place}.{fields[0]}=..."
        return f"{place}: a section with fields of its own, not {value!r}; write {setting}"
    wanted = _KINDS.get(kind.split("_")[0])
    if wanted:
        return f"{place}: give {wanted}, not {value!r}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = f", not {value!r}" if place and kind != "value_error" else ""
    return f"{place + ': ' if place and kind != 'value_error' else ''}{message}{shown}"


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    section: Any = Recipe
    for part in location:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return []
        section = field.annotation
        if get_origin(section) is not None:
            section = next((a for a in get_args(section) if isinstance(a, type) and issubclass(a, BaseModel)), section)
    return list(getattr(section, "model_fields", {}))
