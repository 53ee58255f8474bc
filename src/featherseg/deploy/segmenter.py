"""A network ready for use: ``load("fassd_net_l2.camvid").predict("photo.jpg")``.

Choices worth knowing:

- Everything that turns a picture into a label map travels with the weights: InputSpec, classes, colours.
- A network takes any size; pictures are never resized to fit. What is asked of an array (uint8, RGB, ``[H, W, 3]``) is
  checked, since a float or BGR picture gives a label map that only looks wrong.
- Weights that come with the package are found by name and read from its own folder; nothing is ever downloaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from featherseg.data.images import read_image
from featherseg.data.labels import LabelSet
from featherseg.data.palette import distinct_colours
from featherseg.deploy.labels import label_map
from featherseg.deploy.segmentation import Segmentation
from featherseg.deploy.session import Precision, TorchSession
from featherseg.errors import FeathersegError, nearest
from featherseg.files import file_sha256
from featherseg.models.import_report import ImportReport
from featherseg.models.importer import import_checkpoint
from featherseg.models.output import InputSpec
from featherseg.models.registry import list_models
from featherseg.models.shipped import weights_path
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights


def read_image_argument(image: Any) -> np.ndarray:
    """A path, an array or a PIL image as uint8 RGB ``[H, W, 3]``; an array is handed back as it is.

    Raises:
        FeathersegError: the file is spoilt, or the array or picture is of another kind.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise FeathersegError(f"the picture is of mode {image.mode!r}. Convert it to 8-bit grey or RGB.")
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise FeathersegError(
            f"an image of type {type(image).__name__} cannot be read. Give a path, a PIL image or a uint8 array "
            "[H, W, 3] in RGB."
        )
    mend = ""
    if image.ndim == 2:
        mend = "Repeat grey over three channels: np.repeat(image[..., None], 3, axis=2)."
    elif image.ndim == 4:
        mend = "Give the images one by one."
    elif image.ndim == 3 and image.shape[2] == 4:
        mend = "Drop the alpha channel: image[..., :3]."
    elif image.ndim == 3 and image.shape[2] == 1:
        mend = "Repeat grey over three channels: np.repeat(image, 3, axis=2)."
    elif image.ndim == 3 and image.shape[0] == 3 and image.shape[2] != 3:
        mend = "Move the channels last: image.transpose(1, 2, 0)."
    elif image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        mend = "Give at least one pixel of three channels."
    if mend:
        raise FeathersegError(f"the image has the shape {list(image.shape)}; it must be [H, W, 3] in RGB. {mend}")
    if image.dtype != np.uint8:
        floating = image.dtype.kind == "f"
        mend = "np.clip(image * 255, 0, 255).astype(np.uint8), if it runs from 0 to 1" if floating else "8-bit values"
        raise FeathersegError(
            f"the image is of type {image.dtype}; it must be uint8, 0 to 255, not normalised. Give {mend}."
        )
    return image


def shared_tensor(pixels: np.ndarray) -> Tensor:
    """An array as a contiguous tensor: the same memory where that is writeable and contiguous, else a copy."""
    return torch.from_numpy(pixels if pixels.flags.writeable and pixels.flags.c_contiguous else pixels.copy(order="C"))


def class_names_of(metadata: dict[str, Any], where: str) -> tuple[str, ...]:
    """The names of the classes that weights carry; numbered here where they carry none.

    Raises:
        FeathersegError: they do not fit the number of classes, or are no names at all.
    """
    count = metadata["num_classes"]
    classes = metadata.get("classes") or [f"class_{number}" for number in range(count)]
    if not isinstance(classes, list) or len(classes) != count or not all(isinstance(one, str) for one in classes):
        raise FeathersegError(
            f"{where}: the metadata's classes do not fit the network's {count} classes. Copy or export the file again."
        )
    return tuple(classes)


def label_set_of(metadata: dict[str, Any], where: str) -> LabelSet:
    """The classes and colours that weights carry; numbered and coloured here where they carry none.

    Raises:
        FeathersegError: they do not fit the number of classes, or are no names and colours at all.
    """
    count = metadata["num_classes"]
    classes = metadata.get("classes") or [f"class_{number}" for number in range(count)]
    palette = metadata.get("palette") or distinct_colours(count)
    try:
        names = tuple(str(name) for name in classes)
        colours = tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
    except (TypeError, ValueError):
        names, colours = (), ()
    inside = all(0 <= channel <= 255 for colour in colours for channel in colour)
    if len(names) != count or len(colours) != count or not inside:
        raise FeathersegError(
            f"{where}: the metadata's classes or palette do not fit the network's {count} classes. "
            "Copy or export the file again."
        )
    return LabelSet(str(metadata.get("label_set") or "unnamed"), names, colours)


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network with all that is needed to use it.

    Attributes:
        name: what it was loaded by.
        network: the module, in ``eval()``.
        labels: classes and colours.
        input_spec: how pixels become its input and its logits a label map.
        metadata: what the weights file says of itself.
        session: what runs it.
        import_report: what became of every tensor, where the weights were imported.
    """

    name: str
    network: nn.Module
    labels: LabelSet
    input_spec: InputSpec
    metadata: dict[str, Any]
    session: TorchSession
    import_report: ImportReport | None = None

    def logits(self, images: Tensor) -> Tensor:
        """Full-size logits float32 ``[B, K, H, W]`` of tensors ``[B, 3, H, W]`` normalised by ``input_spec``."""
        if not isinstance(images, Tensor):
            raise FeathersegError(
                f"images are of type {type(images).__name__}; give normalised float tensors [B, 3, H, W], as "
                "input_spec.normalise makes them, or use predict() for pictures."
            )
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise FeathersegError(
                f"images are {images.dtype} {list(images.shape)}; give normalised float tensors [B, 3, H, W], as "
                "input_spec.normalise makes them."
            )
        height, width = images.shape[-2:]
        return self.input_spec.enlarge(self.session.logits(images.float()), (height, width))

    def predict(self, image: str | Path | np.ndarray | Image.Image, *, confidence: bool = False) -> Segmentation:
        """Label every pixel of one image, of any size from 1x1.

        Args:
            image: a file, a uint8 array ``[H, W, 3]`` in RGB, or a PIL image.
            confidence: keep the probability of each pixel's class.

        Raises:
            FeathersegError: the file is missing or spoilt, or the array is of another type or shape.
        """
        pixels = read_image_argument(image)
        height, width = pixels.shape[:2]
        logits = self.session.run(shared_tensor(pixels)[None])[0]
        if not bool(torch.isfinite(logits).all()):
            raise FeathersegError(
                f"{self.name}: the network gives numbers that are not finite. Its weights are spoilt: the training "
                "diverged or was too short for batch norm; train again with a lower optimizer.lr or for longer."
            )
        found = label_map(logits, self.input_spec, (height, width), confidence=confidence)
        return Segmentation(found.labels, self.labels, pixels, found.confidence)

    def save(self, path: str | Path, *, half: bool = False) -> Path:
        """Write the weights with their metadata; ``half`` stores kernels as float16."""
        return save_weights(path, self.network.state_dict(), self.metadata, half=half)


def segmenter(
    network: nn.Module,
    metadata: dict[str, Any],
    *,
    name: str = "unnamed",
    device: str = "cpu",
    precision: Precision = "fp32",
    compile: bool = False,
    import_report: ImportReport | None = None,
) -> Segmenter:
    """Make a :class:`Segmenter` of a network and the metadata of its weights, run by PyTorch."""
    labels = label_set_of(metadata, name)
    if len(labels) > 255:
        raise FeathersegError(f"{name}: {len(labels)} classes do not fit into an 8-bit label map (at most 255).")
    session = TorchSession(network, device=device, precision=precision, compile=compile)
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    return Segmenter(name, session.network, labels, spec, metadata, session, import_report)


def load(
    name_or_file: str | Path, *, device: str = "cpu", precision: Precision = "fp32", compile: bool = False
) -> Segmenter:
    """Load a network by the path of its weights file or the name of shipped ones ("fassd_net_l2.camvid").

    Args:
        name_or_file: see :func:`featherseg.list_weights` for the names.
        device: "cpu", "cuda", "cuda:N", or "auto" for a GPU where there is one.
        precision: "bf16" runs under autocast.
        compile: let PyTorch compile the network at the first image of a size.

    Raises:
        FeathersegError: no such file or name, a damaged or foreign file, or weights that do no segmentation.
    """
    if not isinstance(name_or_file, str | Path):
        raise FeathersegError(f"weights are given by a path or a name, not by {name_or_file!r}.")
    path = weights_path(name_or_file)
    weights = read_weights(path)
    _must_segment(str(weights.metadata.get("architecture")), str(path))
    network = build_network(weights, str(path))
    return segmenter(
        network, weights.metadata, name=str(name_or_file), device=device, precision=precision, compile=compile
    )


def import_weights(
    name: str, file: str | Path, *, labels: LabelSet | None = None, device: str = "cpu", **arguments: Any
) -> Segmenter:
    """Read a foreign checkpoint of the network ``name``, strictly and without running any code of it.

    Args:
        name: of the network.
        file: a PyTorch state dict, safetensors or a ``.npz``; see :mod:`featherseg.models.importer`.
        labels: classes and colours; numbered classes, if None.
        device: as :func:`load` has it.
        **arguments: of the network; those that are not given are the source's, where it is known, or the defaults.

    Raises:
        FeathersegError: the name is unknown, the file unreadable, or something in it does not fit.
    """
    _must_segment(name, str(file))
    network, report = import_checkpoint(name, file, **arguments)
    classes = _output_channels(network)
    metadata = describe_network(network, name, classes, dict(report.arguments)) | {
        "task": "segmentation",
        "provenance": {"imported_from": Path(file).name, "sha256": file_sha256(file)},
    }
    if labels is not None:
        if len(labels) != classes:
            raise FeathersegError(
                f"{file}: gives {classes} classes, and {labels.name} has {len(labels)}. Name the classes it was "
                "trained with, or leave them out."
            )
        metadata |= {
            "label_set": labels.name,
            "classes": list(labels.classes),
            "palette": [list(colour) for colour in labels.palette],
        }
    return segmenter(network, metadata, name=str(file), device=device, import_report=report)


def _must_segment(architecture: str, where: str) -> None:
    if architecture in list_models("segmentation"):
        return
    if architecture in list_models("classification"):
        raise FeathersegError(
            f"{where}: {architecture} is a classifier and gives no label map. Train a segmentation network from it "
            f"with start.encoder={where}."
        )
    if architecture in list_models("detection"):
        raise FeathersegError(
            f"{where}: {architecture} is a detector and gives boxes, no label map. `featherseg import` makes weights "
            "of a foreign file of it, which featherseg.load() reads."
        )
    known = list_models()
    raise FeathersegError(
        f"{where}: no network is called {architecture!r}{nearest(architecture, known)}. `featherseg models` lists all "
        f"{len(known)}."
    )


def _output_channels(network: nn.Module) -> int:
    size = (1, 3, 64, 64)
    with torch.inference_mode():
        return int(network(torch.zeros(size)).logits.shape[1])
