"""From names and files to contestants: a network in every runtime and precision that is asked for and there.

Choices worth knowing:

- A network is exported into files of a folder, and those are opened as a user's own are: what is measured is what would
  be deployed. The parity gate is not passed here (``featherseg export`` has it); ``equal_percent`` of a report tells
  how alike the labels are.
- Stages are those of a Segmenter. PyTorch normalises in ``preprocess``; exported graphs normalise by themselves, which
  makes it a part of their ``network``, and their ``preprocess`` only hands over the pixels. Graphs that end in labels
  leave nothing for ``label map`` to do.
- "Plain" is how most code runs a network: eager float32, contiguous, logits enlarged to full size, arg-max over them;
  and the same with network and images channels last, which is as easily had.
- bfloat16 is measured where the device computes in it; PyTorch on a CPU without it only imitates.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.bench.environment import computes_in_bf16
from featherseg.bench.measuring import Contestant
from featherseg.deploy.carried import carried
from featherseg.deploy.doors import RUN, open_door
from featherseg.deploy.export import network_and_metadata
from featherseg.deploy.exported import is_exported, load_exported
from featherseg.deploy.segmenter import shared_tensor
from featherseg.deploy.session import Precision, Session, TorchSession, choose_device, labels_of
from featherseg.errors import FeathersegError, nearest
from featherseg.files import atomic_write, file_sha256
from featherseg.models.output import InputSpec
from featherseg.models.registry import list_models
from featherseg.models.shipped import weights_path

PREPROCESS, NETWORK, LABEL_MAP = "preprocess", "network", "label map"
TORCH, COMPILED, PLAIN, PLAIN_LAST = "torch", "compiled", "plain torch", "plain torch channels_last"
PLAIN_FORMATS = {PLAIN: torch.contiguous_format, PLAIN_LAST: torch.channels_last}
IN_TORCH = (TORCH, COMPILED, *PLAIN_FORMATS)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_NAMED = ("classes", "palette", "label_set")


@dataclass(frozen=True)
class Way:
    """A runtime in a precision: ``"torch"``, ``"compiled"``, one of ``PLAIN_FORMATS`` or one of ``RUN``."""

    runtime: str
    precision: Precision = "fp32"

    def __str__(self) -> str:
        return self.runtime if self.runtime in PLAIN_FORMATS else f"{self.runtime} {self.precision}"


PLAIN_WAY, PLAIN_LAST_WAY = Way(PLAIN), Way(PLAIN_LAST)


@dataclass(frozen=True, eq=False)
class Source:
    """What a person named.

    Attributes:
        given: the name or file.
        name: how it is shown, without its folders.
    """

    given: str
    name: str

    @property
    def exported(self) -> bool:
        """Whether it is a file of another runtime, which has one way of being run."""
        return is_exported(self.given)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files that it is, by name, the one that a person names first; none of fresh weights."""
        if self.exported:
            files = [Path(self.given)]
            files += [file for file in (files[0].with_suffix(".bin"),) if files[0].suffix.lower() == ".xml"]
        elif self.fresh:
            files = []
        else:
            files = [weights_path(self.given)]
        return {file.name: file_sha256(file) for file in files if file.is_file()}

    @property
    def fresh(self) -> bool:
        """Whether it is a network by its own name, with fresh weights."""
        return self.given in list_models() and not Path(self.given).is_file()

    @cached_property
    def network_and_metadata(self) -> tuple[nn.Module, dict[str, Any]]:
        """The network, in PyTorch, with what is known of it."""
        return network_and_metadata(self.given)


def sources(given: Sequence[str]) -> list[Source]:
    """What people named, each with a name of its own."""
    found: list[Source] = []
    for text in given:
        name = Path(text).name
        taken = {source.name for source in found}
        number = 2
        while name in taken:
            name = f"{Path(text).name} ({number})"
            number += 1
        found.append(Source(text, name))
    return found


def precisions_of(runtime: str, device: str = "cpu") -> tuple[Precision, ...]:
    """The precisions that a runtime computes in on this machine.

    Raises:
        FeathersegError: the runtime is unknown or not installed.
    """
    if runtime in (TORCH, COMPILED):
        able = choose_device(device).type == "cuda" or computes_in_bf16()
    else:
        _, module = open_door(runtime)
        able = getattr(module, "has_bf16", bool)()
    return PRECISIONS if able else ("fp32",)


def ways(
    runtimes: Sequence[str] | None = None, precisions: Sequence[Precision] | None = None, device: str = "cpu"
) -> list[Way]:
    """The runtimes and precisions that are there.

    Args:
        runtimes: by name; all that are installed, if None, but for PyTorch's compiler, which takes minutes.
        precisions: those that each runtime has, if None.
        device: of PyTorch.

    Raises:
        FeathersegError: a runtime is unknown or not installed, or none of those named has a precision that is.
    """
    known = (TORCH, COMPILED, *RUN)
    for runtime in runtimes or ():
        if runtime not in known:
            raise FeathersegError(
                f"no runtime is called {runtime!r}{nearest(runtime, known)}. There are: {', '.join(known)}."
            )
    found = []
    for runtime in dict.fromkeys(runtimes or (TORCH, *RUN)):
        try:
            has = precisions_of(runtime, device)
        except FeathersegError:
            if runtimes is None:
                continue
            raise
        found += [Way(runtime, precision) for precision in has if precisions is None or precision in precisions]
    if not found:
        asked = ", ".join(precisions or ())
        raise FeathersegError(
            f"none of the runtimes {', '.join(runtimes or known)} computes in {asked} on this machine. Choose fp32."
        )
    return found


def exported_file(source: Source, runtime: str, size: tuple[int, int], folder: Path) -> Path:
    """The source as a file of ``runtime`` in ``folder``, made if it is not there, for any size where the runtime can.

    Raises:
        FeathersegError: the runtime is not installed, or its converter does not carry the network.
    """
    door, module = open_door(runtime)
    file = folder / f"{source.name}{door.suffix}"
    if file.is_file():
        return file
    network, about = source.network_and_metadata
    given = (None, None) if door.any_size else (size, 1)
    graph = module.make_graph(network.cpu().eval(), size=given[0], batch=given[1], output=door.outputs[0])
    named = {key: about[key] for key in _NAMED if key in about}
    content = module.with_metadata(module.convert(graph), carried(about, labels_alike=True) | named)
    for suffix, part in module.files(content).items():
        atomic_write(file.with_suffix(suffix), part)
    return file


@dataclass(frozen=True, eq=False)
class Opened:
    """A network in a runtime, ready to label images.

    Attributes:
        session: what runs it.
        spec: how its logits become a label map.
        about: ``runtime``, ``precision``, ``device``, ``batch_norm_folded`` (None where nobody knows), ``output``.
        plain: the label map is made as plain PyTorch code does.
    """

    session: Session
    spec: InputSpec
    about: dict[str, Any]
    plain: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        """What an exported file says of itself; nothing of a network in PyTorch."""
        said = getattr(self.session, "metadata", None)
        return dict(json.loads(said) if isinstance(said, str) else said or {})

    def contestant(self, image: np.ndarray) -> Contestant:
        """Labelling one uint8 RGB image ``[H, W, 3]``, in three stages.

        Raises:
            FeathersegError: the file takes images of another size alone.
        """
        size = (image.shape[0], image.shape[1])
        self._check(size)
        session, spec = self.session, self.spec

        def hand_over(pixels: np.ndarray) -> Tensor:
            return shared_tensor(pixels)[None]

        def normalise(pixels: np.ndarray) -> Tensor:
            return spec.normalise(shared_tensor(pixels)[None])

        def cells(found: Tensor) -> np.ndarray:
            return labels_of(found[0], session.output, spec, size).labels

        def enlarged(logits: Tensor) -> np.ndarray:
            return spec.enlarge(logits, size).argmax(1)[0].to(torch.uint8).cpu().numpy()

        synchronise = _synchroniser(getattr(session, "device", None))
        last = enlarged if self.plain else cells
        if isinstance(session, _PlainSession | TorchSession):
            stages = {PREPROCESS: normalise, NETWORK: session.logits, LABEL_MAP: last}
        else:
            stages = {PREPROCESS: hand_over, NETWORK: session.run, LABEL_MAP: last}
        return Contestant(stages, image, synchronise, self.about)

    def _check(self, size: tuple[int, int]) -> None:
        wanted = fixed_size(self.session)
        if any(want is not None and want != side for want, side in zip(wanted, size, strict=True)):
            takes = "x".join("any" if side is None else str(side) for side in wanted)
            where = getattr(self.session, "where", "the file")
            raise FeathersegError(
                f"{where} takes images of {takes} alone, not of --size {size[0]}x{size[1]}. Leave --size out or give "
                "that one, or export the network without a size."
            )


class _PlainSession:
    """A network as most code runs it: eager, float32, contiguous or channels last."""

    output = "logits"

    def __init__(self, network: nn.Module, device: str, runtime: str) -> None:
        self.device, self.runtime = choose_device(device), runtime
        self.memory_format = PLAIN_FORMATS[runtime]
        self.network = network.eval().to(self.device).to(memory_format=self.memory_format)  # type: ignore[call-overload]

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        # pixels lie channels last, and a network would go on in that format
        return self.network(images.to(self.device).contiguous(memory_format=self.memory_format)).logits

    def run(self, images: Tensor) -> Tensor:
        return self.logits(self.network.input_spec.normalise(images))  # type: ignore[operator,union-attr]


def fixed_size(session: Session) -> tuple[int | None, int | None]:
    """The (H, W) that a session alone takes; None for a side that may be any."""
    taken = getattr(session, "signature", None)
    return (None, None) if taken is None else taken.size


def open_network(source: Source, way: Way, *, device: str = "cpu") -> Opened:
    """A network in PyTorch, as featherseg runs it or plain.

    Raises:
        FeathersegError: no such network, weights, device or precision.
    """
    network, _ = source.network_and_metadata
    network = copy.deepcopy(network)  # each has a memory format of its own
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    about = {"runtime": way.runtime, "precision": way.precision, "batch_norm_folded": False, "output": "logits"}
    if way.runtime in PLAIN_FORMATS:
        session: Session = _PlainSession(network, device, way.runtime)  # type: ignore[assignment]
    else:
        compiled = {"compile": True} if way.runtime == COMPILED else {}
        session = TorchSession(network, device=device, precision=way.precision, **compiled)
    return Opened(session, spec, about | {"device": session.device.type}, way.runtime in PLAIN_FORMATS)  # type: ignore[attr-defined]


def open_file(
    file: str | Path, precision: Precision, *, threads: int, device: str = "cpu", classes: str | Path | None = None
) -> Opened:
    """A file of another runtime.

    Raises:
        FeathersegError: as :func:`featherseg.deploy.exported.load_exported`.
    """
    loaded = load_exported(file, precision=precision, threads=threads, device=device, classes=classes)
    metadata = loaded.metadata
    made = (metadata.get("export") or {}).get("precision", "fp32")
    stored = precision if made == "fp32" else made if precision == "fp32" else f"{made}+{precision}"
    about = {
        "runtime": loaded.session.runtime,
        "precision": stored,
        "batch_norm_folded": True if "format" in metadata else None,
        "output": loaded.session.output,
        "device": device,
    }
    return Opened(loaded.session, loaded.input_spec, about)


def _synchroniser(device: Any) -> Any:
    if isinstance(device, torch.device) and device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None
