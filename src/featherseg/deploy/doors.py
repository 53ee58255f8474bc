"""The runtimes that networks are exported to: one door each, behind one table.

A door is a module of this room with the functions of :class:`Runtime`. It is imported when it is gone through, and so
are its packages.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from torch import nn

from featherseg.deploy.calibration import Chosen
from featherseg.deploy.session import OUTPUTS, Output, Session
from featherseg.errors import FeathersegError, nearest


class Runtime(Protocol):
    """What a door's module offers; ``content`` is what its ``convert`` gave."""

    PACKAGES: tuple[str, ...]

    def make_graph(
        self, network: nn.Module, *, size: tuple[int, int] | None, batch: int | None, output: Output
    ) -> nn.Module: ...

    def convert(self, graph: Any) -> Any: ...

    def quantise(self, content: Any, images: Chosen) -> Any:
        """Of doors with ``int8`` alone."""
        ...

    def operators(self, content: Any) -> dict[str, int]: ...

    def with_metadata(self, content: Any, values: dict[str, Any]) -> Any: ...

    def files(self, content: Any) -> dict[str, bytes]: ...

    def open_session(self, content: Any, where: str, *, threads: int | None, precision: str) -> Session: ...


@dataclass(frozen=True)
class Door:
    """A runtime that networks are exported to.

    Attributes:
        module: in this room.
        extra: that brings its packages.
        suffix: of its files; the first of them, where there are several.
        outputs: what its graphs can end in, the default first.
        any_size: whether a file can take images of any size and number.
        int8: whether it quantises.
        compared: what is held against PyTorch in place of the file, where featherseg does not run that; None of files
            that it runs.
    """

    module: str
    extra: str
    suffix: str
    outputs: tuple[Output, ...] = OUTPUTS
    any_size: bool = True
    int8: bool = False
    compared: str | None = None


DOORS = {
    "coreml": Door(
        "coreml", "coreml", ".mlpackage", any_size=False, compared="the exported program that was converted"
    ),
    "executorch": Door("executorch", "executorch", ".pte", any_size=False),
    "litert": Door("litert", "litert", ".tflite", ("labels",), any_size=False, int8=True),
    "onnx": Door("onnx", "onnx", ".onnx"),
    "openvino": Door("openvino", "openvino", ".xml"),
    "tensorrt": Door("tensorrt", "tensorrt", ".engine", any_size=False, compared="the ONNX program of the engine"),
}
RUN = tuple(name for name, door in DOORS.items() if door.compared is None)
"""The runtimes whose files featherseg runs."""


def open_door(runtime: str) -> tuple[Door, Runtime]:
    """The door called ``runtime`` and its module.

    Raises:
        FeathersegError: there is no such door, or a package it needs is not installed.
    """
    if runtime not in DOORS:
        raise FeathersegError(
            f"no runtime is called {runtime!r}{nearest(runtime, DOORS)}. There are: {', '.join(DOORS)}."
        )
    door = DOORS[runtime]
    module = cast(Runtime, import_module(f"featherseg.deploy.{door.module}"))
    missing = [name for name in module.PACKAGES if find_spec(name) is None]
    if missing:
        packages = ", ".join(name.replace("_", "-") for name in missing)
        raise FeathersegError(
            f"exporting to {runtime} needs {packages}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            f"pip install 'featherseg[{door.extra}]'"
        )
    return door, module
