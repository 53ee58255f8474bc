"""A network from uint8 pixels to logits or labels, for images of one size or of any, as an ONNX graph.

Choices worth knowing:

- The scale of the normalisation and the channel order are folded into the first convolution. The shift is not, where
  that convolution pads: its zeros stand for the mean colour, so that subtracting the mean before it is exact at the
  border too. Where nothing pads, the shift goes into the bias. Every folding is tried on noise against the network as
  it was, and undone where it differs: then the graph normalises as PyTorch does.
- Pixels are shifted before the channels are moved to the front, in ONNX by whole rows: a runtime then adds along
  memory, and need not move the channels at all if its convolution takes them last.
- The padding rule is in the graph: an open graph computes how much an image lacks.
- The network is traced. Exporting the same graph by ``torch.export`` takes half a minute instead of half a second for a
  light network with open sizes (torch 2.13); what tracing could get wrong, a branch that depends on the size, the
  parity gate looks for at other sizes.
- Logits at the network's stride are what featherseg itself wants: deploy/labels.py makes the label map faster than any
  runtime enlarges them.
"""

import io
import warnings
from dataclasses import asdict

import torch
from torch import Tensor, nn
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from featherseg.deploy.label_graph import fold_batch_norm
from featherseg.deploy.packages import first_line
from featherseg.deploy.session import OUTPUTS, Output
from featherseg.errors import FeathersegError, nearest
from featherseg.models.output import InputSpec
from featherseg.randomness import generator

OPSET = 18
_SAME_MAPS, _SAME_LOGITS = 1e-5, 1e-2  # of the largest; what follows the first convolution can blow rounding up


class _FloorDivision(TorchFunctionMode):
    """Sides of images are divided downwards, as Python does: ONNX cuts towards zero."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (Tensor.__floordiv__, Tensor.floor_divide, torch.floor_divide) and is_tracing():
            dividend, divisor = args
            if not dividend.is_floating_point():
                return torch.div(dividend - torch.remainder(dividend, divisor), divisor, rounding_mode="trunc")
        return func(*args, **(kwargs or {}))


class GraphSpec(InputSpec):
    """An InputSpec whose padding and enlarging follow the size of the image, while a graph is traced."""

    def pad(self, images: Tensor) -> Tensor:
        if self.min_size == 1 or not is_tracing():
            return super().pad(images)
        lacking = [torch.clamp(self.min_size - _side(images, axis), min=0) for axis in (2, 3)]
        return F.pad(images, (0, lacking[1], 0, lacking[0]))  # type: ignore[arg-type]

    def enlarge_uncut(self, logits: Tensor, images: Tensor) -> Tensor:
        """Logits ``[B, K, H, W]`` for images ``[B, H, W, 3]``, with the padding."""
        size = [torch.clamp(_side(images, axis), min=self.min_size) for axis in (1, 2)]
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)  # type: ignore[arg-type]


def _side(images: Tensor, axis: int) -> Tensor:
    """A side as a tensor: tracing gives one, and must not be asked to make it an int."""
    return torch._shape_as_tensor(images)[axis]  # type: ignore[attr-defined]


class PixelInput(nn.Module):
    """uint8 RGB ``[B, H, W, 3]`` to float ``[B, 3, H, W]``: what is left of a normalisation.

    Args:
        flip: red and blue change places.
        scale: a factor of each channel, or None.
        shift: what is then added to each, or None.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, flip: bool, scale: Tensor | None, shift: Tensor | None) -> None:
        super().__init__()
        self.flip = flip
        self.register_buffer("scale", None if scale is None else scale.view(1, 1, 1, 3))
        self.register_buffer("shift", None if shift is None else shift.view(1, 1, 1, 3))

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.float()
        if self.flip:
            pixels = pixels.flip(3)
        scale, shift = (
            value.expand(1, 1, images.shape[2], 3) if value is not None and is_tracing() else value
            for value in (self.scale, self.shift)
        )
        if scale is not None:
            pixels = pixels * scale
        if shift is not None:
            pixels = pixels + shift
        return pixels.permute(0, 3, 1, 2)


def _first_maps(network: nn.Module, images: Tensor) -> tuple[list[nn.Conv2d], list[Tensor], Tensor]:
    """The first convolution of three channels that runs and all others that read the same tensor, their maps, the
    logits."""
    found: list[nn.Conv2d] = []
    maps: list[Tensor] = []
    source: list[Tensor] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs[0].shape[1] == 3 and (not source or source[0] is inputs[0]):
            source.append(inputs[0])
            found.append(layer)  # type: ignore[arg-type]
            maps.append(output.clone())

    hooks = [layer.register_forward_hook(look) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    logits = network(images).logits
    for hook in hooks:
        hook.remove()
    return found, maps, logits


def _alike(found: Tensor, expected: Tensor, share: float) -> bool:
    return float((found - expected).abs().max()) <= share * float(expected.abs().max())


@torch.no_grad()
def fold_normalisation(network: nn.Module, size: tuple[int, int]) -> PixelInput:
    """Fold what can be folded of the normalisation into ``network``, in place, and give what must stand before it.

    Args:
        network: in ``eval()``, with ``input_spec``.
        size: (H, W) of the noise that it is tried on.
    """
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    std, mean, flip = torch.tensor(spec.std), torch.tensor(spec.mean), spec.color_order == "BGR"
    scale, shift = (255 * std).reciprocal(), -mean / std
    plain = PixelInput(flip, scale, shift)
    noise = generator(0, "export noise", 2).integers(0, 256, (1, *size, 3), dtype="uint8")
    images = torch.from_numpy(noise)
    readers, maps, logits = _first_maps(network, plain(images))
    usual = all(layer.groups == 1 and layer.padding_mode == "zeros" for layer in readers)
    if not readers or not usual or len(set(readers)) != len(readers):
        return plain
    kept = [(layer.weight, layer.bias) for layer in readers]
    unpadded = spec.min_size == 1 and all(layer.padding in ((0, 0), "valid") for layer in readers)
    before_scaling = (shift / scale).flip(0) if flip else shift / scale
    for whole in (True, False) if unpadded else (False,):
        for layer, (weight, bias) in zip(readers, kept, strict=True):
            scaled = weight * scale.view(1, 3, 1, 1)
            layer.weight = nn.Parameter((scaled.flip(1) if flip else scaled).contiguous(), requires_grad=False)
            if whole:
                moved = (weight * shift.view(1, 3, 1, 1)).sum((1, 2, 3))
                layer.bias = nn.Parameter(moved if bias is None else moved + bias, requires_grad=False)
        rest = PixelInput(False, None, None if whole else before_scaling)
        _, folded_maps, folded_logits = _first_maps(network, rest(images))
        same = [_alike(one, other, _SAME_MAPS) for one, other in zip(folded_maps, maps, strict=True)]
        if all(same) and _alike(folded_logits, logits, _SAME_LOGITS):
            return rest
        for layer, (weight, bias) in zip(readers, kept, strict=True):
            layer.weight, layer.bias = weight, bias
    return plain


class ImageGraph(nn.Module):
    """uint8 RGB ``[B, H, W, 3]`` to what ``output`` says.

    * "logits": float32 ``[B, K, h, w]`` at the network's stride, of the padded image;
    * "full": float32 ``[B, K, H, W]``;
    * "labels": class ids uint8 ``[B, H, W]``.

    Args:
        network: a segmentation network; a copy is taken.
        size: (H, W), the only size that the graph takes; any, if None.
        batch: how many images at once; any number, if None.
        output: see above.

    Raises:
        FeathersegError: there is no such output, or labels of more than 255 classes are asked for.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        size: tuple[int, int] | None = None,
        batch: int | None = None,
        output: Output = "logits",
    ) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise FeathersegError(
                f"no output is called {output!r}{nearest(str(output), OUTPUTS)}. There are: {', '.join(OUTPUTS)}."
            )
        self.size, self.batch, self.output = size, batch, output
        spec: InputSpec = network.input_spec  # type: ignore[assignment]
        self.example = size or (spec.min_size + 33, spec.min_size + 49)
        probe = min(self.example[0], 4 * spec.min_size + 65), min(self.example[1], 4 * spec.min_size + 65)
        self.network = fold_batch_norm(network, probe)
        self.pixels = fold_normalisation(self.network, probe)
        self.spec: InputSpec = spec
        if output == "labels":
            classes = self.network(self.pixels(torch.zeros(1, *probe, 3, dtype=torch.uint8))).logits.shape[1]
            if classes > 255:
                raise FeathersegError(f"{classes} classes do not fit into uint8 labels (at most 255). End in logits.")
        if size is None:
            self.spec = GraphSpec(**asdict(spec))
            for module in self.network.modules():
                if isinstance(getattr(module, "input_spec", None), InputSpec):
                    module.input_spec = self.spec  # type: ignore[assignment]
        self.eval().requires_grad_(False)
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(self.pixels(images)).logits
        if self.output == "logits":
            return logits
        open_size = isinstance(self.spec, GraphSpec) and is_tracing()
        height, width = images.shape[1:3]
        if isinstance(self.spec, GraphSpec) and open_size:
            full = self.spec.enlarge_uncut(logits, images)
        else:
            full = F.interpolate(
                logits,
                size=self.spec.padded_size(height, width),
                mode="bilinear",
                align_corners=self.spec.align_corners,
            )
        if self.output == "labels":
            full = full.argmax(1).to(torch.uint8)
        padded = self.spec.min_size > 1 and (open_size or min(height, width) < self.spec.min_size)
        return full[..., :height, :width] if padded else full


def onnx_program(graph: ImageGraph) -> bytes:
    """The ONNX model of ``graph``: input ``image``, and an output named as :attr:`ImageGraph.output`.

    Raises:
        FeathersegError: PyTorch's exporter does not know an operator, or the package onnx is missing.
    """
    names: dict[str, dict[int, str]] = {"image": {}, graph.output: {}}
    if graph.batch is None:
        names["image"][0] = names[graph.output][0] = "batch"
    if graph.size is None:
        word = "logits_" if graph.output == "logits" else ""
        first = 1 if graph.output == "labels" else 2
        names["image"] |= {1: "height", 2: "width"}
        names[graph.output] |= {first: f"{word}height", first + 1: f"{word}width"}
    example = torch.zeros(graph.batch or 2, *graph.example, 3, dtype=torch.uint8)
    content = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad(), _FloorDivision():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph,
                (example,),
                content,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=[graph.output],
                dynamic_axes={name: axes for name, axes in names.items() if axes},
            )
    except Exception as error:  # the exporter fails anywhere inside
        raise FeathersegError(
            f"PyTorch's ONNX exporter does not carry this network: {first_line(error)}. The versions in "
            "constraints.txt are tested."
        ) from error
    return content.getvalue()
