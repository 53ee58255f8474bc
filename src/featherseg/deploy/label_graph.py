"""A network with all around it that a phone would otherwise have to do: uint8 pixels in, class ids out.

Choices worth knowing:

- Batch norm is folded into the convolution before it. Which convolution that is, is seen in one run of the network: a
  batch norm is folded where its input is the very tensor that a convolution gave, and both run once.
- A map of one pixel is spread by a bilinear enlargement instead of ``expand``: the values are the same, every runtime
  has the operator, and litert-torch 0.10 turns the transposition around a broadcast the wrong way.
- Kernels are laid out channels first, whatever the network's were: of FASSD-Net-L2 with channels last litert-torch 0.10
  makes a program that labels otherwise, without a word.
- The arg-max is taken over the last axis: runtimes that keep channels last need no transposition at full size.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from featherseg.models.output import InputSpec


class _SpreadByEnlarging(TorchFunctionMode):
    """``expand`` of ``[B, C, 1, 1]`` to a map becomes a bilinear enlargement."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.expand and args[0].dim() == 4 and tuple(args[0].shape[2:]) == (1, 1):
            return F.interpolate(args[0], size=tuple(args[-2:]), mode="bilinear", align_corners=True)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def fold_batch_norm(network: nn.Module, size: tuple[int, int]) -> nn.Module:
    """A copy of ``network`` in ``eval()`` whose batch norms are folded into their convolutions where that is possible.

    Args:
        network: takes float ``[1, 3, H, W]``.
        size: (H, W) of the run that shows which convolution feeds which batch norm.
    """
    copy = deepcopy(network).cpu().eval()
    given: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is kept, so that its id stays its own
    fed: dict[nn.BatchNorm2d, nn.Conv2d | None] = {}
    runs: dict[nn.Module, int] = {}

    def after_convolution(layer: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        runs[layer] = runs.get(layer, 0) + 1
        given[id(output)] = layer, output

    def before_norm(layer: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        runs[layer] = runs.get(layer, 0) + 1
        source = given.get(id(inputs[0]))
        fed[layer] = source[0] if source else None

    hooks = [m.register_forward_hook(after_convolution) for m in copy.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in copy.modules() if isinstance(m, nn.BatchNorm2d)]
    copy(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    names = {module: name for name, module in copy.named_modules()}
    for norm, convolution in fed.items():
        if convolution is not None and runs[norm] == runs[convolution] == 1:
            copy.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
            copy.set_submodule(names[norm], nn.Identity().eval())
    return copy


class LabelGraph(nn.Module):
    """uint8 RGB ``[1, H, W, 3]`` to class ids int32 ``[1, H, W]``: normalising, network, enlarging, arg-max.

    Args:
        network: a segmentation network; a copy is taken.
        size: (H, W), the only size that the graph takes.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.input_spec: InputSpec = network.input_spec  # type: ignore[assignment]
        self.network = fold_batch_norm(network, size)
        self.eval().requires_grad_(False)
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        with _SpreadByEnlarging():
            logits = self.network(self.input_spec.normalise(images)).logits
        return self.input_spec.enlarge(logits, self.size).permute(0, 2, 3, 1).argmax(-1).to(torch.int32)
