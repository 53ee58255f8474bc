"""FasterSeg's derived networks a second time, as plain functions of tensors by the published names.

Written from the description of the network, not from featherseg's modules: convolutions by ``F.conv2d``, the sharing of
cells by the published aliases, the decoder spelt out for a branch to 1/32 and one to 1/16. Even sizes alone.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def norm(s: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        s[f"{name}.{leaf}"][None, :, None, None] for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def scaled(x: Tensor, factor: float) -> Tensor:
    size = int(x.shape[2] * factor), int(x.shape[3] * factor)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def operator(s: State, name: str, kind: str, stride: int, x: Tensor) -> Tensor:
    zoomed = "downup" in kind
    x = scaled(x, 0.5) if zoomed else x
    x = norm(s, f"{name}.bn1", F.conv2d(x, s[f"{name}.conv1.weight"], stride=1 if zoomed else stride, padding=1))
    if "2x" in kind:
        x = norm(s, f"{name}.bn2", F.conv2d(F.relu(x), s[f"{name}.conv2.weight"], padding=1))
    if zoomed and stride == 1:
        x = scaled(x, 2)
    return F.relu(x)


def conv_norm(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = s[f"{name}.conv.0.weight"]
    return F.relu(norm(s, f"{name}.conv.1", F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)))


def head(s: State, name: str, x: Tensor) -> Tensor:
    x = F.relu(norm(s, f"{name}.conv_3x3.bn", F.conv2d(x, s[f"{name}.conv_3x3.conv.weight"], padding=1)))
    return F.conv2d(x, s[f"{name}.conv_1x1.weight"], s[f"{name}.conv_1x1.bias"])


def fasterseg(s: State, branches: list[list[tuple[str, int]]], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at 1/8, 1/16 and 1/32; ``branches`` lists (operator, stride) of the path to 1/32 and of that to 1/16."""
    x = conv_norm(s, "stem.0", x, 2)
    x = operator(s, "stem.1", "conv_2x", 2, x)
    entry = operator(s, "stem.2", "conv_2x", 2, x)
    last = []
    for index, layers in enumerate(branches):
        x, scale, maps = entry, 8, {}
        for number, (kind, stride) in enumerate(layers):
            x = operator(s, f"cells.{number}-{index}._op._op", kind, stride, x)
            scale *= stride
            maps[scale] = x
        last.append(maps)
    deep, shallow = last
    at_16 = conv_norm(s, "refines32.0", torch.cat([scaled(conv_norm(s, "arms32.0", deep[32]), 2), deep[16]], 1))
    first = conv_norm(s, "refines32.1", torch.cat([scaled(conv_norm(s, "arms32.1", at_16), 2), deep[8]], 1))
    second = conv_norm(s, "refines16", torch.cat([scaled(conv_norm(s, "arms16", shallow[16]), 2), shallow[8]], 1))
    fused = F.conv2d(torch.cat([first, second], 1), s["ffm.conv_1x1.conv.weight"])
    at_8 = head(s, "heads8", F.relu(norm(s, "ffm.conv_1x1.bn", fused)))
    return at_8, head(s, "heads16", torch.cat([deep[16], shallow[16]], 1)), head(s, "heads32", deep[32])
