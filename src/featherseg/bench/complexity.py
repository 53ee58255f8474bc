"""What a network costs before it is run: parameters, multiply-accumulates, and the early papers' "GFLOPs".

Design choices:
- nothing is computed: the network lies on the ``meta`` device, where a forward pass of 1024x2048 takes a tenth of a
  second and no memory, and the operators that really run are seen by a dispatch mode. ``F.relu`` and ``nn.ReLU``
  therefore count alike, and a layer that ``eval()`` does not run does not count;
- ``parameters_deployed`` is observed the same way: the parameters that some operator of the eval pass took in;
- ``conv_macs`` is half of what ``torch.utils.flop_counter`` says of convolutions; one MAC is one multiplication with
  its addition;
- ``count`` is what ``ptflops`` printed in early 2020 and papers of the time call GFLOPs: MACs, one per output for a
  bias, two per element of batch norm, one per element of ReLU and PReLU, one per input element of a pooling.
  Functional resizing was not counted. Matrix products (linear layers, attention) count as MACs.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from featherseg.errors import FeathersegError
from featherseg.models.registry import create_model

ACTIVATIONS = ("relu", "relu_", "_prelu_kernel", "leaky_relu", "leaky_relu_", "hardtanh", "hardtanh_", "elu", "elu_")
POOLINGS = ("avg_pool2d", "_adaptive_avg_pool2d", "mean", "max_pool2d_with_indices", "adaptive_max_pool2d")
BIASED_PRODUCTS = ("addmm", "addbmm", "baddbmm")


class _Observer(TorchDispatchMode):
    """Counts the paper's convention but for the MACs, remembers the tensors taken in, and sums what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = Counter[str]()
        self.taken_in: set[int] = set()
        self.written_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.taken_in.update(id(tensor) for tensor in inputs)
        if not outputs:
            return result
        name = func.overloadpacket.__name__
        if (name == "convolution" and args[2] is not None) or name in BIASED_PRODUCTS:
            self.elements["bias"] += outputs[0].numel()
        elif "batch_norm" in name:
            self.elements["batch norm"] += 2 * outputs[0].numel()
        elif name in ACTIVATIONS:
            self.elements["activation"] += outputs[0].numel()
        elif name in POOLINGS:
            self.elements["pooling"] += inputs[0].numel()
        if not func.is_view:
            self.written_bytes += outputs[0].numel() * outputs[0].element_size()
        return result


@dataclass(frozen=True)
class Complexity:
    """What one image of ``size`` costs, at batch 1 in ``eval()``.

    Attributes:
        model: name of the network, or of the module's class.
        size: (H, W) of the image.
        num_classes: channels of the logits; None for a module that was given ready made.
        parameters: of the freshly created network, training-only heads included.
        parameters_deployed: those that the eval pass uses.
        conv_macs: multiply-accumulates of the convolutions.
        matrix_macs: multiply-accumulates of matrix products (linear layers, attention).
        count: the "GFLOPs" of early-2020 papers, in units: MACs and the element-wise operators, as told above.
        elements: the part of ``count`` that is no MAC, by kind.
        weight_bytes: of the deployed parameters, as they are stored (float32).
        activation_bytes: what all operators together write in one pass, a measure of memory traffic; not a peak.
    """

    model: str
    size: tuple[int, int]
    num_classes: int | None
    parameters: int
    parameters_deployed: int
    conv_macs: int
    matrix_macs: int
    count: int
    elements: dict[str, int]
    weight_bytes: int
    activation_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; ``size`` becomes ``[H, W]``."""
        return {**asdict(self), "size": list(self.size)}


def count(
    model: str | nn.Module, size: tuple[int, int] = (1024, 2048), num_classes: int = 19, **arguments: Any
) -> Complexity:
    """Count ``model`` for one image of ``size`` without running it.

    Args:
        model: a name of :func:`featherseg.models.registry.list_models`, or a module that takes float
            ``[B, 3, H, W]``; the module is copied and left as it is.
        size: (H, W), each at least 1.
        num_classes, arguments: handed to ``create_model``; only for a name.

    Raises:
        FeathersegError: the name, an argument or the size is wrong.
    """
    height, width = size
    if min(height, width) < 1:
        raise FeathersegError(f"complexity: the size {height}x{width} has no pixels. Give one such as 1024x2048.")
    if isinstance(model, str):
        with torch.device("meta"):
            network = create_model(model, num_classes, **arguments)
        name, classes = model, num_classes
    else:
        if arguments:
            raise FeathersegError(f"complexity: {', '.join(arguments)} can only be set for a network given by name.")
        network, name, classes = copy.deepcopy(model).to("meta"), type(model).__name__, None
    network.eval()
    flops = FlopCounterMode(display=False)
    image = torch.empty(1, 3, height, width, device="meta")
    with torch.no_grad(), flops, _Observer() as observer:
        network(image)
    by_operator = flops.get_flop_counts().get("Global", {})
    total = sum(by_operator.values()) // 2
    conv_macs = sum(flop for operator, flop in by_operator.items() if "convolution" in str(operator)) // 2
    deployed = [parameter for parameter in network.parameters() if id(parameter) in observer.taken_in]
    return Complexity(
        model=name,
        size=(height, width),
        num_classes=classes,
        parameters=sum(prod(parameter.shape) for parameter in network.parameters()),
        parameters_deployed=sum(parameter.numel() for parameter in deployed),
        conv_macs=conv_macs,
        matrix_macs=total - conv_macs,
        count=total + observer.elements.total(),
        elements=dict(observer.elements),
        weight_bytes=sum(parameter.numel() * parameter.element_size() for parameter in deployed),
        activation_bytes=observer.written_bytes,
    )


def stage_sizes(network: nn.Module, modules: list[str], size: tuple[int, int]) -> dict[str, list[int]]:
    """The output size ``[H, W, C]`` of each named module for one image of ``size`` (H, W), and of the enlarged logits.

    ``network`` lies on the ``meta`` device; the enlarged logits are listed under ``"enlarged"``.
    """
    sizes: dict[str, list[int]] = {}

    def watch(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            sizes[name] = [*output.shape[2:], output.shape[1]]

        return note

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in modules]
    with torch.no_grad():
        output = network.eval()(torch.empty(1, 3, *size, device="meta"))
        enlarged = network.input_spec.enlarge(output.logits, size)  # type: ignore[operator,union-attr]
    for hook in hooks:
        hook.remove()
    sizes["enlarged"] = [*enlarged.shape[2:], enlarged.shape[1]]
    return sizes
