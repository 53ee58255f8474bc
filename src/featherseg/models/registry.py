"""Networks by name: ``create_model("fassd_net", num_classes=11)``.

A network's file registers its entry points with :func:`register_model`; the files are imported on the first look-up.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from featherseg.errors import FeathersegError, nearest

_FAMILIES = ("fassd_net",)
_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register_model(name: str) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function ``(num_classes, **arguments) -> nn.Module`` under ``name``."""

    def register(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _BUILDERS:
            raise ValueError(f"two networks are called {name!r}")
        _BUILDERS[name] = builder
        return builder

    return register


def _builders() -> dict[str, Callable[..., nn.Module]]:
    for family in _FAMILIES:
        import_module(f"featherseg.models.{family}")
    return _BUILDERS


def list_models() -> list[str]:
    """The names of all networks, sorted."""
    return sorted(_builders())


def create_model(name: str, num_classes: int = 19, **arguments: Any) -> nn.Module:
    """Build the network ``name`` with fresh weights.

    Args:
        name: one of :func:`list_models`.
        num_classes: channels of the logits, at least 1.
        **arguments: of this network alone (``alpha`` of FASSD-Net, say).

    Raises:
        FeathersegError: the name or an argument is unknown, or ``num_classes`` is below 1.
    """
    builders = _builders()
    if name not in builders:
        raise FeathersegError(
            f"no network is called {name!r}{nearest(name, builders)}. `featherseg models` lists all {len(builders)}."
        )
    if not isinstance(num_classes, int) or num_classes < 1:
        raise FeathersegError(f"{name}: num_classes is {num_classes!r}; it must be a whole number of at least 1.")
    known = [parameter for parameter in inspect.signature(builders[name]).parameters if parameter != "num_classes"]
    for argument in arguments:
        if argument not in known:
            raise FeathersegError(
                f"{name}: unknown argument {argument!r}{nearest(argument, known)}. It takes: {', '.join(known) or 'none'}."
            )
    return builders[name](num_classes, **arguments)
