"""The architectures that FasterSeg's authors found and published: facts of github.com/VITA-Group/FasterSeg, 478b026.

That repository is "Copyright (c) 2019 Wuyang", under the MIT licence: permission is granted, free of charge, to deal in
its contents without restriction, provided that this notice is kept; they come without warranty of any kind. What is
taken from it is which operators and widths the search chose, decoded from its arch_0.pt and arch_1.pt and written down
in the form of fasterseg_architecture.py.
"""

from typing import Any

from featherseg.models.fasterseg_architecture import Architecture, parse


def _layers(in_channels: int, *layers: str) -> list[dict[str, Any]]:
    """Layers from "operator channels", with "/2" behind where the stride is 2; each takes what the last one gives."""
    listed = []
    for layer in layers:
        operator, channels, *halved = layer.split()
        stride = 2 if halved else 1
        listed.append({"operator": operator, "in": in_channels, "out": int(channels), "stride": stride})
        in_channels = int(channels)
    return listed


def _published(stem: list[int], head_width: int, to_32: tuple[str, ...], to_16: tuple[str, ...]) -> Architecture:
    branches = [{"scale": 32, "layers": _layers(stem[-1], *to_32)}, {"scale": 16, "layers": _layers(stem[-1], *to_16)}]
    return parse({"stem": stem, "head_width": head_width, "branches": branches}, "a published architecture")


_STUDENT_SHARED = ("conv_2x 32", "conv_2x 32", "conv_2x_downup 32")
_TEACHER_SHARED = ("conv_downup 96", *["conv_2x_downup 96"] * 3)

PUBLISHED = {
    "fasterseg_student": _published(
        [32, 64, 64],
        64,
        (
            *_STUDENT_SHARED,
            "conv_downup 128 /2",
            *["conv_2x_downup 64"] * 3,
            "conv_2x_downup 128 /2",
            "conv_2x_downup 128",
            "conv_2x_downup 256",
        ),
        (
            *_STUDENT_SHARED,
            "conv_2x_downup 32",
            "conv_2x 32",
            "conv_2x 64 /2",
            "conv_2x_downup 64",
            "conv_2x_downup 192",
            "conv_2x_downup 128",
        ),
    ),
    "fasterseg_teacher": _published(
        [48, 96, 96],
        96,
        (
            *_TEACHER_SHARED,
            "conv_2x_downup 96",
            "conv_2x_downup 192 /2",
            "conv_2x_downup 192",
            "conv_downup 192",
            *["conv_2x_downup 192"] * 5,
            "conv_2x_downup 384 /2",
            *["conv_2x 384"] * 2,
        ),
        (
            *_TEACHER_SHARED,
            "conv_2x_downup 192 /2",
            "conv_2x 192",
            "conv_2x_downup 192",
            "conv_downup 192",
            *["conv_2x_downup 192"] * 8,
        ),
    ),
}
