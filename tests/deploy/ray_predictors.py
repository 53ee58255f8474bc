"""Predictors for tests of a cluster: made of a number of threads, and able to die."""

import os
from pathlib import Path

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
