"""Packages of the extras, imported where a runtime is asked for and not before."""

from importlib import import_module
from typing import Any

from featherseg.errors import FeathersegError


def runtime_module(name: str, extra: str) -> Any:
    """A module of the extra called ``extra``, imported now.

    Raises:
        FeathersegError: it is not installed, or does not import here.
    """
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:
        package = name.split(".")[0].replace("_", "-")
        raise FeathersegError(
            f"this needs the package {package}, which gives: {error}. Install it: pip install 'featherseg[{extra}]'"
        ) from None


def first_line(error: Exception) -> str:
    """What a runtime says in its first line with anything in it, or the exception's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
