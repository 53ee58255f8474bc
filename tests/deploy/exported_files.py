"""What the tests of exported files share: names, and copies to be spoilt."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from lively import lively

from featherseg.deploy.segmenter import segmenter

NAME = "shufflenet_v2_basic"
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}


def needs(runtime: str) -> str:
    """Skip where a runtime is not installed."""
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    return runtime


def copied(file: Path, folder: Path) -> Path:
    for part in file.parent.glob(f"{file.stem}.*"):
        shutil.copy(part, folder / part.name)
    return folder / file.name


def torch_segmenter() -> Any:
    network, about = lively(NAME)
    return segmenter(network, about)
