"""Reading recipes: from a file or by the name of a shipped one, with ``key=value`` overrides.

An override of a sequence of stages names the stage, ``stages.coco.train.steps=10``; one that names none,
``train.workers=4``, holds for every stage.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from featherseg.errors import FeathersegError, nearest
from featherseg.recipes.schema import Recipe, Section, Stage, StagedRecipe
from featherseg.recipes.shipped import SHIPPED, shipped_recipes

_SIZE = "two whole numbers, height and width, for example [360,480]"
_LISTS = {
    "augment.crop": _SIZE,
    "data.size": _SIZE,
    "latency.size": _SIZE,
    "latency.keep_fps": "two numbers of frames a second, for example [155,175]",
    "latency.shares": "three numbers, of alpha, beta and the ratios, for example [1,497,2]",
    "space.widths": "whole twelfths in rising order, for example [4,8,12]",
    "architecture.betas": "two numbers, for example [0.5,0.999]",
    "pretrain.crop": _SIZE,
    "search.crop": _SIZE,
    "found.augment.crop": _SIZE,
    "augment.scale": "two numbers, for example [0.5,2.0]",
    "optimizer.betas": "two numbers, for example [0.9,0.999]",
    "loss.class_weights": "a number for each class, for example [1.0,2.5]",
    "augment.view_size": _SIZE,
    "augment.rand_augment": "two numbers, how many operations and their magnitude, for example [2,9]",
    "data.drop_classes": "names of classes, for example [Faces]",
    "distillation.affinity.grid": "two whole numbers, height and width, for example [32,64]",
    "distillation.affinity.pairs": "a list of pairs, for example [{student: 1/8, teacher: 1/4, weight: 1.0}]",
    "schedule.milestones": "whole numbers, for example [1000,2000]",
    "stages": "a list of stages, each with a name and the sections of a recipe",
}
_NAME = "letters, digits, dots, underscores and hyphens, a letter or digit first"
_POWER_OF_TEN = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_OF_STAGES = ("data", "augment", "loss", "detection", "optimizer", "schedule", "train")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text; put quotes around it",
    "dict": "a section of fields",
}


_PATHS = (
    (("data", "source"), 1),
    (("data", "split_file"), 2),
    (("start", "encoder"), 2),
    (("start", "weights"), 2),
    (("distillation", "teacher"), 2),
    (("distillation", "cache", "folder"), 1),
)
"""Settings that are paths, and how many of their last parts may be told."""


def recipe_path(name_or_file: str | Path, names: Iterable[str] | None = None) -> Path:
    """The file of a recipe given by path or by shipped name; ``names`` are what is proposed, trainings by default."""
    path = Path(name_or_file)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name_or_file}.yaml"
    if shipped.is_file():
        return shipped
    names = list(names or shipped_recipes())
    raise FeathersegError(
        f"{name_or_file}: no such recipe file, and no shipped recipe of that name{nearest(str(name_or_file), names)}. "
        f"Shipped: {', '.join(names)}."
    )


def read_recipe(name_or_file: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read, override and check the recipe of one training.

    Raises:
        FeathersegError: the file is missing or no YAML, a key is unknown, a value has the wrong type, or the file is a
            sequence of stages.
    """
    experiment = read_experiment(name_or_file, overrides)
    if isinstance(experiment, StagedRecipe):
        raise FeathersegError(
            f"{name_or_file}: a sequence of {len(experiment.stages)} stages, where one training is wanted. "
            f"`featherseg train {name_or_file}` trains it; each stage then has a recipe of its own in its folder."
        )
    return experiment


def read_experiment(name_or_file: str | Path, overrides: Iterable[str] = ()) -> Recipe | StagedRecipe:
    """Read, override and check a recipe or a sequence of stages, which is a file with ``stages``.

    Raises:
        FeathersegError: the file is missing or no YAML, a key is unknown, or a value has the wrong type.
    """
    path = recipe_path(name_or_file)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date such as 2024-13-45
        raise FeathersegError(f"{path}: not a readable YAML file ({' '.join(str(error).split())}).") from None
    if not isinstance(values, dict):
        raise FeathersegError(f"{path}: a recipe is a mapping of sections, this file holds {type(values).__name__}.")
    if "latency" in values and "search" in values:
        raise FeathersegError(f"{path}: a search's recipe, not a training's. `featherseg search {path}` takes it.")
    staged, overrides = "stages" in values, list(overrides)
    for override in overrides:
        apply_override(values, override)
    if staged:
        _refuse_idle(values, overrides)
        return checked(StagedRecipe, values, str(path), overrides)
    return checked(Recipe, values, str(path), overrides)


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one dotted ``key=value`` in ``values``; the value is read as YAML.

    >>> values = {"train": {"epochs": 10}}
    >>> apply_override(values, "train.epochs=3")
    >>> values
    {'train': {'epochs': 3}}

    In a sequence of stages the sections are a stage's, or all stages':

    >>> values = {"stages": [{"name": "coarse", "train": {"steps": 9}}, {"name": "fine", "train": {"steps": 9}}]}
    >>> apply_override(values, "stages.fine.train.steps=3")
    >>> apply_override(values, "train.seed=1")
    >>> [stage["train"] for stage in values["stages"]]
    [{'steps': 9, 'seed': 1}, {'steps': 3, 'seed': 1}]
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise FeathersegError(f"{override!r} is not key=value. Write for example train.epochs=3.")
    try:
        value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):  # ValueError: a date such as 2024-13-45
        raise FeathersegError(f"{override!r}: the value is not YAML; quote it.") from None
    if isinstance(value, str) and _POWER_OF_TEN.fullmatch(text.strip()):
        value = float(value)  # YAML 1.1 takes 1e-5 for text and 1.0e-5 for a number
    if isinstance(values.get("stages"), list) and key.split(".")[0] in ("stages", *_OF_STAGES):
        for stage, rest in _stages_of(values["stages"], key):
            apply_override(stage, f"{rest}={text}")
        return
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        inner = place.get(parent)
        if inner is None:  # an optional section that is not there
            inner = {}
        if not isinstance(inner, dict):
            raise FeathersegError(f"{override!r}: {parent!r} is a value, not a section.")
        # A copy, since an alias in the YAML makes several stages share one section.
        inner = dict(inner)
        place[parent] = inner
        place = inner
    if key == "train.epochs" and value is not None:
        place.pop("steps", None)
    if key == "train.steps" and value is not None:
        place.pop("epochs", None)
    place[last] = value


def _refuse_idle(values: dict[str, Any], overrides: list[str]) -> None:
    """Refuse an override of the model that all stages share where none does: it would change nothing."""
    listed = values["stages"] if isinstance(values["stages"], list) else []
    stages = [stage for stage in listed if isinstance(stage, dict)]
    for override in overrides:
        if override.split("=")[0].split(".")[0] == "model" and stages and all(stage.get("model") for stage in stages):
            raise FeathersegError(
                f"{override}: changes no stage, since each has a model of its own. Write stages.STAGE.{override}; the "
                f"stages are {', '.join(str(stage.get('name')) for stage in stages)}."
            )


def _stages_of(stages: list[Any], key: str) -> list[tuple[dict[str, Any], str]]:
    """The stages that an override's key is about, and what it says of them."""
    found = {stage["name"]: stage for stage in stages if isinstance(stage, dict) and isinstance(stage.get("name"), str)}
    if not key.startswith("stages"):
        return [(stage, key) for stage in found.values()]
    _, _, named = key.partition(".")
    name, _, rest = named.partition(".")
    if name not in found or not rest:
        hint = nearest(name, found) if name not in found else ""
        raise FeathersegError(
            f"{key!r} names no field of a stage{hint}. Write stages.STAGE.FIELD=VALUE, for example "
            f"stages.{next(iter(found), 'STAGE')}.train.steps=100; the stages are {', '.join(found)}."
        )
    return [(found[name], rest)]


def parse_recipe(values: dict[str, Any], where: str, overrides: Iterable[str] = ()) -> Recipe:
    """Check ``values`` against the schema.

    Args:
        values: sections and fields, ``overrides`` applied.
        where: named in messages on what no override set.
        overrides: ``key=value``, named in messages on what they set.

    Raises:
        FeathersegError: a key is unknown, or a value has the wrong type.
    """
    return checked(Recipe, values, where, overrides)


_Kind = TypeVar("_Kind", Recipe, StagedRecipe)


def checked(kind: type[_Kind], values: dict[str, Any], where: str, overrides: Iterable[str]) -> _Kind:
    given = {override.partition("=")[0]: override for override in overrides}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        told = dict.fromkeys(_told(kind, values, problem, given, where) for problem in error.errors())
        raise FeathersegError("; ".join(told) + ".") from None


def _told(kind: type[Section], values: dict[str, Any], problem: Any, given: dict[str, str], where: str) -> str:
    """One problem for a person, by the override that made it or by where the recipe was read."""
    location, stage = problem["loc"], ""
    if location[:1] == ("stages",) and len(location) > 1:
        kind, entry = Stage, values["stages"][location[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        location, stage = location[2:], str(name or location[1] + 1)
        own = f"stages.{stage}."
        of_all = {key: text for key, text in given.items() if not key.startswith("stages.")}
        given = of_all | {key.removeprefix(own): text for key, text in given.items() if key.startswith(own)}
    override = _origin(location, problem, given)
    prefix = f"stage {stage}: " if stage and (override is None or override.startswith("stages.")) else ""
    return f"{override or where}: {prefix}{_explain(kind, location, problem)}"


def _origin(location: tuple[Any, ...], problem: Any, given: dict[str, str]) -> str | None:
    """The override that made the problem: it set that place, something in it or around it, or is named by the rule."""
    place = ".".join(str(part) for part in location)
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
    for (*sections, key), parts in _PATHS:
        section: Any = values
        for name in sections:
            section = section and section[name]
        if section and section[key]:
            named = [part for part in Path(section[key]).parts if part not in ("/", "..", ".")]
            section[key] = "/".join(named[-parts:])
    return values


def _explain(schema: type[Section], location: tuple[Any, ...], problem: Any) -> str:
    kind, value = problem["type"], problem["input"]
    place = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        if schema is StagedRecipe and len(location) == 1 and place in Stage.model_fields:
            return f"{place!r} is a stage's, not the sequence's; write stages.STAGE.{place}"
        known = _fields_at(schema, location[:-1])
        sections = _fields_at(schema, ())
        elsewhere = [f"{name}.{location[-1]}" for name in sections if location[-1] in _fields_at(schema, (name,))]
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
        fields = _fields_at(schema, location)
        setting = f"{place}.{fields[0]}={value}" if isinstance(value, str) else f"{place}.{fields[0]}=..."
        return f"{place}: a section with fields of its own, not {value!r}; write {setting}"
    wanted = _NAME if kind == "string_pattern_mismatch" else _KINDS.get(kind.split("_")[0])
    if wanted:
        return f"{place}: give {wanted}, not {value!r}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = f", not {value!r}" if place and kind != "value_error" else ""
    return f"{place + ': ' if place and kind != 'value_error' else ''}{message}{shown}"


def _fields_at(schema: type[Section], location: tuple[Any, ...]) -> list[str]:
    section: Any = schema
    for part in location:
        field = getattr(section, "model_fields", {}).get(part)
        if field is None:
            return []
        section = field.annotation
        if get_origin(section) is not None:
            section = next((a for a in get_args(section) if isinstance(a, type) and issubclass(a, BaseModel)), section)
    return list(getattr(section, "model_fields", {}))
