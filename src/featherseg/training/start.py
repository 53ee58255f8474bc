"""The network a training begins with: fresh weights by the seed, and over them what the recipe takes from others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featherseg.errors import FeathersegError, nearest
from featherseg.files import file_sha256
from featherseg.models.carry import carry_over
from featherseg.models.importer import import_encoder
from featherseg.models.registry import create_model, list_models
from featherseg.models.shipped import weights_path
from featherseg.models.weights import read_weights
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
    other = "classification" if recipe.task == "segmentation" else "segmentation"
    if name in list_models(other):
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
        carry, lines = "backbone", [f"encoder from {given}: {line}" for line in import_encoder(network, path).lines()]
    else:
        carry = recipe.start.carry
        report = carry_over(network, read_weights(path).tensors, carry, where=given)
        lines = [f"{carry} from {given}: {line}" for line in report.lines()]
    return network, StartingWeights(path.name, file_sha256(path), carry, lines)
