"""From a network to a file that another runtime runs: one door per runtime, behind one table.

Choices worth knowing:

- A door is a module with four functions, :class:`Runtime`; what they share (the graph, the pictures, the gate, the
  metadata, the file) is here. A door is imported when it is gone through, and so are its packages.
- The parity gate stands before the file: an export that does not label as PyTorch does is not saved, unless it is
  forced, and then its metadata say so.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from featherseg.data.labels import CITYSCAPES19
from featherseg.deploy.calibration import CalibrationImages, Chosen, calibration_images
from featherseg.deploy.label_graph import LabelGraph
from featherseg.deploy.parity import Parity, Precision, compare, noise_pictures, scene_pictures
from featherseg.deploy.segmenter import label_set_of, load
from featherseg.errors import FeathersegError, nearest
from featherseg.files import atomic_write
from featherseg.metrics.confusion import confusion_matrix, mean_iou
from featherseg.models.registry import create_model, list_models
from featherseg.models.weights import describe_network

_CARRIED = ("format", "task", "architecture", "arguments", "num_classes", "input_spec", "terms", "provenance")


class Program(Protocol):
    """A program ready to run."""

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Class ids ``[H, W]`` of uint8 RGB ``[H, W, 3]``."""
        ...


class Runtime(Protocol):
    """What a door's module offers."""

    PACKAGES: tuple[str, ...]

    def convert(self, graph: LabelGraph) -> bytes: ...

    def quantise(self, content: bytes, images: Chosen) -> bytes: ...

    def operators(self, content: bytes) -> dict[str, int]: ...

    def with_metadata(self, content: bytes, values: dict[str, Any]) -> bytes: ...

    def open_program(self, content: bytes, where: str, threads: int) -> Program: ...


@dataclass(frozen=True)
class Door:
    """A runtime that networks are exported to: its module in this room, its extra, and its files' suffix."""

    module: str
    extra: str
    suffix: str


DOORS = {"litert": Door("litert", "litert", ".tflite")}


@dataclass(frozen=True)
class ExportReport:
    """What became of an export.

    Attributes:
        file: where it was written; None where the gate refused it.
        size_bytes: of the file, or of what would have been the file.
        operators: how often each occurs.
        parity: the comparison with PyTorch.
        miou: mean IoU of "float32" and "int8" on the judged images, where their labels are of the network's classes.
        calibrated_on: the source of the calibration images and how many; None for float32.
    """

    file: Path | None
    runtime: str
    precision: Precision
    size: tuple[int, int]
    size_bytes: int
    operators: dict[str, int]
    parity: Parity
    miou: dict[str, float] | None = None
    calibrated_on: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        file = None if self.file is None else str(self.file)
        return {**asdict(self), "file": file, "size": list(self.size), "parity": self.parity.to_dict()}


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


def network_and_metadata(name_or_file: str) -> tuple[nn.Module, dict[str, Any]]:
    """A weights file, shipped weights, or a network by its name with fresh weights, and what belongs to it.

    Raises:
        FeathersegError: it is none of them.
    """
    if name_or_file in list_models() and not Path(name_or_file).is_file():
        torch.manual_seed(0)
        network = create_model(name_or_file, len(CITYSCAPES19)).eval()
        classes = {"classes": list(CITYSCAPES19.classes), "palette": [list(rgb) for rgb in CITYSCAPES19.palette]}
        described = describe_network(network, name_or_file, len(CITYSCAPES19))
        return network, described | classes | {"label_set": CITYSCAPES19.name, "untrained": True}
    loaded = load(name_or_file)
    return loaded.network, loaded.metadata


def export(
    network: nn.Module,
    about: dict[str, Any],
    runtime: str,
    output: str | Path,
    *,
    size: tuple[int, int],
    int8: bool = False,
    calibrate: str | Path | None = None,
    count: int = 100,
    force: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Convert a network, hold it against PyTorch, and save it.

    Args:
        network: a segmentation network with trained weights, on any device.
        about: the metadata of its weights.
        runtime: a key of ``DOORS``.
        output: the file to write.
        size: (H, W) of the images it will take.
        int8: quantise, with images of ``calibrate`` (see :func:`featherseg.deploy.calibration.calibration_images`).
        count: at most so many images set the ranges.
        force: save it though the gate refuses it.
        told: gets a line before each part that takes its time.

    Raises:
        FeathersegError: an unknown runtime, a missing package, another suffix, images that cannot be used, or a network
            that the runtime's converter does not carry.
    """
    door, module = open_door(runtime)
    if Path(output).suffix != door.suffix:
        raise FeathersegError(f"-o {output}: {runtime} files end in {door.suffix}. Name it so.")
    if calibrate is not None and not int8:
        raise FeathersegError("calibration images are for int8 alone. Ask for int8 too, or leave them out.")
    where = str(about.get("architecture"))
    labels = label_set_of(about, where)
    images = calibration_images(calibrate, size, count=count) if int8 else None
    network = network.cpu().eval()
    told(f"converting {where} for images of {size[0]}x{size[1]}")
    content = module.convert(LabelGraph(network, size))
    if images is not None:
        told(f"calibrating on {len(images.calibration)} images of {images.name}")
        content = module.quantise(content, images.calibration)
    program = module.open_program(content, f"the {runtime} program", torch.get_num_threads())
    told("comparing with PyTorch")
    precision: Precision = "int8" if int8 else "fp32"
    parity = compare(network, program.labels, _pictures(size, images), precision)
    miou = None
    if images is not None and images.labels is not None and images.labels.classes == labels.classes:
        miou = _judged(network, program, images.judging, len(labels))
    calibrated = None if images is None else {"images": images.name, "count": len(images.calibration)}
    carried = {name: about[name] for name in (*_CARRIED, "untrained") if name in about}
    content = module.with_metadata(
        content,
        carried
        | {
            "label_set": labels.name,
            "classes": list(labels.classes),
            "palette": [list(colour) for colour in labels.palette],
            "export": {
                "runtime": runtime,
                "precision": precision,
                "size": list(size),
                "input": "uint8 RGB [1, H, W, 3]",
                "output": "int32 class ids [1, H, W]",
                "parity": parity.to_dict(),
                "miou": miou,
                "calibrated_on": calibrated and calibrated | {"images": Path(calibrated["images"]).name},
                "versions": {name: metadata.version(name) for name in ("torch", *_distributions(module))},
            },
        },
    )
    saved = atomic_write(output, content) if parity.passed or force else None
    counts = module.operators(content)
    return ExportReport(saved, runtime, precision, size, len(content), counts, parity, miou, calibrated)


def _distributions(module: Runtime) -> Iterable[str]:
    return (name.replace("_", "-") for name in module.PACKAGES)


def _pictures(size: tuple[int, int], images: CalibrationImages | None) -> Iterable[tuple[str, np.ndarray]]:
    if images is None:
        return chain(noise_pictures(size), scene_pictures(size))
    return ((sample.key, sample.image) for sample in images.judging)


@torch.inference_mode()
def _judged(network: nn.Module, program: Program, samples: Chosen, classes: int) -> dict[str, float] | None:
    spec: Any = network.input_spec
    counts = {name: np.zeros((classes, classes), np.int64) for name in ("float32", "int8")}
    for sample in samples:
        logits = network(spec.normalise(torch.from_numpy(sample.image)[None])).logits
        expected = spec.enlarge(logits, samples.size).argmax(1)[0].numpy()
        for name, found in (("float32", expected), ("int8", program.labels(sample.image))):
            counts[name] += confusion_matrix(sample.label, found.astype(np.uint8), classes)
    if not counts["float32"].any():
        return None
    return {name: mean_iou(matrix) for name, matrix in counts.items()}
