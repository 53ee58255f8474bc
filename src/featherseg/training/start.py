"""The network a training begins with: fresh weights by the seed, and over them what the recipe takes from others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherseg.errors import FeathersegError, nearest
from featherseg.files import file_sha256
from featherseg.models.carry import carry_over
from featherseg.models.carry_differences import Part, computed_otherwise
from featherseg.models.importer import encoder_prefixes, import_checkpoint, import_encoder
from featherseg.models.registry import TASKS, create_model, list_models
from featherseg.models.shipped import weights_path
from featherseg.models.weights import describe_network, read_metadata, read_weights
from featherseg.recipes.schema import Recipe


@dataclass(frozen=True)
class StartingWeights:
    """The file a training starts from, and what was taken from it."""

    file: str
    sha256: str
    carry: str
    lines: list[str]

    def describe(self) -> dict[str, Any]:
        """What the metadata of the trained weights says of them."""
        return {"file": self.file, "sha256": self.sha256, "carry": self.carry}


def fresh_network(recipe: Recipe, num_classes: int | None = None) -> nn.Module:
    """The recipe's network, with as many classes as it has by default if ``num_classes`` is None.

    Raises:
        FeathersegError: it is none of the recipe's task, or its arguments are wrong.
    """
    name, arguments = recipe.model.name, recipe.model.arguments
    known = list_models(recipe.task)
    other = next((task for task in TASKS if task != recipe.task and name in list_models(task)), None)
    if other:
        alike = [one for one in known if one.startswith(name)]
        hint = f"; did you mean {alike[0]!r}" if alike else nearest(name, known)
        raise FeathersegError(f"model.name={name}: a network for {other}, and this is a {recipe.task}{hint}.")
    for argument in ("name", "num_classes"):
        if argument in arguments:
            raise FeathersegError(f"model.arguments.{argument}: is decided by the recipe and its data. Leave it out.")
    return create_model(name, **arguments) if num_classes is None else create_model(name, num_classes, **arguments)


def build_initial_network(recipe: Recipe, num_classes: int) -> tuple[nn.Module, StartingWeights | None]:
    """The recipe's network with the weights it starts from; fresh ones depend on ``train.seed`` alone.

    Raises:
        FeathersegError: the weights are missing or do not fit.
    """
    torch.manual_seed(recipe.train.seed)
    network = fresh_network(recipe, num_classes)
    given = recipe.start.encoder or recipe.start.weights
    if not given:
        return network, None
    path = weights_path(given)
    if recipe.start.encoder:
        try:
            report = import_encoder(network, path)
        except FeathersegError as error:
            raise FeathersegError(f"start.encoder: {error} Or begin with fresh weights: start.encoder=null.") from None
        carry: Part = "backbone"
        found = [*report.lines(), *_differences(network, recipe, num_classes, carry, path)]
        if recipe.task == "classification":
            found += _take_head(network, recipe, path)
        lines = [f"encoder from {given}: {line}" for line in dict.fromkeys(found)]
    else:
        carry = recipe.start.carry
        report = carry_over(network, read_weights(path).tensors, carry, where=given)
        found = [*report.lines(), *_differences(network, recipe, num_classes, carry, path)]
        lines = [f"{carry} from {given}: {line}" for line in found]
    return network, StartingWeights(path.name, file_sha256(path), carry, lines)


def _differences(network: nn.Module, recipe: Recipe, num_classes: int, part: Part, path: Path) -> list[str]:
    """What ``part`` of the network computes otherwise than in the network of the file; nothing of a foreign file.

    Raises:
        FeathersegError: its channels are routed otherwise.
    """
    try:
        there = read_metadata(path)
    except FeathersegError:
        return []
    here = describe_network(network, recipe.model.name, num_classes, dict(recipe.model.arguments))
    return computed_otherwise(there, here, part, where=recipe.start.weights or str(path))


@torch.no_grad()
def _take_head(network: nn.Module, recipe: Recipe, path: Path) -> list[str]:
    """Load what lies between a classifier's encoder and its logits too, where the file is of such a classifier.

    MobileNetV2's last convolution holds a fifth of its ImageNet weights, and public files of features have it.
    """
    apart, own = tuple(getattr(network, "logits_prefixes", ())), network.state_dict()
    names = [name for name in own if not name.startswith((*encoder_prefixes(network), *apart))]
    if not names or not apart:
        return []
    try:
        given = import_checkpoint(recipe.model.name, path, **recipe.model.arguments)[0].state_dict()
    except FeathersegError:
        given = {}
    layers = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
    if any(name not in given or given[name].shape != own[name].shape for name in names):
        return [f"{layers} starts fresh: the file has no such layer"]
    for name in names:
        own[name].copy_(given[name])
    return [f"{layers} taken over as well, {len(names)} tensors"]
