"""Networks by name: ``create_model("fassd_net", num_classes=11)``.

A network's file registers its entry points with :func:`register_model`; the files are imported on the first look-up.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from numbers import Integral
from typing import Any

from torch import nn

from featherseg.errors import FeathersegError, nearest

HEADS = ("plain", "pixel_shuffle")
MAX_CLASSES = 100_000  # a mistyped or garbled number must not ask for all memory
_FAMILIES = (
    "drbanet",
    "fassd_net",
    "hardnet",
    "deeplab",
    "shufflenet_v1",
    "shufflenet_v2",
    "mobilenet_v1",
    "mobilenet_v2",
    "pyramid_mobilenet",
    "efficientnet_lite",
    "pyramid_rpn",
    "ssd",
    "fasterseg",
    "fasterseg_tutor",
    "hrnet",
)
_BUILDERS: dict[str, Callable[..., nn.Module]] = {}
_TASKS: dict[str, str] = {}

TASKS = ("segmentation", "classification", "detection")


def register_model(
    name: str, task: str = "segmentation"
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function ``(num_classes, **arguments) -> nn.Module`` under ``name``."""

    def register(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _BUILDERS:
            raise ValueError(f"two networks are called {name!r}")
        _BUILDERS[name] = builder
        _TASKS[name] = task
        return builder

    return register


def _builders() -> dict[str, Callable[..., nn.Module]]:
    for family in _FAMILIES:
        import_module(f"featherseg.models.{family}")
    return _BUILDERS


def list_models(task: str = "segmentation") -> list[str]:
    """The names of all networks for a task ("segmentation", "classification" or "detection"), sorted."""
    return sorted(name for name in _builders() if _TASKS[name] == task)


def _takes_head(name: str) -> bool:
    """Whether ``head`` is an argument of :func:`create_model` and not of the network's own builder."""
    return _TASKS[name] == "segmentation" and "head" not in inspect.signature(_BUILDERS[name]).parameters


def _defaults(name: str) -> dict[str, Any]:
    parameters = inspect.signature(_BUILDERS[name]).parameters
    own = {key: parameter.default for key, parameter in parameters.items() if key != "num_classes"}
    return own | ({"head": HEADS[0]} if _takes_head(name) else {})


def filled_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the network ``name`` but ``num_classes``: those that are given, and the defaults of the others.

    Raises:
        FeathersegError: no network is called that.
    """
    _check_name(name)
    return _defaults(name) | dict(arguments)


def _check_name(name: Any) -> None:
    builders = _builders()
    if not isinstance(name, str) or name not in builders:
        raise FeathersegError(
            f"no network is called {name!r}{nearest(str(name), builders)}. "
            "`featherseg models` and `featherseg models --task classification` list them."
        )


def create_model(name: str, num_classes: int = 19, **arguments: Any) -> nn.Module:
    """Build the network ``name`` with fresh weights.

    Args:
        name: one of :func:`list_models`.
        num_classes: channels of the logits, 1 to 100,000.
        **arguments: of this network alone (``alpha`` of FASSD-Net, say), and of every segmentation network ``head``:
            "plain", or "pixel_shuffle" (see pixel_shuffle.py), which gives logits at half the stride.

    Raises:
        FeathersegError: the name or an argument is unknown, or ``num_classes`` is out of range.
    """
    _check_name(name)
    whole = isinstance(num_classes, Integral) and not isinstance(num_classes, bool)  # numpy's integers too
    if not whole or not 1 <= num_classes <= MAX_CLASSES:
        raise FeathersegError(
            f"{name}: num_classes is {num_classes!r}; it must be a whole number from 1 to {MAX_CLASSES}."
        )
    known = list(_defaults(name))
    takes_head = _takes_head(name)
    for argument in arguments:
        if argument not in known:
            raise FeathersegError(
                f"{name}: unknown argument {argument!r}{nearest(argument, known)}. "
                f"It takes: {', '.join(known) or 'none'}."
            )
    head = arguments.pop("head", "plain") if takes_head else "plain"
    if head not in HEADS:
        raise FeathersegError(f"{name}: head is {head!r}{nearest(str(head), HEADS)}. It can be: {', '.join(HEADS)}.")
    try:
        network = _BUILDERS[name](int(num_classes), **arguments)
    except FeathersegError as error:
        named = str(error).startswith(f"{name}:")
        raise error if named else FeathersegError(f"{name}: {error}") from None
    if head == "pixel_shuffle":
        from featherseg.models.pixel_shuffle import replace_logits

        replace_logits(network, name)
    return network
