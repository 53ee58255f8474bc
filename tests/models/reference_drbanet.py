"""DRBANet a second time, written from its layer table as plain functions of a state dict, in ``eval()``.

It shares nothing with the network but the tensors' names: no modules, no loops over stages, pooling by hand.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def norm(s: State, key: str, x: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)
    x = (x - s[f"{key}.running_mean"].view(shape)) / (s[f"{key}.running_var"].view(shape) + 1e-5).sqrt()
    return x * s[f"{key}.weight"].view(shape) + s[f"{key}.bias"].view(shape)


def conv(s: State, key: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = s[f"{key}.weight"]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, s.get(f"{key}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def conv_norm(s: State, key: str, x: Tensor, stride: int = 1) -> Tensor:
    return norm(s, f"{key}.1", conv(s, f"{key}.0", x, stride))


def norm_relu(s: State, key: str, x: Tensor) -> Tensor:
    return norm(s, key, x).relu()


def bilinear(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


def eibm(s: State, key: str, x: Tensor, stride: int = 1) -> Tensor:
    """The sum before the ReLU."""
    out = conv_norm(s, f"{key}.expand", x).relu()
    out = conv_norm(s, f"{key}.depthwise.0", out, stride)
    out = conv_norm(s, f"{key}.depthwise.1", out)
    out = conv_norm(s, f"{key}.project", out)
    if f"{key}.shortcut.0.0.weight" in s:
        return out + conv_norm(s, f"{key}.shortcut.1", conv_norm(s, f"{key}.shortcut.0", x, stride))
    if f"{key}.shortcut.0.weight" in s:
        return out + conv_norm(s, f"{key}.shortcut", x, stride)
    return out + x if out.shape == x.shape else out


def two(s: State, key: str, x: Tensor, stride: int) -> Tensor:
    return eibm(s, f"{key}.1", eibm(s, f"{key}.0", x, stride).relu())


def bfm(s: State, key: str, high: Tensor, low: Tensor, sequential: bool) -> tuple[Tensor, Tensor]:
    down = conv_norm(s, f"{key}.down.0", high.relu(), 2)
    if f"{key}.down.1.0.weight" in s:
        down = conv_norm(s, f"{key}.down.1", down.relu(), 2)
    new_low = low + down
    source = new_low if sequential else low
    return high + bilinear(conv_norm(s, f"{key}.up", source.relu()), high), new_low


def average(x: Tensor, stride: int) -> Tensor:
    """Average pooling of kernel 2 * stride + 1, padded by stride, the zeros counted."""
    kernel = 2 * stride + 1
    patches = F.unfold(x, kernel, padding=stride, stride=stride).view(*x.shape[:2], kernel**2, -1)
    size = [(length - 1) // stride + 1 for length in x.shape[-2:]]
    return patches.mean(2).view(*x.shape[:2], *size)


def elppm(s: State, x: Tensor, pre: bool) -> Tensor:
    def reduce(key: str, value: Tensor) -> Tensor:
        if pre:
            return conv(s, f"elppm.{key}.2", norm_relu(s, f"elppm.{key}.0", value))
        return conv_norm(s, f"elppm.{key}", value).relu()

    def blend(number: int, value: Tensor) -> Tensor:
        key = f"elppm.blend.{number}"
        if pre:
            return conv(s, f"{key}.3", conv(s, f"{key}.2", norm_relu(s, f"{key}.0", value)))
        return conv_norm(s, f"{key}.1", conv_norm(s, f"{key}.0", value)).relu()

    out0 = reduce("reduce.0", x)
    out1 = blend(0, bilinear(reduce("reduce.1", average(x, 2)), x) + out0)
    out2 = blend(1, bilinear(reduce("reduce.2", average(x, 4)), x) + out1)
    out3 = blend(2, bilinear(reduce("reduce.3", average(x, 8)), x) + out2)
    out4 = blend(3, bilinear(reduce("reduce.4", x.mean((2, 3), keepdim=True)), x) + out3)
    return reduce("fuse", torch.cat([out0, out1, out2, out3, out4], 1)) + reduce("shortcut", x)


def head(s: State, key: str, x: Tensor) -> Tensor:
    return conv(s, f"{key}.3", norm_relu(s, f"{key}.1", conv(s, f"{key}.0", x)))


def drbanet(s: State, x: Tensor, bfm_kind: str = "parallel", elppm_kind: str = "post") -> tuple[Tensor, Tensor, Tensor]:
    """Logits, auxiliary logits and boundary logits of images that need no padding."""
    sequential = bfm_kind == "sequential"
    x = conv_norm(s, "base.stem", x, 2).relu()
    x = two(s, "base.layers_2_3", x, 2).relu()
    detail = two(s, "base.layers_4_5", x, 2).relu()
    high, low = two(s, "base.high_6_7", detail, 1), two(s, "base.low_6_7", detail, 2)
    high, low = bfm(s, "base.bfm_8", high, low, sequential)
    high, low = two(s, "base.high_9_10", high.relu(), 1), two(s, "base.low_9_10", low.relu(), 2)
    high, low = bfm(s, "base.bfm_11", high, low, sequential)
    auxiliary = head(s, "auxiliary_head", low.relu())
    high, low = eibm(s, "base.high_12.0", high.relu()), eibm(s, "base.low_12.0", low.relu(), 2)
    context = bilinear(elppm(s, low.relu(), elppm_kind == "pre"), high)
    fused = high + context + conv_norm(s, "boundary_fusion", detail).relu()
    return head(s, "head", fused.relu()), auxiliary, head(s, "boundary_head", detail)
