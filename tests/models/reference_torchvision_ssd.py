"""What torchvision's ssd300_vgg16 computes, as plain functions of its state dict, from its published description.

Only its network and what it does with its numbers; the resizing of a picture to 300x300 is left out.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
MEAN = (0.48235, 0.45882, 0.40784)
CONVOLUTIONS = {  # of VGG-16, by their place in torchvision's ``features``: in, out
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip
EXTRAS = {1: (1024, 256, 512), 2: (512, 128, 256), 3: (256, 128, 256), 4: (256, 128, 256)}
RATIOS = ([2], [2, 3], [2, 3], [2, 3], [2], [2])
MAPS = ((512, 4), (1024, 6), (512, 6), (256, 6), (256, 4), (256, 4))  # channels, boxes of a cell


def ssd_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict; ``classes`` with the background."""
    shapes: dict[str, tuple[int, ...]] = {"backbone.scale_weight": (512,)}

    def convolution(name: str, inside: int, out: int, kernel: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, inside, kernel, kernel), (out,)

    for place, (inside, out) in CONVOLUTIONS.items():
        convolution(f"backbone.features.{place}" if place < 23 else f"backbone.extra.0.{place - 23}", inside, out, 3)
    convolution("backbone.extra.0.7.1", 512, 1024, 3)
    convolution("backbone.extra.0.7.3", 1024, 1024, 1)
    for block, (inside, narrow, out) in EXTRAS.items():
        convolution(f"backbone.extra.{block}.0", inside, narrow, 1)
        convolution(f"backbone.extra.{block}.2", narrow, out, 3)
    for level, (channels, boxes) in enumerate(MAPS):
        convolution(f"head.classification_head.module_list.{level}", channels, boxes * classes, 3)
        convolution(f"head.regression_head.module_list.{level}", channels, boxes * 4, 3)
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> State:
    """Random tensors, with activations that keep their scale."""
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes.items():
        gain = (2 / math.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        found[name] = torch.randn(shape, generator=random) * gain
    # Pixels lie on 0..255, the normalised map is small: its scale is about 20.
    first = "backbone.features.0.weight" if "backbone.features.0.weight" in found else "features.0.weight"
    found[first] /= 60
    if "backbone.scale_weight" in found:
        found["backbone.scale_weight"] += 20
    return found


def convolved(state: State, x: Tensor, name: str, **arguments: int) -> Tensor:
    weight = state[f"{name}.weight"]
    arguments.setdefault("padding", 1 if weight.shape[-1] == 3 else 0)
    return F.conv2d(x, weight, state[f"{name}.bias"], **arguments)


def vgg_maps(state: State, x: Tensor, name_of) -> tuple[Tensor, Tensor]:
    """The maps behind conv4_3's and conv5_3's ReLU; the third pooling rounds up, as SSD has it."""
    conv4 = x
    for place in CONVOLUTIONS:
        if place in (5, 10, 17, 24):
            x = F.max_pool2d(x, 2, 2, ceil_mode=place == 17)
        x = convolved(state, x, name_of(place)).relu()
        conv4 = x if place == 21 else conv4
    return conv4, x


def forward(state: State, images: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Class logits ``[B, 8732, classes]`` and box deltas ``[B, 8732, 4]`` of RGB ``images`` in 0..1."""
    x = (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / (1 / 255)
    conv4, x = vgg_maps(
        state, x, lambda place: f"backbone.features.{place}" if place < 23 else f"backbone.extra.0.{place - 23}"
    )
    norm = conv4.square().sum(1, keepdim=True).sqrt()
    maps = [conv4 / norm * state["backbone.scale_weight"].view(1, -1, 1, 1)]
    x = F.max_pool2d(x, 3, 1, padding=1)
    x = convolved(state, x, "backbone.extra.0.7.1", padding=6, dilation=6).relu()
    x = convolved(state, x, "backbone.extra.0.7.3").relu()
    maps.append(x)
    for block in EXTRAS:
        x = convolved(state, x, f"backbone.extra.{block}.0").relu()
        how = {"stride": 2, "padding": 1} if block < 3 else {"stride": 1, "padding": 0}
        x = convolved(state, x, f"backbone.extra.{block}.2", **how).relu()
        maps.append(x)
    outputs = []
    for head, values in (("classification", classes), ("regression", 4)):
        rows = []
        for level, features in enumerate(maps):
            found = convolved(state, features, f"head.{head}_head.module_list.{level}")
            # Channels count boxes first and values within a box last.
            rows.append(found.permute(0, 2, 3, 1).reshape(len(images), -1, values))
        outputs.append(torch.cat(rows, 1))
    return outputs[0], outputs[1]


def default_boxes() -> Tensor:
    """The 8,732 boxes in pixels of 300x300, ``[8732, 4]`` as x1, y1, x2, y2."""
    scales, steps = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), (8, 16, 32, 64, 100, 300)
    boxes = []
    for level, (size, ratios) in enumerate(zip((38, 19, 10, 5, 3, 1), RATIOS, strict=True)):
        between = math.sqrt(scales[level] * scales[level + 1])
        sides = [(scales[level], scales[level]), (between, between)]
        for ratio in ratios:
            wide, narrow = scales[level] * math.sqrt(ratio), scales[level] / math.sqrt(ratio)
            sides += [(wide, narrow), (narrow, wide)]
        for row in range(size):
            for column in range(size):
                x, y = (column + 0.5) * steps[level] / 300, (row + 0.5) * steps[level] / 300
                for wide, high in ((min(1, a), min(1, b)) for a, b in sides):
                    boxes.append((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2))
    return 300 * torch.tensor(boxes)


def detections(logits: Tensor, deltas: Tensor) -> list[tuple[float, int, list[float]]]:
    """Score, class (the first is 0, without the background) and box of what is found, best first, in 300x300.

    Boxes under a pixel wide or high are left out, which torchvision would list.
    """
    anchors = default_boxes()
    sides = anchors[:, 2:] - anchors[:, :2]
    shift, stretch = deltas[:, :2] / 10, (deltas[:, 2:] / 5).clamp(max=math.log(1000 / 16))
    centres, half = (anchors[:, :2] + anchors[:, 2:]) / 2 + shift * sides, sides * stretch.exp() / 2
    boxes = torch.cat([centres - half, centres + half], 1).clamp(0, 300)
    scores = logits.softmax(1)
    found = []
    for label in range(1, logits.shape[1]):
        best = scores[:, label].topk(400)
        candidates = [(float(s), boxes[i].tolist()) for s, i in zip(*best, strict=True) if s > 0.01]
        kept: list[list[float]] = []
        for score, box in candidates:
            if min(box[2] - box[0], box[3] - box[1]) >= 1 and all(overlap(box, other) <= 0.45 for other in kept):
                kept.append(box)
                found.append((score, label - 1, box))
    return sorted(found, key=lambda one: -one[0])[:200]


def overlap(first: list[float], second: list[float]) -> float:
    wide = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    high = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return wide * high / (sum(areas) - wide * high)
