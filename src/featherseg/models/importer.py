"""Foreign checkpoints come in here: PyTorch pickles read without running anything, keys matched strictly.

Design choices:
- ``torch.load(weights_only=True)``: tensors, numbers and containers, nothing else. The authors' files also hold
  ``best_iou`` as a numpy scalar, which PyTorch refuses; two inert stand-ins read it, so that no numpy code runs either;
- the published layout is known by the file (``model_state`` inside, keys with ``module.`` in front), and the older
  names of a module are rewritten only where the network has no tensor of the name as it stands;
- nothing is loaded unless everything fits, and the report (import_report.py) says what became of every key;
- an encoder-only file may hold more than the network's own trunk (five blocks where four are used), never less;
- the mobile networks' sources, TensorFlow's variables in a ``.npz`` among them, are told apart in import_mobile.py,
  FasterSeg's published files in import_fasterseg.py, HRNet's in import_hrnet.py, SSD's and VGG-16's in import_ssd.py.
"""

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models import import_fasterseg, import_hrnet, import_mobile, import_ssd, tf_variables
from featherseg.models.import_mobile import (
    CLASSIFIER,
    IMAGENET_CLASSES,
    Translation,
    as_yaml,
    differences,
    network_of,
    traits,
)
from featherseg.models.import_report import CheckpointMismatch, ImportReport, compare
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model
from featherseg.models.weights import read_metadata

TRUNK = "base."  # what an encoder's tensors start with, unless a network's ``encoder_prefixes`` says otherwise
STATE_KEYS = ("model_state", "state_dict", "model")
CLASSES_KEYS = (
    "finalConv.weight",
    "logits.weight",
    "fc.weight",
    "heads8.conv_1x1.weight",
    "last_layer.3.weight",
    "ocr.cls_head.weight",
)
# Names in the FASSD-Net repository's history, before its release.
ALIASES = (
    (r"^aspp\.", "DAPF."),
    (r"(^|\.)aspp([234])\.", r"\1pyBranch\2."),
    (r"^Dab_leo\.", "mda."),
    (r"\.ddconv(3x1|1x3)\.", r".parallel_ddconv\1."),
)


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
        reason = text.strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise FeathersegError(
            f"{path}: not a readable checkpoint ({reason}). The file is damaged, cut short or of another kind; copy "
            "or download it again."
        ) from None


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a foreign checkpoint by name, on the CPU, without running any code of the file.

    Reads safetensors, a ``.npz`` of arrays, and PyTorch pickles that hold a state dict bare or under ``model_state``,
    ``state_dict`` or ``model``. The ``module.`` of ``DataParallel`` is cut off.

    Raises:
        FeathersegError: the file is missing, damaged, asks for code, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FeathersegError(
            f"{path}: there is no such checkpoint. Give the path of a .pth, .npz or .safetensors file."
        )
    if path.suffix.lower() == ".npz" or tf_variables.is_archive(path):
        return tf_variables.read_variables(path)
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


def _translate(tensors: Mapping[str, Tensor], where: str) -> Translation | None:
    """``tensors`` by our names, where they come from a known source."""
    mobile = import_mobile.translate(tensors, where)
    others = (import_fasterseg.translate, import_hrnet.translate, import_ssd.translate)
    return mobile or next((found for translate in others if (found := translate(tensors))), None)


def _translated(report: ImportReport, translation: Translation | None) -> ImportReport:
    """``report`` with the file's own names, and what is known of its source."""
    if translation is None:
        return report
    return replace(
        report,
        unexpected=translation.as_named(report.unexpected),
        ignored=translation.as_named(report.ignored) + translation.training_state,
        notes=(f"the names are those of {translation.source.title}", *translation.notes, *report.notes),
    )


def import_checkpoint(
    name: str, file: str | Path, num_classes: int | None = None, **arguments: Any
) -> tuple[nn.Module, ImportReport]:
    """Build the network ``name`` and load a foreign checkpoint of the whole of it.

    A file of a mobile network's source (see import_mobile.py), or one of ours, decides the arguments that are not
    given. One with all of a classifier but its last layer is taken for that classifier; that layer is then zero, and
    missing in the report.

    Args:
        name: one of :func:`featherseg.models.registry.list_models`. ``fassd_net`` and ``fassd_net_l1`` differ in a
            stride alone, so that a file fits both and only its owner knows which it is.
        file: a PyTorch checkpoint in the authors' layout, safetensors, or a ``.npz`` of TensorFlow's variables.
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
    translation = _translate(tensors, source)
    if translation is not None:
        tensors, arguments = translation.tensors, translation.source.arguments_for(name) | arguments
    else:
        arguments = _arguments_of_file(name, file) | arguments
    last = next((tensors[key] for key in CLASSES_KEYS if key in tensors and tensors[key].dim() > 0), None)
    if num_classes is None and last is not None:
        num_classes = last.shape[0]
    elif num_classes is None and import_ssd.SCORES in tensors:
        num_classes = import_ssd.ssd_classes(tensors)
    elif num_classes is None and translation is not None:
        num_classes = IMAGENET_CLASSES
    network = create_model(name, **arguments) if num_classes is None else create_model(name, num_classes, **arguments)
    own = network.state_dict()
    if translation is not None:
        translation = import_fasterseg.fit(translation, network, source)
        tensors = translation.tensors
    tensors, aliases = _rename(tensors, own, source)
    compared = replace(compare(tensors, own, source), aliases=tuple(aliases), arguments=arguments)
    report = _translated(compared, translation)
    lacks_classifier = translation is not None and name == translation.source.backbone and report.missing == CLASSIFIER
    if not (replace(report, missing=()) if lacks_classifier else report).complete:
        raise CheckpointMismatch(
            f"{source}: not a checkpoint of {name}: {'; '.join(report.lines())}. {_mend(name, tensors, translation)}",
            report,
        )
    if translation is not None:
        built = [f"built with {as_yaml(arguments)}"] if arguments else []
        notes = [*built, *differences(translation.source.arguments, network, source)]
        report = replace(report, notes=(*report.notes, *notes))
    if lacks_classifier:
        tensors = tensors | {key: torch.zeros_like(own[key]) for key in CLASSIFIER}
        note = "the file has no last layer: it is zero, and only an encoder to start from (start.encoder) is of use"
        report = replace(report, notes=(*report.notes, note))
    # load_state_dict would call absent counters an error.
    network.load_state_dict(tensors, strict=False)
    return network.eval(), report


def _mend(name: str, tensors: Mapping[str, Tensor], translation: Translation | None) -> str:
    encoder_only = "It is an encoder alone: start a training from it instead of importing it as a network."
    held = network_of(tensors)
    if translation is not None and translation.source not in import_mobile.SOURCES:
        return translation.source.advice()
    if translation is not None and held is None:
        return f"{encoder_only} {translation.source.advice()}"
    if translation is not None and held == translation.source.backbone and held != name:
        return (
            f"It is of {held}, and not of {name}: import it as that, or start a training from its encoder "
            f"(start.encoder). {translation.source.advice()}"
        )
    if held not in (None, name):
        return f"It is a checkpoint of {held}: import it as that, or start a training from its encoder (start.encoder)."
    if all(re.match(r"(base\.)?\d+\.|fc\.", key) for key in tensors):
        return encoder_only
    return "Name the network, the number of classes and the arguments it was trained with."


def encoder_prefixes(network: nn.Module) -> tuple[str, ...]:
    """What the names of the encoder's tensors start with: the network's own ``encoder_prefixes``, or ``base.`` alone.

    A classifier and the segmentation networks on its trunk give those tensors the same names.
    """
    return tuple(getattr(network, "encoder_prefixes", (TRUNK,)))


def import_encoder(network: nn.Module, source: Mapping[str, Tensor] | str | Path) -> ImportReport:
    """Load an encoder-only (ImageNet) checkpoint into the encoder of ``network``, in place.

    HarDNet's keys may have ``base.`` in front or not, the mobile networks' may be any source's (see import_mobile.py).
    Tensors beyond the network's own encoder, the classifier's ``fc`` and decoders included, are ignored and reported.
    The network is untouched unless its whole encoder is found. Where it normalises or pads otherwise than the network
    that the weights are for, the report's notes say so, as far as the file tells.

    Args:
        network: a segmentation network or a classifier; :func:`encoder_prefixes` says which part is its encoder.
        source: a file, or tensors by name.

    Raises:
        FeathersegError: the file is unreadable, the network has no encoder, or one that routes channels otherwise.
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
    translation = _translate(tensors, where)
    if translation is not None:
        translation = import_fasterseg.fit(translation, network, where)
        tensors = translation.tensors
        own = {key: tensor for key, tensor in own.items() if not re.match(translation.lacks, key)}
    elif not any(key.startswith(prefixes) for key in tensors):
        tensors = {TRUNK + key if re.match(r"\d+\.", key) else key: tensor for key, tensor in tensors.items()}
    report = compare(tensors, own, where)
    report = _translated(replace(report, ignored=report.unexpected, unexpected=()), translation)
    if not report.complete:
        mend = "Take the file of a classifier on the same trunk, with at least as many blocks."
        raise CheckpointMismatch(
            f"{where}: not an encoder of this {type(network).__name__}: {'; '.join(report.lines())}. "
            f"{translation.source.advice() if translation else mend}",
            report,
        )
    wanted = translation.source.arguments if translation else _traits_of_file(source)
    report = replace(report, notes=(*report.notes, *differences(wanted, network, where)))
    network.load_state_dict({key: tensors[key] for key in report.matched}, strict=False)
    return report


def _arguments_of_file(name: str, file: str | Path) -> dict[str, Any]:
    """The arguments that a weights file of ours gives the network ``name``; none for other files."""
    try:
        metadata = read_metadata(file)
    except FeathersegError:
        return {}
    arguments = metadata.get("arguments")
    return arguments if metadata["architecture"] == name and isinstance(arguments, dict) else {}


def _traits_of_file(source: Mapping[str, Tensor] | str | Path) -> dict[str, Any]:
    """The traits of the network that a weights file of ours says it is of; none for other files."""
    if isinstance(source, Mapping):
        return {}
    try:
        metadata = read_metadata(source)
        with torch.device("meta"):
            network = create_model(metadata["architecture"], metadata["num_classes"], **metadata["arguments"])
        network.input_spec = InputSpec.from_dict(metadata["input_spec"])  # type: ignore[assignment]
    except (FeathersegError, KeyError, TypeError, ValueError):
        return {}
    return traits(network)
