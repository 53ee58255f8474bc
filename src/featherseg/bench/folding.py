"""What a segmentation network costs as it is deployed: batch norms folded, normalisation and arg-max in the graph.

Design choices:
- the count is that of TensorFlow's profiler on a frozen graph, which the mobile papers call GFLOPs: 2 for each
  multiply-accumulate of a convolution, 1 for each element that a bias or a residual is added to, the window's size for
  each element of a pooling, 2 for each element of the image (scale and shift), classes - 1 for each pixel of the
  arg-max. Activations and bilinear resizing are not counted. TensorFlow counts dilated depthwise convolutions on the
  padded maps they run on, which adds about 0.1 % and is not imitated;
- what is folded is observed, as in :mod:`featherseg.bench.complexity`: a batch norm whose input is what a convolution
  gave. A batch norm elsewhere stays, at 2 an element, and keeps a scale and a shift.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from featherseg.bench.complexity import Complexity, count
from featherseg.models.registry import create_model

FLOAT_BYTES = 4


@dataclass(frozen=True)
class FoldedCost:
    """One image through a deployed network.

    Attributes:
        unfolded: the count of the network as it is trained.
        flops: operations, as told above.
        weights: numbers that the deployed graph holds.
        weight_bytes: their size in float32; a model file adds its graph, about a hundredth at these sizes.
    """

    unfolded: Complexity
    flops: int
    weights: int
    weight_bytes: int


class _Folder(TorchDispatchMode):
    """Counts the operations beside the multiply-accumulates, and the channels of folded batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.folded_channels = 0
        self._unnormalised: list[Tensor] = []  # tensors, not ids: the id of a freed one may come again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        output = result[0] if isinstance(result, tuple) else result
        if name == "convolution":
            if args[2] is None:
                self._unnormalised.append(output)
            else:
                self.operations += output.numel()
        elif "batch_norm" in name:
            folded = any(tensor is args[0] for tensor in self._unnormalised)
            self._unnormalised = [tensor for tensor in self._unnormalised if tensor is not args[0]]
            self.operations += output.numel() * (1 if folded else 2)
            self.folded_channels += output.shape[1] if folded else 0
        elif name in ("avg_pool2d", "max_pool2d_with_indices"):
            self.operations += output.numel() * prod(args[1])
        elif name == "mean":
            self.operations += args[0].numel()
        elif name in ("add", "add_") and output.dim() == 4:
            self.operations += output.numel()
        return result


def count_folded(model: str, size: tuple[int, int], num_classes: int = 19, **arguments: Any) -> FoldedCost:
    """Count the deployed form of the segmentation network called ``model``, for one image of ``size`` (H, W).

    Raises:
        FeathersegError: the name, an argument or the size is wrong.
    """
    counted = count(model, size, num_classes, **arguments)
    with torch.device("meta"):
        network = create_model(model, num_classes, **arguments).eval()
    with torch.no_grad(), _Folder() as folder:
        network(torch.empty(1, 3, *size, device="meta"))
    macs = counted.conv_macs + counted.matrix_macs
    around = prod(size) * (2 * 3 + num_classes - 1)
    weights = counted.parameters_deployed - folder.folded_channels
    return FoldedCost(counted, 2 * macs + folder.operations + around, weights, FLOAT_BYTES * weights)
