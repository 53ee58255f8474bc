"""From a network to a file that another runtime runs. The runtimes are in doors.py.

Choices worth knowing:

- What the runtimes share is here: the pictures, the gate, the metadata, the files.
- The parity gate stands before the file: an export that does not label as PyTorch does is not saved, unless it is
  forced, and then its metadata say so. A file that takes any size is tried at three: one, an odd one, and one so small
  that the padding rule is at work.
- The accuracy that trained weights carry goes into a float32 file that passed; an int8 file tells what its own judging
  found, and one that was forced tells none.
- Of runtimes that featherseg does not run (TensorRT, Core ML) the gate judges what the file is made of, and the report
  and the metadata say so.
- Files end in logits at the network's stride where the runtime gives them, since a label map is made of those faster
  than any runtime enlarges them; LiteRT files end in labels, for programs that have nothing but the interpreter.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from featherseg.data.labels import CITYSCAPES19
from featherseg.deploy.calibration import CalibrationImages, Chosen, calibration_images, some_pictures
from featherseg.deploy.carried import carried
from featherseg.deploy.doors import DOORS, Runtime, open_door
from featherseg.deploy.parity import TOGETHER, Parity, Precision, compare, noise_pictures, scene_pictures
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.quantization_kind import unlike_told, unlike_training
from featherseg.deploy.segmenter import label_set_of, load
from featherseg.deploy.session import Output, Session, labels_of
from featherseg.errors import FeathersegError, nearest
from featherseg.files import atomic_write, check_writable
from featherseg.metrics.confusion import confusion_matrix, mean_iou
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model, list_models
from featherseg.models.weights import describe_network

_OPEN_SIZES = ((192, 256), (161, 129), (37, 53))


@dataclass(frozen=True)
class ExportReport:
    """What became of an export.

    Attributes:
        file: where it was written; None where the gate refused it.
        size: (H, W) of the images that it takes; None for any.
        batch: how many at once; None for any number.
        output: what it gives.
        size_bytes: of the files, or of what would have been the files.
        operators: how often each occurs.
        parity: the comparison with PyTorch.
        bf16: the same with the runtime computing in bfloat16, where it does; it decides nothing.
        miou: mean IoU of "float32" and "int8" on the judged images, where their labels are of the network's classes.
        calibrated_on: the source of the calibration images and how many; None for float32.
        compared: what was compared in place of the file, where featherseg does not run that.
        unlike: how far the calibration images are from those that the network was trained on, where that is far
            (deploy/quantization_kind.py).
    """

    file: Path | None
    runtime: str
    precision: Precision
    size: tuple[int, int] | None
    batch: int | None
    output: Output
    size_bytes: int
    operators: dict[str, int]
    parity: Parity
    bf16: Parity | None = None
    miou: dict[str, float] | None = None
    calibrated_on: dict[str, Any] | None = None
    compared: str | None = None
    unlike: float | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the file doubtful, a sentence each."""
        if self.unlike is None or self.calibrated_on is None:
            return ()
        return (unlike_told(self.calibrated_on["images"], self.unlike),)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {
            "file": None if self.file is None else str(self.file),
            "size": None if self.size is None else list(self.size),
            "parity": self.parity.to_dict(),
            "bf16": None if self.bf16 is None else self.bf16.to_dict(),
            "warnings": list(self.warnings),
        }


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


@dataclass(frozen=True)
class _Labeller:
    """A session that gives label maps: of one image ``[H, W, 3]``, of several ``[B, H, W, 3]``."""

    session: Session
    spec: InputSpec
    fixed_batch: int | None

    def several(self, images: np.ndarray) -> np.ndarray:
        count, size = len(images), (images.shape[1], images.shape[2])
        fill = self.fixed_batch or count
        given = list(islice(cycle(images), -(-count // fill) * fill))
        found = self.session.run(torch.from_numpy(np.stack(given)))[:count]
        return np.stack([labels_of(one, self.session.output, self.spec, size).labels for one in found])

    def one(self, image: np.ndarray) -> np.ndarray:
        return self.several(image[None])[0]


def _check_request(
    runtime: str, output: Path, size: object, batch: int | None, ends: Output | None, int8: bool, calibrate: object
) -> Output:
    door = DOORS[runtime]
    if output.suffix != door.suffix:
        raise FeathersegError(f"-o {output}: {runtime} files end in {door.suffix}. Name it so.")
    if calibrate is not None and not int8:
        raise FeathersegError("calibration images are for int8 alone. Ask for int8 too, or leave them out.")
    if int8 and not door.int8:
        able = ", ".join(name for name, one in DOORS.items() if one.int8)
        raise FeathersegError(f"int8 files are exported to {able}, not to {runtime}. Choose that, or leave it out.")
    if size is None and not door.any_size:
        raise FeathersegError(f"{runtime} files take images of one size. Name it: --size 225x225.")
    if batch is not None and (batch < 1 or (batch > 1 and not door.any_size)):
        takes = "at least 1 image" if door.any_size else "1 image"
        raise FeathersegError(f"--batch {batch}: {runtime} files take {takes} at once.")
    if ends is not None and ends not in door.outputs:
        raise FeathersegError(
            f"{runtime} files do not end in {ends!r}{nearest(str(ends), door.outputs)}. They can end in: "
            f"{', '.join(door.outputs)}."
        )
    check_writable(output)
    return ends or door.outputs[0]


def export(
    network: nn.Module,
    about: dict[str, Any],
    runtime: str,
    output: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    ends: Output | None = None,
    int8: bool = False,
    calibrate: str | Path | None = None,
    count: int = 100,
    pictures: str | Path | None = None,
    force: bool = False,
    told: Callable[[str], None] = lambda line: None,
) -> ExportReport:
    """Convert a network, hold it against PyTorch, and save it.

    Args:
        network: a segmentation network with trained weights, on any device.
        about: the metadata of its weights.
        runtime: a key of ``DOORS``.
        output: the file to write; what belongs to it (OpenVINO's ``.bin``) is written beside it.
        size: (H, W) of the images it will take; any, if None, where the runtime can.
        batch: how many images it will take at once; any number, if None, where the runtime can.
        ends: what the graph ends in; the runtime's default, if None.
        int8: quantise, with images of ``calibrate`` (see :func:`featherseg.deploy.calibration.calibration_images`).
        count: at most so many images set the ranges.
        pictures: a data set or a folder to compare on, beside noise, instead of street scenes.
        force: save it though the gate refuses it.
        told: gets a line before each part that takes its time.

    Raises:
        FeathersegError: an unknown runtime, a missing package, another suffix, something that the runtime's files do
            not take or give, images that cannot be used, a folder that cannot be written, or a network that the
            runtime's converter does not carry.
    """
    door, module = open_door(runtime)
    ends = _check_request(runtime, Path(output), size, batch, ends, int8, calibrate)
    batch = batch if door.any_size else 1
    where = str(about.get("architecture"))
    labels = label_set_of(about, where)
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    images = calibration_images(calibrate, size, count=count) if int8 and size is not None else None
    network = network.cpu().eval()
    told(f"converting {where} for images of {'any size' if size is None else f'{size[0]}x{size[1]}'}")
    content = module.convert(module.make_graph(network, size=size, batch=batch, output=ends))
    unlike = None
    if images is not None:
        chosen = images.calibration
        if not about.get("untrained"):
            unlike = unlike_training(network, Samples(chosen.source, chosen.indices, chosen.size))
        told(f"calibrating on {len(images.calibration)} images of {images.name}")
        content = module.quantise(content, images.calibration)
    sizes = _OPEN_SIZES if size is None else (size,)
    threads = torch.get_num_threads()

    def against_torch(precision: Precision, noise: bool) -> tuple[Parity, _Labeller]:
        session = module.open_session(
            content, f"the {runtime} program", threads=threads, precision="bf16" if precision == "bf16" else "fp32"
        )
        if session.output == "logits":
            session.output = ends
        made = _Labeller(session, spec, batch)
        shown = _pictures(sizes, images, pictures, noise=noise)
        many = made.several if batch is None or batch > 1 else None
        return compare(network, made.one, shown, precision, batch_of=many, at_once=batch or TOGETHER), made

    told("comparing with PyTorch")
    precision: Precision = "int8" if int8 else "fp32"
    parity, program = against_torch(precision, noise=not int8)
    bf16 = against_torch("bf16", noise=False)[0] if getattr(module, "has_bf16", bool)() else None
    miou = judged_on = None
    if images is not None and images.labels is not None and images.labels.classes == labels.classes:
        miou = _judged(network, program.one, images.judging, len(labels))
        judged_on = {"images": _source_and_split(images), "count": len(images.judging)} if miou else None
    calibrated = None if images is None else {"images": images.name, "count": len(images.calibration)}
    content = module.with_metadata(
        content,
        carried(about, labels_alike=parity.passed and not int8)
        | {
            "label_set": labels.name,
            "classes": list(labels.classes),
            "palette": [list(colour) for colour in labels.palette],
            "export": {
                "runtime": runtime,
                "precision": precision,
                "size": None if size is None else list(size),
                "batch": batch,
                "output": ends,
                "parity": parity.to_dict(),
                "compared": door.compared,
                "bf16": bf16 and bf16.to_dict(),
                "miou": miou,
                "judged_on": judged_on,
                "unlike": unlike,
                "calibrated_on": calibrated and calibrated | {"images": Path(calibrated["images"]).name},
                "versions": {name: metadata.version(name) for name in ("torch", *_distributions(module))},
            },
        },
    )
    made = module.files(content)
    saved = parity.passed or force
    for suffix, part in made.items() if saved else ():
        target = Path(output).parent / f"{Path(output).stem}{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, part)
    return ExportReport(
        Path(output) if saved else None,
        runtime,
        precision,
        size,
        batch,
        ends,
        sum(map(len, made.values())),
        module.operators(content),
        parity,
        bf16,
        miou,
        calibrated,
        door.compared,
        unlike,
    )


def _source_and_split(images: CalibrationImages) -> str:
    """What was judged on, without the folders of this machine."""
    return f"{Path(images.name).resolve().name}/{getattr(images.judging.source, 'split', 'pictures')}"


def _distributions(module: Runtime) -> Iterable[str]:
    return (name.replace("_", "-") for name in module.PACKAGES)


def _pictures(
    sizes: Iterable[tuple[int, int]], images: CalibrationImages | None, given: str | Path | None, *, noise: bool
) -> Iterator[tuple[str, np.ndarray]]:
    if images is not None:
        yield from ((sample.key, sample.image) for sample in images.judging)
        return
    for size in sizes:
        shown = scene_pictures(size) if given is None else some_pictures(given, size)
        yield from chain(noise_pictures(size) if noise else (), shown)


@torch.inference_mode()
def _judged(
    network: nn.Module, labels_by: Callable[[np.ndarray], np.ndarray], samples: Chosen, classes: int
) -> dict[str, float] | None:
    spec: Any = network.input_spec
    counts = {name: np.zeros((classes, classes), np.int64) for name in ("float32", "int8")}
    for sample in samples:
        logits = network(spec.normalise(torch.from_numpy(sample.image)[None])).logits
        expected = spec.enlarge(logits, samples.size).argmax(1)[0].numpy()
        for name, found in (("float32", expected), ("int8", labels_by(sample.image))):
            counts[name] += confusion_matrix(sample.label, found.astype(np.uint8), classes)
    if not counts["float32"].any():
        return None
    return {name: mean_iou(matrix) for name, matrix in counts.items()}
