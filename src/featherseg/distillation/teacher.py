"""The network that teaches: frozen, in ``eval()``, and fed as its own InputSpec says.

It is no part of the student: not in its checkpoints, weights, average or optimiser, and no process exchanges anything
of it. It runs in the precision of the training around it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.distillation.paths import watched
from featherseg.errors import FeathersegError
from featherseg.files import file_sha256
from featherseg.models.output import InputSpec
from featherseg.models.registry import TASKS, list_models
from featherseg.models.shipped import weights_path
from featherseg.models.weights import build_network, read_metadata, read_weights


@dataclass(frozen=True)
class Taught:
    """What a teacher says of a batch: logits ``[B, K, h, w]``, and maps ``[B, C, h, w]`` by the names of its paths."""

    logits: Tensor
    maps: dict[str, Tensor]


@dataclass(frozen=True)
class Teacher:
    """A frozen network.

    Attributes:
        network: gives a SegmentationOutput, or logits, of normalised images.
        spec: of the network.
        name: for messages and metadata.
        digest: SHA-256 of what makes its outputs: the weights file, or the module's tensors.
        classes: names of the classes, where they are known.
    """

    network: nn.Module
    spec: InputSpec
    name: str
    digest: str
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor, paths: Sequence[str] = ()) -> Taught:
        """Look at uint8 ``[B, H, W, 3]``; ``paths`` names the maps that are wanted."""
        if self.network.training:
            raise RuntimeError(f"the teacher {self.name} was put in training mode")
        if next(iter(self.network.parameters()), images).device != images.device:
            self.network.to(images.device)
        return self.look(self.spec.normalise(images), paths)

    def look(self, inputs: Tensor, paths: Sequence[str]) -> Taught:
        """Look at normalised images ``[B, 3, H, W]``."""
        with watched(self.network, paths, "the teacher") as maps:
            output = self.network(inputs.contiguous(memory_format=torch.channels_last))
        return Taught(getattr(output, "logits", output), dict(maps))

    def describe(self) -> dict[str, Any]:
        """What the metadata of a student's weights says of it."""
        return {"file": self.name, "sha256": self.digest}


def read_teacher_metadata(name_or_file: str | Path) -> dict[str, Any]:
    """The metadata of a teacher's weights; tensors are not read.

    Raises:
        FeathersegError: there are no such weights, or they do no segmentation.
    """
    text = str(name_or_file)
    if not Path(text).exists() and any(text in list_models(task) for task in TASKS):
        raise FeathersegError(
            f"distillation.teacher={text}: is a network, and a teacher has to have learnt something. Give the weights "
            "of a trained one: a .safetensors file, or the name of shipped weights, such as fassd_net.camvid."
        )
    try:
        path = weights_path(name_or_file)
    except FeathersegError as error:
        raise FeathersegError(f"distillation.teacher: {error}") from None
    metadata = read_metadata(path)
    if metadata.get("architecture") not in list_models("segmentation"):
        raise FeathersegError(
            f"distillation.teacher={text}: {metadata.get('architecture')} is no segmentation network. `featherseg "
            "models` lists those."
        )
    return metadata


def load_teacher(name_or_file: str | Path) -> Teacher:
    """A teacher from weights, by file or shipped name.

    Raises:
        FeathersegError: as :func:`read_teacher_metadata`, or the weights are damaged.
    """
    metadata = read_teacher_metadata(name_or_file)
    path = weights_path(name_or_file)
    network = build_network(read_weights(path), str(path))
    classes = metadata.get("classes")
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    # Of a run's weights the folder says whose they are.
    name = "/".join(path.parts[-2:]) if Path(name_or_file).is_file() else str(name_or_file)
    return Teacher(network, spec, name, file_sha256(path), tuple(classes) if classes else None)


def teacher_of(network: nn.Module, *, spec: InputSpec | None = None, name: str = "a module") -> Teacher:
    """A teacher from any module, which is frozen and put in ``eval()``; ``spec`` defaults to its ``input_spec``.

    Raises:
        FeathersegError: there is no ``spec``.
    """
    spec = spec or getattr(network, "input_spec", None)
    if spec is None:
        raise FeathersegError(
            f"{name} ({type(network).__name__}) has no input_spec; give spec=InputSpec(...) with its normalisation, "
            "output stride and corner alignment."
        )
    digest = hashlib.sha256(repr(spec).encode())
    for key, tensor in network.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return Teacher(network, spec, name, digest.hexdigest())


def check_classes(given: Sequence[str] | None, count: int | None, classes: Sequence[str], who: str) -> None:
    """Hold a teacher's classes against those of the data, as far as they are known.

    Args:
        given: names of the teacher's classes.
        count: their number.
        classes: names of the data's.
        who: the teacher, in messages.

    Raises:
        FeathersegError: they are others.
    """
    count = len(given) if given else count
    if count is not None and count != len(classes):
        raise FeathersegError(
            f"distillation.teacher={who}: knows {count} classes and the data has {len(classes)}. Take a teacher "
            "trained on the data's classes, or train this one further on them first."
        )
    if given and tuple(given) != tuple(classes):
        other = next(i for i, pair in enumerate(zip(given, classes, strict=True)) if pair[0] != pair[1])
        raise FeathersegError(
            f"distillation.teacher={who}: its class {other} is {given[other]!r} and that of the data is "
            f"{classes[other]!r}. Take a teacher trained on the same classes in the same order."
        )
