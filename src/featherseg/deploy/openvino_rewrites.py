"""The same graph in the words with which OpenVINO's CPU is fast; ONNX has no such words."""

from typing import Any

import numpy as np

from featherseg.deploy.packages import runtime_module

_TRIED = (2, 0, 3, 5)
"""Batch, nothing, height and width of the numbers on which a shuffle of any size is tried."""
_CHANNELS_LAST, _GROUPS, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 1, 3, 2], [0, 3, 1, 2]


def rewritten(model: Any, core: Any) -> Any:
    """``model``, changed in place; it computes what it did. ``core`` is the process's ``openvino.Core``.

    - Slopes of PReLU are ``[1, C, 1, 1]``: for ``[C, 1, 1]`` the CPU moves the channels to the front and back again.
    - Channels are shuffled by ShuffleChannels, which leaves them last, instead of three transpositions.
    """
    opset = runtime_module("openvino.opset13", "openvino")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "PRelu" and len(slope := list(node.input_value(1).get_shape())) == 3:
            whole = opset.reshape(node.input_value(1), opset.constant(np.array([1, *slope])), False)
            node.input(1).replace_source_output(whole.output(0))
        shuffled = _shuffled_by(node)
        if shuffled is not None and _is_shuffle(core, model, node, *shuffled):
            source, groups = shuffled
            node.output(0).replace(opset.shuffle_channels(source, 1, groups).output(0))
    model.validate_nodes_and_infer_types()
    return model


def _shuffled_by(node: Any) -> tuple[Any, int] | None:
    """What ``node`` gives shuffled, and in how many groups; None if it does not look like a shuffle's end.

    It is what models/shufflenet_v2.py does to maps whose channels lie last: they are moved to the end, split into
    ``[B, H * W, groups, C / groups]``, the last two axes exchanged, joined, and moved to the front.
    """
    chain = [node]
    for _ in range(4):
        if chain[-1].get_type_name() not in ("Transpose", "Reshape"):
            return None
        chain.append(chain[-1].input_value(0).get_node())
    last, joined, exchanged, split, first = chain
    orders = [_order(last), _order(exchanged), _order(first)]
    kinds = [joined.get_type_name(), split.get_type_name()]
    if orders != [_CHANNELS_FIRST, _GROUPS, _CHANNELS_LAST] or kinds != ["Reshape", "Reshape"]:
        return None
    parts, whole = split.output(0).get_partial_shape(), first.output(0).get_partial_shape()
    if len(parts) != 4 or parts[2].is_dynamic or parts[3].is_dynamic or whole[3].is_dynamic:
        return None
    groups, channels = parts[2].get_length(), whole[3].get_length()
    ends_alike = last.output(0).get_partial_shape()[1] == whole[3] and parts[3].get_length() * groups == channels
    return (first.input_value(0), groups) if ends_alike else None


def _is_shuffle(core: Any, model: Any, end: Any, source: Any, groups: int) -> bool:
    """Whether ``end`` gives ``source`` with its channels shuffled: tried on numbers, since sides may join otherwise."""
    openvino, opset = runtime_module("openvino", "openvino"), runtime_module("openvino.opset13", "openvino")
    named = {node.get_friendly_name(): node for node in model.clone().get_ops()}
    last, before = named[end.get_friendly_name()], named[source.get_node().get_friendly_name()]
    shape = [
        _TRIED[side] if length.is_dynamic else length.get_length()
        for side, length in enumerate(source.get_partial_shape())
    ]
    given = opset.parameter(shape, np.float32)
    before.output(source.get_index()).replace(given.output(0))
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    found = core.compile_model(openvino.Model([last.output(0)], [given]), "CPU", settings)([values])[0]
    batch, channels, height, width = shape
    parts = values.reshape(batch, groups, channels // groups, height, width)
    return np.array_equal(found, parts.swapaxes(1, 2).reshape(shape))


def _order(node: Any) -> list[int] | None:
    """The axes of a transposition."""
    if node.get_type_name() != "Transpose" or node.input_value(1).get_node().get_type_name() != "Constant":
        return None
    return [int(axis) for axis in node.input_value(1).get_node().get_data()]
