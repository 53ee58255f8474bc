"""Predictors for tests of several processes: light to import, and able to die."""

import os
import signal
from pathlib import Path
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write


class Said:
    """A result that is one JSON file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"said of {self.name}"

    def save(self, folder: str | Path, stem: str, *, overlay: bool = True) -> None:
        atomic_write(Path(folder) / f"{stem}.json", '{"size": 1, "top": 1}')


class Reader:
    """Reads a file; dies by ``signal_name`` at a file called ``fatal``, as long as the marker does not say that it has.

    Args:
        marker: a file that is made before it dies; None to die every time.
        fatal: a file's stem.
        signal_name: of what kills it.
    """

    def __init__(self, marker: Path | None = None, fatal: str = "", signal_name: str = "SIGKILL") -> None:
        self.marker, self.fatal, self.signal_name = marker, fatal, signal_name

    def predict(self, image: Path) -> Any:
        if image.read_bytes() == b"spoilt":
            raise FeathersegError(f"{image}: spoilt")
        if image.stem == self.fatal and not (self.marker and self.marker.exists()):
            if self.marker:
                self.marker.touch()
            os.kill(os.getpid(), getattr(signal, self.signal_name))
        return Said(image.name)


def refuse() -> Reader:
    raise FeathersegError("gone.safetensors: no such weights file")


def die() -> Reader:
    os.kill(os.getpid(), signal.SIGKILL)
    return Reader()
