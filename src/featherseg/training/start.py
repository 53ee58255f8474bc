"""The network a training begins with: fresh weights by the seed, and over them what the recipe takes from others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from featherseg.files import file_sha256
from featherseg.models.carry import carry_over
from featherseg.models.importer import import_encoder
from featherseg.models.registry import create_model
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


def build_initial_network(recipe: Recipe, num_classes: int) -> tuple[nn.Module, StartingWeights | None]:
    """The recipe's network with the weights it starts from; fresh ones depend on ``train.seed`` alone.

    Raises:
        FeathersegError: the weights are missing or do not fit.
    """
    torch.manual_seed(recipe.train.seed)
    network = create_model(recipe.model.name, num_classes, **recipe.model.arguments)
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
