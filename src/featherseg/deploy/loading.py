"""``featherseg.load``: whatever weights are for, ready for use. The network they name says what that is.

A file of another runtime is known by its suffix (deploy/exported.py); all of those are segmentations.
"""

from pathlib import Path
from typing import Any

import torch

from featherseg.deploy.classifier import Classifier, classifier
from featherseg.deploy.detector import Detector, detector
from featherseg.deploy.doors import DOORS, RUN
from featherseg.deploy.exported import ExportedSegmenter, is_exported, load_exported
from featherseg.deploy.segmenter import Segmenter
from featherseg.deploy.segmenter import load as load_segmenter
from featherseg.deploy.session import Precision
from featherseg.deploy.views import View, viewed
from featherseg.errors import FeathersegError
from featherseg.models.registry import list_models
from featherseg.models.shipped import weights_path
from featherseg.models.weights import build_network, read_metadata, read_weights


def task_of(metadata: dict[str, Any]) -> str:
    """What the weights with this metadata do: "classification", "detection"; "segmentation" if nothing tells."""
    for task in ("classification", "detection"):
        if metadata.get("architecture") in list_models(task):
            return task
    return str(metadata.get("task") or "segmentation")


def weights_task(name_or_file: str | Path) -> str:
    """:func:`task_of` a weights file or the name of shipped weights; its tensors are not read.

    Raises:
        FeathersegError: there is no such file or name, or it is a file that featherseg does not run.
    """
    if is_exported(name_or_file):
        return "segmentation"
    for runtime, door in DOORS.items():
        if runtime not in RUN and Path(name_or_file).suffix.lower() == door.suffix:
            raise FeathersegError(
                f"{name_or_file}: featherseg makes {runtime} files and does not run them. Give the weights, or an "
                f"export to {', '.join(RUN)}."
            )
    return task_of(read_metadata(weights_path(name_or_file)))


def written_at(name_or_file: str | Path) -> float:
    """When the file of the weights was written, in seconds of the epoch.

    Raises:
        FeathersegError: there is no such file.
    """
    path = Path(name_or_file) if is_exported(name_or_file) else weights_path(name_or_file)
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise FeathersegError(f"{path}: cannot be read: {error.strerror}.") from None


def load_classifier(name_or_file: str | Path, *, device: str = "cpu", precision: Precision = "fp32") -> Classifier:
    """Load a classifier, as :func:`load` does.

    Raises:
        FeathersegError: no such file or name, a damaged or foreign file, or weights that do no classification.
    """
    path = weights_path(name_or_file)
    weights = read_weights(path)
    if task_of(weights.metadata) != "classification":
        raise FeathersegError(
            f"{path}: {weights.metadata.get('architecture')} is no classifier. `featherseg models --task "
            "classification` lists those."
        )
    network = build_network(weights, str(path))
    return classifier(network, weights.metadata, name=str(name_or_file), device=device, precision=precision)


def load_detector(name_or_file: str | Path, *, device: str = "cpu", precision: Precision = "fp32") -> Detector:
    """Load a detector, as :func:`load` does.

    Raises:
        FeathersegError: no such file or name, a damaged or foreign file, or weights that do no detection.
    """
    path = weights_path(name_or_file)
    weights = read_weights(path)
    if task_of(weights.metadata) != "detection":
        raise FeathersegError(
            f"{path}: {weights.metadata.get('architecture')} is no detector. `featherseg models --task detection` "
            "lists those."
        )
    network = build_network(weights, str(path))
    return detector(network, weights.metadata, name=str(name_or_file), device=device, precision=precision)


def load(
    name_or_file: str | Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    threads: int | None = None,
    classes: str | Path | None = None,
    compile: bool = False,
) -> Segmenter | Classifier | Detector | ExportedSegmenter:
    """Load a network by the path of its weights or exported file, or the name of shipped weights.

    Args:
        name_or_file: "fassd_net_l2.camvid" (see :func:`featherseg.list_weights`), a ``.safetensors`` file, or a
            ``.onnx``, ``.xml``, ``.tflite`` or ``.pte`` file that its runtime is to run.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one; of other runtimes what they know.
        precision: "bf16" runs under autocast; of OpenVINO it is the precision hint.
        threads: of the runtime; those of PyTorch are set for the whole process.
        classes: a file that names the classes of a file of another program, see
            :func:`featherseg.deploy.exported.read_classes`.
        compile: of a segmentation in PyTorch, see :class:`~featherseg.deploy.session.TorchSession`.

    Returns:
        What the weights are for: a :class:`~featherseg.deploy.segmenter.Segmenter`, a
        :class:`~featherseg.deploy.classifier.Classifier` or a :class:`~featherseg.deploy.detector.Detector`; an
        :class:`~featherseg.deploy.exported.ExportedSegmenter`, or a ``LiteRTSegmenter``, of a file of another runtime.

    Raises:
        FeathersegError: no such file or name, a damaged or foreign file, or its runtime is not installed.
    """
    if threads is not None and threads < 1:
        raise FeathersegError(f"{threads} threads run nothing. Give at least 1.")
    if isinstance(name_or_file, str | Path) and is_exported(name_or_file):
        if compile:
            raise FeathersegError(f"{name_or_file}: only PyTorch's own networks are compiled. Leave that out.")
        return load_exported(name_or_file, device=device, precision=precision, threads=threads, classes=classes)
    if classes is not None:
        raise FeathersegError(f"{name_or_file}: weights know their classes. Leave the file of classes out.")
    if threads is not None:
        torch.set_num_threads(threads)
    does = weights_task(name_or_file) if isinstance(name_or_file, str | Path) else None
    if compile and does in ("classification", "detection"):
        raise FeathersegError(f"{name_or_file}: only segmentations are compiled. Leave that out.")
    if does == "classification":
        return load_classifier(name_or_file, device=device, precision=precision)
    if does == "detection":
        return load_detector(name_or_file, device=device, precision=precision)
    return load_segmenter(name_or_file, device=device, precision=precision, compile=compile)


def load_viewed(name_or_file: str | Path, view: View, **running: Any) -> Any:
    """:func:`load` a network and show its images in ``view``; what another process can be told to do.

    Raises:
        FeathersegError: as :func:`load` and :func:`featherseg.deploy.views.viewed`.
    """
    loaded = load(name_or_file, **running)
    return loaded if view.plain else viewed(loaded, view)


def training_size(name_or_file: str | Path) -> tuple[int, int]:
    """(H, W) of the images that weights were trained on, as their recipe tells.

    Raises:
        FeathersegError: no such weights, or they do not tell.
    """
    metadata = {} if is_exported(name_or_file) else read_metadata(weights_path(name_or_file))
    try:
        height, width = metadata["recipe"]["augment"]["crop"]
        return int(height), int(width)
    except (KeyError, TypeError, ValueError):
        raise FeathersegError(
            f"{name_or_file}: does not tell the size it was trained on. Give the window's size, as 512x1024."
        ) from None
