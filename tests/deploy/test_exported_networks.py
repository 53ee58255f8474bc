"""Every registered segmentation network in ONNX Runtime and OpenVINO: any size in one file, labels as PyTorch's.

One graph a network goes to both runtimes, each of which takes two sizes, an odd one with a batch of two and one below
the network's smallest, which the padding rule enlarges. hrnet_w48 and hrnet_w48_ocr are narrowed, and
fasterseg_teacher is shown one size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lively import blots, lively

from featherseg.deploy.image_graph import ImageGraph, onnx_program
from featherseg.deploy.parity import TIE, expected_labels
from featherseg.deploy.session import labels_of
from featherseg.models.output import InputSpec
from featherseg.models.registry import list_models

pytest.importorskip("onnx", reason="the extra `onnx` is not installed (onnx)")

ONE_SIZE = ("fasterseg_teacher",)


def runtimes() -> dict[str, Callable[[bytes], Any]]:
    """The sessions of the runtimes that are installed."""
    found: dict[str, Callable[[bytes], Any]] = {}
    try:
        import onnxruntime  # noqa: F401

        from featherseg.deploy.onnx import OnnxSession

        found["onnx"] = lambda content: OnnxSession(content, threads=1)
    except ImportError:
        pass
    try:
        import openvino as package

        from featherseg.deploy import openvino

        core = package.Core()
        found["openvino"] = lambda content: openvino.OpenVinoSession(
            openvino._serialised(core.read_model(content)), threads=1
        )
    except ImportError:
        pass
    return found


OPENED = runtimes()


@pytest.mark.skipif(not OPENED, reason="neither onnxruntime nor openvino is installed")
@pytest.mark.parametrize("name", list_models())
def test_a_network_labels_in_other_runtimes_as_in_pytorch(name):
    network, _ = lively(name)
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    content = onnx_program(ImageGraph(network))
    sessions = {runtime: opened(content) for runtime, opened in OPENED.items()}
    sizes = [(2, spec.min_size + 21, spec.min_size + 10), (1, 25, 50)]
    seen = set()
    for batch, height, width in sizes[: 1 if name in ONE_SIZE else 2]:
        images = blots(1, batch, (height, width))
        expected = [expected_labels(network, image) for image in images]
        seen |= {int(one) for labels, _ in expected for one in np.unique(labels)}
        for runtime, session in sessions.items():
            found = session.run(torch.from_numpy(images))
            for given, (labels, margin) in zip(found, expected, strict=True):
                made = labels_of(given, "logits", spec, (height, width)).labels
                sure = margin >= TIE
                assert (made[sure] == labels[sure]).all(), f"{runtime} at {height}x{width}"
    assert len(seen) > 1, "a network with so few labels would prove nothing"
