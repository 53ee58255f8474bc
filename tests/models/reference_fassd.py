"""FASSD-Net and FC-HarDNet-70 a second time: eval-mode forward as functions of an official-style state dict.

Written from the description of the published networks, not from featherseg's modules, and sharing no code with them.
The keyword arguments are the slips an implementer could make; each must move the logits, or the comparison is blind.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


@dataclass(frozen=True)
class Slips:
    """The behaviour of the published code by default; anything else is a mistake."""

    mda_eps: float = 1e-3
    align_corners: bool = True
    prelu_as_relu: bool = False
    max_pooling: bool = False
    ceil_pooling: bool = False
    dapf_dilations: tuple[int, int, int] = (12, 24, 36)
    mda_dilations: tuple[int, int, int] = (8, 4, 2)
    skip_first: bool = False
    links_farthest_first: bool = False
    mda_residual_activated: bool = False


RIGHT = Slips()


def _batch_norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    scale = state[f"{name}.weight"] / torch.sqrt(state[f"{name}.running_var"] + eps)
    shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def _conv_bn_relu(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.conv.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=(weight.shape[2] - 1) // 2)
    return torch.clamp(_batch_norm(state, f"{name}.norm", x, 1e-5), min=0)


def _harmonic_block(state: State, name: str, x: Tensor, slips: Slips) -> Tensor:
    depth = len({key.split(".layers.")[1].split(".")[0] for key in state if key.startswith(f"{name}.layers.")})
    outputs = {0: x}
    for layer in range(1, depth + 1):
        trailing_zeros = (layer & -layer).bit_length() - 1
        sources = [layer - (1 << power) for power in range(trailing_zeros + 1)]
        if slips.links_farthest_first:
            sources.reverse()
        joined = torch.cat([outputs[source] for source in sources], dim=1)
        outputs[layer] = _conv_bn_relu(state, f"{name}.layers.{layer - 1}", joined)
    return torch.cat([outputs[layer] for layer in outputs if layer % 2 == 1 or (layer == depth and layer > 0)], dim=1)


def _pool(x: Tensor, slips: Slips) -> Tensor:
    pool = F.max_pool2d if slips.max_pooling else F.avg_pool2d
    return pool(x, 2, 2, ceil_mode=slips.ceil_pooling)


def _up(x: Tensor, size: tuple[int, int], slips: Slips) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=slips.align_corners)


def _pyramid(state: State, x: Tensor, slips: Slips) -> Tensor:
    branches = [F.relu(_batch_norm(state, "DAPF.bn1x1", F.conv2d(x, state["DAPF.conv1x1.weight"]), 1e-5))]
    for number, d in zip((2, 3, 4), slips.dapf_dilations, strict=True):
        name = f"DAPF.pyBranch{number}"
        y = F.conv2d(x, state[f"{name}.atrous_conv3x1.weight"], padding=(d, 0), dilation=(d, 1))
        y = F.relu(_batch_norm(state, f"{name}.bn3x1", y, 1e-5))
        y = F.conv2d(y, state[f"{name}.atrous_conv1x3.weight"], padding=(0, d), dilation=(1, d))
        branches.append(F.relu(_batch_norm(state, f"{name}.bn1x3", y, 1e-5)))
    y = F.conv2d(torch.cat(branches, dim=1), state["DAPF.conv1.weight"])
    return F.relu(_batch_norm(state, "DAPF.bn1", y, 1e-5))


def _mda(state: State, name: str, x: Tensor, d: int, slips: Slips) -> Tensor:
    def activate(part: str, y: Tensor) -> Tensor:
        y = _batch_norm(state, f"{name}.{part}.bn", y, slips.mda_eps)
        return F.relu(y) if slips.prelu_as_relu else F.prelu(y, state[f"{name}.{part}.acti.weight"])

    def conv(part: str, y: Tensor, padding: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> Tensor:
        y = F.conv2d(y, state[f"{name}.{part}.conv.weight"], padding=padding, dilation=dilation)
        return activate(f"{part}.bn_prelu", y)

    activated = activate("bn_relu_1", x)
    b = conv("conv3x3", activated, (1, 1))
    plain = conv("parallel_conv3x3", b, (1, 1))
    tall = conv("parallel_ddconv3x1", b, (d, 0), (d, 1))
    wide = conv("parallel_ddconv1x3", tall, (0, d), (1, d))
    out = F.conv2d(activate("bn_relu_2", plain + wide), state[f"{name}.conv1x1.conv.weight"])
    return out + (activated if slips.mda_residual_activated else x)


def reference_logits(
    state: State, images: Tensor, stem_strides: tuple[int, int, int, int] = (2, 1, 2, 1), slips: Slips = RIGHT
) -> Tensor:
    """Full-size logits ``[B, K, H, W]`` for normalised ``images`` at least as large as the network's total stride."""
    blocks = 5 if "base.17.conv.weight" in state else 4
    x = images
    for index, stride in enumerate(stem_strides):
        x = _conv_bn_relu(state, f"base.{index}", x, stride)
    skips = []
    for block in range(blocks):
        if block:
            x = _pool(x, slips)
        x = _harmonic_block(state, f"base.{4 + 3 * block}", x, slips)
        skips.append(x)
        x = _conv_bn_relu(state, f"base.{5 + 3 * block}", x)
    skips.pop()
    if "DAPF.conv1.weight" in state:
        x = _pyramid(state, x, slips)
    for step, skip in enumerate(reversed(skips)):
        x = _up(x, (skip.shape[2], skip.shape[3]), slips)
        x = _conv_bn_relu(state, f"conv1x1_up.{step}", torch.cat([skip, x] if slips.skip_first else [x, skip], dim=1))
        if f"mda.{step}.conv1x1.conv.weight" in state:
            x = _mda(state, f"mda.{step}", x, slips.mda_dilations[step], slips)
        if f"denseBlocksUp.{step}.conv.weight" in state:
            x = _conv_bn_relu(state, f"denseBlocksUp.{step}", x)
        else:
            x = _harmonic_block(state, f"denseBlocksUp.{step}", x, slips)
    x = F.conv2d(x, state["finalConv.weight"], state["finalConv.bias"])
    return _up(x, (images.shape[2], images.shape[3]), slips)
