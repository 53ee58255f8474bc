"""Weights on disk: one ``.safetensors`` file with JSON metadata; no pickle is ever written or trusted.

The metadata key ``featherseg`` holds a JSON object: ``format`` (version), ``architecture``, ``arguments``,
``num_classes``, ``input_spec``, ``classes``, ``palette``, and whatever the writer adds (``recipe``, ``metrics``,
``provenance``, ``terms``). Tensors may be stored in half precision; they are loaded as float32.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model

FORMAT = 1
METADATA_KEY = "featherseg"


@dataclass(frozen=True)
class Weights:
    """A weights file in memory: its tensors by name and its metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def describe_network(
    network: nn.Module, architecture: str, num_classes: int, arguments: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The part of the metadata that rebuilds ``network``: what :func:`build_network` reads.

    The network's own ``travelling_arguments`` win over ``arguments``: what those name by a file is written out there.
    """
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    return {
        "format": FORMAT,
        "architecture": architecture,
        "arguments": (arguments or {}) | getattr(network, "travelling_arguments", {}),
        "num_classes": num_classes,
        "input_spec": spec.to_dict(),
    }


def save_weights(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, Any], *, half: bool = False) -> Path:
    """Write ``tensors`` and ``metadata`` atomically; ``half`` stores kernels and matrices as float16.

    One-dimensional tensors (batch norm, bias) stay float32: running variances leave float16's range.
    """

    def stored(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu().contiguous()
        return tensor.half() if half and tensor.is_floating_point() and tensor.dim() > 1 else tensor

    content = save(
        {name: stored(tensor) for name, tensor in tensors.items()}, {METADATA_KEY: json.dumps(metadata, sort_keys=True)}
    )
    return atomic_write(path, content)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FeathersegError(f"{path}: there is no such weights file. Give the path of a .safetensors file.")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        pickle = path.open("rb").read(2) in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
        mend = (
            "It looks like a PyTorch pickle; `featherseg import MODEL FILE -o OUT.safetensors` reads those safely."
            if pickle
            else "The file is damaged or cut short; copy or download it again."
        )
        raise FeathersegError(f"{path}: not a readable safetensors file ({error}). {mend}") from None


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a weights file, without reading its tensors."""
    path = Path(path)
    with _open(path) as file:
        text = (file.metadata() or {}).get(METADATA_KEY)
    try:
        metadata = json.loads(text) if text else None
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or "architecture" not in metadata:
        raise FeathersegError(
            f"{path}: a safetensors file, but without featherseg's metadata, so the network is unknown. "
            f"`featherseg import MODEL {path.name} -o OUT.safetensors` gives it one."
        )
    version = metadata.get("format")
    if type(version) is not int:
        raise FeathersegError(f"{path}: the metadata garbles 'format' ({version!r}). Copy or export the file again.")
    if version > FORMAT:
        raise FeathersegError(
            f"{path}: written in weights format {version}, this version reads up to {FORMAT}. Upgrade featherseg."
        )
    return metadata


def missing_tensors(metadata: dict[str, Any]) -> tuple[str, ...]:
    """The network's tensors that the source of imported weights lacked, and that are zero; none for other weights."""
    provenance = metadata.get("provenance")
    missing = provenance.get("missing") if isinstance(provenance, dict) else None
    return tuple(map(str, missing)) if isinstance(missing, list) else ()


def read_weights(path: str | Path) -> Weights:
    """Read a weights file; floating tensors become float32.

    Raises:
        FeathersegError: the file is missing, damaged, a pickle, or has no featherseg metadata.
    """
    path = Path(path)
    metadata = read_metadata(path)
    try:
        with _open(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise FeathersegError(f"{path}: damaged tensors ({error}). Copy or download the file again.") from None
    return Weights({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}, metadata)


def check_tensors(network: nn.Module, tensors: dict[str, Tensor], *, where: str, architecture: str) -> None:
    """Compare the names and shapes of ``tensors`` with those of ``network``, which may lie on the meta device.

    Raises:
        FeathersegError: names or shapes differ; the message counts them and names the first few.
    """
    own = network.state_dict()
    missing = sorted(set(own) - set(tensors))
    unexpected = sorted(set(tensors) - set(own))
    shapes = [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if missing or unexpected or shapes:
        details = []
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)):
            if names:
                details.append(f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
        raise FeathersegError(
            f"{where}: these weights are not for {architecture}: tensors {'; '.join(details)}. "
            "Name the network and the number of classes they were trained with."
        )


def load_tensors(network: nn.Module, tensors: dict[str, Tensor], *, where: str, architecture: str) -> None:
    """Copy ``tensors`` into ``network``, which must match them exactly, as :func:`check_tensors` has it."""
    check_tensors(network, tensors, where=where, architecture=architecture)
    network.load_state_dict(tensors)


def build_network(weights: Weights, where: str) -> nn.Module:
    """Build the network that ``weights`` describes, load them, and put it in ``eval()``.

    Raises:
        FeathersegError: the metadata or the tensors do not fit a known network, or are those of an encoder alone.
    """
    metadata = weights.metadata
    missing = missing_tensors(metadata)
    if missing:
        raise FeathersegError(
            f"{where}: an encoder alone: what it was imported from has no {', '.join(missing)}, so that its answers "
            f"would mean nothing. Train a network from it first: start.encoder={where} in a recipe."
        )
    try:
        name, num_classes, arguments = metadata["architecture"], metadata["num_classes"], dict(metadata["arguments"])
        spec = InputSpec.from_dict(metadata["input_spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise FeathersegError(
            f"{where}: the metadata lacks or garbles {error}. Copy or export the file again."
        ) from None
    try:
        with torch.device("meta"):
            network = create_model(name, num_classes, **arguments)
    except Exception as error:  # garbled arguments can fail in any way
        raise FeathersegError(f"{where}: the metadata asks for a network that cannot be built: {error}") from error
    # Before memory is taken: garbled metadata may ask for more of it than there is.
    check_tensors(network, weights.tensors, where=where, architecture=name)
    network = network.to_empty(device="cpu")
    load_tensors(network, weights.tensors, where=where, architecture=name)
    network.input_spec = spec  # type: ignore[assignment]
    return network.eval()
