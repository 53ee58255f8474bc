"""What stands in a ``.tflite`` file: its operators, its metadata, and the edits that finish an exported one.

Choices worth knowing:

- A file is read into objects by the schema that comes with ai-edge-litert and packed again; nothing is searched for in
  bytes. Reading visits every buffer, so that a file cut short is found out before the interpreter sees it.
- Our metadata is JSON in a metadata buffer called ``featherseg``, where TensorFlow Lite's own tools look for theirs:
  it travels with the file, and every interpreter passes over it.
- Inner tensors get short names. The converter names each after the whole path of Python calls that made it.
"""

import json
from pathlib import Path
from typing import Any

from featherseg.deploy.file_metadata import read_metadata
from featherseg.deploy.packages import runtime_module
from featherseg.errors import FeathersegError

METADATA_NAME = "featherseg"


def litert_module(name: str) -> Any:
    """A module of the extra ``litert``, imported now.

    Raises:
        FeathersegError: it is not installed, or does not import here.
    """
    return runtime_module(name, "litert")


def parse(content: bytes, where: str) -> Any:
    """The model in ``content`` as objects of the schema.

    Raises:
        FeathersegError: it is no TensorFlow Lite file, or not whole.
    """
    if content[4:8] != b"TFL3":
        raise FeathersegError(f"{where}: not a TensorFlow Lite file. Give one that `featherseg export` wrote.")
    tools = litert_module("ai_edge_litert.tools.flatbuffer_utils")
    try:
        model = tools.read_model_from_bytearray(bytearray(content))
        if not model.subgraphs or not model.subgraphs[0].operators:
            raise ValueError("it holds no operators")
        return model
    except Exception as error:  # a spoilt file fails anywhere inside the reader
        raise FeathersegError(f"{where}: damaged or cut short ({error}). Copy or export the file again.") from None


def pack(model: Any) -> bytes:
    """The bytes of a model that :func:`parse` gave."""
    return bytes(litert_module("ai_edge_litert.tools.flatbuffer_utils").convert_object_to_bytearray(model))


def _schema() -> Any:
    return litert_module("ai_edge_litert.schema_py_generated")


def operator_names() -> dict[int, str]:
    """Operator codes of the schema to their names."""
    kinds = _schema().BuiltinOperator
    return {value: name for name, value in vars(kinds).items() if not name.startswith("_") and isinstance(value, int)}


def name_of(model: Any, operator: Any, names: dict[int, str]) -> str:
    """The name of one operator of a model, by what :func:`operator_names` gave."""
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return names.get(number, str(number))


def operators(content: bytes, where: str = "the model") -> dict[str, int]:
    """How often each operator occurs, by TensorFlow Lite's name; ``CUSTOM`` stands for all that are not built in."""
    model, names = parse(content, where), operator_names()
    found: dict[str, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = name_of(model, operator, names)
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def floating_tensors(content: bytes, where: str = "the model") -> int:
    """How many tensors are of a floating type; none in a program of integers."""
    kinds = _schema().TensorType
    floating = {kinds.FLOAT16, kinds.FLOAT32, kinds.FLOAT64}
    return sum(tensor.type in floating for graph in parse(content, where).subgraphs for tensor in graph.tensors)


def metadata(content: bytes, where: str) -> dict[str, Any]:
    """What ``featherseg export`` wrote into the file.

    Raises:
        FeathersegError: the file is damaged, of a later version, or was written by something else.
    """
    model = parse(content, where)
    for entry in model.metadata or []:
        if bytes(entry.name) == METADATA_NAME.encode():
            return read_metadata(bytes(model.buffers[entry.buffer].data), where)
    raise FeathersegError(f"{where}: a TensorFlow Lite file, but without featherseg's metadata; export it again.")


def with_metadata(content: bytes, values: dict[str, Any]) -> bytes:
    """The same model that carries ``values`` instead of what it carried before."""
    schema, model = _schema(), parse(content, "the model")
    name = METADATA_NAME.encode()
    buffer = schema.BufferT()
    buffer.data = list(json.dumps(values, sort_keys=True, ensure_ascii=False).encode())
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [old for old in model.metadata or [] if bytes(old.name) != name] + [entry]
    return pack(model)


def tidied(content: bytes) -> bytes:
    """The same program with integers at both ends where it is an int8 one, nothing unused, and short names.

    * Pixels: CAST to float and QUANTIZE become one QUANTIZE of uint8 with scale 1, which moves them by 128 exactly.
    * Labels: ARG_MAX reads the int8 logits themselves instead of their DEQUANTIZEd copy, four times as large. One scale
      serves all classes, so that the order of the logits is the same.
    """
    model, names = parse(content, "the model"), operator_names()
    graph = model.subgraphs[0]
    kept = list(graph.operators)
    maker = {int(operator.outputs[0]): operator for operator in kept}
    for operator in list(kept):
        kind = name_of(model, operator, names)
        before = maker.get(int(operator.inputs[0])) if len(operator.inputs) else None
        source = name_of(model, before, names) if before else None
        if kind == "ARG_MAX" and before and source == "DEQUANTIZE":
            operator.inputs = [before.inputs[0], *list(operator.inputs)[1:]]
            kept.remove(before)
        elif kind == "QUANTIZE" and before and source == "CAST":
            operator.inputs = [before.inputs[0]]
            kept.remove(before)
            _whole_pixels(graph, maker, int(before.inputs[0]))
    graph.operators = kept
    _drop_unused(model, graph)
    for number, tensor in enumerate(graph.tensors):
        tensor.name = str(number).encode()
    for tensors, word in ((graph.inputs, "image"), (graph.outputs, "labels")):
        graph.tensors[int(tensors[0])].name = word.encode()
    for signature in model.signatureDefs or []:
        signature.inputs[0].name, signature.outputs[0].name = b"image", b"labels"
    return pack(model)


def _whole_pixels(graph: Any, maker: dict[int, Any], number: int) -> None:
    """Say of the uint8 tensor ``number`` and those it was made of that one step is one grey level."""
    while True:
        quantisation = _schema().QuantizationParametersT()
        quantisation.scale, quantisation.zeroPoint = [1.0], [0]
        graph.tensors[number].quantization = quantisation
        if number not in maker:
            return
        number = int(maker[number].inputs[0])


def _drop_unused(model: Any, graph: Any) -> None:
    used = {int(number) for ends in (graph.inputs, graph.outputs) for number in ends}
    for operator in graph.operators:
        used |= {int(number) for ends in (operator.inputs, operator.outputs) for number in ends if number >= 0}
    new = {old: position for position, old in enumerate(sorted(used))}
    graph.tensors = [graph.tensors[old] for old in sorted(used)]
    graph.inputs, graph.outputs = [new[int(n)] for n in graph.inputs], [new[int(n)] for n in graph.outputs]
    for operator in graph.operators:
        operator.inputs = [new.get(int(n), -1) for n in operator.inputs]
        operator.outputs = [new[int(n)] for n in operator.outputs]
    for signature in model.signatureDefs or []:
        for end in (*signature.inputs, *signature.outputs):
            end.tensorIndex = new[int(end.tensorIndex)]


def read_file(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        FeathersegError: there is none, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FeathersegError(
            f"{path}: cannot be read ({error.strerror}). Give a file that `featherseg export` wrote."
        ) from None
