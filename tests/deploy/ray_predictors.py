"""Predictors for tests of a cluster: made of a number of threads, and able to die."""

import os
import time
from pathlib import Path
from typing import Any

from job_predictors import Reader

from featherseg.errors import FeathersegError


def reader(marker: Path | None = None, fatal: str = "", *, threads: int) -> Reader:
    assert threads == 1
    return Reader(marker, fatal)


def refuse(*, threads: int) -> Reader:
    raise FeathersegError("gone.safetensors: no such weights file")


def die(*, threads: int) -> Reader:
    os._exit(1)


class Gone:
    """Cannot be made again from its pickle."""

    def __reduce__(self) -> tuple:
        return __import__, ("no_such_module",)


class Slow(Reader):
    """Takes a quarter of a second for an image."""

    def predict(self, image: Path) -> Any:
        time.sleep(0.25)
        return super().predict(image)


def slow_reader(*, threads: int) -> Slow:
    return Slow()
