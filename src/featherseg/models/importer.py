"""Foreign checkpoints come in here: PyTorch pickles read without running anything, keys matched strictly.

Design choices:
- ``torch.load(weights_only=True)``: tensors, numbers and containers, nothing else. The authors' files also hold
  ``best_iou`` as a numpy scalar, which PyTorch refuses; two inert stand-ins read it, so that no numpy code runs either;
- the published layout is known by the file (``model_state`` inside, keys with ``module.`` in front), and the older
  names of a module are rewritten only where the network has no tensor of the name as it stands;
- nothing is loaded unless everything fits, and :class:`ImportReport` says which keys were matched, renamed, ignored;
- an encoder-only file may hold more than the network's own trunk (five blocks where four are used), never less.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model

TRUNK = "base."  # what an encoder's tensors start with, unless a network's ``encoder_prefixes`` says otherwise
COUNTER = ".num_batches_tracked"
STATE_KEYS = ("model_state", "state_dict", "model")
CLASSES_KEY = "finalConv.weight"
# Names in the FASSD-Net repository's history, before its release.
ALIASES = (
    (r"^aspp\.", "DAPF."),
    (r"(^|\.)aspp([234])\.", r"\1pyBranch\2."),
    (r"^Dab_leo\.", "mda."),
    (r"\.ddconv(3x1|1x3)\.", r".parallel_ddconv\1."),
)


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor of a file and of the network.

    Attributes:
        source: the file, or what the tensors were called.
        matched: the network's tensors that were found in the right shape.
        missing: the network's tensors that were not found.
        unexpected: tensors of the file that the network has no place for.
        ignored: tensors of the file that were left out on purpose (beyond the trunk, in an encoder-only import).
        shape_mismatch: tensors found in another shape, each as ``"name: [network] / [file]"``.
        aliases: older names that were rewritten, (in the file, in the network).
        counters_absent: batch counters that files before PyTorch 0.4.1 lack; they start at zero, and ``eval()`` does
            not use them.
        parameters: numbers in the network's tensors (its trunk's, in an encoder-only import), counters left out.
        parameters_matched: how many of them were found.
    """

    source: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    shape_mismatch: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    counters_absent: tuple[str, ...] = ()
    parameters: int = 0
    parameters_matched: int = 0

    @property
    def percent(self) -> float:
        """Share of the network's numbers that were found, 0 to 100."""
        return 100 * self.parameters_matched / self.parameters if self.parameters else 0.0

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network was found and none was left over."""
        return not (self.missing or self.unexpected or self.shape_mismatch)

    def lines(self) -> list[str]:
        """The report for a person, a line for each kind of finding."""
        lines = [f"{len(self.matched)} tensors matched, {self.percent:.2f} % of {self.parameters:,} numbers"]
        renamed = tuple(f"{old} -> {new}" for old, new in self.aliases)
        for what, names in (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("of another shape", self.shape_mismatch),
            ("ignored", self.ignored),
            ("renamed", renamed),
            ("batch counters absent, left at zero", self.counters_absent),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}")
        return lines


class CheckpointMismatch(FeathersegError):
    """A readable checkpoint that is not the network's; ``report`` says in what it differs."""

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


class _NumpyType:
    """Stands for ``numpy.dtype`` while a checkpoint is read."""

    def __init__(self, code: str, *flags: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "<"


def _numpy_scalar(kind: _NumpyType, data: bytes) -> float | int:
    """Stands for ``numpy.core.multiarray.scalar``: a plain Python number."""
    codes = {"f8": "d", "f4": "f", "i8": "q", "i4": "i", "u8": "Q", "u4": "I", "b1": "?"}
    if kind.code not in codes:
        raise pickle.UnpicklingError(f"a numpy scalar of type {kind.code}")
    return struct.unpack(kind.order + codes[kind.code], data)[0]


_STAND_INS: list[Any] = [
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    (_NumpyType, "numpy.dtype"),
]


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_STAND_INS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error below is all a person needs
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way at all
        text = str(error)
        unsafe = re.search(r"GLOBAL (\S+)|Unsupported (?:class|operand) (\S+)", text)
        if unsafe:
            raise FeathersegError(
                f"{path}: refused, nothing of it was run: the pickle asks for {unsafe[1] or unsafe[2]}, and a "
                "checkpoint needs tensors and numbers alone. Have its author save the state_dict."
            ) from None
        reason = text.strip().split("\n")[0][:120] or type(error).__name__
        raise FeathersegError(
            f"{path}: not a readable checkpoint ({reason}). The file is damaged, cut short or of another kind; copy "
            "or download it again."
        ) from None


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a foreign checkpoint by name, on the CPU, without running any code of the file.

    Reads safetensors, and PyTorch pickles that hold a state dict bare or under ``model_state``, ``state_dict`` or
    ``model``. The ``module.`` of ``DataParallel`` is cut off.

    Raises:
        FeathersegError: the file is missing, damaged, asks for code, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FeathersegError(f"{path}: there is no such checkpoint. Give the path of a .pth or .safetensors file.")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        try:
            content: Any = load_safetensors(path.read_bytes())
        except (SafetensorError, ValueError, KeyError) as error:
            raise FeathersegError(f"{path}: damaged safetensors ({error}). Copy or download the file again.") from None
    else:
        content = _read_pickle(path)
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping) or not state:
        raise FeathersegError(f"{path}: holds {type(state).__name__}, no state dict. Save the network's state_dict.")
    strange = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise FeathersegError(
            f"{path}: no state dict: {strange[0]!r} is no tensor. Known layouts: a state dict, bare or under one of "
            f"{', '.join(STATE_KEYS)}."
        )
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key[len(prefix) :]: value for key, value in state.items()}


def _rename(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], list]:
    renamed: dict[str, Tensor] = {}
    aliases = []
    for key, tensor in tensors.items():
        name = key
        if key not in own:
            for pattern, replacement in ALIASES:
                name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise FeathersegError(f"{where}: two of its tensors are {name} (once as {key}). Remove one of them.")
        if name != key:
            aliases.append((key, name))
        renamed[name] = tensor
    return renamed, aliases


def _compare(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> ImportReport:
    found = [key for key in own if key in tensors]
    matched = tuple(key for key in found if own[key].shape == tensors[key].shape)
    absent = [key for key in own if key not in tensors]
    counters = tuple(
        key for key in absent if key.endswith(COUNTER) and key.removesuffix(COUNTER) + ".running_mean" in tensors
    )
    return ImportReport(
        source=source,
        matched=matched,
        missing=tuple(key for key in absent if key not in counters),
        unexpected=tuple(key for key in tensors if key not in own),
        shape_mismatch=tuple(
            f"{key}: {list(own[key].shape)} / {list(tensors[key].shape)}"
            for key in found
            if own[key].shape != tensors[key].shape
        ),
        counters_absent=counters,
        parameters=sum(own[key].numel() for key in own if not key.endswith(COUNTER)),
        parameters_matched=sum(own[key].numel() for key in matched if not key.endswith(COUNTER)),
    )


def import_checkpoint(
    name: str, file: str | Path, num_classes: int | None = None, **arguments: Any
) -> tuple[nn.Module, ImportReport]:
    """Build the network ``name`` and load a foreign checkpoint of the whole of it.

    Args:
        name: one of :func:`featherseg.models.registry.list_models`. ``fassd_net`` and ``fassd_net_l1`` differ in a
            stride alone, so that a file fits both and only its owner knows which it is.
        file: a PyTorch checkpoint in the authors' layout, or safetensors.
        num_classes: read off the file's last layer where it is not given.
        **arguments: of this network alone (``alpha`` of FASSD-Net).

    Returns:
        The network in ``eval()``, and the report.

    Raises:
        FeathersegError: the name is unknown or the file unreadable.
        CheckpointMismatch: a tensor is missing, left over or of another shape.
    """
    source = str(file)
    tensors = read_checkpoint(file)
    if num_classes is None and CLASSES_KEY in tensors and tensors[CLASSES_KEY].dim() > 0:
        num_classes = tensors[CLASSES_KEY].shape[0]
    network = create_model(name, **arguments) if num_classes is None else create_model(name, num_classes, **arguments)
    own = network.state_dict()
    tensors, aliases = _rename(tensors, own, source)
    report = replace(_compare(tensors, own, source), aliases=tuple(aliases))
    if not report.complete:
        encoder_only = all(re.match(r"(base\.)?\d+\.|fc\.", key) for key in tensors)
        mend = (
            "It is an encoder alone: start a training from it instead of importing it as a network."
            if encoder_only
            else "Name the network, the number of classes and the arguments it was trained with."
        )
        raise CheckpointMismatch(f"{source}: not a checkpoint of {name}: {'; '.join(report.lines())}. {mend}", report)
    # load_state_dict would call absent counters an error.
    network.load_state_dict(tensors, strict=False)
    return network.eval(), report


def encoder_prefixes(network: nn.Module) -> tuple[str, ...]:
    """What the names of the encoder's tensors start with: the network's own ``encoder_prefixes``, or ``base.`` alone.

    A classifier and the segmentation networks on its trunk give those tensors the same names.
    """
    return tuple(getattr(network, "encoder_prefixes", (TRUNK,)))


def import_encoder(network: nn.Module, source: Mapping[str, Tensor] | str | Path) -> ImportReport:
    """Load an encoder-only (ImageNet) checkpoint into the encoder of ``network``, in place.

    HarDNet's keys may have ``base.`` in front or not. Tensors beyond the network's own encoder, the classifier's ``fc``
    and decoders included, are ignored and reported. The network is untouched unless its whole encoder is found.

    Args:
        network: a segmentation network or a classifier; :func:`encoder_prefixes` says which part is its encoder.
        source: a file, or tensors by name.

    Raises:
        FeathersegError: the file is unreadable, or the network has no encoder.
        CheckpointMismatch: a tensor of the trunk is missing or of another shape.
    """
    where = "the given tensors" if isinstance(source, Mapping) else str(source)
    tensors = dict(source) if isinstance(source, Mapping) else read_checkpoint(source)
    prefixes = encoder_prefixes(network)
    own = {key: tensor for key, tensor in network.state_dict().items() if key.startswith(prefixes)}
    if not own:
        raise FeathersegError(
            f"{type(network).__name__} has no trunk {prefixes[0].rstrip('.')!r} that {where} could be loaded into."
        )
    if not any(key.startswith(prefixes) for key in tensors):
        tensors = {TRUNK + key if re.match(r"\d+\.", key) else key: tensor for key, tensor in tensors.items()}
    report = _compare(tensors, own, where)
    report = replace(report, ignored=report.unexpected, unexpected=())
    if not report.complete:
        raise CheckpointMismatch(
            f"{where}: not an encoder of this {type(network).__name__}: {'; '.join(report.lines())}. "
            "Take the file of a classifier on the same trunk, with at least as many blocks.",
            report,
        )
    network.load_state_dict({key: tensors[key] for key in report.matched}, strict=False)
    return report
