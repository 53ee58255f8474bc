"""Which settings of a recipe's loss are for heads that the network has in training, and which say nothing there.

A network names those heads in ``training_heads``, by the field of its output: ``auxiliary``, ``boundary``.
"""

from typing import Any

from torch import nn

from featherseg.errors import FeathersegError
from featherseg.recipes.reading import without_folders
from featherseg.recipes.schema import Recipe, section_defaults

_SETTINGS = {"auxiliary_weight": "auxiliary", "boundary": "boundary", "boundary_weight": "boundary"}
_OFF = {"auxiliary_weight": 0.0, "boundary": "none", "boundary_weight": 0.0}  # as it is without the head


def _idle_settings(network: nn.Module) -> list[str]:
    heads = getattr(network, "training_heads", ())
    return [name for name, head in _SETTINGS.items() if head not in heads]


def check_heads(recipe: Recipe, network: nn.Module) -> None:
    """Refuse a setting of the loss that was given for a head which ``network`` does not have.

    Raises:
        FeathersegError: there is such a setting, neither at its default nor one that says that there is no such loss.
    """
    defaults = section_defaults("loss")
    for name in _idle_settings(network):
        value = getattr(recipe.loss, name)
        if value not in (defaults[name], _OFF[name]):
            raise FeathersegError(
                f"loss.{name}={value}: is for networks with an output {_SETTINGS[name]!r} in training, and "
                f"{recipe.model.name} has none, so that it would change nothing. Leave it out."
            )


def told_recipe(recipe: Recipe, network: nn.Module) -> dict[str, Any]:
    """The recipe as it travels with weights and cards: without folders, and losses that the network never had."""
    told = without_folders(recipe)
    for name in _idle_settings(network):
        del told["loss"][name]
    return told
