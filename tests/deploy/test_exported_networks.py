"""Every registered segmentation network in every runtime: labels as PyTorch's. The support table comes from here.

ONNX Runtime and OpenVINO get one graph a network, which takes any size: an odd one with a batch of two, and one below
the network's smallest, which the padding rule enlarges. LiteRT, ExecuTorch and Core ML get one odd size; converting
takes them up to minutes a network, so that one network is tried always, and all of them with ``--support-card``.
hrnet_w48 and hrnet_w48_ocr are narrowed, and fasterseg_teacher is shown one size.
"""

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from lively import blots, lively

from featherseg.deploy.doors import DOORS, RUN, open_door
from featherseg.deploy.export import network_and_metadata
from featherseg.deploy.image_graph import ImageGraph, onnx_program
from featherseg.deploy.parity import TIE, expected_labels
from featherseg.deploy.session import labels_of
from featherseg.models.output import InputSpec
from featherseg.models.registry import list_models
from featherseg.models.shipped import list_weights
from support_card import NOT_RUN, PASSED, trying

ONE_SIZE = ("fasterseg_teacher",)
OPEN = ("onnx", "openvino")
FIXED = ("litert", "executorch", "coreml")
ALWAYS = {
    "litert": (),  # test_litert.py exports several, trained for a while
    "executorch": ("shufflenet_v2_basic",),
    "coreml": ("fassd_net_l2", "mobilenet_v2_basic"),
}
REFUSED: dict[tuple[str, str], str] = {}
"""Pairs that do not go, each with what its converter or the comparison says."""


@lru_cache(maxsize=1)
def open_graph(name: str) -> bytes:
    """The ONNX program of a network for images of any size."""
    return onnx_program(ImageGraph(lively(name)[0]))


def open_session(runtime: str, name: str) -> Any:
    return session_of(runtime, open_graph(name))


def session_of(runtime: str, content: bytes) -> Any:
    if runtime == "onnx":
        from featherseg.deploy.onnx import OnnxSession

        return OnnxSession(content, threads=1)
    from featherseg.deploy import openvino
    from featherseg.deploy.openvino_rewrites import rewritten

    core = openvino.openvino_core()
    model = rewritten(core.read_model(content), core)
    return openvino.OpenVinoSession(openvino.serialised(model), threads=1)


def needs(runtime: str) -> None:
    """Skip where a runtime is not installed; importing it may take seconds, and is not done for that."""
    packages = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino"), "litert": ("litert_torch",)}
    for package in packages.get(runtime, {"coreml": ("coremltools",)}.get(runtime, (runtime,))):
        if find_spec(package) is None:
            pytest.skip(f"the extra `{runtime}` is not installed ({package})")


def assert_labels_are_those_of_pytorch(
    name: str, shapes: list[tuple[int, int, int]], session: Any, *, one_by_one: bool = False
) -> None:
    network, _ = lively(name)
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    seen = set()
    for batch, height, width in shapes:
        images = blots(1, batch, (height, width))
        expected = [expected_labels(network, image) for image in images]
        seen |= {int(one) for labels, _ in expected for one in np.unique(labels)}
        at_once = 1 if one_by_one else batch
        found = [given for part in torch.from_numpy(images).split(at_once) for given in session.run(part)]
        for given, (labels, margin) in zip(found, expected, strict=True):
            made = labels_of(given, session.output, spec, (height, width)).labels
            sure = margin >= TIE
            assert (made[sure] == labels[sure]).all(), f"{(made != labels)[sure].sum()} pixels of {height}x{width}"
    assert len(seen) > 1, "a network with so few labels would prove nothing"


@pytest.mark.parametrize("runtime", OPEN)  # varies faster than the name, which costs a graph
@pytest.mark.parametrize("name", list_models())
def test_a_network_labels_in_a_file_of_any_size_as_in_pytorch(name, runtime, request):
    needs(runtime)
    trying(request, name, runtime)
    smallest = lively(name)[0].input_spec.min_size
    shapes = [(2, smallest + 21, smallest + 10), (1, 25, 50)]  # type: ignore[operator]
    assert_labels_are_those_of_pytorch(name, shapes[: 1 if name in ONE_SIZE else 2], open_session(runtime, name))


@pytest.mark.parametrize("runtime", OPEN)
@pytest.mark.parametrize("weights", list_weights())
def test_shipped_weights_label_in_a_file_of_any_size_as_in_pytorch(weights, runtime):
    needs(runtime)
    network = network_and_metadata(weights)[0]
    program = onnx_program(ImageGraph(network))
    images = blots(2, 2, (97, 129))
    found = session_of(runtime, program).run(torch.from_numpy(images))
    for given, image in zip(found, images, strict=True):
        labels, margin = expected_labels(network, image)
        made = labels_of(given, "logits", network.input_spec, labels.shape).labels  # type: ignore[arg-type]
        assert (made == labels)[margin >= TIE].all()
        assert len(np.unique(labels)) > 1


def fixed_pairs() -> Iterator[Any]:
    for runtime in FIXED:
        for name in list_models():
            reason = REFUSED.get((name, runtime))
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param(name, runtime, marks=marks, id=f"{runtime}-{name}")


@pytest.mark.parametrize(("name", "runtime"), list(fixed_pairs()))
def test_a_network_labels_in_a_file_of_one_size_as_in_pytorch(name, runtime, request):
    needs(runtime)
    if name not in ALWAYS[runtime] and request.config.getoption("--support-card") is None:
        pytest.skip("for the support table alone: `make support`")
    trying(request, name, runtime, PASSED if runtime in RUN else f"converted, {NOT_RUN}")
    smallest = lively(name)[0].input_spec.min_size
    size = smallest + 31, smallest + 50  # type: ignore[operator]
    door, module = open_door(runtime)
    graph = module.make_graph(lively(name)[0], size=size, batch=1, output=door.outputs[0])
    session = module.open_session(module.convert(graph), "the program", threads=1, precision="fp32")
    assert_labels_are_those_of_pytorch(name, [(6, *size)], session, one_by_one=True)


def test_every_door_is_tried_but_for_that_which_needs_a_gpu():
    assert {*OPEN, *FIXED, "tensorrt"} == set(DOORS)
