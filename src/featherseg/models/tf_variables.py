"""Variables of the published TensorFlow code: read from a ``.npz`` of name to array, laid out as PyTorch has them.

Names are those of sercant/mobile-segmentation at 9cac777 and of tensorflow/models' research/deeplab (the heads), of
TropComplique/shufflenet-v2-tensorflow (ShuffleNet's scopes) and of slim (MobileNet's):

| scope                                                           | here                                           |
|-----------------------------------------------------------------|------------------------------------------------|
| ShuffleNetV2/Conv1, /Stage3/unit_2/conv1x1_before, /Conv5       | base.conv1, base.stage3.1.before, conv5        |
| ShuffleNetV2/Stage3/unit_1/depthwise, /second_branch/depthwise  | base.stage3.0.main.depthwise, .second.depthwise |
| MobilenetV2/Conv, /expanded_conv_3/expand, /Conv_1              | base.stem, base.blocks.3.expand, head          |
| classifier, MobilenetV2/Logits/Conv2d_1c_1x1                    | fc                                             |
| image_pooling, aspp0, aspp2, aspp2_depthwise, concat_projection | head.image_pooling, ..., head.atrous.1.depthwise |
| meta_architecture/branch3_pointwise                             | head.branches.3.pointwise                      |
| logits/semantic                                                 | logits                                         |

Design choices:
- numpy reads the file with ``allow_pickle=False``: arrays of numbers, or nothing;
- kernels ``[h, w, in, out]`` become ``[out, in, h, w]``, depthwise ones ``[h, w, C, 1]`` become ``[C, 1, h, w]``, and
  what has another number of axes stays as it is, for the comparison of shapes to find;
- what only a training needs (slots of optimisers, steps, moving averages of weights) is told apart by its last name.
  Averages are not used: the published fine-tuning starts from the weights themselves.
"""

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from featherseg.errors import FeathersegError
from featherseg.models.deeplab_heads import DPC_BRANCHES, PYRAMID_RATES
from featherseg.models.mobilenet_v2 import GROUPS
from featherseg.models.shufflenet_v2 import STAGES

TRAINING_STATE = re.compile(
    r"(^|/)(global_step|beta[12]_power|learning_rate)$"
    r"|/(Adam(_1)?|Momentum|RMSProp(_1)?|Adagrad|ExponentialMovingAverage|biased|local_step)$"
)
PLAIN_LAYERS = ("fc", "logits")  # neither batch norm nor the sub-modules that go with it
NORM_LEAVES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
UNIT_SCOPES = {"conv1x1_before": "before", "depthwise": "depthwise", "conv1x1_after": "after"}


def is_archive(path: Path) -> bool:
    """Whether a file is a ``.npz``, by what it holds: a zip file of ``.npy`` members alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_variables(path: Path) -> dict[str, Tensor]:
    """The arrays of a ``.npz`` by name, floating ones as float32; a ``:0`` at a name's end is cut off.

    Raises:
        FeathersegError: an array is damaged, holds Python objects, or is not of numbers.
    """
    variables: dict[str, Tensor] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                kind = array.dtype.kind if isinstance(array, np.ndarray) else "O"
                if kind not in "fiub":
                    raise ValueError(f"no array of numbers: {type(array).__name__} of kind {kind!r}")
                variables[name.removesuffix(":0")] = torch.from_numpy(
                    np.ascontiguousarray(array, np.float32 if kind == "f" else np.int64)
                ).reshape(array.shape)
    except Exception as error:  # a damaged archive can fail in any way at all
        if "allow_pickle" in str(error):
            raise FeathersegError(
                f"{path}: refused, nothing of it was run: {name!r} is a pickle of Python objects, and weights need "
                "arrays of numbers alone. Have its author save them so, with numpy.savez."
            ) from None
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise FeathersegError(
            f"{path}: not a readable .npz ({f'{name}: ' if name else ''}{reason}). The file is damaged or of another "
            "kind; copy it or write it again."
        ) from None
    return variables


def head_scopes() -> dict[str, str]:
    """The heads' scopes and the layers here."""
    scopes = {
        "image_pooling": "head.image_pooling",
        "aspp0": "head.aspp0",
        "concat_projection": "head.concat_projection",
        "meta_architecture/concat_projection": "head.concat_projection",
        "logits/semantic": "logits",
    }
    for number in range(len(PYRAMID_RATES)):
        scopes[f"aspp{number + 1}"] = f"head.atrous.{number}"
        scopes |= {f"aspp{number + 1}_{part}": f"head.atrous.{number}.{part}" for part in ("depthwise", "pointwise")}
    for number in range(len(DPC_BRANCHES)):
        scopes |= {
            f"meta_architecture/branch{number}_{part}": f"head.branches.{number}.{part}"
            for part in ("depthwise", "pointwise")
        }
    return scopes


def shufflenet_scopes() -> dict[str, str]:
    """ShuffleNet V2's scopes, classifier included, and the layers here."""
    scopes = {"ShuffleNetV2/Conv1": "base.conv1", "ShuffleNetV2/Conv5": "conv5", "classifier": "fc"}
    for stage, (units, _) in enumerate(STAGES, start=2):
        for unit in range(units):
            theirs, ours = f"ShuffleNetV2/Stage{stage}/unit_{unit + 1}", f"base.stage{stage}.{unit}"
            main = f"{ours}.main" if unit == 0 else ours
            scopes |= {f"{theirs}/{scope}": f"{main}.{layer}" for scope, layer in UNIT_SCOPES.items()}
        first = f"ShuffleNetV2/Stage{stage}/unit_1/second_branch"
        for scope in ("depthwise", "conv1x1_after"):
            scopes[f"{first}/{scope}"] = f"base.stage{stage}.0.second.{UNIT_SCOPES[scope]}"
    return scopes


def mobilenet_scopes() -> dict[str, str]:
    """MobileNet V2's scopes, classifier included, and the layers here."""
    scopes = {
        "MobilenetV2/Conv": "base.stem",
        "MobilenetV2/Conv_1": "head",
        "MobilenetV2/Logits/Conv2d_1c_1x1": "fc",
    }
    for block in range(sum(group.blocks for group in GROUPS)):
        theirs = f"MobilenetV2/expanded_conv{f'_{block}' if block else ''}"
        scopes |= {f"{theirs}/{part}": f"base.blocks.{block}.{part}" for part in ("expand", "depthwise", "project")}
    return scopes


def converted(variable: str, tensor: Tensor, scopes: dict[str, str]) -> tuple[str, Tensor] | None:
    """A variable under its name here and in PyTorch's layout; None where ``scopes`` has no place for it."""
    scope, _, leaf = variable.rpartition("/")
    if leaf in NORM_LEAVES:
        layer = scopes.get(re.sub(r"/(BatchNorm|batch_norm)$", "", scope))
        return None if layer is None or layer == scopes.get(scope) else (f"{layer}.bn.{NORM_LEAVES[leaf]}", tensor)
    layer = scopes.get(scope)
    if layer is None:
        return None
    plain = layer in PLAIN_LAYERS
    if leaf == "biases" and plain:
        return f"{layer}.bias", tensor
    if leaf not in ("weights", "depthwise_weights"):
        return None
    if tensor.dim() == 4:
        tensor = tensor.permute(2, 3, 0, 1) if leaf == "depthwise_weights" else tensor.permute(3, 2, 0, 1)
    elif tensor.dim() == 2:
        tensor = tensor.t()
    if layer == "fc" and tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
        tensor = tensor.flatten(1)
    return f"{layer}.weight" if plain else f"{layer}.conv.weight", tensor
