"""HRNet and its object context a second time, as plain functions of tensors by the published names.

How many blocks, modules and branches there are is read off the names; batch norm is written out.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def conv(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = s[f"{name}.weight"]
    return F.conv2d(x, weight, s.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)


def norm(s: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        s[f"{name}.{leaf}"][None, :, None, None] for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def listed(s: State, prefix: str) -> list[int]:
    return sorted({int(key[len(prefix) :].split(".")[0]) for key in s if key.startswith(prefix)})


def block(s: State, name: str, x: Tensor) -> Tensor:
    count = 3 if f"{name}.conv3.weight" in s else 2
    y = x
    for i in range(1, count + 1):
        y = norm(s, f"{name}.bn{i}", conv(s, f"{name}.conv{i}", y))
        y = F.relu(y) if i < count else y
    if f"{name}.downsample.0.weight" in s:
        x = norm(s, f"{name}.downsample.1", conv(s, f"{name}.downsample.0", x))
    return F.relu(y + x)


def module(s: State, name: str, maps: list[Tensor], align: bool) -> list[Tensor]:
    for i in range(len(maps)):
        for k in listed(s, f"{name}.branches.{i}."):
            maps[i] = block(s, f"{name}.branches.{i}.{k}", maps[i])
    fused = []
    for i, target in enumerate(maps):
        total = target
        for j, x in enumerate(maps):
            layer = f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                x = norm(s, f"{layer}.1", conv(s, f"{layer}.0", x))
                total = total + F.interpolate(x, size=target.shape[-2:], mode="bilinear", align_corners=align)
            elif j < i:
                for k in range(i - j):
                    x = norm(s, f"{layer}.{k}.1", conv(s, f"{layer}.{k}.0", x, 2))
                    x = F.relu(x) if k < i - j - 1 else x
                total = total + x
        fused.append(F.relu(total))
    return fused


def trunk(s: State, x: Tensor, align: bool) -> Tensor:
    for i in (1, 2):
        x = F.relu(norm(s, f"bn{i}", conv(s, f"conv{i}", x, 2)))
    for i in listed(s, "layer1."):
        x = block(s, f"layer1.{i}", x)
    maps = [x]
    for stage in (2, 3, 4):
        moved = []
        for i in range(stage):
            name = f"transition{stage - 1}.{i}"
            if i < len(maps):
                present = f"{name}.0.weight" in s
                moved.append(F.relu(norm(s, f"{name}.1", conv(s, f"{name}.0", maps[i]))) if present else maps[i])
            else:
                moved.append(F.relu(norm(s, f"{name}.0.1", conv(s, f"{name}.0.0", maps[-1], 2))))
        maps = moved
        for m in listed(s, f"stage{stage}."):
            maps = module(s, f"stage{stage}.{m}", maps, align)
    size = maps[0].shape[-2:]
    return torch.cat([F.interpolate(one, size=size, mode="bilinear", align_corners=align) for one in maps], 1)


def head(s: State, name: str, x: Tensor) -> Tensor:
    return conv(s, f"{name}.3", F.relu(norm(s, f"{name}.1", conv(s, f"{name}.0", x))))


def twice(s: State, name: str, x: Tensor) -> Tensor:
    for i in (0, 2):
        if f"{name}.{i}.weight" in s:
            x = F.relu(norm(s, f"{name}.{i + 1}.0", conv(s, f"{name}.{i}", x)))
    return x


def object_context(s: State, features: Tensor) -> tuple[Tensor, Tensor]:
    scores = head(s, "aux_head", features)
    pixels = F.relu(norm(s, "conv3x3_ocr.1", conv(s, "conv3x3_ocr.0", features)))
    shares = scores.flatten(2).softmax(2)
    regions = torch.einsum("bkn,bcn->bck", shares, pixels.flatten(2))[..., None]
    block = "ocr_distri_head.object_context_block"
    queries, keys, values = (
        twice(s, f"{block}.{part}", x) for part, x in (("f_pixel", pixels), ("f_object", regions), ("f_down", regions))
    )
    similar = torch.einsum("bchw,bck->bhwk", queries, keys[..., 0]) / queries.shape[1] ** 0.5
    context = torch.einsum("bhwk,bck->bchw", similar.softmax(-1), values[..., 0])
    joined = torch.cat([twice(s, f"{block}.f_up", context), pixels], 1)
    return conv(s, "cls_head", twice(s, "ocr_distri_head.conv_bn_dropout", joined)), scores


def hrnet(s: State, x: Tensor, align: bool) -> tuple[Tensor, Tensor | None]:
    """Logits, and those of the soft regions where there is object context."""
    features = trunk(s, x, align)
    return object_context(s, features) if "cls_head.weight" in s else (head(s, "last_layer", features), None)
