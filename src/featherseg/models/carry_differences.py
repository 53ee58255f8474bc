"""In what a network computes otherwise than the one that its weights come from, although every tensor fits.

Design choices:
- both networks are built again from what their metadata says, without memory, and compared layer by layer: type, and
  every setting that is no tensor (stride, dilation, eps, ...), so that no network needs a list of its own;
- a difference is named by the argument that makes it: of the arguments that both take, defaults filled in, each that
  differs is tried by itself. One that changes nothing of the part that is carried over (a decoder, where that is the
  backbone) is not told, nor is what only training uses (dropout, momentum). A detector's trunk has its arguments
  within one of the detector's;
- other settings of layers that no argument explains (another variant's stride) are told by their place, in one line.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.import_mobile import LONGEST, as_yaml, differences, told_difference, traits
from featherseg.models.importer import encoder_prefixes
from featherseg.models.output import InputSpec
from featherseg.models.registry import create_model, filled_arguments

Part = Literal["everything", "all_but_logits", "backbone"]
_OF_TRAINING = {"training", "momentum", "p"}  # of every module, of batch norm, of dropout
_DESCRIPTIONS = {"input_spec", "encoder_prefixes", "logits_prefixes", "training_heads", "travelling_arguments"}
_OF_BACKBONE = {"color_order", "mean", "std"}
_OTHER_NAMES = {"norm_eps": "backbone_eps", "backbone_eps": "norm_eps"}  # of a classifier, of a network with a head
_TRUNK = "trunk_arguments"  # of a detector: what its trunk's classifier takes as its own

Settings = dict[tuple[str, str], Any]


def computed_otherwise(there: Mapping[str, Any], here: Mapping[str, Any], part: Part, *, where: str) -> list[str]:
    """What the part of a network that is carried over computes otherwise than in the network it comes from.

    Args:
        there: metadata of the weights, or :func:`~featherseg.models.weights.describe_network` of their network.
        here: the same of the network that they come into.
        part: that is carried over.
        where: names the weights in messages.

    Returns:
        A line for each difference; none where ``there`` describes no network that can be built.

    Raises:
        FeathersegError: channels are routed otherwise, which no feature survives.
    """
    ours = _arguments(here)
    try:
        theirs, spec = _arguments(there), InputSpec.from_dict(there["input_spec"])
    except (FeathersegError, KeyError, TypeError, ValueError):
        return []
    own_spec = InputSpec.from_dict(here["input_spec"])
    if (there["architecture"], theirs, spec) == (here["architecture"], ours, own_spec):
        return []
    classes = here["num_classes"]
    source = _built(there["architecture"], classes, theirs, spec)
    network = _built(here["architecture"], classes, ours, own_spec)
    if source is None or network is None:
        return []
    differences(traits(source), network, where)
    lines: list[str] = []
    explained: set[tuple[str, str]] = set()
    for argument, other, own, within in _candidates(theirs, ours):
        given = {argument: other} if within is None else {within: (ours[within] or {}) | {argument: other}}
        changed = _built(here["architecture"], classes, ours | given)
        found = None if changed is None else _differing(changed, network, part)
        if found is None or found:
            lines.append(told_difference(argument, other, own, within))
            explained |= found.keys() if found else set()
    rest = {place: values for place, values in _differing(source, network, part).items() if place not in explained}
    if rest:
        (layer, setting), (other, own) = next(iter(rest.items()))
        more = f", and {len(rest) - 1} more such settings differ" if len(rest) > 1 else ""
        lines.append(f"the file's network has {layer} with {setting} {_short(other)}, this one {_short(own)}{more}")
    return lines


def _candidates(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[tuple[str, Any, Any, str | None]]:
    """The arguments that both networks take and that differ: name, value there and here, and what holds it here.

    A detector's trunk is compared by the arguments of the classifier that it comes from, or that it is handed to.
    """
    if _TRUNK in theirs and _TRUNK not in ours:
        theirs = _of_trunk(theirs) | theirs
    elif _TRUNK in ours and _TRUNK not in theirs:
        for argument, own in _of_trunk(ours).items():
            other = theirs.get(argument, theirs.get(_OTHER_NAMES.get(argument, argument), own))
            if argument not in ours and other != own:
                yield argument, other, own, _TRUNK
    for argument, own in ours.items():
        other = theirs.get(argument, theirs.get(_OTHER_NAMES.get(argument, argument), own))
        if other != own:
            yield argument, other, own, None


def _of_trunk(detector: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a detector's trunk."""
    return _as_json(filled_arguments(detector["trunk"], detector[_TRUNK] or {}))


def _as_json(value: Any) -> Any:
    """``value`` as metadata has it, where (1, 2) is [1, 2]."""
    return json.loads(json.dumps(value, default=str))


def _arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a network."""
    return _as_json(filled_arguments(description["architecture"], dict(description["arguments"])))


def _built(name: str, classes: int, arguments: dict[str, Any], spec: InputSpec | None = None) -> nn.Module | None:
    """The network without memory, or None where these arguments build none."""
    try:
        with torch.device("meta"):
            network = create_model(name, classes, **arguments)
    except Exception:  # garbled arguments, and those that do not go together, can fail in any way
        return None
    if spec is not None:
        network.input_spec = spec  # type: ignore[assignment]
    return network


def _differing(source: nn.Module, network: nn.Module, part: Part) -> Settings:
    """(layer, setting) to (there, here), of all that the part of ``network`` computes with."""
    theirs, ours = _settings(source), _settings(network)
    if part == "backbone":  # a file may hold more blocks than the network has
        theirs = {place: value for place, value in theirs.items() if place[0] in {layer for layer, _ in ours}}
        carried = (*encoder_prefixes(network), "the input.")
    else:
        carried = ("",)
    fresh = tuple(getattr(network, "logits_prefixes", ())) if part == "all_but_logits" else ()
    found: Settings = {}
    for place in ours | theirs:
        layer, setting = f"{place[0]}.", place[1]
        if not layer.startswith(carried) or (fresh and layer.startswith(fresh)):
            continue
        if part == "backbone" and layer == "the input." and setting not in _OF_BACKBONE:
            continue
        other, own = theirs.get(place), ours.get(place)
        if other != own:
            found[place] = other, own
    return found


def _settings(network: nn.Module) -> Settings:
    """(layer, setting) to value, for all layers, with the type of each; of the input, for its InputSpec."""
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    found: Settings = {("the input", field.name): getattr(spec, field.name) for field in fields(spec)}
    for name, module in network.named_modules():
        layer = name or "the network"
        found[layer, "type"] = type(module).__name__
        for setting, value in vars(module).items():
            if not setting.startswith("_") and setting not in _OF_TRAINING | _DESCRIPTIONS:
                found[layer, setting] = tuple(value.shape) if isinstance(value, Tensor) else value
    return found


def _short(value: Any) -> str:
    text = as_yaml(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
