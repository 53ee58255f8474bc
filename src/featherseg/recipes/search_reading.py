"""Reading the recipe of an architecture search: as that of a training, into another schema."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from featherseg.errors import FeathersegError
from featherseg.recipes.reading import apply_override, checked, recipe_path
from featherseg.recipes.search_schema import SearchRecipe
from featherseg.recipes.shipped import shipped_searches

_PATHS = (("data", "source"), ("teacher", "weights"), ("latency", "table"))


def read_search(name_or_file: str | Path, overrides: Iterable[str] = ()) -> SearchRecipe:
    """Read, override and check the recipe of a search.

    Raises:
        FeathersegError: the file is missing or no YAML, a key is unknown, a value is wrong, or it is a training's.
    """
    path = recipe_path(name_or_file, shipped_searches())
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FeathersegError(f"{path}: not a readable YAML file ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise FeathersegError(f"{path}: a recipe is a mapping of sections, this file holds {type(values).__name__}.")
    if "model" in values or "stages" in values:
        raise FeathersegError(f"{path}: the recipe of a training, not of a search. `featherseg train {path}` takes it.")
    overrides = list(overrides)
    for override in overrides:
        apply_override(values, override)
    return parse_search(values, str(path), overrides)


def parse_search(values: dict[str, Any], where: str, overrides: Iterable[str] = ()) -> SearchRecipe:
    """Check ``values`` against the schema; arguments as of ``reading.parse_recipe``."""
    return checked(SearchRecipe, values, where, overrides)  # type: ignore[type-var]


def search_without_folders(recipe: SearchRecipe) -> dict[str, Any]:
    """The recipe as JSON-ready values; of paths the last part alone."""
    values = recipe.model_dump(mode="json")
    for section, key in _PATHS:
        if values[section][key]:
            values[section][key] = Path(values[section][key]).name
    return values
