"""Files of other runtimes, used as a Segmenter is: ``load("mine.onnx").predict("photo.png")``.

Choices worth knowing:

- The suffix says which runtime: ``.onnx``, ``.xml`` (OpenVINO), ``.tflite``, ``.pte`` (ExecuTorch). Running a file
  needs that runtime alone.
- Pixels go to the runtime as they were decoded, and where the file gives logits the label map is made of those at the
  network's stride, without enlarging them (deploy/labels.py).
- A file of another program is taken with a file that names its classes: one name a line, or JSON with ``classes`` and,
  where they are needed, ``palette`` and ``input_spec``, as in our own metadata.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from featherseg.data.labels import LabelSet
from featherseg.deploy import litert_file
from featherseg.deploy.file_metadata import input_spec_of, read_metadata
from featherseg.deploy.graph_session import GraphSession
from featherseg.deploy.segmentation import Segmentation
from featherseg.deploy.segmenter import label_set_of, read_image_argument, shared_tensor
from featherseg.deploy.session import OUTPUTS, Output, Precision, labels_of
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec

RUNTIMES = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert", ".pte": "executorch"}
_KEYS = ("classes", "palette", "label_set", "input_spec")


def is_exported(name_or_file: str | Path) -> bool:
    """Whether a name has the suffix of a file of another runtime."""
    return Path(name_or_file).suffix.lower() in RUNTIMES


@dataclass(frozen=True, eq=False)
class ExportedSegmenter:
    """A file of another runtime with all that is needed to use it.

    Attributes:
        name: what it was loaded by.
        labels: classes and colours.
        input_spec: how the network's logits become a label map.
        metadata: what the file says of itself, or what was said of it.
        session: what runs it.
    """

    name: str
    labels: LabelSet
    input_spec: InputSpec
    metadata: dict[str, Any]
    session: GraphSession

    def predict(self, image: Any, *, confidence: bool = False) -> Segmentation:
        """Label every pixel of one image: a file, a uint8 array ``[H, W, 3]`` in RGB, or a PIL image.

        Args:
            image: of a size that the file takes.
            confidence: keep the probability of each pixel's class.

        Raises:
            FeathersegError: the image is missing, spoilt or of a size that the file does not take, or confidence is
                asked for of a file that gives labels alone.
        """
        pixels = read_image_argument(image)
        found = self.session.run(shared_tensor(pixels)[None])[0]
        if found.is_floating_point() and not bool(torch.isfinite(found).all()):
            raise FeathersegError(f"{self.name}: gives numbers that are not finite; its weights are spoilt.")
        made = labels_of(found, self.session.output, self.input_spec, pixels.shape[:2], confidence=confidence)
        return Segmentation(made.labels, self.labels, pixels, made.confidence)


def load_exported(
    file: str | Path,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    threads: int | None = None,
    classes: str | Path | None = None,
) -> Any:
    """A file of another runtime, ready for use: an :class:`ExportedSegmenter`, or a ``LiteRTSegmenter``.

    Args:
        file: its path; the suffix says which runtime.
        device: "cpu", "auto", or another one that the runtime knows.
        precision: "bf16" is OpenVINO's, on CPUs that have it.
        threads: of the runtime; as many as PyTorch has, if None.
        classes: a file that names the classes of a file of another program.

    Raises:
        FeathersegError: the runtime is not installed or does not take the file, the file says nothing of its classes,
            or another device or precision is asked for than the runtime has.
    """
    path = Path(file)
    where = str(file)
    runtime = RUNTIMES[path.suffix.lower()]
    if not path.is_file():
        raise FeathersegError(f"{where}: there is no such file. `featherseg export` writes files of other runtimes.")
    if runtime == "litert":
        return _litert(where, device, precision, threads, classes)
    settings: dict[str, Any] = {"threads": threads, "device": device, "precision": precision}
    if runtime == "onnx":
        from featherseg.deploy.onnx import OnnxSession

        session: GraphSession = OnnxSession(litert_file.read_file(path), where, **settings)
    elif runtime == "executorch":
        from featherseg.deploy.executorch import ExecuTorchSession

        session = ExecuTorchSession(litert_file.read_file(path), where, **settings)
    else:
        from featherseg.deploy.openvino import OpenVinoSession, read_files

        session = OpenVinoSession(read_files(path), where, **settings)
    metadata = described(session.metadata, where, None if classes is None else read_classes(classes))
    return exported_segmenter(session, metadata, where)


def _litert(where: str, device: str, precision: str, threads: int | None, classes: str | Path | None) -> Any:
    from featherseg.deploy.litert import LiteRTSegmenter

    if classes is not None:
        raise FeathersegError(f"{where}: classes are named for .onnx, .xml and .pte files alone. Leave them out.")
    if device not in ("cpu", "auto") or precision != "fp32":
        raise FeathersegError(
            f"{where}: LiteRT runs on the CPU here, in the precision of the file, not on {device} in {precision}. "
            "Leave both out."
        )
    return LiteRTSegmenter(where, threads=threads or torch.get_num_threads())


def exported_segmenter(session: GraphSession, metadata: dict[str, Any], where: str) -> ExportedSegmenter:
    """Join a session and the metadata of its file.

    Raises:
        FeathersegError: the metadata are garbled, or of another number of classes than the graph gives.
    """
    given = session.signature.classes
    count = metadata.setdefault("num_classes", len(metadata.get("classes") or ()))
    if given is not None and count != given:
        raise FeathersegError(f"{where}: gives {given} classes, and {count} are named. Name one for each.")
    labels = label_set_of(metadata, where)
    if len(labels) > 255:
        raise FeathersegError(f"{where}: {len(labels)} classes do not fit into an 8-bit label map (at most 255).")
    spec = input_spec_of(metadata, where)
    if spec is None and session.signature.takes == "normalised":
        raise FeathersegError(
            f"{where}: takes normalised float images, and nothing says how pixels become such. Name the classes in a "
            'JSON file that has, beside "classes", an "input_spec" with color_order, mean and std.'
        )
    session.spec, session.classes = spec, len(labels)
    kind = (metadata.get("export") or {}).get("output")
    if session.output == "logits" and kind in OUTPUTS and kind != "labels":
        session.output = cast(Output, kind)
    return ExportedSegmenter(where, labels, spec or InputSpec(), metadata, session)


def described(text: Any, where: str, named: dict[str, Any] | None) -> dict[str, Any]:
    """The metadata of a file: what stands in it, and what a person names besides.

    Args:
        text: the JSON in the file; None where there is none.
        where: the file's name in messages.
        named: what :func:`read_classes` gave.

    Raises:
        FeathersegError: there is neither, or the metadata are garbled or of a later version.
    """
    if text is None:
        if named is None:
            raise FeathersegError(
                f"{where}: has no metadata of featherseg, so that its classes are unknown. Name them in a file, one a "
                "line (--classes FILE), or write the file with `featherseg export`."
            )
        return dict(named)
    return read_metadata(text, where) | (named or {})


def read_classes(file: str | Path) -> dict[str, Any]:
    """Classes from a file: one name a line, or JSON with ``classes`` and perhaps ``palette`` and ``input_spec``.

    Raises:
        FeathersegError: the file cannot be read, or names no classes.
    """
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FeathersegError(f"{file}: the classes cannot be read ({error}). Give a text file.") from None
    if text.lstrip().startswith(("{", "[")):
        try:
            given = json.loads(text)
        except ValueError as error:
            raise FeathersegError(f"{file}: is no JSON ({error}). Mend it, or write one class a line.") from None
        found = {"classes": given} if isinstance(given, list) else given
    else:
        found = {"classes": [line.strip() for line in text.splitlines() if line.strip()]}
    unknown = [key for key in found if key not in _KEYS]
    names = found.get("classes")
    if unknown or not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        said = f"{unknown[0]!r} is not known" if unknown else "no list of names under 'classes'"
        raise FeathersegError(f"{file}: {said}. Give JSON with {', '.join(_KEYS)}, or one class a line.")
    return found | {"num_classes": len(names)}
