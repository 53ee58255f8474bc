"""ExecuTorch: a network as one ``.pte`` file for phones and small computers, and running such a file.

Choices worth knowing:

- XNNPACK takes what it knows of the graph; the rest is left to ExecuTorch's portable operators.
- Every size is fixed: one file an image size, batch 1. ExecuTorch plans the memory of all tensors beforehand.
- Metadata are what a method called ``featherseg`` gives: JSON, as the constant methods are with which ExecuTorch's own
  tools describe a program. The method is written into the file's program once the gate has been passed, so that a
  network is lowered once.
- The threads are one pool of the whole process. It is set before a program is loaded and never while one is open, which
  ExecuTorch does not survive.
- Both its compiler and its runtime print, partly from C++: all of it is caught.
"""

import json
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from featherseg.deploy.graph_session import GraphSession, Port, signature
from featherseg.deploy.image_graph import ImageGraph
from featherseg.deploy.packages import first_line, hushed, runtime_module, silenced
from featherseg.deploy.session import Precision
from featherseg.errors import FeathersegError
from featherseg.models.weights import METADATA_KEY

PACKAGES = ("executorch",)
EXTRA = "executorch"
_KINDS = {0: "uint8", 3: "int32", 4: "int64", 6: "float32"}
_LABELS = "forward"
make_graph = ImageGraph


def convert(graph: ImageGraph) -> bytes:
    """The float32 program of ``graph``, which has one size; takes half a minute or more.

    Raises:
        FeathersegError: the package is missing, or the network has something that ExecuTorch does not carry.
    """
    example = torch.zeros(graph.batch or 1, *graph.example, 3, dtype=torch.uint8)
    with hushed("the conversion", "ExecuTorch"), torch.no_grad():
        lower = runtime_module("executorch.exir", EXTRA).to_edge_transform_and_lower
        xnnpack = runtime_module("executorch.backends.xnnpack.partition.xnnpack_partitioner", EXTRA)
        exported = torch.export.export(graph, (example,))
        return bytes(lower(exported, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().buffer)


def _parse(content: bytes) -> Any:
    return runtime_module("executorch.exir._serialize._program", EXTRA).deserialize_pte_binary(content)


def operators(content: bytes) -> dict[str, int]:
    """How often each operator occurs; a part of the graph that XNNPACK runs is one ``XnnpackBackend``."""
    found: dict[str, int] = {}
    for plan in _parse(content).program.execution_plan:
        for instruction in (step.instr_args for chain in plan.chains for step in chain.instructions or []):
            if hasattr(instruction, "op_index"):
                name = plan.operators[instruction.op_index].name
            elif hasattr(instruction, "delegate_index"):
                name = plan.delegates[instruction.delegate_index].id
            else:
                continue
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def with_metadata(content: bytes, values: dict[str, Any]) -> bytes:
    """The same program that carries ``values``, as JSON that the method ``featherseg`` gives, instead of its former."""
    file = _parse(content)
    schema = runtime_module("executorch.exir.schema", EXTRA)
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    plans = [plan for plan in file.program.execution_plan if plan.name != METADATA_KEY]
    described = schema.ExecutionPlan(
        name=METADATA_KEY,
        container_meta_type=schema.ContainerMetadata("", ""),
        values=[schema.EValue(schema.String(text))],
        inputs=[],
        outputs=[0],
        chains=[schema.Chain(inputs=[], outputs=[], instructions=[], stacktrace=None)],
        operators=[],
        delegates=[],
        non_const_buffer_sizes=[0],
    )
    file.program.execution_plan = [*plans, described]
    pack = runtime_module("executorch.exir._serialize._program", EXTRA).serialize_pte_binary
    return bytes(pack(file, extract_delegate_segments=True))


def files(content: bytes) -> dict[str, bytes]:
    """What is written, by suffix."""
    return {".pte": content}


class ExecuTorchSession(GraphSession):
    """A program in ExecuTorch's runtime, on this CPU.

    Args:
        content: the bytes of a ``.pte`` file.
        where: its name in messages.
        threads: of the runtime, the same for all open programs of the process; those of the open ones, if None, or as
            many as PyTorch has.
        device: "cpu" or "auto".
        precision: "fp32" alone.

    Raises:
        FeathersegError: executorch is missing, the file is damaged, of a later version, needs operators or a backend
            that this runtime lacks, or labels no images, or another device, precision or number of threads is asked for
            than there can be.
    """

    runtime = "executorch"

    def __init__(
        self,
        content: bytes,
        where: str = "the program",
        *,
        threads: int | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        if device not in ("cpu", "auto") or precision != "fp32":
            raise FeathersegError(
                f"{where}: ExecuTorch runs on the CPU here, in the precision of the file, not on {device} in "
                f"{precision}. Leave both out."
            )
        with silenced():
            runtime = runtime_module("executorch.runtime", EXTRA)
            _set_threads(threads, where)
            try:
                self._program = runtime.Runtime.get().load_program(content)
                self._method = self._program.load_method(_LABELS) if _LABELS in self._program.method_names else None
                text = self._text()
            except Exception as error:  # it has no exceptions of its own
                raise FeathersegError(
                    f"{where}: ExecuTorch {_version()} does not take it ({first_line(error)}). It is damaged, cut "
                    "short, of another version or for another backend: copy or export it again, or upgrade executorch."
                ) from None
        about = self._method.metadata if self._method else None
        takes = [_port("image", about.input_tensor_meta(n)) for n in range(about.num_inputs())] if about else []
        gives = [_port("output", about.output_tensor_meta(n)) for n in range(about.num_outputs())] if about else []
        super().__init__(where, signature(takes, gives, where), text)
        _open.add(self)

    def _text(self) -> str | None:
        if METADATA_KEY not in self._program.method_names:
            return None
        return self._program.load_method(METADATA_KEY).execute([])[0]

    def _infer(self, images: np.ndarray) -> np.ndarray:
        try:
            return self._method.execute([torch.from_numpy(images)])[0].numpy()  # type: ignore[union-attr]
        except RuntimeError as error:
            raise FeathersegError(
                f"{self.where}: fails on images of shape {list(images.shape)}: {first_line(error)}"
            ) from None


_open: WeakSet[ExecuTorchSession] = WeakSet()


def _set_threads(threads: int | None, where: str) -> None:
    """Make the pool as large as is asked for, before a program is loaded."""
    pool = runtime_module("executorch.extension.pybindings.portable_lib", EXTRA)
    has = pool._threadpool_get_thread_count()
    wanted = threads or (has if _open else torch.get_num_threads())
    if wanted == has:
        return
    if _open:
        raise FeathersegError(
            f"{where}: ExecuTorch has one pool of threads a process. It has {has}, which open files use, and {wanted} "
            f"are asked for. Let go of those files first, or ask for {has}."
        )
    pool._unsafe_reset_threadpool(wanted)


def _port(name: str, about: Any) -> Port:
    return Port(name, _KINDS.get(about.dtype(), f"type {about.dtype()}"), tuple(about.sizes()))


def _version() -> str:
    return runtime_module("executorch.version", EXTRA).__version__


open_session = ExecuTorchSession
