"""Reading recipes: from a file or by the name of a shipped one, with ``key=value`` overrides."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from featherseg.errors import FeathersegError, nearest
from featherseg.recipes.schema import Recipe

SHIPPED = Path(__file__).parent


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


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
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, str(path))


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


def parse_recipe(values: dict[str, Any], where: str) -> Recipe:
    """Check ``values`` against the schema; ``where`` is named in messages."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise FeathersegError(f"{where}: {'; '.join(_explain(problem) for problem in error.errors())}") from None


def without_folders(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-ready values, of every path the last part alone: what may travel with weights."""
    values = recipe.model_dump(mode="json")
    for section, key in (("data", "source"), ("start", "encoder"), ("start", "weights")):
        if values[section][key]:
            values[section][key] = Path(values[section][key]).name
    return values


def _explain(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(problem["loc"][:-1])
        return f"unknown key {place!r}{nearest(str(problem['loc'][-1]), known)} (known here: {', '.join(known)})"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{place!r} is missing; give it a value"
    shown = f", not {problem['input']!r}" if place and problem["type"] != "value_error" else ""
    return f"{place + ': ' if place else ''}{message}{shown}"


def _fields_at(location: tuple[Any, ...]) -> list[str]:
    section: Any = Recipe
    for part in location:
        section = section.model_fields[part].annotation
        if get_origin(section) is not None:
            section = next((a for a in get_args(section) if isinstance(a, type) and issubclass(a, BaseModel)), section)
    return list(section.model_fields)
