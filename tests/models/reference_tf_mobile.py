"""The published TensorFlow networks a second time: numpy in NHWC, kernels in TensorFlow's layout, float64, inference.

Variables are asked for by name as the graph is built, ``variable(name, shape)``, with scopes entered as the published
code enters them, so that the names come from the graph and not from a table. Facts from sercant/mobile-segmentation,
TropComplique/shufflenet-v2-tensorflow and slim's MobileNet V2.
"""

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pair = tuple[int, int]


class Variables(dict):
    """Random variables, made when first asked for; a function of name, shape and seed."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def __call__(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self:
            random = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            leaf = name.rsplit("/", 1)[1]
            if leaf in ("gamma", "moving_variance"):
                values = random.uniform(0.6, 1.4, shape)
            elif leaf in ("beta", "moving_mean", "biases"):
                values = random.normal(0, 0.2, shape)
            else:
                fan_in = shape[0] * shape[1] if leaf == "depthwise_weights" else np.prod(shape[:-1])
                # Trained logits stay near 20, and the features before them have grown beyond that here.
                gain = 0.1 if name.startswith("logits") else 2**0.5
                values = random.normal(0, gain / fan_in**0.5, shape)
            self[name] = values.astype(np.float32)
        assert self[name].shape == shape, name
        return self[name].astype(np.float64)


def same_pads(size: int, kernel: int, stride: int, rate: int) -> Pair:
    """SAME: ceil(size / stride) outputs, and what is padded in all is the smaller half before."""
    outputs = (size + stride - 1) // stride
    total = max(0, (outputs - 1) * stride + (kernel - 1) * rate + 1 - size)
    return total // 2, total - total // 2


def taps(x: Array, kernel: int, stride: int, rates: Pair, fill: float = 0.0):
    """Each tap of a window ``(row, column, what it sees)`` under SAME padding, ``x`` is NHWC."""
    pads = [same_pads(x.shape[1 + axis], kernel, stride, rates[axis]) for axis in (0, 1)]
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    height, width = (-(-x.shape[axis] // stride) for axis in (1, 2))
    for row in range(kernel):
        for column in range(kernel):
            top, left = row * rates[0], column * rates[1]
            rows = slice(top, top + (height - 1) * stride + 1, stride)
            yield row, column, padded[:, rows, left : left + (width - 1) * stride + 1 : stride]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


class Graph:
    """Layers over ``variable``; ``norm`` is the scope of batch norms and ``eps`` theirs."""

    def __init__(self, variable: Variables, norm: str, eps: float, activation: Callable[[Array], Array]) -> None:
        self.variable, self.norm_scope, self.eps, self.activation = variable, norm, eps, activation

    def norm(self, x: Array, scope: str) -> Array:
        gamma, beta, mean, variance = (
            self.variable(f"{scope}/{self.norm_scope}/{leaf}", (x.shape[3],))
            for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) * gamma / np.sqrt(variance + self.eps) + beta

    def conv(self, x: Array, filters: int, kernel: int, scope: str, stride=1, rate=1, linear=False) -> Array:
        weights = self.variable(f"{scope}/weights", (kernel, kernel, x.shape[3], filters))
        seen = taps(x, kernel, stride, (rate, rate))
        y = self.norm(sum(part @ weights[row, column] for row, column, part in seen), scope)
        return y if linear else self.activation(y)

    def depthwise(self, x: Array, scope: str, stride=1, rates: Pair = (1, 1), linear=False) -> Array:
        weights = self.variable(f"{scope}/depthwise_weights", (3, 3, x.shape[3], 1))
        y = self.norm(sum(part * weights[row, column, :, 0] for row, column, part in taps(x, 3, stride, rates)), scope)
        return y if linear else self.activation(y)


def shufflenet(variable: Variables, x: Array, *, output_stride: int) -> Array:
    """The released code: at output stride 16 Stage4 has stride 1, and no rate anywhere."""
    graph = Graph(variable, "batch_norm", 1e-3, relu)
    x = graph.conv(x, 24, 3, "ShuffleNetV2/Conv1", stride=2)
    x = np.max([part for _, _, part in taps(x, 3, 2, (1, 1), fill=-np.inf)], axis=0)
    reached = 4
    for stage, units, width in ((2, 4, 116), (3, 8, 232), (4, 4, 464)):
        stride = 2 if reached < output_stride else 1
        reached *= stride
        scope = f"ShuffleNetV2/Stage{stage}/unit_1"
        y = graph.conv(x, x.shape[3], 1, f"{scope}/conv1x1_before")
        y = graph.depthwise(y, f"{scope}/depthwise", stride, linear=True)
        y = graph.conv(y, width // 2, 1, f"{scope}/conv1x1_after")
        x = graph.depthwise(x, f"{scope}/second_branch/depthwise", stride, linear=True)
        x = graph.conv(x, width // 2, 1, f"{scope}/second_branch/conv1x1_after")
        for unit in range(2, units + 1):
            scope = f"ShuffleNetV2/Stage{stage}/unit_{unit}"
            z = np.stack([x, y], axis=4).reshape(*x.shape[:3], width)  # x0, y0, x1, y1, ...
            x, y = z[..., : width // 2], z[..., width // 2 :]
            x = graph.conv(x, width // 2, 1, f"{scope}/conv1x1_before")
            x = graph.depthwise(x, f"{scope}/depthwise", linear=True)
            x = graph.conv(x, width // 2, 1, f"{scope}/conv1x1_after")
        x = np.concatenate([x, y], axis=3)
    return x


def shufflenet_classifier(variable: Variables, x: Array, classes: int) -> Array:
    x = shufflenet(variable, x, output_stride=32)
    x = Graph(variable, "batch_norm", 1e-3, relu).conv(x, 1024, 1, "ShuffleNetV2/Conv5").mean((1, 2))
    return x @ variable("classifier/weights", (1024, classes)) + variable("classifier/biases", (classes,))


def mobilenet(variable: Variables, x: Array, *, output_stride: int) -> Array:
    graph = Graph(variable, "BatchNorm", 1e-3, relu6)
    x = graph.conv(x, 32, 3, "MobilenetV2/Conv", stride=2)
    blocks = [(1, 16, 1)]
    for width, count, stride in ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)):
        blocks += [(6, width, stride if first == 0 else 1) for first in range(count)]
    reached, rate = 2, 1
    for number, (expansion, width, stride) in enumerate(blocks):
        scope = f"MobilenetV2/expanded_conv_{number}" if number else "MobilenetV2/expanded_conv"
        own_rate = rate
        if reached == output_stride:
            stride, rate = 1, rate * stride
        reached *= stride
        y = graph.conv(x, expansion * x.shape[3], 1, f"{scope}/expand") if expansion > 1 else x
        y = graph.depthwise(y, f"{scope}/depthwise", stride, (own_rate, own_rate))
        y = graph.conv(y, width, 1, f"{scope}/project", linear=True)
        x = x + y if stride == 1 and y.shape == x.shape else y
    return x


def mobilenet_classifier(variable: Variables, x: Array, classes: int) -> Array:
    x = mobilenet(variable, x, output_stride=32)
    x = Graph(variable, "BatchNorm", 1e-3, relu6).conv(x, 1280, 1, "MobilenetV2/Conv_1").mean((1, 2))
    scope = "MobilenetV2/Logits/Conv2d_1c_1x1"
    return x @ variable(f"{scope}/weights", (1, 1, 1280, classes))[0, 0] + variable(f"{scope}/biases", (classes,))


def head(variable: Variables, x: Array, kind: str) -> Array:
    """The head and ``concat_projection`` at output stride 16; dropout does nothing at inference."""
    graph = Graph(variable, "BatchNorm", 1e-5, relu)

    def separable(x: Array, scope: str, rates: Pair) -> Array:
        x = graph.depthwise(x, f"{scope}_depthwise", rates=rates)
        return graph.conv(x, 256, 1, f"{scope}_pointwise")

    if kind == "dpc":
        scope, branches = "meta_architecture/", []
        for source, rates in ((-1, (1, 6)), (0, (18, 15)), (1, (6, 3)), (0, (1, 1)), (0, (6, 21))):
            branches.append(separable(x if source < 0 else branches[source], f"{scope}branch{len(branches)}", rates))
    else:
        pooled = graph.conv(x.mean((1, 2), keepdims=True), 256, 1, "image_pooling")
        scope = ""
        branches = [np.broadcast_to(pooled, (*x.shape[:3], 256)), graph.conv(x, 256, 1, "aspp0")]
        for number, rate in enumerate((6, 12, 18) if kind != "basic" else (), start=1):
            if kind == "aspp":
                branches.append(separable(x, f"aspp{number}", (rate, rate)))
            else:
                branches.append(graph.conv(x, 256, 3, f"aspp{number}", rate=rate))
    return graph.conv(np.concatenate(branches, axis=3), 256, 1, f"{scope}concat_projection")


def segmentation(variable: Variables, images: NDArray[np.uint8], backbone: str, kind: str, classes: int) -> Array:
    """uint8 RGB ``[B, H, W, 3]`` to logits ``[B, h, w, classes]`` at output stride 16."""
    trunk = {"shufflenet_v2": shufflenet, "mobilenet_v2": mobilenet}[backbone]
    x = head(variable, trunk(variable, images * (2 / 255) - 1, output_stride=16), kind)
    return x @ variable("logits/semantic/weights", (1, 1, 256, classes))[0, 0] + variable(
        "logits/semantic/biases", (classes,)
    )
