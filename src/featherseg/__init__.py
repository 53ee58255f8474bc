"""featherseg: from a folder of labelled images to a measured, deployed real-time segmentation network.

Names are loaded on first use, so that ``import featherseg`` stays light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "FeathersegError": "featherseg.errors",
    "create_model": "featherseg.models.registry",
    "list_models": "featherseg.models.registry",
    "list_weights": "featherseg.models.shipped",
    "import_weights": "featherseg.deploy.segmenter",
    "load": "featherseg.deploy.loading",
    "Segmenter": "featherseg.deploy.segmenter",
    "Segmentation": "featherseg.deploy.segmentation",
    "Classifier": "featherseg.deploy.classifier",
    "Classification": "featherseg.deploy.classifier",
    "open_dataset": "featherseg.data.sources",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'featherseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
