"""Packages of the extras, imported where a runtime is asked for and not before, and what they print."""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from typing import Any, TextIO

from featherseg.errors import FeathersegError


def runtime_module(name: str, extra: str) -> Any:
    """A module of the extra called ``extra``, imported now.

    ``import openvino`` would report itself to its makers over the network and leave files in the home folder; the
    package that does it is made to look absent.

    Raises:
        FeathersegError: it is not installed, or does not import here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
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


@contextmanager
def silenced() -> Iterator[TextIO]:
    """Catch in a file what is printed meanwhile, by C++ too."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as caught:
        try:
            for stream in (1, 2):
                os.dup2(caught.fileno(), stream)
            with redirect_stdout(caught), redirect_stderr(caught), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield caught
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, original in zip((1, 2), kept, strict=True):
                os.dup2(original, stream)
                os.close(original)


@contextmanager
def hushed(doing: str, whose: str) -> Iterator[None]:
    """Catch what ``whose`` packages print; an exception becomes a FeathersegError that ends with the last of it."""
    failure: Exception | None = None
    last: list[str] = []
    with silenced() as caught:
        try:
            yield
        except FeathersegError:
            raise
        except Exception as error:
            failure = error
            caught.flush()
            caught.seek(0)
            last = caught.read().strip().splitlines()[-5:]
            caught.seek(0, os.SEEK_END)
    if failure is not None:
        said = "\n".join([f"{type(failure).__name__}: {failure}", *last])
        raise FeathersegError(
            f"{doing} failed inside {whose}'s packages. The versions in constraints.txt are tested; what they "
            f"said:\n{said}"
        ) from failure
