"""What PyTorch sources of mobile weights compute, as plain functions of their state dicts, in ``eval()``.

Names and layers are those of torchvision's ``shufflenet_v2_x1_0`` and ``mobilenet_v2``, of tonylins' MobileNet V2
(``features.N.conv.K``, flat) and of lukemelas' EfficientNet-Lite0 (``_blocks.N._expand_conv``). Where a state
dict lacks a name that is asked for, :class:`RandomState` makes the tensor: the names come from the computation.
"""

import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


class RandomState(dict):
    """A state dict that fills itself: ``needed(name, shape)``, random batch norm statistics included."""

    def needed(self, name: str, shape: tuple[int, ...]) -> Tensor:
        random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        leaf = name.rsplit(".", 1)[1]
        if len(shape) > 1:
            # Rectified inputs have a mean, with which sums grow from layer to layer where there is no residual.
            gain = 1.2 if name.startswith("stage") else 2.0
            values = torch.randn(shape, generator=random) * (gain / torch.tensor(shape[1:]).prod()) ** 0.5
        elif leaf in ("weight", "running_var"):
            values = torch.rand(shape, generator=random) * 0.8 + 0.6
        else:
            values = torch.randn(shape, generator=random) * 0.2
        return self.setdefault(name, values)


def tensor(state: State, name: str, shape: tuple[int, ...]) -> Tensor:
    found = state.needed(name, shape) if isinstance(state, RandomState) else state[name]
    assert found.shape == shape, name
    return found.double()


def conv_norm(
    state: State, x: Tensor, conv: str, norm: str, out: int, kernel=1, stride=1, depthwise=False, eps=1e-5, same=False
) -> Tensor:
    """A convolution without bias and batch norm; ``same`` pads as TensorFlow does."""
    channels = x.shape[1]
    weight = tensor(state, f"{conv}.weight", (out, 1 if depthwise else channels, kernel, kernel))
    pads = [kernel // 2] * 4
    if same:
        totals = [max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in (x.shape[3], x.shape[2])]
        pads = [pad for total in totals for pad in (total // 2, total - total // 2)]
    x = F.conv2d(F.pad(x, pads), weight, stride=stride, groups=channels if depthwise else 1)
    gamma, beta, mean, variance = (
        tensor(state, f"{norm}.{leaf}", (out,)).view(1, -1, 1, 1)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    if isinstance(state, RandomState):
        state.setdefault(f"{norm}.num_batches_tracked", torch.tensor(7))
    return (x - mean) / (variance + eps).sqrt() * gamma + beta


def linear(state: State, x: Tensor, name: str, classes: int) -> Tensor:
    pooled = x.mean((2, 3))
    return pooled @ tensor(state, f"{name}.weight", (classes, x.shape[1])).T + tensor(state, f"{name}.bias", (classes,))


def normalised(images: Tensor) -> Tensor:
    """uint8 RGB ``[B, H, W, 3]`` by ImageNet's mean and deviation, float64."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    return ((images.double() / 255 - mean) / deviation).permute(0, 3, 1, 2)


def torchvision_shufflenet_trunk(state: State, images: Tensor) -> Tensor:
    x = conv_norm(state, normalised(images), "conv1.0", "conv1.1", 24, 3, 2).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, units, width in ((2, 4, 116), (3, 8, 232), (4, 4, 464)):
        half = width // 2
        for unit in range(units):
            name = f"stage{stage}.{unit}"
            stride = 2 if unit == 0 else 1
            if unit == 0:
                other = conv_norm(state, x, f"{name}.branch1.0", f"{name}.branch1.1", x.shape[1], 3, 2, True)
                other = conv_norm(state, other, f"{name}.branch1.2", f"{name}.branch1.3", half).relu()
            else:
                other, x = x[:, :half], x[:, half:]
            branch = f"{name}.branch2"
            x = conv_norm(state, x, f"{branch}.0", f"{branch}.1", half).relu()
            x = conv_norm(state, x, f"{branch}.3", f"{branch}.4", half, 3, stride, True)
            x = conv_norm(state, x, f"{branch}.5", f"{branch}.6", half).relu()
            # Shuffled: one channel of the first half, one of the second, and so on.
            x = torch.stack([other, x], 2).flatten(1, 2)
    return x


def torchvision_shufflenet(state: State, images: Tensor, classes: int) -> Tensor:
    x = torchvision_shufflenet_trunk(state, images)
    return linear(state, conv_norm(state, x, "conv5.0", "conv5.1", 1024).relu(), "fc", classes)


def _blocks(widths: tuple[tuple[int, int, int, int], ...]) -> list[tuple[int, int, int, int]]:
    """(expansion, width, stride, kernel) of every block of groups (width, blocks, stride, kernel)."""
    blocks = [(6, width, stride if first == 0 else 1, k) for width, n, stride, k in widths for first in range(n)]
    return [(1, 16, 1, 3), *blocks]


MOBILENET = _blocks(((24, 2, 2, 3), (32, 3, 2, 3), (64, 4, 2, 3), (96, 3, 1, 3), (160, 3, 2, 3), (320, 1, 1, 3)))
LITE0 = _blocks(((24, 2, 2, 3), (40, 2, 2, 5), (80, 3, 2, 3), (112, 3, 1, 5), (192, 4, 2, 5), (320, 1, 1, 3)))


def mobilenet_trunk(state: State, images: Tensor, nested: bool) -> Tensor:
    """torchvision's (``nested``) or tonylins' MobileNet V2 up to the 320 channels."""
    x = conv_norm(state, normalised(images), "features.0.0", "features.0.1", 32, 3, 2).clamp(0, 6)
    for number, (expansion, width, stride, _) in enumerate(MOBILENET, start=1):
        name, place, y = f"features.{number}.conv", 0, x
        for out, is_depthwise in ((expansion * x.shape[1], False), (expansion * x.shape[1], True)):
            if not is_depthwise and expansion == 1:
                continue
            names = (f"{name}.{place}.0", f"{name}.{place}.1") if nested else (f"{name}.{place}", f"{name}.{place + 1}")
            details = (3, stride, True) if is_depthwise else ()
            y = conv_norm(state, y, *names, out, *details).clamp(0, 6)
            place += 1 if nested else 3  # the activation is a layer of its own there
        y = conv_norm(state, y, f"{name}.{place}", f"{name}.{place + 1}", width)
        x = x + y if stride == 1 and x.shape == y.shape else y
    return x


def mobilenet_features(state: State, images: Tensor, nested: bool) -> Tensor:
    """The 1280 channels before pooling."""
    x = mobilenet_trunk(state, images, nested)
    return conv_norm(state, x, "features.18.0", "features.18.1", 1280).clamp(0, 6)


def mobilenet(state: State, images: Tensor, classes: int, nested: bool) -> Tensor:
    return linear(state, mobilenet_features(state, images, nested), "classifier.1", classes)


def lite0_trunk(state: State, images: Tensor) -> Tensor:
    x = ((images.double() - 127) / 128).permute(0, 3, 1, 2)
    like_tensorflow = {"eps": 1e-3, "same": True}
    x = conv_norm(state, x, "_conv_stem", "_bn0", 32, 3, 2, **like_tensorflow).clamp(0, 6)
    for number, (expansion, width, stride, kernel) in enumerate(LITE0):
        name, y = f"_blocks.{number}", x
        middle = expansion * x.shape[1]
        if expansion > 1:
            y = conv_norm(state, y, f"{name}._expand_conv", f"{name}._bn0", middle, **like_tensorflow).clamp(0, 6)
        names = f"{name}._depthwise_conv", f"{name}._bn1"
        y = conv_norm(state, y, *names, middle, kernel, stride, True, **like_tensorflow).clamp(0, 6)
        y = conv_norm(state, y, f"{name}._project_conv", f"{name}._bn2", width, **like_tensorflow)
        x = x + y if stride == 1 and x.shape == y.shape else y
    return x


def lite0(state: State, images: Tensor, classes: int) -> Tensor:
    x = conv_norm(state, lite0_trunk(state, images), "_conv_head", "_bn1", 1280, eps=1e-3, same=True).clamp(0, 6)
    return linear(state, x, "_fc", classes)
