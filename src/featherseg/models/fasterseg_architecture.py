"""Architectures of the FasterSeg family as readable JSON, checked before anything is built.

    {"stem": [32, 64, 64],
     "head_width": 64,
     "shared_layers": 1,
     "branches": [
       {"scale": 32, "layers": [{"operator": "conv_2x", "in": 64, "out": 32},
                                {"operator": "conv_downup", "in": 32, "out": 128, "stride": 2},
                                {"operator": "conv_2x", "in": 128, "out": 256, "stride": 2}]},
       {"scale": 16, "layers": [{"operator": "conv_2x", "in": 64, "out": 32},
                                {"operator": "conv_2x", "in": 32, "out": 128, "stride": 2}]}]}

- ``stem``: channels after its three layers (3x3, conv_2x, conv_2x, each of stride 2), which bring the image to 1/8;
- ``branches``: one or two; ``scale`` is the 1/8, 1/16 or 1/32 of the image that a branch ends at; ``stride`` is 1
  unless it is given, and the strides must lead from 1/8 to the scale. The operators are those of fasterseg_cells.py;
- ``shared_layers``: how many layers from the start both branches have in common, weights included. Left out, it is the
  longest run of equal layers that holds no branch's last one: the rule by which published architectures are decoded;
- ``head_width``: channels of a branch at 1/8 in the decoder; the decoder has twice as many at 1/16;
- further keys, at the top alone, are free for whoever writes the file (``name``, ``source``, measured figures).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg.errors import FeathersegError, nearest
from featherseg.models.fasterseg_cells import OPERATORS

FIRST_SCALE, SCALES = 8, (8, 16, 32)
LARGEST_WIDTH, MOST_LAYERS = 8192, 200  # a mistyped number must not ask for all memory


@dataclass(frozen=True)
class Layer:
    """A cell: its operator, its channels and its stride."""

    operator: str
    in_channels: int
    out_channels: int
    stride: int = 1


@dataclass(frozen=True)
class Branch:
    """A path of cells from 1/8 of the image to 1/``scale``."""

    scale: int
    layers: tuple[Layer, ...]

    def last_channels(self, entry: int) -> dict[int, int]:
        """Channels of the branch's last map at each scale it passes; ``entry`` are those of the stem."""
        scale, channels = FIRST_SCALE, {FIRST_SCALE: entry}
        for layer in self.layers:
            scale *= layer.stride
            channels[scale] = layer.out_channels
        return channels


@dataclass(frozen=True)
class Architecture:
    """What :mod:`featherseg.models.fasterseg` builds; made by :func:`parse`, which checks it."""

    stem: tuple[int, int, int]
    head_width: int
    branches: tuple[Branch, ...]
    shared_layers: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready dictionary that :func:`parse` reads, with everything stated."""
        return {
            "stem": list(self.stem),
            "head_width": self.head_width,
            "shared_layers": self.shared_layers,
            "branches": [
                {
                    "scale": branch.scale,
                    "layers": [
                        {"operator": one.operator, "in": one.in_channels, "out": one.out_channels, "stride": one.stride}
                        for one in branch.layers
                    ],
                }
                for branch in self.branches
            ],
        }


def common_layers(branches: tuple[Branch, ...]) -> int:
    """How many layers from the start are equal in all branches, no branch's last one among them."""
    if len(branches) < 2:
        return 0
    first, second = (branch.layers[:-1] for branch in branches)
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def parse(content: Any, where: str) -> Architecture:
    """Check what was read from JSON; ``where`` names it in messages.

    Raises:
        FeathersegError: something is missing, of another kind, or does not connect; the message says where.
    """
    given = _mapping(content, where, ("stem", "head_width", "branches"), ("shared_layers",), strict=False)
    stem = _list(given["stem"], f"{where}: stem")
    if len(stem) != 3:
        raise FeathersegError(f"{where}: stem has {len(stem)} widths; it needs three, as in [32, 64, 64].")
    stem = [_whole(width, f"{where}: stem") for width in stem]
    listed = _list(given["branches"], f"{where}: branches")
    if len(listed) not in (1, 2):
        raise FeathersegError(f"{where}: has {len(listed)} branches; one or two can be built.")
    branches = tuple(_branch(one, f"{where}: branch {i}", stem[-1]) for i, one in enumerate(listed, start=1))
    possible = common_layers(branches)
    shared = given.get("shared_layers", possible)
    if type(shared) is not int or not 0 <= shared <= possible:
        raise FeathersegError(
            f"{where}: shared_layers is {shared!r}; the branches are equal in their first {possible} layers (the last "
            "one of a branch is never shared), so it must be a whole number from 0 to that. Left out, it is the most."
        )
    return Architecture(
        (stem[0], stem[1], stem[2]), _whole(given["head_width"], f"{where}: head_width"), branches, shared
    )


def read_architecture(file: str | Path) -> Architecture:
    """Read and check an architecture's JSON file.

    Raises:
        FeathersegError: there is no such file, or it is no architecture.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeathersegError(
            f"{path}: cannot read it as an architecture ({error.strerror}). Give a JSON file."
        ) from None
    except (ValueError, RecursionError) as error:
        raise FeathersegError(f"{path}: no JSON ({error}). An architecture is a JSON object with branches.") from None
    return parse(content, str(path))


def _branch(content: Any, where: str, entry: int) -> Branch:
    given = _mapping(content, where, ("scale", "layers"))
    if type(given["scale"]) is not int or given["scale"] not in SCALES:
        raise FeathersegError(f"{where}: scale is {given['scale']!r}; a branch ends at 8, 16 or 32.")
    listed = _list(given["layers"], f"{where}: layers")
    if not listed:
        raise FeathersegError(f"{where}: has no layers; it needs at least one.")
    if len(listed) > MOST_LAYERS:
        raise FeathersegError(f"{where}: has {len(listed)} layers; at most {MOST_LAYERS} are built.")
    layers: list[Layer] = []
    channels, scale = entry, FIRST_SCALE
    for number, one in enumerate(listed):
        layer = _layer(one, f"{where}, layer {number}")
        if layer.in_channels != channels:
            before = f"layer {number - 1}" if number else "the stem"
            raise FeathersegError(
                f"{where}, layer {number}: takes {layer.in_channels} channels, and {before} gives {channels}. "
                "Make the two equal."
            )
        layers.append(layer)
        channels, scale = layer.out_channels, scale * layer.stride
    if scale != given["scale"]:
        raise FeathersegError(
            f"{where}: is to end at 1/{given['scale']}, and its strides lead from 1/8 to 1/{scale}. "
            "Change the scale or the strides."
        )
    return Branch(given["scale"], tuple(layers))


def _layer(content: Any, where: str) -> Layer:
    given = _mapping(content, where, ("operator", "in", "out"), ("stride",))
    operator = given["operator"]
    if operator not in OPERATORS:
        raise FeathersegError(
            f"{where}: no operator is called {operator!r}{nearest(str(operator), OPERATORS)}. "
            f"There are: {', '.join(OPERATORS)}."
        )
    stride = given.get("stride", 1)
    if type(stride) is not int or stride not in (1, 2):
        raise FeathersegError(f"{where}: stride is {stride!r}; it must be 1 or 2.")
    layer = Layer(operator, _whole(given["in"], f"{where}: in"), _whole(given["out"], f"{where}: out"), stride)
    if operator == "skip" and stride == 1 and layer.in_channels != layer.out_channels:
        raise FeathersegError(
            f"{where}: a skip of stride 1 is the identity and cannot make {layer.out_channels} channels of "
            f"{layer.in_channels}. Make the two equal, or take another operator."
        )
    if operator == "skip" and stride == 2 and layer.out_channels % 2:
        raise FeathersegError(f"{where}: a skip of stride 2 gives an even number of channels, not {given['out']}.")
    return layer


def _mapping(
    content: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = (), *, strict: bool = True
) -> Mapping[str, Any]:
    known = required + optional
    if not isinstance(content, Mapping):
        raise FeathersegError(f"{where}: is {type(content).__name__}; it must be an object with {', '.join(required)}.")
    for key in required:
        if key not in content:
            raise FeathersegError(f"{where}: lacks {key!r}. It must have: {', '.join(required)}.")
    for key in content if strict else ():
        if key not in known:
            raise FeathersegError(f"{where}: unknown {key!r}{nearest(str(key), known)}. Known: {', '.join(known)}.")
    return content


def _list(content: Any, where: str) -> list[Any]:
    if not isinstance(content, list | tuple):
        raise FeathersegError(f"{where}: is {content!r}; it must be a list.")
    return list(content)


def _whole(value: Any, where: str) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_WIDTH:
        raise FeathersegError(f"{where}: is {value!r}; channels are a whole number from 1 to {LARGEST_WIDTH}.")
    return value
